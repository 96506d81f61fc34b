"""Rows to be answered: those of a file, or of standard input, as often as they are needed."""

from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from adamergex.data import detection, nested, readers, writers
from adamergex.data.files import opened, refuse_unknown, unpacked
from adamergex.data.formats import Format, Row, ending, kind
from adamergex.data.wrong_rows import WrongRows
from adamergex.errors import DataError, RecipeError
from adamergex.inference.usage import Asked
from adamergex.storage.files import sha256, storage
from adamergex.tasks.items import Item, question

# The name of standard input and output.
STANDARD = "-"
# Rows that are read, answered and written together; within them, batches are of similar lengths.
CHUNK = 1024
_TEXT = "text"


@dataclass(frozen=True)
class Reading:
    """How files are read, as far as it is not found by looking at them.

    Attributes:
        language: that their text is in; says in which code page it is, if it is not UTF-8.
        columns: column of the prompt → its name in the files.
        delimiter: of tables.
        encoding: of tables and plain text.
    """

    language: str = "en"
    columns: Mapping[str, str] = field(default_factory=dict)
    delimiter: str | None = None
    encoding: str | None = None


# Everything as it is found.
FOUND = Reading()


def named_columns(text: str, asked: Asked) -> dict[str, str]:
    """The names of columns that a user gives as `COLUMN=NAME,…`.

    Raises:
        RecipeError: it is not of that form, or the prompt has no such column.
    """
    found: dict[str, str] = {}
    for part in text.split(","):
        column, equals, name = (piece.strip() for piece in part.partition("="))
        known = list(dict.fromkeys(asked.columns))
        if not equals or not name:
            raise RecipeError([f"--columns {part}: expected COLUMN=NAME, such as {known[0]}=NAME"])
        if column not in known:
            raise RecipeError([f"--columns {part}: the prompt has no column {column!r}; it has {', '.join(known)}"])
        if column in found:
            raise RecipeError([f"--columns {part}: {column!r} is named twice"])
        found[column] = name
    return found


