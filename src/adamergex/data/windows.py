"""Windows of tokens on the disk: a NumPy file written as the tokens come, and the budget that fills it."""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.lib import format as npy


class WindowFile:
    """An int32 array of shape (windows, window), which `numpy.load` reads and maps once this is closed.

    Tokens are written one after the other. How many windows they make is known at the end only: the header, which
    NumPy pads so that a file can grow, is written again then, and tokens that fill no window are cut off.

    Attributes:
        tokens: how many have been written.
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
        """How many windows are whole."""
        return self.tokens // self._window

    def write(self, ids: list[int]) -> None:
        """Put tokens at the end."""
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
        tokens: how many are wanted, or
        characters: of how much text.
        least: windows that there must be even where the characters make none.
        used: characters so far, of documents which may be cut.
        documents: how many the windows are cut from.
    """

    file: WindowFile
    tokens: int | None
    characters: int | None
    least: int
    used: int = 0
    documents: int = 0

    @property
    def budget(self) -> int:
        """What is wanted, in tokens or characters."""
        return self.characters or 0 if self.tokens is None else self.tokens

    @property
    def done(self) -> int:
        """How much of it there is."""
        return self.used if self.tokens is None else self.file.tokens

    @property
    def full(self) -> bool:
        """Whether the budget is met."""
        return self.done >= self.budget and self.file.windows >= self.least

    def cut(self, text: str) -> str:
        """As much of a document as the characters allow."""
        left = len(text) if self.characters is None else self.characters - self.used
        return text[:left] if left > 0 else text

    def add(self, text: str, ids: list[int]) -> None:
        """Take a document, or as many of its tokens as are wanted."""
        self.file.write(ids if self.tokens is None else ids[: self.tokens - self.file.tokens])
        self.used += len(text)
        self.documents += 1
