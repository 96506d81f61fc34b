"""Settings of each structure of adapter: LoRA, (IA)³, prefix tuning."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator

from adamergex.adapters.module_names import objection
from adamergex.storage.yaml_model import Section

# No module has as many rows.
_LARGEST = 2**16
Modules = list[str] | Literal["all-linear"]


class Lora(Section):
    """LoRA (arXiv 2106.09685); rank and alpha are the paper's. rsLoRA: arXiv 2312.03732; DoRA: arXiv 2402.09353."""

    structure: Literal["lora"] = "lora"
    r: int = Field(8, ge=1, le=_LARGEST)
    alpha: float = Field(16, gt=0, allow_inf_nan=False)
    dropout: float = Field(0.0, ge=0, lt=1)
    rslora: bool = Field(False, description="scale by alpha / √r in place of alpha / r")
    dora: bool = Field(False, description="learn the magnitude of each weight's rows apart")
    target_modules: Annotated[Modules, Field(min_length=1)] = Field(
        "all-linear", description="names of linear modules; all-linear is every one but the output's"
    )
    rank_pattern: dict[str, Annotated[int, Field(ge=1, le=_LARGEST)]] = Field(
        default_factory=dict, description="module name or regular expression → a rank of its own"
    )
    alpha_pattern: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(
        default_factory=dict, description="module name or regular expression → an alpha of its own"
    )

    @field_validator("rank_pattern", "alpha_pattern")
    @classmethod
    def _are_expressions(cls, value: dict[str, Any]) -> dict[str, Any]:
        for pattern in value:
            if reason := objection(pattern):
                raise ValueError(f"{pattern!r} {reason}")
        return value


class IA3(Section):
    """(IA)³ (arXiv 2205.05638): vectors that scale keys, values and the input of the second feed-forward layer."""

    structure: Literal["ia3"]
    target_modules: Annotated[list[str], Field(min_length=1)] | None = Field(
        None, description="keys, values and the second feed-forward layer of the model if left out"
    )
    feedforward_modules: list[str] | None = Field(
        None, description="those of target_modules whose input is scaled, not their output"
    )


class Prefix(Section):
    """Prefix tuning (arXiv 2101.00190): keys and values of virtual tokens in every layer."""

    structure: Literal["prefix"]
    virtual_tokens: int = Field(
        20, ge=1, le=_LARGEST, description="how many virtual tokens stand before every sequence"
    )
    spread: float = Field(
        0.02, gt=0, allow_inf_nan=False, description="standard deviation of the seeded start, the same for all adapters"
    )


def _structure(value: Any) -> str | None:
    """The structure that a value is validated as; LoRA by default."""
    if isinstance(value, dict):
        return str(value.get("structure", "lora"))
    return getattr(value, "structure", None)


AdapterSettings = Annotated[
    Annotated[Lora, Tag("lora")] | Annotated[IA3, Tag("ia3")] | Annotated[Prefix, Tag("prefix")],
    Discriminator(
        _structure,
        custom_error_type="structure",
        custom_error_message="adapter.structure: expected lora, ia3 or prefix",
    ),
]


LEARNING_RATES = {"lora": 2e-4, "ia3": 3e-2, "prefix": 3e-1}


def virtual_tokens(settings: AdapterSettings) -> int:
    """How many tokens of a model's context an adapter uses: the length of a prefix, else 0."""
    return settings.virtual_tokens if isinstance(settings, Prefix) else 0
