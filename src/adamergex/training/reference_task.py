"""Settings of the reference task: plain text in every language, or a labelled task instead."""

from typing import Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from adamergex import language_tags
from adamergex.data.settings import Source, is_language
from adamergex.storage.yaml_model import Section
from adamergex.tasks.task import Task


class Budget(Section):
    """How much plain text of each language is used: exactly one of the two, the same in every language."""

    tokens: int | None = Field(None, ge=1, description="tokens of the model's tokenizer")
    characters: int | None = Field(None, ge=1, description="characters of text")

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.tokens is None) == (self.characters is None):
            raise ValueError("expected exactly one of tokens and characters")
        return self


class Objective(Section):
    """What is learned from a window of plain text."""

    objective: Literal["causal", "prefix", "masked", "span"] | None = Field(
        None,
        description="causal (causal models), prefix (the paper's: prompt and completion), masked (encoders), "
        "span (sequence-to-sequence); what the model was pre-trained with if left out",
    )
    completion: int | None = Field(
        None, ge=1, description="objective prefix: the last tokens of each window that are predicted"
    )
    positions: int | None = Field(
        None, ge=1, description="causal: predict a seeded sample of this many positions of each window"
    )
    noise: float = Field(0.15, gt=0, lt=1, description="masked and span: the share of tokens that is hidden")
    span: float = Field(3.0, ge=1, description="span: mean length of a hidden span, in tokens")


class Reference(Objective):
    """The reference task, in every language with the same budget: on plain text, or any labelled task instead.

    Without either where nothing is trained on it.
    """

    corpus: Source | None = Field(None, description="plain text in every language of the recipe")
    corpora: dict[str, Source] = Field(default_factory=dict, description="other corpora for single languages")
    text: str = Field("text", description="the column that holds the text, where the corpus has columns")
    tokens: int | None = Field(None, ge=1, description="tokens per language; a million if characters is left out, too")
    characters: int | None = Field(None, ge=1, description="characters per language, in place of tokens")
    window: int = Field(512, ge=8, description="tokens per training sequence")
    heldout: float = Field(
        0.05, ge=0, le=0.5, description="text kept apart to measure perplexity, as a share of the budget; 0 for none"
    )
    duplicates: Literal["drop", "keep"] = Field("drop", description="documents that are nearly the same")
    boilerplate: Literal["drop", "keep"] = Field("drop", description="lines that stand in many documents")
    other_languages: Literal["count", "drop"] = Field(
        "count", description="documents that are plainly not in the language they are given for"
    )
    task: Task | None = Field(None, description="a labelled task in every language, in place of a corpus")

    @field_validator("corpora")
    @classmethod
    def _keys_are_languages(cls, value: dict[str, Source]) -> dict[str, Source]:
        for code in value:
            is_language(code)
        language_tags.distinct(value, "corpora")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.corpus is not None and self.task is not None:
            raise ValueError("expected one of corpus and task, got both")
        if self.task is not None:
            unused = sorted(self.model_fields_set - {"task", "heldout"})
            if unused:
                raise ValueError(f"{', '.join(unused)} belong to a corpus, and reference.task is given; remove them")
            if self.task.dev or self.task.test:
                raise ValueError("reference.task is trained on only; remove its dev and test")
        if self.tokens is not None and self.characters is not None:
            raise ValueError("expected one of tokens and characters, got both")
        if (self.completion is not None) != (self.objective == "prefix"):
            raise ValueError("completion and objective: prefix belong together")
        if self.completion is not None and self.completion >= self.window:
            raise ValueError(f"completion is {self.completion}; expected less than the window of {self.window}")
        if self.positions is not None and self.objective not in (None, "causal"):
            raise ValueError("positions belong to the causal objective; remove them")
        return self

    @model_serializer(mode="wrap")
    def _what_belongs_together(self, fields: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """What is of a corpus is left out beside a labelled task, where it would be refused."""
        written: dict[str, Any] = fields(self)
        return written if self.task is None else {key: written[key] for key in ("task", "heldout") if key in written}

    @property
    def budget(self) -> Budget:
        """Tokens or characters per language."""
        if self.characters is not None:
            return Budget(characters=self.characters)
        return Budget(tokens=self.tokens or 1_000_000)

    @property
    def learned(self) -> Objective:
        """What is learned from a window, apart from where the text comes from."""
        return Objective.model_validate(self.model_dump(include=set(Objective.model_fields)))
