"""Documents on the disk, read back in a shuffled order: only their offsets are in memory."""

from array import array
from collections.abc import Iterator
from typing import IO

import numpy as np


class Pool:
    """Documents in a file that is open for reading and writing."""

    def __init__(self, file: IO[bytes]):
        self._file = file
        self._ends = array("q", [0])

    def __len__(self) -> int:
        return len(self._ends) - 1

    @property
    def bytes(self) -> int:
        """The size of the file."""
        return self._ends[-1]

    def add(self, text: str) -> None:
        """Append a document."""
        written = self._file.write(text.encode("utf-8", "replace"))
        self._ends.append(self._ends[-1] + written)

    def shuffled(self, seed: int) -> Iterator[str]:
        """All documents, in an order that depends on the seed and on how many there are."""
        for number in np.random.default_rng(seed).permutation(len(self)):
            begin, end = self._ends[number], self._ends[number + 1]
            self._file.seek(begin)
            yield self._file.read(end - begin).decode("utf-8")
