"""Answers as they come, on the disk: an evaluation that is cut off loses at most the batch it was at."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from adamergex.storage.files import storage


class Journal:
    """A file of numbered rows, a batch at a time.

    Args:
        path: of the file; read where it exists. Without it nothing is kept.
        rows: that are there already, where there is no file.

    Raises:
        StorageError: it cannot be written.
    """

    def __init__(self, path: Path | None, rows: Mapping[int, dict[str, Any]] = MappingProxyType({})):
        self._path = path
        self.rows: dict[int, dict[str, Any]] = dict(rows)
        if path is None or not path.exists():
            return
        with storage(path):
            whole = path.read_bytes()
            # What follows the last line's end was being written when the process was killed.
            kept = whole[: whole.rfind(b"\n") + 1]
            if kept != whole:
                path.write_bytes(kept)
        for line in kept.splitlines():
            batch = json.loads(line)
            self.rows |= {int(number): row for number, row in batch.items()}

    def add(self, batch: Mapping[int, dict[str, Any]]) -> None:
        """Keep a batch's rows, in one line."""
        self.rows |= batch
        if self._path is not None:
            with storage(self._path), self._path.open("ab") as file:
                file.write(json.dumps(batch, ensure_ascii=False).encode() + b"\n")
