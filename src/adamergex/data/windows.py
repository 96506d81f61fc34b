"""Windows of tokens on the disk: a NumPy file that is written incrementally, and its budget."""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.lib import format as npy


class WindowFile:
    """An int32 array of shape (windows, window), which `numpy.load` reads and maps once this is closed.

    Tokens are appended. The number of windows is only known at the end: the header, which NumPy pads so that a file
    can grow, is rewritten then, and tokens that fill no window are cut off.

    Attributes:
        tokens: number of tokens that have been written.
    """

    def __init__(self, path: Path, window: int):
        self.tokens = 0
        self._window = window
        self._file = path.open("wb")
        self._header = self._file.write(self._described())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file as file:
            file.truncate(self._header + 4 * self._window * self.windows)
            file.seek(0)
            assert file.write(self._described()) == self._header

    @property
    def windows(self) -> int:
        """The number of complete windows."""
        return self.tokens // self._window

    def write(self, ids: list[int]) -> None:
        """Append tokens."""
        self._file.write(np.array(ids, "<i4").tobytes())
        self.tokens += len(ids)

    def _described(self) -> bytes:
        header = BytesIO()
        npy.write_array_header_1_0(
            header, {"descr": "<i4", "fortran_order": False, "shape": (self.windows, self._window)}
        )
        return header.getvalue()


@dataclass
class Part:
    """Training or held-out windows, filled until their budget is met.

    Attributes:
        file: where the tokens go.
        tokens: the budget in tokens, or
        characters: the budget in characters of text.
        least: minimum number of windows, even where the characters give none.
        used: characters so far, of documents which may be cut.
        documents: number of documents that the windows are cut from.
    """

    file: WindowFile
    tokens: int | None
    characters: int | None
    least: int
    used: int = 0
    documents: int = 0

    @property
    def budget(self) -> int:
        """The budget, in tokens or characters."""
        return self.characters or 0 if self.tokens is None else self.tokens

    @property
    def done(self) -> int:
        """How much of the budget is used."""
        return self.used if self.tokens is None else self.file.tokens

    @property
    def full(self) -> bool:
        """Whether the budget and the minimum number of windows are met."""
        return self.done >= self.budget and self.file.windows >= self.least

    def cut(self, text: str) -> str:
        """As much of a document as the budget in characters allows."""
        left = len(text) if self.characters is None else self.characters - self.used
        return text[:left] if left > 0 else text

    def add(self, text: str, ids: list[int]) -> None:
        """Add a document, or as many of its tokens as the budget allows."""
        self.file.write(ids if self.tokens is None else ids[: self.tokens - self.file.tokens])
        self.used += len(text)
        self.documents += 1
