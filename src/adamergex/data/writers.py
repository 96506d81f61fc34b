"""Rows to files, in the formats that `readers` reads: JSON lines, JSON, CSV, TSV, Parquet; a part of the rows at a time."""

import bz2
import gzip
import json
import lzma
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from adamergex.data.formats import parts
from adamergex.errors import DataError

Rows = Sequence[Mapping[str, Any]]
Write = Callable[[Rows], None]
# Rows of a Parquet file's row group, at least, but for the last.
_ROW_GROUP = 16_384
_MARK = "\ufeff"
# Types of values that stand in a table's field as they stand in JSON.
_IN_JSON = (bool, int, float, list, tuple, dict)


@contextmanager
def writing(
    path: Path,
    ending: str,
    columns: Sequence[str],
    *,
    mark: bool = False,
    schema: Any = None,
    delimiter: str | None = None,
) -> Iterator[Write]:
    """Write a file within this context: yields a function that adds rows to it.

    Args:
        path: of the file.
        ending: one of `formats.WRITTEN`, which is the format.
        columns: of a table (CSV, TSV), in their order; a row that lacks one has an empty field there.
        mark: whether a table begins with a byte order mark, as spreadsheets write and want it.
        schema: of Parquet, a `pyarrow.Schema`.
        delimiter: of a table; None: a comma, in .tsv a tab.

    Raises:
        DataError: a value cannot be written in the format.
        OSError: the file cannot be written.
    """
    if ending == ".parquet":
        with _parquet(path, schema) as write:
            yield write
        return
    kind, compression = parts(ending)
    with path.open("wb") as stored, _packed(stored, compression) as file:
        if kind == ".jsonl":
            yield lambda rows: json_lines(file, rows)
        elif kind == ".json":
            with _json(file) as write:
                yield write
        else:
            yield _table(file, delimiter or ("\t" if kind == ".tsv" else ","), columns, mark)


@contextmanager
def _packed(file: BinaryIO, compression: str) -> Iterator[BinaryIO]:
    """Compress what is written within this context; the same rows are the same bytes."""
    if compression == ".zst":
        import pyarrow as pa

        with pa.CompressedOutputStream(pa.PythonFile(file), "zstd") as packed:
            yield packed
        return
    if not compression:
        yield file
        return
    with _packing(file, compression) as packed:
        yield packed


def _packing(file: BinaryIO, compression: str) -> Any:
    if compression == ".gz":
        # Without name and time.
        return gzip.GzipFile("", "wb", fileobj=file, mtime=0)
    return bz2.BZ2File(file, "wb") if compression == ".bz2" else lzma.LZMAFile(file, "wb")


def json_lines(file: BinaryIO, rows: Rows) -> None:
    """Add rows to a file as JSON lines."""
    file.write("".join(f"{_as_json(row)}\n" for row in rows).encode())


@contextmanager
def _json(file: BinaryIO) -> Iterator[Write]:
    """A list of objects, one a line."""
    before = b"[\n"

    def write(rows: Rows) -> None:
        nonlocal before
        for row in rows:
            file.write(before + _as_json(row).encode())
            before = b",\n"

    yield write
    file.write(b"\n]\n" if before == b",\n" else b"[]\n")


def _table(file: BinaryIO, separator: str, columns: Sequence[str], mark: bool) -> Write:
    """Fields between separators, quoted where they have to be: a lone carriage return, too, which `csv` leaves alone."""
    special = {separator, '"', "\r", "\n"}

    def field(value: Any) -> str:
        text = "" if value is None else _as_json(value) if isinstance(value, _IN_JSON) else _as_text(value)
        return '"' + text.replace('"', '""') + '"' if special & set(text) else text

    def line(values: Iterator[Any]) -> str:
        return separator.join(map(field, values)) + "\n"

    # Columns without a name are told apart by spaces.
    names = (column if column.strip() else "" for column in columns)
    file.write((_MARK * mark + line(names)).encode())
    return lambda rows: _write(file, "".join(line(row.get(column) for column in columns) for row in rows))


def _write(file: BinaryIO, text: str) -> None:
    file.write(text.encode())


def _as_json(value: Any) -> str:
    """JSON; dates, times and decimals of Parquet as text. Raises DataError where there is no JSON for a value."""
    return json.dumps(value, ensure_ascii=False, default=_as_text)


def _as_text(value: Any) -> str:
    if isinstance(value, bytes):
        raise DataError("a column holds bytes, which only Parquet can; write to a file that ends in .parquet")
    return str(value)


@contextmanager
def _parquet(path: Path, schema: Any) -> Iterator[Write]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    waiting: list[Mapping[str, Any]] = []
    with pq.ParquetWriter(path, schema) as file:

        def write(rows: Rows, least: int = _ROW_GROUP) -> None:
            waiting.extend(rows)
            if waiting and len(waiting) >= least:
                try:
                    file.write_batch(pa.RecordBatch.from_pylist(waiting, schema=schema))
                except pa.ArrowException as error:
                    raise DataError(f"rows cannot be written as Parquet: {error}") from error
                waiting.clear()

        yield write
        write((), 0)


def schema_of(path: Path) -> Any:
    """The schema of a Parquet file. Raises DataError where it cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: cannot be read as Parquet: {error}") from error


def widened(schema: Any, rows: Rows, columns: Sequence[str]) -> Any:
    """A Parquet schema that has room for these rows, too.

    Args:
        schema: of the rows before, or None.
        rows: further ones.
        columns: of all rows so far.

    Raises:
        DataError: a column's values are of types that have no common one.
    """
    import pyarrow as pa

    try:
        fresh = pa.Table.from_pylist([{column: row.get(column) for column in columns} for row in rows]).schema
        return fresh if schema is None else pa.unify_schemas([schema, fresh], promote_options="permissive")
    except pa.ArrowException as error:
        raise DataError(f"rows cannot be written as Parquet, whose columns have one type each: {error}") from error


def extended(schema: Any, kinds: Mapping[str, type]) -> Any:
    """A Parquet schema with further columns of text, numbers or truth values."""
    import pyarrow as pa

    types = {str: pa.string(), float: pa.float64(), bool: pa.bool_()}
    for name, kind in kinds.items():
        schema = schema.append(pa.field(name, types[kind]))
    return schema
