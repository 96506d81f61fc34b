"""A run as stages, each a folder named by what determines it; what exists is complete.

A stage is written beside its final place and renamed when it is whole. Its fingerprint covers its
section of the recipe, the fingerprints of the stages it needs, and the versions that matter; a
folder that holds the same fingerprint is not made again.
"""

import contextlib
import hashlib
import importlib.metadata
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from adamergex.storage.files import beside, remove, storage, write_synced
from adamergex.errors import StorageError

MARK = "stage.json"
_PARTIAL, _OLD, _UNFINISHED = ".partial-", ".old-", ".unfinished-"


@dataclass(frozen=True)
class Stage:
    """One step of a run.

    Attributes:
        name: its folder below the run folder, such as `adapters/task-en`.
        settings: all that determines the result but its inputs; plain JSON.
        needs: the stages whose folders it reads.
        build: writes the result into the empty folder that it is given.
        packages: the Python packages whose version may change the result.
        together: whether all processes of a run work on it, or the first one alone.
        ahead: whether a thread may make it while the run is at an earlier stage.
    """

    name: str
    settings: dict[str, Any]
    needs: tuple["Stage", ...]
    build: Callable[[Path], None] = field(compare=False)
    packages: tuple[str, ...] = ()
    together: bool = False
    ahead: bool = False

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of everything that determines the result."""
        described = {
            "name": self.name,
            "settings": self.settings,
            "needs": [stage.fingerprint for stage in self.needs],
            "versions": {package: importlib.metadata.version(package) for package in ("adamergex", *self.packages)},
        }
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


class RunFolder:
    """The folder of a run; held by one process at a time.

    Args:
        path: made if need be.

    Raises:
        StorageError: it cannot be written.
    """

    def __init__(self, path: Path):
        self.path = path
        with storage(path):
            path.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Within this context no other process works in the folder, and leftovers of a killed one are gone.

        Raises:
            StorageError: another process holds the folder.
        """
        with storage(self.path):
            lock = FileLock(self.path / ".lock", timeout=0)
            try:
                lock.acquire()
            except Timeout as error:
                raise StorageError(
                    f"{self.path}: another run is at work in this folder; wait for it or use --output"
                ) from error
        try:
            with storage(self.path):
                for pattern in (f"{_PARTIAL}*", f"{_OLD}*"):
                    for leftover in list(self.path.glob(pattern)):
                        remove(leftover)
            yield
        finally:
            lock.release()

    def of(self, stage: Stage) -> Path:
        """Where a stage's result lies."""
        return self.path / stage.name

    def has(self, stage: Stage) -> bool:
        """Whether a stage's result is there and is the one that its fingerprint names."""
        try:
            return json.loads((self.of(stage) / MARK).read_bytes())["fingerprint"] == stage.fingerprint
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def make(self, stage: Stage) -> None:
        """Build a stage and put it in place of whatever was there.

        Raises:
            StorageError: the disk is full or the folder cannot be written; nothing is left behind.
        """
        final = self.of(stage)
        flat = stage.name.replace("/", "-")
        partial, old = self.path / (_PARTIAL + flat), self.path / (_OLD + flat)
        with beside(final, partial, old):
            stage.build(partial)
            mark = {"name": stage.name, "fingerprint": stage.fingerprint, "settings": stage.settings}
            write_synced(partial / MARK, json.dumps(mark, indent=2, sort_keys=True).encode() + b"\n")
        # Also those of the same stage with other settings: nobody goes on from them now.
        for unfinished in self.path.glob(f"{_UNFINISHED}{flat}-*"):
            remove(unfinished)

    def checkpoint(self, stage: Stage) -> Path:
        """Where a stage that takes long may note how far it is; gone when it is made."""
        return self.path / f"{_UNFINISHED}{stage.name.replace('/', '-')}-{stage.fingerprint[:16]}"

    def write(self, name: str, content: bytes) -> bool:
        """Replace a file of the run folder in one step, and say whether it was another one before."""
        with storage(self.path):
            present = self.path / name
            changed = not present.is_file() or present.read_bytes() != content
            partial = self.path / (_PARTIAL + name)
            try:
                write_synced(partial, content)
                partial.replace(self.path / name)
            finally:
                remove(partial)
        return changed

    def remove(self, *names: str) -> None:
        """Remove files of the run folder, if they are there."""
        with storage(self.path):
            for name in names:
                (self.path / name).unlink(missing_ok=True)
