"""The folder of a run: results that are complete or absent, each with a list of its files.

RUN/ID/              a stage's result, with `stage.json`: its key, what determines it, its files with sizes and hashes
RUN/.work/scratch/   what survives an interruption: checkpoints, journals
RUN/.work/partial/   what is being written; renamed when it is complete
RUN/.lock            locked by the process that works in the folder
"""

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from adamergex.errors import StorageError
from adamergex.execution.stage import Kind, Stage, difference, key
from adamergex.storage.files import beside, remove, sha256, storage, write_synced

MARK = "stage.json"
_WORK = ".work"
Status = Literal["done", "absent", "outdated", "damaged"]


@dataclass(frozen=True)
class State:
    """The state of a stage's result.

    Attributes:
        status: done; absent; outdated: made with other parameters, inputs or versions; damaged: not what was written.
        why: what differs or is damaged, in words.
    """

    status: Status
    why: str = ""


@dataclass(frozen=True)
class Record:
    """What `stage.json` says.

    Attributes:
        description: what determined the result (`stage.described`).
        digest: of the contents, without notes.
        files: relative path → size in bytes and SHA-256.
    """

    description: Mapping[str, Any]
    digest: str
    files: Mapping[str, tuple[int, str]]


class RunFolder:
    """The folder of a run; one process at a time works in it.

    Args:
        path: of the folder.
        make: create it if it is missing; False for read-only use.

    Raises:
        StorageError: it cannot be written.
    """

    def __init__(self, path: Path, *, make: bool = True):
        self.path = path
        if not make:
            return
        with storage(path):
            path.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Lock the folder for this process within this context, and remove what a killed one left half-written.

        Raises:
            StorageError: another process has the folder locked.
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
                remove(self.path / _WORK / "partial")
            yield
        finally:
            remove(self.path / _WORK / "partial")
            self._prune()
            lock.release()

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
        found = self._read(id)
        return found if isinstance(found, Record) else None

    def _read(self, id: str) -> Record | State:
        """The record of a stage's result, or why there is none."""
        try:
            mark = json.loads((self.place(id) / MARK).read_bytes())
            # Versions before results had a list of their files wrote `fingerprint`.
            if isinstance(mark, dict) and "fingerprint" in mark:
                return State("outdated", "another version of adamergex made it")
            files = {str(name): (int(size), str(sha)) for name, (size, sha) in mark["files"].items()}
            # The list is that of a whole result, and of nothing outside of it.
            if mark["digest"] == _digest(files, mark["notes"]) and all(map(_is_inside, files)):
                return Record(dict(mark["made_of"]), mark["digest"], files)
        except FileNotFoundError:
            return State("absent")
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            pass
        return State("damaged", f"{MARK} cannot be read")

    def state(self, id: str, description: Mapping[str, Any], *, verify: bool = False) -> State:
        """The state of a stage's result: whether it exists, matches a description, and is complete.

        Args:
            id: of the stage.
            description: what determines its result now.
            verify: compare hashes as well as sizes.
        """
        record = self._read(id)
        if isinstance(record, State):
            return record
        if changed := difference(dict(record.description), dict(description)):
            return State("outdated", changed)
        damage = self._damage(id, record, verify)
        return State("damaged", damage) if damage else State("done")

    def damage(self, id: str) -> str | None:
        """A message about the first file of a result that is not what was written, by its hash; None where all are."""
        record = self.record(id)
        return f"{MARK} cannot be read" if record is None else self._damage(id, record, verify=True)

    def _damage(self, id: str, record: Record, verify: bool) -> str | None:
        for name, (size, sha) in record.files.items():
            path = self.place(id) / name
            try:
                actual = path.stat().st_size
                if actual != size:
                    return f"{name} has {actual:,} bytes, {size:,} were written"
                if verify and sha256(path) != sha:
                    return f"{name} is not what was written"
            except OSError as error:
                return f"{name}: {error.strerror or error}"
        return None

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
        work = self.path / _WORK / "partial"
        partial, old = work / stage.id / "new", work / stage.id / "old"
        with beside(self.place(stage.id), partial, old):
            build(partial)
            record = _record(partial, kind, description)
            mark = {
                "stage": stage.as_json(),
                "key": key(description),
                "made_of": description,
                "digest": record.digest,
                "files": record.files,
                "notes": list(kind.notes),
            }
            write_synced(
                partial / MARK, json.dumps(mark, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"
            )
        remove(work / stage.id)
        # Including checkpoints of the same stage with other parameters, which will not be resumed now.
        remove(self._scratch(stage.id))

    def scratch(self, id: str, description: Mapping[str, Any]) -> Path:
        """A folder that survives an interruption of this stage, and is removed once it is made."""
        folder = self._scratch(id) / key(description)[:16]
        with storage(folder):
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _scratch(self, id: str) -> Path:
        # Ids are paths, and one may be below another; the `@` keeps their scratch folders separate.
        return self.path / _WORK / "scratch" / f"{id}@"

    def write(self, name: str, content: bytes) -> bool:
        """Replace a file of the run folder atomically. Returns whether its content changed."""
        with storage(self.path):
            present = self.path / name
            changed = not present.is_file() or present.read_bytes() != content
            partial = self.path / _WORK / "partial" / name
            partial.parent.mkdir(parents=True, exist_ok=True)
            try:
                write_synced(partial, content)
                partial.replace(self.path / name)
            finally:
                remove(partial)
        return changed

    def remove(self, *names: str) -> None:
        """Remove files of the run folder, if they exist."""
        with storage(self.path):
            for name in names:
                (self.path / name).unlink(missing_ok=True)


def _record(folder: Path, kind: Kind, description: Mapping[str, Any]) -> Record:
    """The contents of a folder that was just written."""
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            files[path.relative_to(folder).as_posix()] = (path.stat().st_size, sha256(path))
    return Record(description, _digest(files, kind.notes), files)


def _digest(files: Mapping[str, tuple[int, str]], notes: Sequence[str]) -> str:
    """What identifies a result's contents: SHA-256 over the names and hashes of its files, without notes."""
    counted = "".join(f"{name} {sha}\n" for name, (_, sha) in sorted(files.items()) if name not in notes)
    return hashlib.sha256(counted.encode()).hexdigest()


def _is_inside(name: str) -> bool:
    """Whether a file's name is one within its folder."""
    return "\0" not in name and not name.startswith("/") and ".." not in name.split("/")
