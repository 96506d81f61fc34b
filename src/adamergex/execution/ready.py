"""Which stages can be made, and which of them a worker is given."""

from collections.abc import Mapping
from heapq import heappop, heappush

from adamergex.execution.pool import Seat
from adamergex.execution.stage import Kinds, Needs, Plan, ordered


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
        before = {stage.id: {*stage.reads, *stage.after} for stage in stages}
        self._waits = {id: len(ids) for id, ids in before.items()}
        self._readers: dict[str, list[str]] = {id: [] for id in self.order}
        for id, ids in before.items():
            for one in ids:
                self._readers[one].append(id)
        # What is resident → the places in the order of what is ready; stages without a model under None.
        self._queues: dict[str | None, list[int]] = {}
        self._resident: dict[str, str] = {}

    def first(self) -> list[str]:
        """The stages that wait for nothing."""
        return [id for id in self.order if not self._waits[id]]

    def done(self, id: str) -> list[str]:
        """The stages that wait for nothing more, now that this one is done."""
        for reader in self._readers[id]:
            self._waits[reader] -= 1
        return [reader for reader in self._readers[id] if not self._waits[reader]]

    def undone(self, id: str, reader: str) -> None:
        """A stage that was done is to be made again, and the one that read it waits for it."""
        # Others that wait for it have had their turn, or look at it themselves.
        self._waits[reader] += 1
        self._readers[id] = [reader]

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
        heappush(self._queues.setdefault(needs.resident if needs.model else None, []), self._place[id])

    def take(self, seat: Seat) -> str | None:
        """The stage that this worker makes next; None where there is none for it."""
        queues = {name: queue for name, queue in self._queues.items() if queue and (seat.computes or name is None)}
        if not queues:
            return None
        models = [name for name in queues if name is not None]
        chosen = self._resident.get(seat.name)
        if models and chosen not in models:
            chosen = min(models, key=lambda name: queues[name][0])
        elif not models:
            chosen = None
        if chosen is not None:
            self._resident[seat.name] = chosen
        return self.order[heappop(self._queues[chosen])]
