"""Rows of labelled data, from sources or from published benchmarks."""

import hashlib
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from adamergex.data import sources
from adamergex.data.formats import Row
from adamergex.data.settings import Source
from adamergex.storage.files import expanded
from adamergex.tasks import benchmarks
from adamergex.tasks.sampling import sample


def rows(source: Source, folder: Path, language: str, label: str | None = None) -> Iterator[Row]:
    """The rows of a source in one language: pairs of a location, such as `train.jsonl:7`, and the row.

    A limit takes a sample of them (`sampling`): files may be sorted by label. It takes the first ones of a package, whose rows
    come in a drawn order, and of a data set on the hub whose rows have no labels, so that the rest is not fetched.

    Args:
        source: its `{language}` need not be filled in.
        folder: what relative paths are relative to.
        language: a BCP 47 code.
        label: the column with the labels; None where rows have none.

    Raises:
        DataError: a file is missing or malformed, or a data set or benchmark does not load or has no such language.
    """
    found = _all_rows(source, folder, language)
    if source.limit is None:
        return found
    return iter(sample(found, source.limit, label)) if is_sampled(source, label) else islice(found, source.limit)


def limited(source: Source, label: str | None) -> str:
    """What a limit takes, in words; see `rows`."""
    if not is_sampled(source, label):
        return f"the first {source.limit:,} rows (limit)"
    how = "with every label in its share, " if label else ""
    return f"at most {source.limit:,} rows (limit), drawn {how}the same in every run"


def is_sampled(source: Source, label: str | None) -> bool:
    """Whether a limit takes a sample, not the first rows; see `rows`."""
    return source.package is None and (label is not None or source.is_local)


def _all_rows(source: Source, folder: Path, language: str) -> Iterator[Row]:
    if source.benchmark is None:
        return sources.rows(source.model_copy(update={"limit": None}).in_language(language), folder, language)
    where = None if source.folder is None else folder_of(source, folder)
    return benchmarks.find(source.benchmark).rows(source.split or "", language, where)


def look(source: Source, language: str) -> None:
    """Check what is known of a source before it is read. Raises DataError where there is no such benchmark, split or language."""
    if source.benchmark is not None:
        benchmarks.find(source.benchmark).check(source.split or "", language)


def folder_of(source: Source, folder: Path) -> Path:
    """The folder that a source's files are relative to: a benchmark's own folder, or else `folder`."""
    return folder if source.folder is None else folder / expanded(source.folder)


def fingerprint(source: Source, folder: Path, language: str) -> dict[str, Any]:
    """What determines the rows of a source; see `sources.fingerprint`. Raises DataError as `rows`."""
    if source.benchmark is None:
        return sources.fingerprint(source.in_language(language), folder, language)
    described = source.model_dump(exclude_none=True, exclude={"folder"}) | {"language": language}
    known = benchmarks.find(source.benchmark)
    if source.folder is None:
        return described | {"dataset": known.dataset, "revision": known.revision}
    total = hashlib.sha256()
    for _, row in _all_rows(source, folder, language):
        total.update(json.dumps(row, sort_keys=True).encode())
    return described | {"rows": total.hexdigest()}


def name(source: Source, language: str) -> str:
    """The name of a source, for messages."""
    filled = source.in_language(language)
    if filled.files:
        return ", ".join(filled.files)
    return f"{filled.dataset or filled.package or filled.benchmark}:{filled.split} ({language})"
