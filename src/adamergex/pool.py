"""Documents on the disk, read back in a shuffled order: of a corpus of any size, only their places are in memory."""

import tempfile
from array import array
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np


class Pool:
    """A file of documents; it has no name, so that nothing of it is left however a run ends."""

    def __init__(self, folder: Path):
        self._file = tempfile.TemporaryFile(dir=folder)
        self._ends = array("q", [0])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._ends) - 1

    @property
    def bytes(self) -> int:
        """The size of the file."""
        return self._ends[-1]

    def add(self, text: str) -> None:
        """Put a document at the end."""
        written = self._file.write(text.encode("utf-8", "replace"))
        self._ends.append(self._ends[-1] + written)

    def shuffled(self, seed: int) -> Iterator[str]:
        """All documents, in an order that depends on the seed and on how many there are."""
        for number in np.random.default_rng(seed).permutation(len(self)):
            begin, end = self._ends[number], self._ends[number + 1]
            self._file.seek(begin)
            yield self._file.read(end - begin).decode("utf-8")
