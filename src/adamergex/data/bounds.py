"""How much of a file is read at most: files of others may hold rows without end, and expand to more than any memory holds."""

import io
from collections.abc import Iterator
from typing import Any

from adamergex.data.formats import Row
from adamergex.errors import DataError

# Of text in a row: a novel. What is longer takes minutes to tokenize, and no model reads it.
LONGEST_ROW = 2_000_000
# Of a document of a corpus, which is cut up before it is tokenized.
LONGEST_DOCUMENT = 2**27
# Bytes of a line, and of JSON that is read at once.
LONGEST_LINE = 2**28
# Lists and objects within each other, far from where Python's own recursion ends.
DEEPEST = 64
# A file may expand to so many bytes, or to so many times its size: text is compressed to a fifth, a bomb to a thousandth.
_SURELY, _TIMES = 2**24, 200


class Expanded(io.RawIOBase):
    """What a compressed file expands to. Reading raises OSError where that is more than any text would expand to.

    Args:
        file: the content.
        size: of the compressed file, in bytes.
    """

    def __init__(self, file: Any, size: int):
        self._file, self._left = file, most(size)

    def readable(self) -> bool:
        """See RawIOBase."""
        return True

    def readinto(self, buffer: Any) -> int:
        """See RawIOBase."""
        content = self._file.read(len(buffer))
        buffer[: len(content)] = content
        self._left -= len(content)
        if self._left < 0:
            raise OSError(BOMB)
        return len(content)

    def close(self) -> None:
        """See RawIOBase."""
        self._file.close()
        super().close()


BOMB = f"it expands to more than {_TIMES} times its size, as no text does; is it damaged?"


def most(size: int) -> int:
    """To how many bytes a compressed file of this size may expand."""
    return max(_SURELY, _TIMES * size)


def bounded(rows: Iterator[Row], longest: int = LONGEST_ROW) -> Iterator[Row]:
    """The rows. Raises DataError where one has more text than so many characters, or is nested too deeply."""
    for location, row in rows:
        size = length(location, row)
        if size > longest:
            raise DataError(
                f"{location}: {size:,} characters; expected at most {longest:,} in a row: cut its text up, or leave it out"
            )
        yield location, row


def length(location: str, row: dict[str, Any]) -> int:
    """The characters of all text in a row. Raises DataError where it is nested too deeply."""
    size, level = 0, list(row.values())
    for _ in range(DEEPEST):
        inner: list[Any] = []
        for value in level:
            if isinstance(value, str | bytes):
                size += len(value)
            elif isinstance(value, dict):
                inner += value.values()
            elif isinstance(value, list | tuple):
                inner += value
        if not inner:
            return size
        level = inner
    raise DataError(f"{location}: more than {DEEPEST} lists and objects within each other; write it flatter")
