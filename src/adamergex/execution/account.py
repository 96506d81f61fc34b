"""What an executor tells of its work while it goes on, and remembers of it for later runs."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from adamergex.execution.durations import Durations, Expected, together
from adamergex.execution.events import Events
from adamergex.execution.jobs import Outcome
from adamergex.execution.stage import Kinds, Plan, ordered


@dataclass(frozen=True)
class Took:
    """How long a run took.

    Attributes:
        seconds: that it took.
        expected: that stages made before had led one to expect.
    """

    seconds: float
    expected: float


class Account:
    """One call of an executor, as it is told.

    Args:
        plan: the stages.
        kinds: the table of kinds.
        path: of the file of events; None where this process is not the one that tells.
        executor: who makes the stages, as `--executor` names it.

    Attributes:
        events: the file of events.
    """

    def __init__(self, plan: Plan, kinds: Kinds, path: Path | None, executor: str):
        self.events = Events(path, executor)
        self._plan, self._kinds, self._tells = plan, kinds, path is not None
        self._order = ordered(plan)
        self._durations = Durations()
        self._expected: Expected | None = None
        self._made: set[str] = set()
        self._there: set[str] = set()
        # Workers of a pool that make stages with a model, and what all of them compute on.
        self._workers: set[str] = set()
        self._devices: dict[str, str] = {}
        self._began = 0.0

    @contextmanager
    def open(self) -> Iterator[None]:
        """Within this context events are written."""
        self._began = time.monotonic()
        with self.events.of(self._order):
            yield

    def joined(self, worker: str, device: str, *, computes: bool = True) -> None:
        """A worker of a pool is there; its name, what it computes on, and whether it makes stages with a model."""
        self.events.tell("joined", worker=worker, computes=computes)
        self._devices[worker] = device
        if computes:
            self._workers.add(worker)
            self.expect(lambda: device)

    def expect(self, device: Callable[[], str]) -> None:
        """Say once what the stages are expected to take on a device."""
        if self._expected is not None or not self._tells:
            return
        self._expected = self._durations.expected(self._plan.values(), self._kinds, device())
        found = (self._expected.seconds[stage.id] for stage in self._order)
        seconds = [None if one is None else round(one, 2) for one in found]
        self.events.tell("expected", seconds=seconds, measured=self._expected.measured)

    @contextmanager
    def making(self, id: str, worker: str, device: Callable[[], str], *, is_whole: bool) -> Iterator[None]:
        """Within this context this process makes a stage; see `made`."""
        began = time.monotonic()
        self.events.begun(id, worker)
        try:
            yield
        except CancelledError:
            self.events.tell("waits", stage=id)
            raise
        except Exception as error:
            self.failed(id, error)
            raise
        self.made(id, time.monotonic() - began, device(), is_whole=is_whole)

    def failed(self, id: str, why: object) -> None:
        """A stage failed, for good."""
        self.events.tell("failed", stage=id, why=" ".join(str(why).split()))

    def there(self, id: str) -> None:
        """A stage was done before."""
        if id not in self._there:
            self._there.add(id)
            self.events.tell("done", stage=id, how="there")

    def taken(self, id: str) -> None:
        """A stage was taken from the store."""
        self._there.add(id)
        self.events.tell("done", stage=id, how="taken")

    def made(self, id: str, seconds: float, device: str, *, is_whole: bool) -> None:
        """A stage was made; how long that took on which device, and whether from its beginning."""
        self._there.add(id)
        self._made.add(id)
        self.events.tell("done", stage=id, how="made", seconds=round(seconds, 2))
        if is_whole:
            self._durations.add(self._plan[id], self._kinds, device, seconds)

    def ended(self, outcome: Outcome, worker: str) -> None:
        """A worker of a pool has made a stage, or taken it from the store."""
        if outcome.status == "made":
            self.made(outcome.id, outcome.seconds, self._devices[worker], is_whole=outcome.is_whole)
        else:
            self.taken(outcome.id)

    def undone(self, id: str) -> None:
        """A stage is to be made, or made again, that was done or at work."""
        self._there.discard(id)
        self.events.tell("waits", stage=id)

    def died(self, worker: str, why: str) -> None:
        """A worker of a pool is gone."""
        self.events.tell("died", worker=worker, why=why)

    def took(self) -> Took | None:
        """How long it took so far beside what was expected of the stages that were made; None where that was unknown."""
        if self._expected is None or not self._made:
            return None
        order = [stage.id for stage in self._order if stage.id in self._made]
        seconds = {id: self._expected.seconds[id] for id in order}
        before = {id: (*self._plan[id].reads, *self._plan[id].after) for id in order}
        expected = together(seconds, before, max(1, len(self._workers)))
        return Took(time.monotonic() - self._began, expected) if expected else None
