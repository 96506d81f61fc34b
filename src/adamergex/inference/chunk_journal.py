"""Answers to a file's rows on the disk, a chunk of rows at a time: memory does not grow with them, and a kill loses a batch."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from adamergex.inference.journal import Journal
from adamergex.inference.predictor import Answer
from adamergex.storage.files import remove, storage, write_synced

# What a damaged file leads to where it is read.
_DAMAGE = (ValueError, KeyError, TypeError, AttributeError)


@dataclass(frozen=True)
class Chunk:
    """The answers to consecutive rows.

    Attributes:
        answers: in the order of the rows.
        shortened: how many rows were too long and were shortened.
    """

    answers: Sequence[Answer]
    shortened: int


class ChunkJournal:
    """A folder with a file for each chunk that is answered, and one for that which is being answered.

    Args:
        folder: made where there is none.
        key: of all that answers depend on; what was answered under another one is dropped.
        warn: told what is dropped, a line for each.

    Raises:
        StorageError: the folder cannot be written.
    """

    def __init__(self, folder: Path, key: str, warn: Callable[[str], None]):
        self._folder, self._warn = folder, warn
        marker = folder / "key"
        with storage(folder):
            begun = list(folder.glob("*.json*"))
            if begun and (not marker.is_file() or marker.read_bytes() != key.encode()):
                warn(
                    "what was answered before it was interrupted is of other rows, settings or another adapter; it is dropped"
                )
                for path in begun:
                    remove(path)
            write_synced(marker, key.encode())

    def read(self, number: int, rows: int) -> Chunk | None:
        """The answers to a chunk of so many rows; None where it is not answered yet, or its file is damaged."""
        path = self._folder / f"{number}.json"
        if not path.is_file():
            return None
        try:
            digest, _, content = path.read_bytes().partition(b"\n")
            if digest.decode() != sha256(content).hexdigest():
                raise ValueError("not what was written")
            found = json.loads(content)
            answers = [Answer(text, readable, tuple(scores)) for text, readable, scores in found["answers"]]
            if len(answers) != rows:
                raise ValueError("not as many answers as rows")
        except _DAMAGE:
            self._drop(path)
            return None
        return Chunk(answers, found["shortened"])

    def write(self, number: int, chunk: Chunk) -> None:
        """Keep a chunk's answers, in place of the journal that they were collected in."""
        answers = [[answer.prediction, answer.readable, answer.scores] for answer in chunk.answers]
        content = json.dumps({"answers": answers, "shortened": chunk.shortened}, ensure_ascii=False).encode()
        path = self._folder / f"{number}.json"
        with storage(self._folder):
            partial = path.with_suffix(".partial")
            write_synced(partial, sha256(content).hexdigest().encode() + b"\n" + content)
            partial.rename(path)
            remove(self._part(number))

    def begun(self, number: int) -> Journal:
        """The journal of a chunk that is being answered."""
        return Journal(self._part(number), warn=self._warn)

    def _part(self, number: int) -> Path:
        return self._folder / f"{number}.jsonl"

    def _drop(self, path: Path) -> None:
        self._warn(f"{path}: is damaged and is dropped; its rows are answered again")
        with storage(self._folder):
            remove(path)
