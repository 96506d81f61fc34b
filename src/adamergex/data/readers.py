"""Rows from files, by format: JSON, tables, Parquet, paragraphs of plain text."""

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BufferedReader
from itertools import dropwhile, islice
from operator import not_
from pathlib import Path
from typing import cast

from adamergex.data import json_rows, tables
from adamergex.data.bounds import BOMB, LONGEST_LINE, LONGEST_ROW, bounded, length, most
from adamergex.data.files import decoded, lines, opened, refuse_unknown
from adamergex.data.formats import USUAL, Format, Row, kind
from adamergex.data.settings import Source
from adamergex.errors import DataError

# Lines that are a document of a corpus without empty lines; and how many lines say that it has none.
BLOCK, _LOOKED_AT = 20, 2_000
# Rows of Parquet in memory at a time.
_BATCH = 128


def format_of(source: Source) -> Format:
    """How the files of a source are written."""
    names = source.columns if isinstance(source.columns, list) else []
    return Format(
        delimiter=source.delimiter,
        encoding=source.encoding or "utf-8",
        header=source.header is not False and not names,
        documents=source.documents or "paragraphs",
        names=tuple(names),
        quotes=source.quotes,
        field=source.field,
    )


def corpus_format(source: Source, path: Path) -> Format:
    """How a file of a corpus is written. Plain text without empty lines has a sentence on each line, most often, and no
    document's end can be seen; blocks of lines are documents then.
    """
    form = format_of(source)
    if source.documents is None and kind(path) == ".txt":
        stripped = (line.strip() for _, line in lines(path, form.encoding))
        # Empty lines at the beginning part nothing.
        looked_at = list(islice(dropwhile(not_, stripped), _LOOKED_AT))
        if len(looked_at) > BLOCK and all(looked_at[:-1]):
            return replace(form, documents="blocks")
    return form


def rows(path: Path, form: Format = USUAL, longest: int = LONGEST_ROW) -> Iterator[Row]:
    """The rows of a file: pairs of a location, such as `train.jsonl:7`, and the row.

    Args:
        path: of the file.
        form: how it is written.
        longest: characters of a row.

    Raises:
        DataError: a row is malformed, or longer.
    """
    refuse_unknown(path)
    return bounded(READERS[str(kind(path))](path, form), longest)


def standard_input() -> Iterator[Row]:
    """The rows of JSON lines on standard input, as they come. Raises DataError as `rows`."""
    name = Path("standard input")
    return bounded(json_rows.objects(decoded(cast(BufferedReader, sys.stdin.buffer), name), name))


def _parquet(path: Path, _: Format) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with opened(path) as stored, pq.ParquetFile(stored) as file:
            left = most(os.fstat(stored.fileno()).st_size)
            groups = (file.metadata.row_group(group) for group in range(file.metadata.num_row_groups))
            if any(group.total_byte_size > max(left, LONGEST_LINE) for group in groups):
                raise OSError(BOMB)
            # A value that stands there once may be that of all rows: few of them are expanded at a time.
            for batch in file.iter_batches(_BATCH):
                for row in batch.to_pylist():
                    location = f"{path}[{number}]"
                    left -= length(location, row)
                    if left < 0:
                        raise OSError(BOMB)
                    yield location, row
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
    ".jsonl": json_rows.rows,
    ".json": json_rows.rows,
    ".csv": tables.rows,
    ".tsv": tables.rows,
    ".parquet": _parquet,
    ".txt": _text,
}
