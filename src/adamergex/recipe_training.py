"""What a recipe says about training: the structure of the adapters, and how they are trained."""

import re
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator

from adamergex.recipe_data import Section

Modules = list[str] | Literal["all-linear"]


class Lora(Section):
    """LoRA (arXiv 2106.09685); rank and alpha are the paper's. rsLoRA: arXiv 2312.03732; DoRA: arXiv 2402.09353."""

    structure: Literal["lora"] = "lora"
    r: int = Field(8, ge=1)
    alpha: float = Field(16, gt=0, allow_inf_nan=False)
    dropout: float = Field(0.0, ge=0, lt=1)
    rslora: bool = Field(False, description="scale by alpha / √r in place of alpha / r")
    dora: bool = Field(False, description="learn the magnitude of each weight's rows apart")
    target_modules: Annotated[Modules, Field(min_length=1)] = Field(
        "all-linear", description="names of linear modules; all-linear is every one but the output's"
    )
    rank_pattern: dict[str, Annotated[int, Field(ge=1)]] = Field(
        default_factory=dict, description="module name or regular expression → a rank of its own"
    )
    alpha_pattern: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(
        default_factory=dict, description="module name or regular expression → an alpha of its own"
    )

    @field_validator("rank_pattern", "alpha_pattern")
    @classmethod
    def _are_expressions(cls, value: dict[str, Any]) -> dict[str, Any]:
        for pattern in value:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None
        return value


class IA3(Section):
    """(IA)³ (arXiv 2205.05638): vectors that scale keys, values and what enters the second feed-forward layer."""

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
    virtual_tokens: int = Field(20, ge=1, description="how many virtual tokens stand before every sequence")
    spread: float = Field(
        0.02, gt=0, allow_inf_nan=False, description="standard deviation of the seeded start, the same for all adapters"
    )


def _structure(value: Any) -> str | None:
    """Which structure is meant; LoRA where nothing is said."""
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


LEARNING_RATES = {"lora": 2e-4, "ia3": 3e-3, "prefix": 3e-2}


class Schedule(Section):
    """How long and in which portions one kind of adapter is trained."""

    epochs: int = Field(3, ge=1)
    batch_size: int = Field(16, ge=1, description="sequences per optimizer step, over all processes")


class EarlyStopping(Section):
    """Stop when the held-out loss no longer falls, and keep the best adapter."""

    every: int = Field(50, ge=1, description="optimizer steps between two measurements")
    patience: int = Field(3, ge=1, description="measurements without a new best before training stops")


class Train(Section):
    """AdamW with warm-up and decay; the defaults are the paper's."""

    learning_rate: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="2e-4 for LoRA, the paper's; 3e-3 for (IA)³, 3e-2 for prefixes"
    )
    schedule: Literal["cosine", "linear", "constant_with_warmup"] = "cosine"
    warmup_ratio: float = Field(0.05, ge=0, le=1)
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    task: Schedule = Schedule()
    reference: Schedule = Schedule(epochs=1)
    max_length: int | None = Field(
        None,
        ge=8,
        description="tokens of a labelled item; the longest column of a longer one is cut. The model's context",
    )
    micro_batch: int | None = Field(
        None, ge=1, description="sequences per forward pass and process, where batch_size needs too much memory"
    )
    precision: Literal["bf16", "fp16"] | None = Field(None, description="automatic mixed precision, for GPUs")
    gradient_checkpointing: bool = Field(False, description="compute activations twice to save memory")
    packing: bool = Field(False, description="several sequences in one row, which do not see each other")
    early_stopping: EarlyStopping | None = None
    checkpoint_seconds: float = Field(60, ge=0, description="time between two checkpoints of a training; 0: every step")
    tensorboard: bool = Field(False, description="also log for TensorBoard, into the run folder's tensorboard/")
