"""The definition of a benchmark: its rows in every language, and its prompts."""

import re
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from adamergex import language_tags
from adamergex.data import sources
from adamergex.data.formats import Row
from adamergex.data.settings import Source
from adamergex.errors import DataError

Kind = Literal["choice", "number", "extraction", "generation"]


@dataclass(frozen=True)
class Prompt:
    """The wording of one language.

    Attributes:
        prompt: template over the columns of a row, as in a recipe's task.
        choices: label → its template, which may name columns; empty where the answer is generated.
        separator: between prompt and answer.
        marker: the text before the final number of a chain-of-thought answer, such as `The answer is`.
    """

    prompt: str
    choices: Mapping[str, str]
    separator: str = " "
    marker: str | None = None

    @property
    def columns(self) -> set[str]:
        """The columns that the prompt and the choices name."""
        templates = (self.prompt, *self.choices.values())
        return {name for text in templates for _, name, _, _ in string.Formatter().parse(text) if name is not None}


@dataclass(frozen=True)
class Benchmark:
    """A published benchmark.

    Attributes:
        name: its identifier in recipes.
        title: the authors' name.
        citation: the paper.
        licence: of the data, as its publishers state it.
        kind: of its answers.
        codes: language → the authors' code for it in names of files and configurations.
        splits: split → the split on the hub that it is taken from.
        answer: the column with the label or answer that is scored.
        learned: the column that is trained on: the answer, or the reasoning that ends with it.
        prompts: by language, all with the same choices; `en` always, others where one is published.
        dataset: the data set on the Hugging Face hub.
        revision: its commit, or its branch of Parquet files.
        config: the configuration of the data set; `{code}` is the language's.
        files: reads the authors' own files: folder, split and code of the language → rows as the hub has them.
        columns: maps rows as the hub has them, of a split and a language, to the columns that the prompts name.
        training: the benchmark whose `train` split teaches the task in the source language.
        paper: the English prompt of the AdaMergeX repository, which uses it for every language.
        caution: its overlap with other data.
    """

    name: str
    title: str
    citation: str
    licence: str
    kind: Kind
    codes: Mapping[str, str]
    splits: Mapping[str, str]
    answer: str
    learned: str
    prompts: Mapping[str, Prompt]
    dataset: str
    revision: str
    config: str
    files: Callable[[Path, str, str], Iterator[Row]]
    columns: Callable[[Iterator[Row], str, str], Iterator[Row]]
    training: str
    paper: Prompt | None = None
    caution: str = ""

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages with data, as BCP 47 codes."""
        return tuple(self.codes)

    def language(self, code: str) -> str:
        """This benchmark's key for a language: `es` for `es-ES`, `spa` or the authors' `spa_Latn`; for a macrolanguage the only
        member that there is (`language_tags.find`).

        Raises:
            DataError: there is no data in that language.
        """
        for known, authors_code in self.codes.items():
            if code in (known, authors_code):
                return known
        found = language_tags.find(code, self.codes)
        if found is None:
            raise DataError(f"{self.name}: has no data in {language_tags.missing(code, self.codes)}")
        return found

    def check(self, split: str, language: str) -> str:
        """The key of a language; see `language`. Raises DataError as that, and where there is no such split."""
        if split not in self.splits:
            raise DataError(f"{self.name}: has no split {split!r}; it has {', '.join(self.splits)}")
        return self.language(language)

    def note(self, code: str) -> str | None:
        """What a reader is told of a language's code: that a member stands for a macrolanguage. Raises DataError as `language`."""
        found = self.language(code)
        if code == self.codes[found] or language_tags.match(code, [found]) is not None:
            return None
        told = (language_tags.called(tag) for tag in (code, found))
        return f"{self.name}: {next(told)} is read as {next(told)}, the only one of it that there is"

    def prompt(self, language: str) -> Prompt:
        """The prompt in a language, or the English one where none is published. Raises DataError as `language`."""
        return self.prompts.get(self.language(language), self.prompts["en"])

    def rows(self, split: str, language: str, folder: Path | None = None) -> Iterator[Row]:
        """The rows of a split: pairs of a location, such as `mgsm_es.tsv:7`, and the row, text in every column.

        Args:
            split: one of `splits`.
            language: a BCP 47 code, or the authors' own.
            folder: with the authors' files, or with one such folder for each benchmark by name; without
                it the data set is streamed from the hub.

        Raises:
            DataError: the split or the language does not exist, a file is missing or malformed, or the data set does
                not load.
        """
        language = self.check(split, language)
        has_rows = False
        for row in self.columns(self._raw(split, self.codes[language], folder), split, language):
            has_rows = True
            yield row
        if not has_rows:
            raise DataError(f"{self.name}: the split {split!r} in {language!r} holds no rows; replace its file")

    def _raw(self, split: str, code: str, folder: Path | None) -> Iterator[Row]:
        if folder is not None:
            return self.files(folder / self.name if (folder / self.name).is_dir() else folder, split, code)
        source = Source(
            dataset=self.dataset,
            config=self.config.format(code=code),
            split=self.splits[split],
            revision=self.revision,
        )
        return sources.rows(source, Path(), code)


def text(row: Mapping[str, Any], column: str, location: str) -> str:
    """A column as text. Raises DataError where the row has none."""
    value = row.get(column)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{location}: no text in column {column!r}; the row has {', '.join(map(str, row))}")
    return value.strip()


def label(row: Mapping[str, Any], column: str, location: str, names: Sequence[str]) -> str:
    """A label by its name, from its name or its number. Raises DataError where it is neither."""
    value = row.get(column)
    if isinstance(value, int) and 0 <= value < len(names):
        return names[value]
    if isinstance(value, str) and value.strip() in names:
        return value.strip()
    raise DataError(f"{location}: unknown label {value!r} in column {column!r}; expected {', '.join(names)}")


def number(value: object, location: str) -> str:
    """A number as text without commas between thousands. Raises DataError where it is none."""
    plain = str(value).replace(",", "").strip()
    if not re.fullmatch(r"-?\d+(\.\d+)?", plain):
        raise DataError(f"{location}: {value!r} is no number; expected an answer such as 18 or 2,125")
    return plain
