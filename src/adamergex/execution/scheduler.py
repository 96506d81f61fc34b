"""Gives the missing stages of a plan to the workers of a pool, and survives their death."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from adamergex.errors import AdaMergeXError, ExecutorError, IncompleteError, NetworkError, StorageError
from adamergex.execution.account import Account, Took
from adamergex.execution.jobs import PATIENCE, Job, Outcome, Step, recorded, versions
from adamergex.execution.pool import Died, Ended, Event, Pool, Ready, Seat, Told
from adamergex.execution.ready import Ready as ReadyStages
from adamergex.execution.run_folder import RunFolder, State
from adamergex.execution.shared import Shared
from adamergex.execution.stage import Kinds, Plan, described, packages
from adamergex.execution.store import Store
from adamergex.progress import Display

# A stage that fails so often fails for good; a user's own mistake fails at once.
ATTEMPTS = 3
# Seconds between two looks at the pool where nothing happens.
_LOOK = 1.0
# Seconds without a worker for what can be made until the run ends.
IDLE = 60.0


@dataclass
class Scheduler:
    """One call of `execute` with a pool.

    Args:
        plan: the stages.
        kinds: the table of kinds.
        folder: the run folder, locked by the caller.
        pool: who makes them.
        display: where progress is shown.
        shared: what is taken from the store, and put there.
        account: where it is told what happens.
        verify: ids of stages whose contents are checked against their hashes.
        before_first: called once, before anything is made.
    """

    plan: Plan
    kinds: Kinds
    folder: RunFolder
    pool: Pool
    display: Display
    shared: Shared
    account: Account
    verify: frozenset[str] = frozenset()
    before_first: Callable[[], None] = lambda: None
    digests: dict[str, str] = field(default_factory=dict)
    descriptions: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    blocked: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._ready = ReadyStages(self.plan, self.kinds)
        self._numbers = {id: number for number, id in enumerate(self._ready.order, 1)}
        self._seats: dict[str, Seat] = {}
        self._at_work: dict[str, str] = {}
        self._shown: dict[str, Display] = {}
        self._attempts: Counter[str] = Counter()
        self._begun = False
        self._idle_since = time.monotonic()
        self._versions = versions(self.kinds, packages(self.plan, self.kinds))

    def run(self) -> None:
        """Make all stages.

        Raises:
            ExecutorError: no worker is left, or they differ from this process.
            IncompleteError: some stages failed; all others were made that could be.
        """
        for id in self._ready.first():
            self._look(id)
        while len(self.digests) + len(self.failed) + len(self.blocked) < len(self.plan):
            for event in self.pool.events(_LOOK):
                self._happened(event)
            self._give()
        if self.failed:
            error = IncompleteError(*self.failed.values())
            error.missing = (*self.failed, *self.blocked)
            raise error

    def _look(self, id: str) -> None:
        """A stage waits for nothing: it is done already, and then so may be what waited for it; or it is to be made."""
        waiting = [id]
        while waiting:
            stage = self.plan[one := waiting.pop()]
            if self._lacks(one):
                continue
            description = described(stage, self.kinds[stage.kind], self.digests)
            state = self.folder.state(one, description, verify=one in self.verify)
            if state.status == "done":
                self.folder.forget(one, description)
                record = self.folder.record(one)
                assert record is not None  # Its state was read from it.
                self.digests[one] = record.digest
                self.account.there(one)
                self.display.skip(self._name(one))
                waiting += self._ready.done(one)
            else:
                self.descriptions[one] = description
                self._missing(one, state)

    def _missing(self, id: str, state: State) -> None:
        if state.why:
            self.display.warn(f"{id}: {'damaged, ' * (state.status == 'damaged')}made again: {state.why}")
        if not self._begun:
            self._begun = True
            self.before_first()
        self._ready.offer(id)

    def _name(self, id: str) -> str:
        return f"[{self._numbers[id]}/{len(self.plan)}] {id}"

    def _give(self) -> None:
        """Give every worker that waits a stage.

        Raises:
            ExecutorError: for a minute nobody was there for what can be made.
        """
        for name, seat in self._seats.items():
            if name in self._at_work or (id := self._next(seat)) is None:
                continue
            stage = self.plan[id]
            digests = {one: self.digests[one] for one in stage.reads}
            inputs = {} if seat.sees_folder else recorded(stage.reads, self.plan, self.folder)
            self.shared.send(inputs)
            if id not in self.descriptions:  # Made before, and found damaged.
                self.descriptions[id] = described(stage, self.kinds[stage.kind], self.digests)
            self._at_work[name] = id
            self.account.events.begun(id, name)
            self._lane(name).stage(f"{self._name(id)} · {name}")
            self.pool.submit(name, Job(stage, self.descriptions[id], digests, inputs))
        if self._at_work or not self._ready or not self._seats:
            self._idle_since = time.monotonic()
        elif time.monotonic() - self._idle_since > IDLE:
            raise ExecutorError(
                f"none of {', '.join(self._seats)} can make what is left: data are read where the run folder is, and what needs a "
                "model takes a GPU where machines have some; start a worker on this machine, too"
            )

    def _next(self, seat: Seat) -> str | None:
        """The stage that a worker makes now."""
        while (id := self._ready.take(seat)) is not None and self._lacks(id):
            pass
        return id

    def _lacks(self, id: str) -> bool:
        """Whether an input was found damaged since it was made; the stage waits for it once more."""
        lost = [one for one in self.plan[id].reads if one not in self.digests]
        if lost:
            self._damaged(lost[0], id)
        return bool(lost)

    def _lane(self, worker: str) -> Display:
        """Where it is shown what a worker does."""
        if worker not in self._shown:
            self._shown[worker] = self.display.lane()
        return self._shown[worker]

    def _happened(self, event: Event) -> None:
        if isinstance(event, Ready):
            event.hello.check(event.seat.name, self._versions)
            self._seats[event.seat.name] = event.seat
            if not event.seat.sees_folder:
                self.shared.patience = PATIENCE
            self.account.joined(event.seat.name, event.hello.device, computes=event.seat.computes)
        elif isinstance(event, Told):
            shown, news = self._lane(event.worker), event.news
            if isinstance(news, Step):
                shown.step(news.done, news.total, news.tokens, news.loss)
                if id := self._at_work.get(event.worker):
                    self.account.events.step(id, news.done, news.total)
            else:
                shown.warn(news.text)
        elif isinstance(event, Ended):
            self._at_work.pop(event.worker)
            self._ended(event.worker, event.outcome)
        else:
            self._died(event)

    def _ended(self, worker: str, outcome: Outcome) -> None:
        id = outcome.id
        if outcome.status in ("made", "stored"):
            digest: str | None = outcome.digest
            if not self._seats[worker].sees_folder:
                digest = self.shared.bring(self.plan[id], self.kinds[self.plan[id].kind], self.descriptions[id])
            if digest is None:
                self._fails(id, StorageError("it was made, and did not come back through the store"))
                return
            self._lane(worker).end()
            self.digests[id] = digest
            del self.descriptions[id]
            self.account.ended(outcome, worker)
            for reader in self._ready.done(id):
                self._look(reader)
        elif outcome.status == "damaged":
            self._damaged(outcome.input, id, str(outcome.problem))
        else:
            assert outcome.problem is not None  # It says why a stage failed.
            self._fails(id, outcome.problem, outcome.details)

    def _damaged(self, wrong: str, reader: str, why: str = "") -> None:
        """What a stage reads is not what was written: it is made again first, unless that has not helped."""
        self.account.undone(reader)
        if wrong in self.failed or wrong in self.blocked:
            self.blocked |= {reader, *self._ready.behind(reader)} - self.failed.keys() - self.digests.keys()
            return
        self._ready.undone(wrong, reader)
        if self.digests.pop(wrong, None) is None:
            return  # Another reader has found it out before.
        if self._attempts[wrong] + 1 == ATTEMPTS:
            self._fails(wrong, StorageError(f"it was made, and {why}"))
            return
        self._attempts[wrong] += 1
        self.account.undone(wrong)
        self._missing(wrong, State("damaged", why))

    def _died(self, event: Died) -> None:
        self._seats.pop(event.worker, None)
        self.account.died(event.worker, event.why)
        if event.problem is not None:
            if isinstance(event.problem, AdaMergeXError):
                raise event.problem
            raise ExecutorError(f"{event.worker} {event.why}: {event.problem}")
        id = self._at_work.pop(event.worker, None)
        self.display.warn(f"{event.worker}: {event.why}{f'; {id} is made again' if id else ''}")
        if id is not None:
            self._fails(id, ExecutorError(f"{event.worker} {event.why}"))

    def _fails(self, id: str, problem: Exception, details: str = "") -> None:
        """A stage failed: it is tried again, or all that wait for it are not made."""
        self._attempts[id] += 1
        is_users = isinstance(problem, AdaMergeXError) and not isinstance(
            problem, NetworkError | StorageError | ExecutorError
        )
        line = " ".join(str(problem).split())
        if not is_users and self._attempts[id] < ATTEMPTS:
            self.display.warn(f"{id}: tried again: {line}")
            self.account.undone(id)
            self._ready.offer(id)
            return
        more = f" ({self.folder.keep_details(id, details)} says where)" if details else ""
        times = "" if is_users else f" ({ATTEMPTS} times)"
        self.failed[id] = f"{id} failed{times}: {line}{more}"
        self.account.failed(id, f"{line}{more}")
        self.display.warn(self.failed[id])
        self.blocked |= set(self._ready.behind(id)) - self.failed.keys() - self.digests.keys()


def execute(
    plan: Plan,
    kinds: Kinds,
    folder: RunFolder,
    pool: Pool,
    display: Display,
    *,
    executor: str,
    read: Iterable[str] = (),
    verify: bool = False,
    before_first: Callable[[], None] = lambda: None,
    store: Store | None = None,
) -> Took | None:
    """Make the stages of a plan that are missing, outdated or damaged, several at a time.

    Args:
        plan: the stages.
        kinds: the table of kinds.
        folder: the run folder, locked by the caller (`RunFolder.held`).
        pool: who makes them.
        display: where progress is shown.
        executor: the pool's name, as `--executor` has it.
        read: ids of stages that the caller will read: their contents are checked against their hashes.
        verify: check the contents of all stages against their hashes, not only of those that are read.
        before_first: called once, before anything is made.
        store: where finished stages are taken from and put, beside the run folder.

    Returns:
        How long it took, where one could expect something.

    Raises:
        ExecutorError: no worker is left, or they differ from this process.
        IncompleteError: some stages failed; all others were made that could be.
    """
    shared = Shared(store, folder, display)
    checked = frozenset(plan if verify else read)
    account = Account(plan, kinds, folder.events, executor)
    scheduler = Scheduler(plan, kinds, folder, pool, display, shared, account, checked, before_first)
    with account.open():
        try:
            scheduler.run()
        except IncompleteError:
            shared.put_all(scheduler.digests)
            raise
        shared.put_all(scheduler.digests)
        return account.took()
