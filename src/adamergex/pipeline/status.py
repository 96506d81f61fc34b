"""`adamergex status`: how a run stands, by the files in its folder alone."""

import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from adamergex.errors import StorageError
from adamergex.execution.run_folder import RunFolder
from adamergex.execution.standing import AtWork, Reader, Standing
from adamergex.progress import span
from adamergex.recipes.loading import folder_of, is_run, load
from adamergex.storage.files import is_locked
from adamergex.storage.run_names import LOCK

# Seconds after its last sign of life that a run on another machine counts as dead: network file systems show some late.
_SILENCE = 120.0

# running: it is at work; interrupted and failed: it has ended so; done: all is there; unfinished: some is not.
State = Literal["running", "interrupted", "failed", "done", "unfinished"]


@dataclass(frozen=True)
class Status:
    """How a run stands.

    Attributes:
        folder: of the run.
        state: see `State`.
        now: when this was looked at, in seconds since 1970.
        standing: what it tells; None where it tells nothing.
        done: how many stages are done; None where it is at work and tells nothing.
        stages: how many there are; likewise.
    """

    folder: Path
    state: State
    now: float
    standing: Standing | None = None
    done: int | None = None
    stages: int | None = None

    @property
    def seconds_left(self) -> float | None:
        """What a run at work will take, at least; None where that is unknown."""
        if self.state != "running" or self.standing is None:
            return None
        return self.standing.seconds_left(self.now)

    @property
    def running(self) -> Mapping[str, AtWork]:
        """The stages that are being made; none where the run has ended."""
        return self.standing.running if self.standing is not None and self.state == "running" else {}

    @property
    def waiting(self) -> int | None:
        """How many stages are to do that nobody makes; without those that cannot be made, as another one failed."""
        if self.stages is None or self.done is None:
            return None
        told = self.standing
        lost = len(told.failed) + len(told.blocked) if told is not None else 0
        return self.stages - self.done - lost - len(self.running)


class Watch:
    """Looks at the folder of a run, again and again.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._reader = Reader(RunFolder(folder, make=False).events)

    def look(self) -> Status:
        """How the run stands.

        Raises:
            AdaMergeXError: there is no run, it cannot be read, or its recipe or its data are not what they were.
        """
        is_held = self._is_held()
        told, now = self._reader.look(), time.time()
        if told is not None:
            state: State = "running"
            if told.ended or not (is_held or _is_alive(told, is_held, now)):
                state = "failed" if told.ended == "failed" else "interrupted"
            return Status(self._folder, state, now, told, len(told.done), len(told.order))
        if is_held:
            return Status(self._folder, "running", now)
        return self._by_results(now)

    def _is_held(self) -> bool | None:
        try:
            return is_locked(self._folder / LOCK)
        except (FileNotFoundError, NotADirectoryError):
            what = "no run in this folder" if self._folder.is_dir() else "no such folder"
            raise StorageError(f"{self._folder}: {what}; expected that of a run, such as runs/NAME") from None
        except OSError as error:
            raise StorageError(f"{self._folder}: cannot be read: {error.strerror or error}") from error

    def _by_results(self, now: float) -> Status:
        from adamergex.pipeline import plan_table

        name = str(self._folder)
        if not is_run(name):
            raise StorageError(
                f"{name}: nothing is at work in it, and it has no recipe.yaml that says what belongs there"
            )
        recipe = load(name)
        looked = plan_table.look(recipe, folder_of(name, recipe), self._folder)
        state: State = "done" if looked.done == len(looked.stages) else "unfinished"
        return Status(self._folder, state, now, None, looked.done, len(looked.stages))


def _is_alive(told: Standing, is_held: bool | None, now: float) -> bool:
    """Whether a run is at work whose lock is not seen to be held: on this machine it would be."""
    if is_held is False and told.began.host == socket.gethostname():
        return False
    return now - told.last < _SILENCE


def text(status: Status) -> str:
    """A few lines."""
    lines = [f"{status.folder}: {_state(status)}"]
    if status.stages is not None:
        lines.append(counts(status))
    if (told := status.standing) is not None:
        rows = [
            (id, _step(work.done, work.total), span(max(0.0, status.now - work.since)), work.worker)
            for id, work in status.running.items()
        ]
        widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
        lines += ["  ".join((*map(str.ljust, row[:3], widths), row[3])) for row in rows]
        lines += [f"{id} failed: {why}" for id, why in told.failed.items()]
    if (left := status.seconds_left) is not None:
        lines.append(f"about {span(left, roughly=True)} are left")
    return "\n".join(lines)


def counts(status: Status) -> str:
    """How many stages are done, are being made, wait and failed."""
    parts = [f"{status.done} of {status.stages} stages are done"]
    if status.running:
        parts.append(f"{len(status.running)} being made")
    if (told := status.standing) is not None and told.failed:
        parts.append(f"{len(told.failed)} failed")
        if told.blocked:
            parts.append(f"{len(told.blocked)} cannot be made without {'it' if len(told.failed) == 1 else 'them'}")
    if status.waiting:
        parts.append(f"{status.waiting} to do")
    return ", ".join(parts)


def _state(status: Status) -> str:
    told = status.standing
    if told is None:
        words = {"running": "at work, with no stage: it begins, or writes its report", "unfinished": "not at work"}
        return words.get(status.state, status.state)
    began = told.began
    who = f"{began.executor}, {began.host}, pid {began.pid}"
    ago = f"it wrote {span(max(0.0, status.now - told.last))} ago"
    if status.state == "running":
        return f"at work for {span(max(0.0, status.now - began.at))} ({who}); {ago}"
    words = {"interrupted": "cut off", "failed": "failed"}
    return f"{words[status.state]} after {span(told.last - began.at)} ({who}); {ago}"


def _step(done: int, total: int) -> str:
    return f"step {done} of {total}" if total else ""


def document(status: Status) -> dict[str, Any]:
    """The same for programs; docs/commands.md says what the keys mean."""
    told = status.standing
    about: dict[str, Any] = {"folder": str(status.folder), "state": status.state}
    about |= {"stages": status.stages, "done": status.done, "waiting": status.waiting}
    about["running"] = [
        {
            "id": id,
            "worker": work.worker,
            "step": work.done if work.total else None,
            "steps": work.total or None,
            "seconds": round(max(0.0, status.now - work.since), 1),
        }
        for id, work in status.running.items()
    ]
    about["failed"] = [{"id": id, "why": why} for id, why in (told.failed if told is not None else {}).items()]
    about["blocked"] = told.blocked if told is not None else []
    began = told.began if told is not None else None
    about |= {name: getattr(began, name) if began else None for name in ("executor", "host", "pid")}
    about |= {"started": began.at if began else None, "last_written": told.last if told is not None else None}
    left = status.seconds_left
    return about | {"seconds_left": None if left is None else round(left, 1)}
