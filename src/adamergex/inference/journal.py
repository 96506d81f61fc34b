"""Answers as they come, on the disk: an evaluation that is cut off loses at most the batch it was at."""

import json
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Any

from adamergex.storage.files import storage


class Journal:
    """A file of numbered rows, a batch at a time; each line begins with its SHA-256, so that a damaged one is no answer.

    Args:
        path: of the file; read where it exists. Without it nothing is kept.
        rows: that are there already, where there is no file.
        warn: told in a line that lines were damaged, and are dropped.

    Raises:
        StorageError: it cannot be read or written.
    """

    def __init__(
        self,
        path: Path | None,
        rows: Mapping[int, dict[str, Any]] = MappingProxyType({}),
        warn: Callable[[str], None] = lambda text: None,
    ):
        self._path = path
        self.rows: dict[int, dict[str, Any]] = dict(rows)
        if path is None or not path.exists():
            return
        with storage(path):
            whole = path.read_bytes()
            # What follows the last line's end was being written when the process was killed.
            lines = whole[: whole.rfind(b"\n") + 1].splitlines(keepends=True)
            kept = [line for line in lines if line.startswith(_digest(_content(line)) + b" ")]
            if b"".join(kept) != whole:
                path.write_bytes(b"".join(kept))
        for line in kept:
            self.rows |= {int(number): row for number, row in json.loads(_content(line)).items()}
        if len(kept) < len(lines):
            warn(
                f"{path}: {len(lines) - len(kept)} of {len(lines)} lines are damaged and dropped; they are answered again"
            )

    def add(self, batch: Mapping[int, dict[str, Any]]) -> None:
        """Keep a batch's rows, in one line."""
        self.rows |= batch
        if self._path is not None:
            content = json.dumps(batch, ensure_ascii=False).encode() + b"\n"
            with storage(self._path), self._path.open("ab") as file:
                file.write(_digest(content) + b" " + content)


def _content(line: bytes) -> bytes:
    """What follows the digest."""
    return line.partition(b" ")[2]


def _digest(content: bytes) -> bytes:
    return sha256(content).hexdigest().encode()
