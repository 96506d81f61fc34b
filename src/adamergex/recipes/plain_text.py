"""What a person's plain text holds: how it is written, how much of it there is, which languages it is in."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from adamergex.data import detection, files, sources
from adamergex.data.cleaning import Duplicates
from adamergex.data.formats import KINDS, Format, kind
from adamergex.data.settings import Source
from adamergex.errors import DataError
from adamergex.recipes import columns, survey

# Text is read no further: more than any budget that is drafted.
_ENOUGH = 20_000_000
_BATCH = 1_000
_TABLES = {".csv", ".tsv"}
_TEXTS = set(KINDS) - _TABLES - {".parquet"}


@dataclass(frozen=True)
class PlainText:
    """Plain text of one language.

    Attributes:
        options: what a `Source` says beside its files.
        files: how many there are.
        documents: as far as it was read: paragraphs, or rows.
        characters: of these, without near-duplicates and their longest, which may be cut.
        duplicates: of these, documents that are nearly the same as an earlier one.
        whole: whether all of it was read.
        languages: code → share.
    """

    options: dict[str, Any]
    files: int
    documents: int
    characters: int
    duplicates: int
    whole: bool
    languages: dict[str, float]


def look(pattern: str, language: str) -> PlainText:
    """What plain text holds.

    Args:
        pattern: a file, a folder or a glob, relative to the current folder.
        language: that it is given for.

    Raises:
        DataError: nothing matches, files are written in different ways, or hold no text.
    """
    paths = files.paths(Source(files=[pattern]), Path())
    options = detection.options(_form(paths, language)) | _columns(paths, language)
    source = Source.model_validate({"files": [pattern], **options})
    duplicates, documents, kept, longest, characters = Duplicates(), 0, 0, 0, 0
    sample: list[str] = []
    whole = True
    texts = _texts(source, language)
    while batch := list(islice(texts, _BATCH)):
        fresh = duplicates.fresh(batch)
        documents, kept = documents + len(batch), kept + sum(fresh)
        lengths = [len(text) for text, is_fresh in zip(batch, fresh, strict=True) if is_fresh]
        characters += sum(lengths)
        longest = max(longest, *lengths, 0)
        # Evenly from each batch.
        sample += batch[:: max(1, len(batch) // 100)]
        if characters > _ENOUGH:
            whole = False
            break
    if not characters:
        raise DataError(f"{pattern}: holds no text")
    found = survey.languages(sample)
    return PlainText(options, len(paths), documents, characters - longest, documents - kept, whole, found)


def _texts(source: Source, language: str) -> Iterator[str]:
    return (text for text in sources.texts(source, Path(), language, "text") if text.strip())


def _form(paths: list[Path], language: str) -> Format:
    """How all files are written. Raises DataError where they differ."""
    forms = {path: detection.detect(path, language) for path in paths if path.stat().st_size}
    common: dict[str, Any] = {}
    for name, of in (("encoding", _TABLES | _TEXTS), ("delimiter", _TABLES), ("header", _TABLES)):
        told = {path: getattr(form, name) for path, form in forms.items() if kind(path) in of}
        for path, value in told.items():
            if value != common.setdefault(name, value):
                raise DataError(
                    f"{path}: its {name} is {value!r}, that of others is {common[name]!r}; write all files of a language alike"
                )
    return Format(**common)


def _columns(paths: list[Path], language: str) -> dict[str, Any]:
    """Which column holds the text, where it has another name than `text`."""
    for path in paths:
        if not path.stat().st_size or kind(path) == ".txt":
            continue
        table = columns.read(path, detection.detect(path, language), _BATCH)
        if "text" in table.columns:
            return {}
        return {"columns": {"text": columns.text_column(table).column}}
    return {}
