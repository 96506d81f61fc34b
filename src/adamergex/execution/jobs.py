"""One stage as a job for a worker of a pool, what the worker does with it, and what it tells meanwhile."""

import os
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from adamergex.errors import AdaMergeXError, ExecutorError, StorageError
from adamergex.execution import making
from adamergex.execution.run_folder import RunFolder
from adamergex.execution.shared import Shared
from adamergex.execution.stage import Kind, Kinds, Plan, Stage, Worker, version
from adamergex.execution.store import Store
from adamergex.progress import Display, Silent
from adamergex.storage.record import UNREADABLE

# Seconds that workers wait for a store which is their only way to the run.
PATIENCE = 300.0
# What a pool starts its workers with: who makes stages, and the table of kinds. It travels between processes.
Setup = Callable[[Display], tuple[Kinds, Worker]]


@dataclass(frozen=True)
class Place:
    """Where the workers of a pool find what they need.

    Attributes:
        folder: of the run, absolute.
        token: of the file in it by which a worker sees that it is the same folder.
        here: the current folder, which relative paths of data are relative to.
        store: of finished stages, or None.
        packages: distributions whose versions have to be the same everywhere.
    """

    folder: Path
    token: str
    here: Path
    store: str | None = None
    packages: tuple[str, ...] = ()

    @property
    def probe(self) -> Path:
        """The file by which a worker sees that it has the same folder."""
        return RunFolder(self.folder, make=False).partial / f"seen-{self.token}"


@dataclass(frozen=True)
class Job:
    """One attempt at a stage.

    Attributes:
        stage: to be made.
        description: what determines its result.
        digests: of the inputs' contents, by id.
        inputs: the inputs and what determined them, by id, for a worker that has to take them from the store; an input whose
            record in the run folder is broken is not among them.
    """

    stage: Stage
    description: Mapping[str, Any]
    digests: Mapping[str, str]
    inputs: Mapping[str, tuple[Stage, Mapping[str, Any]]]


def recorded(ids: Iterable[str], plan: Plan, folder: RunFolder) -> dict[str, tuple[Stage, Mapping[str, Any]]]:
    """Stages that are done and what determined them, by id, as far as the run folder can still say that."""
    records = {id: folder.record(id) for id in ids}
    return {
        id: (plan[id], record.description)
        for id, record in records.items()
        if record is not None and record.description is not None
    }


@dataclass(frozen=True)
class Outcome:
    """What came of a job.

    Attributes:
        id: of the stage.
        status: made; taken from the store; damaged: an input is not what was written; failed.
        digest: of the result's contents, where it is there.
        problem: what failed; of a damaged input what is damaged.
        input: the id of the input that is damaged.
        details: of a failure that is none of a user's, where in the code.
        seconds: that it took.
        is_whole: whether it was made from its beginning, rather than from where an attempt before was cut off.
    """

    id: str
    status: Literal["made", "stored", "damaged", "failed"]
    digest: str = ""
    problem: Exception | None = None
    input: str = ""
    details: str = ""
    seconds: float = 0.0
    is_whole: bool = True


@dataclass(frozen=True)
class Hello:
    """What a worker says first.

    Attributes:
        sees_folder: whether it has the folder of the run; otherwise all goes through the store.
        versions: distribution → installed version, and kind of stage → its revision.
        device: what it computes on.
    """

    sees_folder: bool
    versions: Mapping[str, str | None]
    device: str = ""

    def check(self, name: str, versions: Mapping[str, str | None]) -> None:
        """Raise ExecutorError where the worker of this name has other versions than the process that leads."""
        for package, ours in versions.items():
            if (other := self.versions.get(package)) != ours:
                raise ExecutorError(
                    f"{name} has {package} {other or 'not'}, this process {ours or 'not'}; "
                    "results depend on it: install the same versions everywhere"
                )


@dataclass(frozen=True)
class Step:
    """A stage has done `done` of `total` steps; see `Display.step`."""

    done: int
    total: int
    tokens: int
    loss: float | None


@dataclass(frozen=True)
class Warned:
    """Something that the user should know about the stage."""

    text: str


News = Step | Warned


class Telling(Silent):
    """A display that tells another process."""

    def __init__(self, tell: Callable[[News], None]):
        self._tell = tell

    def step(self, done: int, total: int, tokens: int = 0, loss: float | None = None) -> None:
        """See Display."""
        self._tell(Step(done, total, tokens, loss))

    def warn(self, text: str) -> None:
        """See Display."""
        self._tell(Warned(text))


