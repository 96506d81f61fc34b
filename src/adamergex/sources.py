"""Rows of data from files, from the Hugging Face hub, or from a package: dictionaries, each with its place."""

import csv
import glob
import hashlib
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from adamergex import demo
from adamergex.errors import DataError
from adamergex.recipe import Source

Row = tuple[str, dict[str, Any]]


def rows(source: Source, folder: Path, language: str) -> Iterator[Row]:
    """The rows of a source: pairs of a place, such as `train.jsonl:7`, and the row.

    Args:
        source: with `{language}` filled in.
        folder: what relative paths are relative to.
        language: which language of a package is wanted.

    Raises:
        DataError: a file is missing or malformed, or a data set does not load.
    """
    return islice(_all_rows(source, folder, language), source.limit)


def _all_rows(source: Source, folder: Path, language: str) -> Iterator[Row]:
    if source.files is not None:
        for path in paths(source, folder):
            yield from _READERS[path.suffix.lower()](path)
    elif source.package is not None:
        for number, row in enumerate(demo.rows(source.package, language, source.split)):
            yield f"{source.package}[{number}]", row
    else:
        yield from _hub(source)


def fingerprint(source: Source, folder: Path, language: str) -> dict[str, Any]:
    """What determines the rows of a source: hashes of files, or the name and version of what holds them.

    Raises:
        DataError: a file or package is missing.
    """
    described = source.model_dump(exclude_none=True)
    if source.files is not None:
        # Contents, not names: moving a data folder retrains nothing.
        described["files"] = [[path.suffix, _sha256(path)] for path in paths(source, folder)]
    elif source.package is not None:
        described |= {"language": language, "version": demo.version(source.package)}
    return described


def _sha256(path: Path) -> str:
    with _opened(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def paths(source: Source, folder: Path) -> list[Path]:
    """The files of a source, in sorted order for each pattern.

    Raises:
        DataError: nothing matches, or a file's format is not known by its ending.
    """
    found = []
    for pattern in source.files or []:
        matches = sorted(
            Path(match) for match in glob.glob(str(folder / pattern), recursive=True) if Path(match).is_file()
        )
        if not matches:
            raise DataError(f"{folder / pattern}: no such file; paths are relative to the recipe's folder")
        found += matches
    for path in found:
        if path.suffix.lower() not in _READERS:
            raise DataError(f"{path}: unknown format {path.suffix or 'without ending'}; expected {', '.join(_READERS)}")
    return found


def _opened(path: Path, mode: str = "r") -> Any:
    try:
        return path.open(mode) if "b" in mode else path.open(mode, encoding="utf-8-sig", newline="")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    with _opened(path) as file:
        number = 0
        try:
            for number, line in enumerate(file, 1):
                yield number, line
        except UnicodeDecodeError as error:
            raise DataError(f"{path}:{number + 1}: not UTF-8 text; convert the file to UTF-8") from error


def _jsonl(path: Path) -> Iterator[Row]:
    for number, line in _lines(path):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}:{number}: not JSON: {error}") from error
        if not isinstance(row, dict):
            raise DataError(f"{path}:{number}: expected an object with keys, got {type(row).__name__}")
        yield f"{path}:{number}", row


def _csv(path: Path) -> Iterator[Row]:
    reader = csv.DictReader(
        (line for _, line in _lines(path)), delimiter="\t" if path.suffix == ".tsv" else ",", strict=True
    )
    try:
        for row in reader:
            if None in row or None in row.values():
                raise DataError(
                    f"{path}:{reader.line_num}: expected {len(reader.fieldnames or ())} columns; quote a field that holds the separator"
                )
            yield f"{path}:{reader.line_num}", row
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: {error}") from error


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches():
                for row in batch.to_pylist():
                    yield f"{path}[{number}]", row
                    number += 1
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: cannot be read as Parquet: {error}") from error


def _text(path: Path) -> Iterator[Row]:
    """Paragraphs: runs of lines between empty ones."""
    paragraph: list[str] = []
    start = 1
    for number, line in _lines(path):
        if line.strip():
            if not paragraph:
                start = number
            paragraph.append(line.strip())
        elif paragraph:
            yield f"{path}:{start}", {"text": "\n".join(paragraph)}
            paragraph = []
    if paragraph:
        yield f"{path}:{start}", {"text": "\n".join(paragraph)}


_READERS = {".jsonl": _jsonl, ".csv": _csv, ".tsv": _csv, ".parquet": _parquet, ".txt": _text}


def _hub(source: Source) -> Iterator[Row]:
    """Stream a Hugging Face data set, so that a large one is read only as far as it is needed."""
    import datasets

    name = f"{source.dataset}{f'/{source.config}' if source.config else ''}:{source.split}"
    try:
        stream = datasets.load_dataset(
            source.dataset, source.config, split=source.split, revision=source.revision, streaming=True
        )
        for number, row in enumerate(stream):
            yield f"{name}[{number}]", dict(row)
    except DataError:
        raise
    except Exception as error:  # the library raises whatever its readers and its network raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{name}: does not load: {reason}") from error
