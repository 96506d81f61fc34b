"""Rows from files, by format: JSON lines, JSON, CSV, TSV, Parquet, paragraphs of plain text; compressed ones, too."""

import csv
import glob
import gzip
import json
import os
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any

from adamergex.data.settings import Source
from adamergex.errors import DataError

Row = tuple[str, dict[str, Any]]


def rows(path: Path) -> Iterator[Row]:
    """The rows of a file: pairs of a location, such as `train.jsonl:7`, and the row. Raises DataError where one is malformed."""
    return READERS[ending(path)](path)


def paths(source: Source, folder: Path) -> list[Path]:
    """The files of a source: those that match a pattern, and of a folder all whose format is known, in sorted order.

    A file that several patterns match is returned once.

    Raises:
        DataError: nothing matches, or a file's format is not known by its ending.
    """
    listed = []
    for pattern in source.files or []:
        if (folder / pattern).is_dir():
            matches = [path for path in (folder / pattern).rglob("*") if path.is_file() and ending(path) in READERS]
            missing = f"holds no file of a known format; expected {', '.join(READERS)}"
        else:
            files = (folder / match for match in glob.glob(pattern, root_dir=folder, recursive=True))
            matches = [path for path in files if path.is_file()]
            missing = "no such file; paths are relative to the recipe's folder, or to the current one"
        if not matches:
            raise DataError(f"{folder / pattern}: {missing}")
        listed += sorted(matches)
    distinct: dict[str, Path] = {}
    for path in listed:
        distinct.setdefault(os.path.abspath(path), path)
    for path in distinct.values():
        if ending(path) not in READERS:
            raise DataError(f"{path}: unknown format {path.suffix or 'without ending'}; expected {', '.join(READERS)}")
    return list(distinct.values())


def ending(path: Path) -> str:
    """The ending that determines a file's format, such as `.jsonl` or `.jsonl.gz`."""
    name = path.name.lower()
    return next((ending for ending in READERS if name.endswith(ending)), path.suffix.lower())


def opened(path: Path) -> BufferedReader:
    """Open a file for reading bytes. Raises DataError where that fails."""
    try:
        return path.open("rb")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines, decoded one by one so that an error names its line."""
    with opened(path) as stored, _unpacked(stored, path) as file:
        yield from _decoded(file, path)


def _decoded(file: Iterable[bytes], name: Path) -> Iterator[tuple[int, str]]:
    number = 0
    try:
        for number, line in enumerate(file, 1):
            yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{name}:{number}: not UTF-8 text; convert the file to UTF-8") from error
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{name}: cannot be read after line {number}: {error}") from error


def _unpacked(file: BufferedReader, path: Path) -> BufferedReader | gzip.GzipFile:
    return gzip.open(file) if path.suffix.lower() == ".gz" else file


def _has_half_character(value: Any) -> bool:
    """Whether text in a JSON value has a lone surrogate, which cannot be written as UTF-8."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def standard_input() -> Iterator[Row]:
    """The rows of JSON lines on standard input, as they come. Raises DataError as `rows`."""
    name = Path("standard input")
    return _objects(_decoded(sys.stdin.buffer, name), name)


def _jsonl(path: Path) -> Iterator[Row]:
    return _objects(lines(path), path)


def _objects(numbered: Iterable[tuple[int, str]], path: Path) -> Iterator[Row]:
    for number, line in numbered:
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}:{number}: not JSON: {error}") from error
        if "\\ud" in line.lower() and _has_half_character(row):
            raise DataError(f"{path}:{number}: half of a surrogate pair, which is no character; remove it")
        if not isinstance(row, dict):
            raise DataError(f"{path}:{number}: expected an object with keys, got {type(row).__name__}")
        yield f"{path}:{number}", row


def _json(path: Path) -> Iterator[Row]:
    """A list of objects, such as the reference files of the paper."""
    try:
        with opened(path) as file:
            listed = json.loads(file.read().decode("utf-8-sig"))
    except ValueError as error:
        raise DataError(f"{path}: not JSON: {error}") from error
    if not isinstance(listed, list):
        raise DataError(f"{path}: expected a list of objects, got {type(listed).__name__}; is it .jsonl?")
    for number, row in enumerate(listed):
        if not isinstance(row, dict):
            raise DataError(f"{path}[{number}]: expected an object with keys, got {type(row).__name__}")
        if _has_half_character(row):
            raise DataError(f"{path}[{number}]: half of a surrogate pair, which is no character; remove it")
        yield f"{path}[{number}]", row


def _csv(path: Path) -> Iterator[Row]:
    csv.field_size_limit(2**31 - 1)  # A document may be longer than the library's 131,072 characters.
    reader = csv.DictReader(
        (line for _, line in lines(path)), delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True
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
    for number, line in lines(path):
        if line.strip():
            if not paragraph:
                start = number
            paragraph.append(line.strip())
        elif paragraph:
            yield f"{path}:{start}", {"text": "\n".join(paragraph)}
            paragraph = []
    if paragraph:
        yield f"{path}:{start}", {"text": "\n".join(paragraph)}


READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".jsonl": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _csv,
    ".parquet": _parquet,
    ".txt": _text,
    ".jsonl.gz": _jsonl,
    ".txt.gz": _text,
}
