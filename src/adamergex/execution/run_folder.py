"""The folder of a run: results that are complete or absent, each with a list of its files.

RUN/ID/              a stage's result, with `stage.json`: its key, what determines it, its files with sizes and hashes
RUN/set-aside/       what lay in the place of a result and was none
RUN/.work/scratch/   what survives an interruption: checkpoints, journals
RUN/.work/partial/   what is being written, by whom; put in its place when it is complete
RUN/.work/failed/    how stages failed, of the last run
RUN/.work/events.jsonl   what the run at work tells (`adamergex.execution.events`), or the last one that did not end well
RUN/.files.json      what the run wrote beside its results, with hashes
RUN/.lock            locked by the process that works in the folder
"""

import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from adamergex.errors import StorageError
from adamergex.execution.stage import Kind, Stage, difference, key
from adamergex.storage import record
from adamergex.storage.files import from_json, remove, sha256, small, storage, write_synced
from adamergex.storage.outputs import beside, refuse_link
from adamergex.storage.record import MARK, UNREADABLE, Record
from adamergex.storage.run_names import LOCK
from adamergex.terminal import say

_WORK, _ASIDE, _FILES, _FAILED = ".work", "set-aside", ".files.json", "failed"
Status = Literal["done", "absent", "outdated", "damaged", "stored"]


@dataclass(frozen=True)
class State:
    """The state of a stage's result.

    Attributes:
        status: done; absent; outdated: made with other parameters, inputs or versions; damaged: not what was written; stored:
            not done here, and in the store.
        why: what differs or is damaged, in words.
    """

    status: Status
    why: str = ""


