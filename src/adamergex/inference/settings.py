"""What a recipe says about scoring: which items, which systems beside each other, and how they are asked."""

import math
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_serializer, field_validator, model_validator

from adamergex.inference.systems import NAMES, Name
from adamergex.merging.methods import METHODS, AnyMethod, Method, given
from adamergex.scoring.calibration import FEWEST, GUESSED, GUESSED_AGAIN
from adamergex.storage.yaml_model import Section
from adamergex.tasks.task import AnswerKind

# How long a written answer may be, in tokens: a line; a few steps of reasoning; a headline or a sentence.
NEW_TOKENS: dict[AnswerKind, int] = {"choice": 0, "text": 32, "extraction": 32, "number": 320, "generation": 64}


class Calibration(Section):
    """A bias per label, estimated on inputs without labels, such that answers have the label shares that are expected.

    For tasks whose items all have the same labels. `prior` is prior matching (arXiv 2309.04992), `batch` batch calibration
    (arXiv 2309.17249).
    """

    method: Literal["prior", "batch", "none"] = "prior"
    shares: Literal["source", "uniform"] | dict[str, float] = Field(
        "source",
        description="prior: the label shares that are expected in the target languages: those of the training items in the "
        "source language, equal ones, or label → its share, or its count in a small sample",
    )
    strength: float | None = Field(
        None,
        gt=0,
        le=1,
        description="the share of the bias that is added; 0.75 if left out where the source's shares are expected, which are a "
        "guess (0.5 for what self-training learned from answers that were calibrated so), else all of it",
    )
    inputs: int = Field(
        500,
        ge=FEWEST,
        description="how many inputs the bias is estimated on, at most: of task.dev, or else of task.unlabelled; none of them "
        "is scored. Without either, each half of the scored items is calibrated on the other half",
    )

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"method": value} if isinstance(value, str) else value

    @field_validator("shares", mode="before")
    @classmethod
    def _labels_are_text(cls, value: Any) -> Any:
        return {str(label): share for label, share in value.items()} if isinstance(value, dict) else value

    @field_validator("shares")
    @classmethod
    def _are_shares(cls, value: Any) -> Any:
        if isinstance(value, dict):
            if not all(math.isfinite(share) and share >= 0 for share in value.values()):
                raise ValueError("expected a share or a count of at least 0 for each label")
            total = sum(value.values())
            if abs(total - 1) > 0.02 and not all(share == int(share) for share in value.values()):
                raise ValueError(f"the shares add up to {total:g}; expected 1, or whole numbers, which are counts")
            if not total:
                raise ValueError("all counts are 0; expected the labels of a small sample")
        return value

    @model_validator(mode="after")
    def _shares_belong_to_prior(self) -> Self:
        if self.method != "prior" and self.shares != "source":
            raise ValueError(f"shares belong to method: prior; the method is {self.method}")
        return self

    def added(self, refined: bool = False) -> float:
        """The share of the bias that is added.

        Args:
            refined: to the answers of an adapter that learned from calibrated ones.
        """
        guessed = GUESSED_AGAIN if refined else GUESSED
        return self.strength or (guessed if self.from_source else 1.0)

    @property
    def from_source(self) -> bool:
        """Whether the label shares of the training items in the source language are expected."""
        return self.method == "prior" and self.shares == "source"


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
    calibration: Calibration = Calibration()
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
