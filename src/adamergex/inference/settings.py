"""What a recipe says about scoring: which items, which systems beside each other, and how they are asked."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_serializer, field_validator

from adamergex.inference.systems import NAMES, Name
from adamergex.merging.methods import METHODS, AnyMethod, Method, given
from adamergex.storage.yaml_model import Section


class Evaluate(Section):
    """What is measured, and on which items."""

    split: Literal["dev", "test"] = Field("test", description="choose settings on dev; report test once")
    methods: Annotated[list[Name], Field(min_length=1)] = Field(
        ["base", "source-adapter", "adamergex"],
        description="rows of the table; ceiling needs labels of the target languages in task.train",
    )
    metric: Literal["accuracy", "macro_f1", "balanced_accuracy"] = Field(
        "accuracy",
        description="what rows are compared by where answers are choices; the others are for labels, choices without columns",
    )
    shots: int = Field(4, ge=1, le=32, description="solved examples in front of each prompt, for few-shot")
    length_normalization: Literal["none", "tokens", "characters"] = Field(
        "none", description="what a choice's log-likelihood is divided by"
    )
    baselines: dict[str, Method] = Field(
        {}, description="merging method → its settings, for rows other than the recipe's own merge; t is merge.scale"
    )
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
            # Rows of the table are always in the same order.
            return sorted(value, key=lambda name: NAMES.index(name) if name in NAMES else len(NAMES))
        return value

    @field_validator("baselines", mode="before")
    @classmethod
    def _named_by_their_keys(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {
            name: {"method": name, **getattr(METHODS.get(name), "published", {}), **method}
            if isinstance(method, dict)
            else method
            for name, method in value.items()
        }

    @field_validator("baselines")
    @classmethod
    def _are_named_rightly(cls, value: dict[str, AnyMethod]) -> dict[str, AnyMethod]:
        for name, method in value.items():
            if method.method != name:
                raise ValueError(f"{name} has the method {method.method}; name it so, or leave method out")
        return value

    @field_serializer("baselines")
    def _as_given(self, value: dict[str, AnyMethod]) -> dict[str, Any]:
        # What is left out follows the recipe, and has to be left out where it is written down.
        return {name: given(method) for name, method in value.items()}