class RunFolder:
    """The folder of a run; one process at a time works in it.

    Args:
        path: of the folder.
        make: create it if it is missing; False for read-only use.

    Raises:
        StorageError: it cannot be written, or is a symbolic link.
    """

    def __init__(self, path: Path, *, make: bool = True):
        self.path = path
        # Several processes may write at once, and one that should be dead, too.
        self._mine = secrets.token_hex(4)
        if make:
            refuse_link(path)
            with storage(path):
                path.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Lock the folder for this process within this context, and remove what a killed one left half-written.

        Raises:
            StorageError: another process has the folder locked.
        """
        with storage(self.path):
            # Longer than `is_locked` takes.
            lock = FileLock(self.path / LOCK, timeout=0.2)
            try:
                lock.acquire()
            except Timeout as error:
                raise StorageError(
                    f"{self.path}: another run is at work in this folder; wait for it or use --output"
                ) from error
        try:
            if (work := self.path / _WORK).is_symlink() or (work.exists() and not work.is_dir()):
                raise StorageError(f"{work} is not a folder; move it away, or choose another --output")
            for left in (self.partial, work / _FAILED, self.events):
                remove(left)
            yield
        finally:
            remove(self.partial)
            self._prune()
            lock.release()

    @property
    def partial(self) -> Path:
        """The folder of what is being written; nothing of it outlives the run."""
        return self.path / _WORK / "partial"

    @property
    def events(self) -> Path:
        """The file of what the run at work tells, or the last one that did not end well."""
        return self.path / _WORK / "events.jsonl"

    def _prune(self) -> None:
        """Remove empty folders below `.work`."""
        for folder in sorted((self.path / _WORK).glob("**/"), reverse=True):
            with contextlib.suppress(OSError):  # Not empty: it has checkpoints or journals.
                folder.rmdir()

    def place(self, id: str) -> Path:
        """The path of a stage's result."""
        return self.path / id

    def record(self, id: str) -> Record | None:
        """The record of a stage's result; None where there is none, or it cannot be read."""
        with contextlib.suppress(ValueError):
            return record.read(self.place(id))
        return None

    def keys(self) -> set[str]:
        """The keys of all results that are here, whichever recipe made them."""
        ids = (path.parent.relative_to(self.path).as_posix() for path in self.path.rglob(MARK))
        return {found for id in ids if (found := self.key(id)) is not None}

    def key(self, id: str) -> str | None:
        """The key of a stage's result as it is here; None where there is none."""
        found = self.record(id)
        return None if found is None or found.description is None else key(found.description)

    def state(self, id: str, description: Mapping[str, Any], *, verify: bool = False) -> State:
        """The state of a stage's result: whether it exists, matches a description, and is complete.

        Args:
            id: of the stage.
            description: what determines its result now.
            verify: compare hashes as well as sizes.
        """
        try:
            found = record.read(self.place(id))
        except ValueError as error:
            return State("damaged", str(error))
        if found is None:
            return State("damaged", f"{MARK} is missing") if self._is_taken(id) else State("absent")
        if found.description is None:
            return State("outdated", "another version of adamergex made it")
        if changed := difference(dict(found.description), dict(description)):
            return State("outdated", changed)
        damage = found.damage(self.place(id), verify)
        return State("damaged", damage) if damage else State("done")

    def damage(self, id: str) -> str | None:
        """A message about the first file of a result that is not what was written, by its hash; None where all are."""
        found = self.record(id)
        return UNREADABLE if found is None else found.damage(self.place(id), verify=True)

    def _is_taken(self, name: str) -> bool:
        """Whether there is something in a place, other than an empty folder."""
        place = self.path / name
        if place.is_dir() and not place.is_symlink():
            return any(place.iterdir())
        return os.path.lexists(place)

    def _set_aside(self, name: str) -> None:
        """Move away what lies in a place and is nothing that a run wrote: it may be the only copy of something else."""
        if not self._is_taken(name):
            return
        kept, number = self.path / _ASIDE / name, 1
        while os.path.lexists(kept):
            number += 1
            kept = self.path / _ASIDE / f"{name}-{number}"
        kept.parent.mkdir(parents=True, exist_ok=True)
        (self.path / name).rename(kept)
        say(f"{self.path / name}: is not what a run wrote there; it was moved to {kept}", error=True)

    def _set_aside_others(self, id: str) -> None:
        """Move away the files in the folder of a result that no run wrote there."""
        found = self.record(id)
        if found is None:
            # Which these are cannot be read.
            return
        place = self.place(id)
        for path in sorted(place.rglob("*")):
            name = path.relative_to(place).as_posix()
            if name not in found.files and name != MARK and (path.is_symlink() or not path.is_dir()):
                self._set_aside(f"{id}/{name}")

    def make(self, stage: Stage, kind: Kind, description: Mapping[str, Any], build: Callable[[Path], None]) -> None:
        """Build a stage's result and replace the previous one, if any.

        Args:
            stage: to make.
            kind: its kind.
            description: what determines the result.
            build: writes the result into the empty folder that it is called with.

        Raises:
            StorageError: the disk is full or the folder cannot be written; nothing is left behind.
        """
        work = self.partial / self._mine / stage.id
        with beside(self.place(stage.id), work) as partial:
            build(partial)
            facts = {"stage": stage.as_json(), "key": key(description), "made_of": description}
            record.written(partial, kind.notes, facts)
            if os.path.lexists(self.place(stage.id) / MARK):
                self._set_aside_others(stage.id)
            else:
                self._set_aside(stage.id)
        remove(work)
        # Including checkpoints of the same stage with other parameters, which will not be resumed now.
        remove(self._scratch(stage.id))

    def scratch(self, id: str, description: Mapping[str, Any]) -> Path:
        """A folder that survives an interruption of this stage, and is removed once it is made."""
        folder = self._scratch(id) / key(description)[:16]
        with storage(folder):
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    def forget(self, id: str, description: Mapping[str, Any]) -> None:
        """Remove what is left to survive an interruption of a stage that is done: it was killed right after that."""
        if (left := self._scratch(id) / key(description)[:16]).exists():
            with storage(left):
                remove(left)

    def keep_details(self, id: str, text: str) -> Path:
        """Keep what a failure of a stage looked like, until the next run begins; where it is."""
        path = self.path / _WORK / _FAILED / f"{id}.txt"
        with storage(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        return path

    def _scratch(self, id: str) -> Path:
        # Ids are paths, and one may be below another; the `@` keeps their scratch folders separate.
        return self.path / _WORK / "scratch" / f"{id}@"

    def write(self, name: str, content: bytes) -> bool:
        """Replace a file of the run folder atomically; what no run wrote there is set aside. Returns whether it changed."""
        digest = hashlib.sha256(content).hexdigest()
        with storage(self.path):
            hashes, present = self._hashes().get(name, []), self._present(name)
            if present != digest:
                if present not in hashes:
                    self._set_aside(name)
                # Before the file, so that a kill in between leaves no file that nobody knows.
                self._remember(name, [*hashes[-1:], digest])
                self._put(name, content)
            if hashes != [digest]:
                self._remember(name, [digest])
        return present != digest

    def holds(self, name: str, content: bytes) -> bool:
        """Whether a file of the run folder is there with this content."""
        return self._present(name) == hashlib.sha256(content).hexdigest()

    def is_written(self, name: str) -> bool:
        """Whether a file of the run folder is the last that `write` wrote there."""
        with storage(self.path):
            return self._present(name) in self._hashes().get(name, [])[-1:]

    def remove(self, *names: str) -> None:
        """Remove files that `write` wrote, if they exist; what no run wrote there is set aside."""
        with storage(self.path):
            for name in names:
                if self._present(name) not in self._hashes().get(name, []):
                    self._set_aside(name)
                remove(self.path / name)

    def _put(self, name: str, content: bytes) -> None:
        partial = self.partial / self._mine / name
        partial.parent.mkdir(parents=True, exist_ok=True)
        try:
            write_synced(partial, content)
            if (place := self.path / name).is_dir() and not place.is_symlink():
                # An empty one: any other was set aside.
                place.rmdir()
            partial.replace(place)
        finally:
            remove(partial)

    def _present(self, name: str) -> str | None:
        """The SHA-256 of a file of the run folder; None where there is none, or something else."""
        path = self.path / name
        return sha256(path) if path.is_file() and not path.is_symlink() else None

    def _hashes(self) -> dict[str, list[str]]:
        """File → the SHA-256 of what was written there, and before it of what was there when that began."""
        with contextlib.suppress(OSError, ValueError):
            found = from_json(small(self.path / _FILES))
            if isinstance(found, dict) and all(isinstance(hashes, list) for hashes in found.values()):
                return found
        return {}

    def _remember(self, name: str, hashes: list[str]) -> None:
        self._put(_FILES, json.dumps(self._hashes() | {name: hashes}, indent=2, sort_keys=True).encode() + b"\n")
