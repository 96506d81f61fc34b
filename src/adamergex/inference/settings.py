"""What a recipe says about scoring: which items, which methods beside each other, and how they are asked."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from adamergex.scoring.systems import NAMES, Name
from adamergex.storage.yaml_model import Section


class Baselines(Section):
    """Settings of the other ways to merge. TIES and DARE-TIES: shares of entries; layer swapping: numbers of layers."""

    ties_density: float = Field(0.2, gt=0, le=1, description="the largest entries that TIES keeps; its paper's")
    dare_density: float = Field(0.5, gt=0, le=1, description="the random entries that DARE keeps")
    bottom: int = Field(
        6, ge=0, description="layer swapping: first layers that are the target reference's; its paper's"
    )
    top: int = Field(2, ge=0, description="layer swapping: and last ones")
    transition: int = Field(2, ge=0, description="layer swapping: layers that mix, next to each of the two")


class Evaluate(Section):
    """What is measured, and on which items."""

    split: Literal["dev", "test"] = Field("test", description="choose settings on dev; report test once")
    methods: Annotated[list[Name], Field(min_length=1)] = Field(
        ["base", "source-adapter", "adamergex"],
        description="rows of the table; ceiling needs labels of the target languages in task.train",
    )
    shots: int = Field(4, ge=1, le=32, description="solved examples in front of each prompt, for few-shot")
    length_normalization: Literal["none", "tokens", "characters"] = Field(
        "none", description="what a choice's log-likelihood is divided by"
    )
    baselines: Baselines = Baselines()
    batch_size: int = Field(64, ge=1, description="sequences per forward pass; halved where memory does not suffice")
    max_new_tokens: int | None = Field(
        None, ge=1, description="length of a written answer; 32, for number 320, for generation 64"
    )

    @field_validator("methods", mode="before")
    @classmethod
    def _each_once(cls, value: Any) -> Any:
        if isinstance(value, list):
            if len(set(map(str, value))) < len(value):
                raise ValueError("a method is listed twice")
            # The table has one order, whatever the recipe's.
            return sorted(value, key=lambda name: NAMES.index(name) if name in NAMES else len(NAMES))
        return value
