"""Which stages can be made, and which of them a worker is given."""

from collections.abc import Mapping
from heapq import heappop, heappush
from typing import NamedTuple

from adamergex.execution.pool import Seat
from adamergex.execution.stage import Kinds, Needs, Plan, ordered


class _Asks(NamedTuple):
    """What a stage asks of a worker.

    Attributes:
        model: what it needs in memory; None where it needs no model.
        outside: whether it reads the user's own data, which lie where the run folder does.
    """

    model: str | None
    outside: bool

    def fits(self, seat: Seat) -> bool:
        """Whether a worker can make it."""
        return (seat.computes or self.model is None) and (seat.sees_folder or not self.outside)


class Ready:
    """The stages of a plan as they become ready, one after the other.

    A worker that can hold a model takes stages that need one first, of these those whose model it has in memory, and otherwise
    those of the model whose turn it is; what is earlier in the plan comes first.

    Args:
        plan: the stages.
        kinds: the table of kinds.

    Attributes:
        order: ids, topologically.
    """

    def __init__(self, plan: Plan, kinds: Kinds):
        stages = ordered(plan)
        self.order = [stage.id for stage in stages]
        self._place = {id: number for number, id in enumerate(self.order)}
        self._needs: Mapping[str, Needs] = {stage.id: kinds[stage.kind].needs(stage.params) for stage in stages}
        self._reads = {stage.id: bool(stage.reads) for stage in stages}
        before = {stage.id: {*stage.reads, *stage.after} for stage in stages}
        self._waits = {id: len(ids) for id, ids in before.items()}
        self._readers: dict[str, list[str]] = {id: [] for id in self.order}
        for id, ids in before.items():
            for one in ids:
                self._readers[one].append(id)
        # What waits for a worker, by what the worker has to have: places in the order.
        self._queues: dict[_Asks, list[int]] = {}
        self._resident: dict[str, str] = {}
        # Made once and to be made again → who waits for that.
        self._again: dict[str, list[str]] = {}

    def first(self) -> list[str]:
        """The stages that wait for nothing."""
        return [id for id in self.order if not self._waits[id]]

    def done(self, id: str) -> list[str]:
        """The stages that wait for nothing more, now that this one is done."""
        self._again.pop(id, None)
        for reader in self._readers[id]:
            self._waits[reader] -= 1
        return [reader for reader in self._readers[id] if not self._waits[reader]]

    def undone(self, id: str, reader: str) -> None:
        """A stage is to be made again, and one that read it waits for it. Others see for themselves what they read."""
        self._waits[reader] += 1
        self._readers[id] = [*self._again.setdefault(id, []), reader]
        self._again[id].append(reader)

    def behind(self, id: str) -> list[str]:
        """All stages that cannot be made without this one."""
        found: dict[str, None] = {}
        waiting = [id]
        while waiting:
            for reader in self._readers[waiting.pop()]:
                if reader not in found:
                    found[reader] = None
                    waiting.append(reader)
        return list(found)

    def offer(self, id: str) -> None:
        """A stage can be made."""
        needs = self._needs[id]
        asks = _Asks(needs.resident if needs.model else None, not self._reads[id])
        heappush(self._queues.setdefault(asks, []), self._place[id])

    def __bool__(self) -> bool:
        """Whether a stage waits for a worker."""
        return any(self._queues.values())

    def take(self, seat: Seat) -> str | None:
        """The stage that this worker makes next; None where there is none for it."""
        fitting = {asks: queue[0] for asks, queue in self._queues.items() if queue and asks.fits(seat)}
        if not fitting:
            return None
        held = self._resident.get(seat.name)

        def rank(asks: _Asks) -> tuple[bool, bool, int]:
            return asks.model is None, asks.model != held, fitting[asks]

        chosen = min(fitting, key=rank)
        if chosen.model is not None:
            self._resident[seat.name] = chosen.model
        return self.order[heappop(self._queues[chosen])]
