"""How to merge, as a file: typed, strict, and written beside every result, so that it can be made again."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from adamergex.merging.scale import Scale
from adamergex.merging.settings import ROLES, Method, NearZero, Rule, Space

Number = Annotated[float, Field(allow_inf_nan=False)]
Curve = Number | Annotated[list[Number], Field(min_length=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, serialize_by_alias=True)


class Input(_Section):
    """One adapter."""

    folder: str = Field(description="a PEFT adapter folder; relative to the folder of this file")
    sha256: str | None = Field(None, description="of its adapter_model.safetensors; another one is refused")


class Inputs(_Section):
    """The adapters, by their part in the merge."""

    task: Input = Field(description="trained on the task in the source language")
    reference_target: Input = Field(alias=ROLES[1], description="trained on plain text in the target language")
    reference_source: Input | None = Field(
        None, alias=ROLES[2], description="trained on plain text in the source language"
    )

    def by_role(self) -> dict[str, Input]:
        """Those that there are."""
        found = zip(ROLES, (self.task, self.reference_target, self.reference_source), strict=True)
        return {role: given for role, given in found if given is not None}


class Plan(_Section):
    """A merge. `adamergex.merging.merge.merge` says what the settings mean."""

    method: Method = "adamergex"
    rule: Rule = Field("auto", description="auto: that of the adapter's structure; others are for ablations")
    space: Space = "product"
    scale: Curve = Field(description="t; several numbers are interpolated over the layers, first to last")
    layers: dict[int, Number] = Field({}, description="layer, from 0 → t there")
    modules: dict[str, Curve] = Field({}, description="regular expression for the end of a module's name → t there")
    rank: Annotated[int, Field(ge=1)] | Literal["exact"] = Field("exact", description="rank of a LoRA result")
    energy: float | None = Field(
        None, gt=0, le=1, description="in place of rank: the smallest that keeps this share of ‖ΔW‖² everywhere"
    )
    dtype: Literal["float32", "bfloat16", "float16"] | None = Field(None, description="float32 where left out")
    near_zero: NearZero = Field("refuse", description="(IA)³: what to do with divisors near zero")
    density: float | None = Field(None, gt=0, le=1, description="ties, dare-ties: the share of entries kept")
    bottom: int = Field(0, ge=0, description="layer-swap: layers from the target reference at the beginning")
    top: int = Field(0, ge=0, description="layer-swap: and at the end")
    transition: int = Field(0, ge=0, description="layer-swap: layers that mix, next to each of the two")
    seed: int = Field(0, ge=0, lt=2**63, description="of what is drawn at random in ties and dare-ties")
    language: str | None = Field(None, description="the target language, for the model card")
    inputs: Inputs

    @model_validator(mode="after")
    def _one_way_to_choose_the_rank(self) -> Self:
        if self.energy is not None and self.rank != "exact":
            raise ValueError("rank and energy are both given; choose one")
        return self

    def coefficients(self) -> Scale:
        """The scale of each module."""
        modules = {pattern: tuple(c) if isinstance(c, list) else c for pattern, c in self.modules.items()}
        return Scale(tuple(self.scale) if isinstance(self.scale, list) else self.scale, self.layers, modules)
