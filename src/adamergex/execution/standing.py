"""How a run stands, by the events that it has told so far (`adamergex.execution.events`)."""

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from adamergex.errors import StorageError
from adamergex.execution.durations import together

# Bytes of a file of events, and of its longest line: that of a run with some hundred thousand stages.
_MOST = 2**28
# Of a stage's steps, the share by which its seconds are told rather than by what it took before.
_TELLING = 0.05

_Seconds = Annotated[float, Field(ge=0, le=1e11, allow_inf_nan=False)]
_Count = Annotated[int, Field(ge=0, le=10**15)]


class Event(BaseModel):
    """A line of the file.

    Attributes:
        event: run: it begins, with all its stages; expected: what they will take; joined and died: a worker of a pool; begun,
            step, done, waits (after all), failed: a stage; alive: nothing happened; ended: the run, other than well.
        at: when, in seconds since 1970.
        stages: ids, in order.
        before: for each, the numbers of those that come before it.
        host: of the leading process.
        pid: of it.
        executor: who makes the stages.
        stage: which one it is about.
        worker: who makes it, or is there, or is gone.
        computes: whether a worker makes stages with a model.
        how: there: a stage was done before; taken: from the store; made.
        done: steps that were done.
        total: of so many.
        seconds: of each stage, 0 where it takes a few at most, None where that is unknown.
        measured: how many stages that were made before say so.
        why: of what ended or failed.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)
    event: Literal["run", "expected", "joined", "died", "begun", "step", "done", "waits", "failed", "alive", "ended"]
    at: _Seconds
    stages: tuple[str, ...] = ()
    before: tuple[tuple[_Count, ...], ...] = ()
    host: str = ""
    pid: _Count = 0
    executor: str = ""
    stage: str = ""
    worker: str = ""
    computes: bool = True
    how: Literal["there", "taken", "made"] = "there"
    done: _Count = 0
    total: _Count = 0
    seconds: tuple[_Seconds | None, ...] | _Seconds = ()
    measured: _Count = 0
    why: str = ""


@dataclass(frozen=True)
class AtWork:
    """A stage that is being made.

    Attributes:
        worker: by whom.
        since: seconds since 1970.
        done: steps that were done.
        total: of so many; 0 where no step was told.
        told: when that was, in seconds since 1970.
    """

    worker: str
    since: float
    done: int = 0
    total: int = 0
    told: float = 0.0


@dataclass
class Standing:
    """How a run stands.

    Attributes:
        began: its first event.
        last: when it wrote last, in seconds since 1970.
        done: ids of stages that are done.
        running: id → who makes it, and how far that is.
        failed: id → why it failed.
        workers: those of a pool that are there → whether they make stages with a model.
        expected: id → what it takes, 0 where that is a few seconds at most, None where it is unknown; empty where nothing is
            known, or was to be made.
        measured: how many stages that were made before say so.
        ended: why it ended, interrupted or failed; empty while it goes on.
    """

    began: Event
    last: float
    done: set[str] = field(default_factory=set)
    running: dict[str, AtWork] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    workers: dict[str, bool] = field(default_factory=dict)
    expected: dict[str, float | None] = field(default_factory=dict)
    measured: int = 0
    ended: str = ""

    @classmethod
    def of(cls, first: Event) -> Self:
        """That of a run which has just begun. Raises ValueError for another event, or stages that do not fit together."""
        if first.event != "run" or not len(first.before) == len(first.stages) == len(set(first.stages)):
            raise ValueError
        if any(number >= place for place, numbers in enumerate(first.before) for number in numbers):
            raise ValueError
        return cls(first, first.at)

    @property
    def order(self) -> tuple[str, ...]:
        """The ids of all stages, in order."""
        return self.began.stages

    @property
    def before(self) -> Mapping[str, list[str]]:
        """Id → the ids of the stages that come before it."""
        return {
            id: [self.order[number] for number in numbers]
            for id, numbers in zip(self.order, self.began.before, strict=True)
        }

    @property
    def blocked(self) -> list[str]:
        """The ids of the stages that cannot be made, as one failed that they wait for."""
        found: dict[str, None] = {}
        for id, ids in self.before.items():
            if id not in self.failed and id not in self.done and any(one in self.failed or one in found for one in ids):
                found[id] = None
        return list(found)

    def take(self, event: Event) -> None:
        """Go on by one event. Raises ValueError where it does not fit."""
        self.last = max(self.last, event.at)
        id = event.stage
        if event.event in ("begun", "step", "done", "waits", "failed"):
            if id not in self._known:
                raise ValueError
            before = self.running.pop(id, None)
            self.done.discard(id)
            self.failed.pop(id, None)
            if event.event == "begun":
                self.running[id] = AtWork(event.worker, event.at)
            elif event.event == "step" and before is not None:
                done, total = min(event.done, event.total), event.total
                self.running[id] = AtWork(before.worker, before.since, done, total, event.at)
            elif event.event == "done":
                self.done.add(id)
            elif event.event == "failed":
                self.failed[id] = " ".join(event.why.split())
        elif event.event == "joined":
            self.workers[event.worker] = event.computes
        elif event.event == "died":
            self.workers.pop(event.worker, None)
        elif event.event == "expected":
            self.expected = dict(zip(self.order, event.seconds, strict=True))  # type: ignore[arg-type]
            self.measured = event.measured
        elif event.event == "ended":
            self.ended = event.why or "failed"
        elif event.event == "run":
            raise ValueError

    def __post_init__(self) -> None:
        self._known = frozenset(self.order)

    def seconds_left(self, now: float) -> float | None:
        """What is left at least, in seconds; None where that is unknown of a stage.

        Args:
            now: seconds since 1970.
        """
        never = {*self.done, *self.failed, *self.blocked}
        left = {id: 0.0 if id in never else self._left(id, now) for id in self.order}
        return together(left, self.before, sum(self.workers.values()))

    def _left(self, id: str, now: float) -> float | None:
        expected, work = self.expected.get(id), self.running.get(id)
        if work is None:
            return expected
        if work.done and (expected is None or work.done >= _TELLING * work.total):
            each = max(0.0, work.told - work.since) / work.done
            return max(0.0, each * (work.total - work.done) - (now - work.told))
        return None if expected is None else max(0.0, expected - max(0.0, now - work.since))


class Reader:
    """Reads a file of events, and what was added to it since.

    Args:
        path: of the file; it need not exist.
    """

    def __init__(self, path: Path):
        self._path = path
        self._first = b""
        self._read, self._lines = 0, 0
        self._standing: Standing | None = None

    def look(self) -> Standing | None:
        """How the run stands; None where there is no file, or nothing in it yet. A last line that is not whole is left out.

        Raises:
            StorageError: it cannot be read, or something else is in it.
        """
        try:
            content = self._content()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StorageError(f"{self._path}: cannot be read: {error.strerror or error}") from error
        whole = content[: content.rfind(b"\n") + 1]
        self._first = self._first or whole[: whole.find(b"\n") + 1]
        self._read += len(whole)
        for line in whole.split(b"\n")[:-1]:
            self._lines += 1
            self._take(line)
        return self._standing

    def _content(self) -> bytes:
        """What was added; all of it, where it is another run's file now."""
        # What is no file may never end.
        handle = os.open(self._path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or found.st_size > _MOST:
            os.close(handle)
            raise self._foreign("it is no file of events")
        with os.fdopen(handle, "rb") as file:
            if file.read(len(self._first)) != self._first:
                self._first, self._standing = b"", None
                self._read, self._lines = 0, 0
            file.seek(self._read)
            return file.read(_MOST)

    def _take(self, line: bytes) -> None:
        try:
            event = Event.model_validate_json(line)
            if self._standing is None:
                self._standing = Standing.of(event)
            else:
                self._standing.take(event)
        except (ValidationError, ValueError, TypeError):
            raise self._foreign(f"line {self._lines} is no event of a run") from None

    def _foreign(self, what: str) -> StorageError:
        self._first, self._standing = b"", None
        self._read, self._lines = 0, 0
        return StorageError(f"{self._path}: {what}; remove it: the next run writes another")