@dataclass(frozen=True)
class Looked:
    """What a look at all rows of a file shows.

    Attributes:
        count: of rows.
        columns: of all rows, in the order in which they first appear.
        digest: SHA-256 of the file.
        schema: of its rows as Parquet, a `pyarrow.Schema`, where that is what will be written.
        mark: whether a table that is written begins with a byte order mark: where this one does, and where it is in another
            encoding than UTF-8, whose readers may look for one.
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
        reading: how the file is read.
        limit: only so many rows, the first ones.

    Attributes:
        form: how the file is written.

    Raises:
        DataError: there is no such file, or it is of a format that is not read, or of plain text where the prompt has
            several columns.
    """

    def __init__(self, name: str, asked: Asked, reading: Reading = FOUND, limit: int | None = None):
        self.name, self.path, self._asked, self._limit = name, Path(name), asked, limit
        self._reading, self.form = reading, Format()
        self._renamed: str | None = None
        if name == STANDARD:
            return
        if not self.path.is_file():
            raise DataError(f"{name}: no such file")
        refuse_unknown(self.path)
        if self.is_text:
            columns = list(dict.fromkeys(asked.columns))
            if len(columns) > 1:
                raise DataError(
                    f"{name}: plain text has one column, the prompt has {', '.join(columns)}; use .jsonl or .csv"
                )
            self._renamed = columns[0]
        if kind(self.path) != ".parquet":
            self.form = self._found()

    def _found(self) -> Format:
        """How a table or plain text is written. Names that are known are a header, whatever they look like."""
        form = detection.detect(self.path, self._reading.language, self._reading.delimiter, self._reading.encoding)
        if not form.header:
            named = replace(form, header=True)
            try:
                _, first = next(readers.rows(self.path, named))
            except (DataError, StopIteration):
                return form
            known = self._asked.named(dict.fromkeys(first, ""), self._reading.columns)
            return named if set(self._asked.columns) <= set(known) else form
        return form

    @property
    def form_in_words(self) -> str:
        """What is not usual in how the file is written; empty where nothing is."""
        parts = [f"read as {self.form.encoding}"] if self.form.encoding != Format.encoding else []
        parts += [f"{self.form.delimiter!r} between fields"] if self.form.delimiter else []
        parts += ["no names of columns"] if not self.form.header else []
        return ", ".join(parts)

    @property
    def is_standard(self) -> bool:
        """Whether it is standard input, which can be read only once."""
        return self.name == STANDARD

    @property
    def ending(self) -> str:
        """The ending that is its format."""
        return ".jsonl" if self.is_standard else ending(self.path)

    @property
    def key(self) -> list[Any]:
        """What its items depend on, beside its bytes."""
        return [self.ending, *astuple(self.form), sorted(self._reading.columns.items())]

    @property
    def is_text(self) -> bool:
        """Whether it is plain text, whose paragraphs are its rows."""
        return not self.is_standard and kind(self.path) == ".txt"

    def rows(self) -> Iterator[Row]:
        """The rows with their locations. Raises DataError where one is malformed."""
        found = readers.standard_input() if self.is_standard else readers.rows(self.path, self.form)
        for location, row in islice(found, self._limit):
            yield location, row if self._renamed is None else {self._renamed: row[_TEXT]}

    def item(self, location: str, row: Mapping[str, Any]) -> Item:
        """The item that a row is. Raises DataError where it lacks a column of the prompt, or several may be it."""
        self._refuse_several(location, row)
        named = self._asked.named(row, self._reading.columns)
        for column in self._asked.columns:
            if column not in named and row:
                name = self._reading.columns.get(column, column)
                raise DataError(
                    f"{location}: no column {name!r}; the row has {', '.join(map(str, row))}; say which one the prompt's "
                    f"{column!r} is with --columns {column}=NAME"
                )
        return question(self._asked, self._asked.labels, location, named)

    def _refuse_several(self, location: str, row: Mapping[str, Any]) -> None:
        """Check that one column at most may be a column of the prompt. Its own name decides, unless it is a mere number."""
        for column in self._asked.columns:
            known = [name for name in self._asked.names(column) if nested.value(row, name) is not None]
            decided = column in self._reading.columns or (self.form.header and column in known)
            if len(known) > 1 and not decided:
                raise DataError(
                    f"{location}: the prompt's {column!r} may be {' or '.join(map(repr, known))}, as in other files of the run; "
                    f"say which one it is with --columns {column}=NAME"
                )

    def chunks(self, size: int = CHUNK) -> Iterator[list[Row]]:
        """The rows, so many at a time."""
        return _chunks(self.rows(), size)

    def look(self, added: Mapping[str, type], as_parquet: bool) -> Looked:
        """Read all rows once, and find whatever is wrong with them before anything is answered.

        Args:
            added: the columns that will be added to them.
            as_parquet: whether Parquet will be written, whose columns have types.

        Raises:
            DataError: a row is malformed, lacks a column of the prompt or has one that will be added; or there is none. Of wrong
                rows the first five have a line each, and all are counted.
        """
        columns: dict[str, None] = {}
        count, schema = 0, None
        is_parquet = self.ending == ".parquet"
        if as_parquet and is_parquet:
            schema = writers.schema_of(self.path)
        wrong = WrongRows(self.name)
        for chunk in _chunks(wrong.read(self.rows()), CHUNK):
            for location, row in chunk:
                with wrong.caught():
                    self.item(location, row)
                columns |= dict.fromkeys(row)
            self.refuse_added(chunk, added)
            count += len(chunk)
            if as_parquet and not is_parquet:
                schema = writers.widened(schema, [row for _, row in chunk], list(columns))
        wrong.refuse()
        if not count:
            raise DataError(f"{self.name}: holds no rows")
        with storage(self.path), opened(self.path) as stored, unpacked(stored, self.path) as file:
            mark = file.read(3) == b"\xef\xbb\xbf" or self.form.encoding != Format.encoding
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


def _chunks(rows: Iterator[Row], size: int) -> Iterator[list[Row]]:
    while chunk := list(islice(rows, size)):
        yield chunk
