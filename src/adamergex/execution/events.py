"""What a run tells while it works, for whoever looks at it from elsewhere: one JSON object a line, in `.work/events.jsonl`."""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adamergex.execution.stage import Stage
from adamergex.progress import Display
from adamergex.storage.files import remove

# Seconds between two signs of life.
HEARTBEAT = 10.0
# Seconds between two steps of a stage that are written: a hundredth of what it has taken, and within these two.
_OFTEN, _SELDOM = 2.0, 30.0


class Events:
    """The file of a run's events, which its leading process appends to. What cannot be written is no error of the run.

    Args:
        path: of the file; None to write nothing.
        executor: who makes the stages, as `--executor` names it.
    """

    def __init__(self, path: Path | None, executor: str):
        self._path, self._executor = path, executor
        # Stage → when it began, and when its next step is written.
        self._steps: dict[str, tuple[float, float]] = {}

    @contextmanager
    def of(self, stages: Sequence[Stage]) -> Iterator[None]:
        """Within this context events are written, and signs of life; the file goes if the context ends well, and stays otherwise.

        Args:
            stages: of the plan, in order.
        """
        if self._path is None:
            yield
            return
        self._begin(self._path, stages)
        ended = threading.Event()
        alive = threading.Thread(target=self._beat, args=(ended,), name="heartbeat", daemon=True)
        alive.start()
        why = "interrupted"
        try:
            yield
            why = ""
        except Exception:
            why = "failed"
            raise
        finally:
            ended.set()
            alive.join()
            if why:
                self.tell("ended", why=why)
            elif self._path is not None:
                remove(self._path)

    def _begin(self, path: Path, stages: Sequence[Stage]) -> None:
        numbers = {stage.id: number for number, stage in enumerate(stages)}
        before = [[numbers[id] for id in dict.fromkeys((*stage.reads, *stage.after))] for stage in stages]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            remove(path)
            path.open("x").close()
        except OSError:
            self._path = None
            return
        who = {"host": socket.gethostname(), "pid": os.getpid(), "executor": self._executor}
        self.tell("run", stages=list(numbers), before=before, **who)

    def _beat(self, ended: threading.Event) -> None:
        while not ended.wait(HEARTBEAT):
            self.tell("alive")

    def tell(self, event: str, **facts: Any) -> None:
        """Append an event; `adamergex.execution.standing.Event` says which there are, and what belongs to each."""
        if self._path is None:
            return
        line = json.dumps({"event": event, "at": round(time.time(), 3), **facts}).encode() + b"\n"
        try:
            # Opened for each: a network file system shows others what was written when a file is closed.
            handle = os.open(self._path, os.O_WRONLY | os.O_APPEND)
            try:
                is_whole = os.write(handle, line) == len(line)
            finally:
                os.close(handle)
        except OSError:
            return
        if not is_whole:
            # The disk is full: whatever came next would stand in the same line.
            self._path = None

    def begun(self, id: str, worker: str) -> None:
        """A worker begins with a stage."""
        now = time.monotonic()
        self._steps[id] = now, now
        self.tell("begun", stage=id, worker=worker)

    def step(self, id: str, done: int, total: int) -> None:
        """A stage has done so many steps; what follows another one closely is left out."""
        began, due = self._steps.get(id, (0.0, 0.0))
        now = time.monotonic()
        if now < due:
            return
        self._steps[id] = began, now + min(_SELDOM, max(_OFTEN, (now - began) / 100))
        self.tell("step", stage=id, done=done, total=total)


class Noting:
    """A display that writes the steps of the stage at work down before it shows them.

    Args:
        shown: the display.
        events: where they are written.

    Attributes:
        id: of the stage at work.
    """

    def __init__(self, shown: Display, events: Events):
        self._shown, self._events = shown, events
        self.id = ""

    def stage(self, name: str) -> None:
        """See Display."""
        self._shown.stage(name)

    def skip(self, name: str) -> None:
        """See Display."""
        self._shown.skip(name)

    def step(self, done: int, total: int, tokens: int = 0, loss: float | None = None) -> None:
        """See Display."""
        self._events.step(self.id, done, total)
        self._shown.step(done, total, tokens, loss)

    def warn(self, text: str) -> None:
        """See Display."""
        self._shown.warn(text)

    def end(self) -> None:
        """See Display."""
        self._shown.end()

    def lane(self) -> Display:
        """See Display."""
        return self._shown.lane()