def versions(kinds: Kinds, packages: tuple[str, ...]) -> dict[str, str | None]:
    """What has to be the same in all processes that make stages of one run."""
    revisions = {f"stages of kind {name}": str(kind.revision) for name, kind in kinds.items()}
    return {name: version(name) for name in ("adamergex", *packages)} | revisions


class Maker:
    """A process of a pool at work: models stay resident between its jobs.

    Args:
        place: where things are.
        setup: who makes stages.
        tell: called with what happens meanwhile.
        own: a folder of its own, for where the run's folder cannot be seen from here.

    Raises:
        AdaMergeXError: the base model is not to be had here, for example.
    """

    def __init__(self, place: Place, setup: Setup, tell: Callable[[News], None], own: Path | None = None):
        if place.here.is_dir():
            os.chdir(place.here)
        self._kinds, self._worker = setup(Telling(tell))
        sees = place.probe.is_file()
        store = Store(place.store) if place.store else None
        if not sees and (store is None or own is None):
            raise ExecutorError(
                f"{os.uname().nodename} does not see {place.folder}: give a run folder that all machines share, "
                "or a --store that all of them reach"
            )
        self._folder = RunFolder(own if own is not None and not sees else place.folder)
        self._shared = Shared(store, self._folder, self._worker.display, 0.0 if sees else PATIENCE)
        self._is_apart = not sees
        if self._is_apart:
            # Its only way to the run: what it lacks is said before a stage is lost.
            self._shared.check()
        self._verified: set[tuple[str, str]] = set()
        self.hello = Hello(sees, versions(self._kinds, place.packages), self._worker.device)

    def make(self, job: Job) -> Outcome:
        """Make a stage, or take it from the store. Raises nothing that a stage raises."""
        began, stage, is_whole = time.monotonic(), job.stage, True
        kind = self._kinds[stage.kind]
        try:
            for id in stage.reads:
                if damage := self._damage(job, id):
                    return Outcome(stage.id, "damaged", problem=StorageError(damage), input=id)
            is_taken = self._shared.take(stage, kind, job.description)
            if not is_taken:
                is_whole = self._build(stage, kind, job.description)
        except Exception as error:  # A stage of a user's own data and models may raise anything.
            details = "" if isinstance(error, AdaMergeXError) else traceback.format_exc()
            return Outcome(stage.id, "failed", problem=portable(error), details=details)
        record = self._folder.record(stage.id)
        assert record is not None  # It was written just now.
        self._verified.add((stage.id, record.digest))
        return Outcome(
            stage.id,
            "stored" if is_taken else "made",
            record.digest,
            seconds=time.monotonic() - began,
            is_whole=is_whole,
        )

    def _build(self, stage: Stage, kind: Kind, description: Mapping[str, Any]) -> bool:
        """Make a stage; whether it was made from its beginning."""
        is_whole = not making.is_begun(stage, description, self._folder)
        making.make(stage, kind, description, self._folder, self._worker)
        self._shared.put(stage.id)
        if self._is_apart and not self._shared.answers:
            raise StorageError(f"the store took nothing of {stage.id}, and no other way leads back from here")
        return is_whole

    def _damage(self, job: Job, id: str) -> str | None:
        """What is wrong with an input; looked at once for each of its contents."""
        digest = job.digests[id]
        if (id, digest) in self._verified:
            return None
        record = self._folder.record(id)
        # What is damaged in a folder of this worker's own alone is whole in the store.
        if self._is_apart and (record is None or record.digest != digest or self._folder.damage(id)):
            if id not in job.inputs:
                return UNREADABLE
            stage, description = job.inputs[id]
            if not self._shared.take(stage, self._kinds[stage.kind], description):
                raise StorageError(f"{id}: not in the store, and its folder is not to be seen from here")
            record = self._folder.record(id)
        if record is None or record.digest != digest:
            return "its list of files is not what was written"
        if damage := self._folder.damage(id):
            return damage
        self._verified.add((id, digest))
        return None


def portable(error: Exception) -> Exception:
    """An error that another process can read; those of libraries as their text."""
    if isinstance(error, AdaMergeXError):
        return error
    return RuntimeError(" ".join(f"{type(error).__name__}: {error}".split())[:300])
