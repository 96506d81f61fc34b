"""Rows to be answered: those of a file, or of standard input, as often as they are needed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from adamergex.data import readers, writers
from adamergex.data.readers import Row
from adamergex.errors import DataError
from adamergex.inference.usage import Asked
from adamergex.storage.files import sha256, storage
from adamergex.tasks.items import question

# The name of standard input and output.
STANDARD = "-"
# Rows that are read, answered and written together; within them, batches are of similar lengths.
CHUNK = 1024
_TEXT = "text"


@dataclass(frozen=True)
class Looked:
    """What a look at all rows of a file shows.

    Attributes:
        count: of rows.
        columns: of all rows, in the order in which they first appear.
        digest: SHA-256 of the file.
        schema: of its rows as Parquet, a `pyarrow.Schema`, where that is what will be written.
        mark: whether it begins with a byte order mark.
    """

    count: int
    columns: tuple[str, ...]
    digest: str
    schema: Any = None
    mark: bool = False


class RowFile:
    """The rows of a file or of standard input (`-`).

    Args:
        name: the path, or `-`.
        asked: how rows become items.
        limit: only so many rows, the first ones.

    Raises:
        DataError: there is no such file, or it is of a format that is not read, or of plain text where the prompt has
            several columns.
    """

    def __init__(self, name: str, asked: Asked, limit: int | None = None):
        self.name, self.path, self._asked, self._limit = name, Path(name), asked, limit
        self._renamed: str | None = None
        if name == STANDARD:
            return
        if not self.path.is_file():
            raise DataError(f"{name}: no such file")
        if self.ending not in readers.READERS:
            raise DataError(
                f"{name}: unknown format {self.path.suffix or 'without ending'}; expected {', '.join(readers.READERS)}"
            )
        if self.is_text:
            columns = list(dict.fromkeys(asked.columns))
            if len(columns) > 1:
                raise DataError(
                    f"{name}: plain text has one column, the prompt has {', '.join(columns)}; use .jsonl or .csv"
                )
            self._renamed = columns[0]

    @property
    def is_standard(self) -> bool:
        """Whether it is standard input, which can be read only once."""
        return self.name == STANDARD

    @property
    def ending(self) -> str:
        """The ending that is its format."""
        return ".jsonl" if self.is_standard else readers.ending(self.path)

    @property
    def is_text(self) -> bool:
        """Whether it is plain text, whose paragraphs are its rows."""
        return self.ending.startswith(".txt")

    def rows(self) -> Iterator[Row]:
        """The rows with their locations. Raises DataError where one is malformed."""
        found = readers.standard_input() if self.is_standard else readers.rows(self.path)
        for location, row in islice(found, self._limit):
            yield location, row if self._renamed is None else {self._renamed: row[_TEXT]}

    def chunks(self, size: int = CHUNK) -> Iterator[list[Row]]:
        """The rows, so many at a time."""
        rows = self.rows()
        while chunk := list(islice(rows, size)):
            yield chunk

    def look(self, added: Mapping[str, type], as_parquet: bool) -> Looked:
        """Read all rows once, and find whatever is wrong with them before anything is answered.

        Args:
            added: the columns that will be added to them.
            as_parquet: whether Parquet will be written, whose columns have types.

        Raises:
            DataError: a row is malformed, lacks a column of the prompt or has one that will be added; or there is none.
        """
        columns: dict[str, None] = {}
        count, schema = 0, None
        is_parquet = self.ending == ".parquet"
        if as_parquet and is_parquet:
            schema = writers.schema_of(self.path)
        for chunk in self.chunks():
            for location, row in chunk:
                question(self._asked, self._asked.labels, location, row)
                columns |= dict.fromkeys(row)
            self.refuse_added(chunk, added)
            count += len(chunk)
            if as_parquet and not is_parquet:
                schema = writers.widened(schema, [row for _, row in chunk], list(columns))
        if not count:
            raise DataError(f"{self.name}: holds no rows")
        with storage(self.path), self.path.open("rb") as file:
            mark = file.read(3) == b"\xef\xbb\xbf"
        return Looked(count, tuple(columns), sha256(self.path), schema, mark)

    def refuse_added(self, chunk: list[Row], added: Mapping[str, type]) -> None:
        """Check that rows have none of the columns that will be added to them.

        Raises:
            DataError: one has.
        """
        for location, row in chunk:
            if taken := [column for column in added if column in row]:
                raise DataError(
                    f"{location}: has a column {taken[0]!r} already, which the answers would have; rename or remove it"
                )
