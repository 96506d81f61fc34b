"""What is wrong with the rows of a source: all are looked at, the first problems are shown, and all are counted."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from adamergex.data.formats import Row
from adamergex.errors import DataError

# Of the wrong rows of a source, how many are shown.
SHOWN = 5
# Rows that are looked at behind a malformed one: a file may have hundreds of millions.
_LOOKED_AT = 100_000


class WrongRows:
    """Collects what is wrong with the rows of a source.

    Args:
        name: of the source, for the message.

    Attributes:
        count: how many rows are wrong.
        looked_at: how many were looked at.
    """

    def __init__(self, name: str):
        self._name, self._shown, self.count, self.looked_at = name, list[str](), 0, 0

    def read(self, rows: Iterator[Row]) -> Iterator[Row]:
        """The rows, up to one that cannot be read."""
        with self.caught():
            for row in rows:
                self.looked_at += 1
                yield row

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Within this context a DataError is noted, and is not raised."""
        try:
            yield
        except DataError as error:
            self.count += error.rows
            self.looked_at += error.unread
            self._shown += error.args[:SHOWN]

    def refuse(self, unread: int = 0) -> None:
        """Raises DataError where something was noted; `unread` is an attribute of it."""
        if not self.count:
            return
        more = f"{self._name}: {self.count:,} of {self.looked_at:,} rows are wrong, {SHOWN} of which are shown"
        error = DataError(*self._shown[:SHOWN], *([more] if self.count > SHOWN else []))
        error.rows, error.unread = self.count, unread
        raise error


def each(name: str, parses: Iterable[Callable[[], Row]]) -> Iterator[Row]:
    """The rows of a file up to a malformed one; those behind it are looked at, and all that are malformed refused together.

    Args:
        name: of the file.
        parses: a function for each row, which raises DataError where it is malformed.

    Raises:
        DataError: rows are malformed, or `parses` raises it.
    """
    wrong, unread = WrongRows(name), 0
    with wrong.caught():
        for parse in parses:
            wrong.looked_at += 1
            with wrong.caught():
                row = parse()
            if not wrong.count:
                yield row
                continue
            unread += 1
            if unread == _LOOKED_AT:
                break
    wrong.refuse(unread)
