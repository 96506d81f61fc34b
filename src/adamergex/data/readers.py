"""Rows from files, by format: JSON lines, JSON, CSV, TSV, Parquet, paragraphs of plain text; compressed ones, too."""

import codecs
import csv
import glob
import gzip
import json
import os
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from io import BufferedReader, TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import Any, Literal, cast

from adamergex.data.settings import Source
from adamergex.errors import DataError

Row = tuple[str, dict[str, Any]]
# Lines that are a document of a corpus without empty lines; and how many lines say that it has none.
BLOCK, _LOOKED_AT = 20, 2_000


@dataclass(frozen=True)
class Format:
    """How a file is written, as far as its ending does not say it.

    Attributes:
        delimiter: between the fields of a table; None: a comma, in .tsv a tab.
        encoding: of text.
        header: whether a table begins with the names of its columns; else they are `column_1`, `column_2` and so on.
        documents: what is a row of plain text: what stands between empty lines, each line, `BLOCK` lines, or all of it.
    """

    delimiter: str | None = None
    encoding: str = "utf-8"
    header: bool = True
    documents: Literal["paragraphs", "lines", "blocks", "file"] = "paragraphs"


def format_of(source: Source) -> Format:
    """How the files of a source are written."""
    return Format(
        source.delimiter, source.encoding or "utf-8", source.header is not False, source.documents or "paragraphs"
    )


def corpus_format(source: Source, path: Path) -> Format:
    """How a file of a corpus is written. Plain text without empty lines has a sentence on each line, most often, and no
    document's end can be seen; blocks of lines are documents then.
    """
    form = format_of(source)
    if source.documents is None and ending(path) in (".txt", ".txt.gz"):
        looked_at = [line.strip() for _, line in islice(lines(path, form.encoding), _LOOKED_AT)]
        if len(looked_at) > BLOCK and all(looked_at[:-1]):
            return replace(form, documents="blocks")
    return form


def rows(path: Path, form: Format = Format()) -> Iterator[Row]:
    """The rows of a file: pairs of a location, such as `train.jsonl:7`, and the row. Raises DataError where one is malformed."""
    return READERS[ending(path)](path, form)


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


def lines(path: Path, encoding: str = "utf-8") -> Iterator[tuple[int, str]]:
    """Numbered lines with their ends. UTF-8 is decoded line by line, so that an error names its line."""
    with opened(path) as stored, unpacked(stored, path) as file:
        yield from _decoded(file, path, encoding)


def _decoded(file: BufferedReader | gzip.GzipFile, path: Path, encoding: str = "utf-8") -> Iterator[tuple[int, str]]:
    number = 0
    try:
        if _is_utf8(encoding):
            for number, line in enumerate(file, 1):
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
        else:
            with TextIOWrapper(file, encoding, newline="") as text:
                for number, decoded in enumerate(text, 1):
                    yield number, decoded
    except UnicodeError as error:
        raise DataError(_undecodable(path, number, encoding)) from error
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read after line {number}: {error}") from error


def _is_utf8(encoding: str) -> bool:
    return codecs.lookup(encoding).name in ("utf-8", "utf-8-sig")


def _undecodable(path: Path, number: int, encoding: str) -> str:
    if _is_utf8(encoding):
        return f"{path}:{number}: not UTF-8 text; convert the file to UTF-8, or name its encoding"
    return f"{path}: not {encoding} text after line {number}; convert the file to UTF-8, or name its encoding"


def unpacked(file: BufferedReader, path: Path) -> BufferedReader | gzip.GzipFile:
    """What a file holds, uncompressed where it is compressed."""
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
    return _objects(_decoded(cast(BufferedReader, sys.stdin.buffer), name), name)


def _jsonl(path: Path, form: Format) -> Iterator[Row]:
    return _objects(lines(path, form.encoding), path)


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


def _json(path: Path, form: Format) -> Iterator[Row]:
    """A list of objects, such as the reference files of the paper."""
    try:
        listed = json.loads("".join(line for _, line in lines(path, form.encoding)))
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


def _csv(path: Path, form: Format) -> Iterator[Row]:
    """A table. Rows without any value are left out: spreadsheets write them where rows were emptied."""
    csv.field_size_limit(2**31 - 1)  # A document may be longer than the library's 131,072 characters.
    delimiter = form.delimiter or ("\t" if path.suffix.lower() == ".tsv" else ",")
    reader = csv.reader((line for _, line in lines(path, form.encoding)), delimiter=delimiter, strict=True)
    names: list[str] = []
    try:
        for fields in reader:
            if not any(fields):
                continue
            if not names:
                names = fields if form.header else [f"column_{number}" for number in range(1, len(fields) + 1)]
                if twice := [name for name, count in Counter(filter(None, names)).items() if count > 1]:
                    raise DataError(f"{path}:{reader.line_num}: two columns are called {twice[0]!r}; rename one")
                if form.header:
                    continue
            if len(fields) != len(names):
                raise DataError(
                    f"{path}:{reader.line_num}: expected {len(names)} columns, got {len(fields)}; quote a field that holds "
                    "the separator"
                )
            yield f"{path}:{reader.line_num}", dict(zip(names, fields, strict=True))
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: {error}") from error


def _parquet(path: Path, _: Format) -> Iterator[Row]:
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


def _text(path: Path, form: Format) -> Iterator[Row]:
    """Plain text: by default paragraphs, runs of lines between empty ones."""
    most = {"lines": 1, "blocks": BLOCK}.get(form.documents)
    document: list[str] = []
    start = 1
    for number, line in lines(path, form.encoding):
        if line.strip():
            if not document:
                start = number
            document.append(line.strip())
        if document and (len(document) == most or (not line.strip() and form.documents != "file")):
            yield f"{path}:{start}", {"text": "\n".join(document)}
            document = []
    if document:
        yield f"{path}:{start}", {"text": "\n".join(document)}


READERS: dict[str, Callable[[Path, Format], Iterator[Row]]] = {
    ".jsonl": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _csv,
    ".parquet": _parquet,
    ".txt": _text,
    ".jsonl.gz": _jsonl,
    ".txt.gz": _text,
}
