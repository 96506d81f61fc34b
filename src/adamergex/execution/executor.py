"""Makes the missing stages of a plan, one after the other, in this process or in several together."""

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from adamergex.distributed import Processes
from adamergex.errors import StorageError
from adamergex.execution import making
from adamergex.execution.account import Account, Took
from adamergex.execution.events import Noting
from adamergex.execution.prefetch import Prefetch
from adamergex.execution.run_folder import RunFolder, State
from adamergex.execution.shared import Shared
from adamergex.execution.stage import Kinds, Plan, Stage, Worker, described, key, ordered
from adamergex.execution.store import Store

_FROM_STORE = ", from the store"


def held(run_folder: RunFolder, processes: Processes) -> AbstractContextManager[None]:
    """Within this context the first of the processes holds the run folder."""
    return run_folder.held() if processes.is_first else nullcontext()


def opened(place: str | None, processes: Processes) -> Store | None:
    """A store that can be written, or none.

    Raises:
        NetworkError: it does not answer.
        StorageError: there is no way to it, or it cannot be written.
    """
    if place is None:
        return None
    store = Store(place)
    processes.first_does(store.check)
    return store


def execute(
    plan: Plan,
    kinds: Kinds,
    folder: RunFolder,
    worker: Worker,
    *,
    read: Iterable[str] = (),
    verify: bool = False,
    before_first: Callable[[], None] = lambda: None,
    store: Store | None = None,
) -> Took | None:
    """Make the stages of a plan that are missing, outdated or damaged.

    Where several processes make stages together, all of them call this; the first one decides and writes.

    Args:
        plan: the stages.
        kinds: the table of kinds.
        folder: the run folder, locked by the caller (`RunFolder.held`).
        worker: the resources to make stages with.
        read: ids of stages that the caller will read: their contents are checked against their hashes.
        verify: check the contents of all stages against their hashes, not only of those that are read.
        before_first: called once, before anything is made.
        store: where finished stages are taken from and put, beside the run folder.

    Returns:
        How long it took, where one could expect something.

    Raises:
        AdaMergeXError: something that the user can mend; finished stages stay done.
    """
    shown, is_first = worker.display, worker.processes.is_first
    shared = Shared(store, folder, shown)
    account = Account(plan, kinds, folder.events if is_first else None, "local")
    run = _Execution(plan, kinds, folder, worker, frozenset(plan if verify else read), before_first, shared, account)
    worker.display = run.noting
    try:
        with account.open():
            run.look()
            with run.prefetch() as run.ahead:
                for number, stage in enumerate(run.order, 1):
                    run.ensure(stage, f"[{number}/{len(run.order)}] {stage.id}")
            worker.processes.first_does(lambda: shared.put_all(plan))
            return account.took()
    finally:
        worker.display = shown


def states(
    plan: Plan, kinds: Kinds, folder: RunFolder, store: Store | None = None
) -> dict[str, State | tuple[str, ...]]:
    """The state of each stage's result, in order, or the ids of the inputs that must be made first."""
    by_id: dict[str, State | tuple[str, ...]] = {}
    digests: dict[str, str] = {}
    stored = frozenset() if store is None else store.keys()
    for stage in ordered(plan):
        if waiting := tuple(id for id in stage.reads if id not in digests):
            by_id[stage.id] = waiting
            continue
        description = described(stage, kinds[stage.kind], digests)
        by_id[stage.id] = state = folder.state(stage.id, description)
        if state.status == "done":
            record = folder.record(stage.id)
            assert record is not None  # Its state was read from it.
            digests[stage.id] = record.digest
        elif store is not None and stage.params.is_known and (name := key(description)) in stored:
            # What a result's readers depend on stands in its list of files: nothing is fetched for it.
            with suppress(StorageError):
                digests[stage.id] = store.entry(name).record.digest
                by_id[stage.id] = State("stored")
    return by_id


def _description(stage: Stage, kinds: Kinds, folder: RunFolder) -> dict[str, Any]:
    """What determines a stage's result; all its inputs must exist."""
    digests = {}
    for id in stage.reads:
        record = folder.record(id)
        assert record is not None  # Callers have checked that the inputs exist.
        digests[id] = record.digest
    return described(stage, kinds[stage.kind], digests)


@dataclass
class _Execution:
    """One call of `execute`.

    Attributes:
        verify: ids of stages whose contents are checked against their hashes even where nothing is made of them.
        shared: what is taken from the store, and put there.
        account: where it is told what happens.
        verified: ids of stages whose contents have been checked against their hashes.
        taken: ids of stages whose results were taken from the store.
    """

    plan: Plan
    kinds: Kinds
    folder: RunFolder
    worker: Worker
    verify: frozenset[str]
    before_first: Callable[[], None]
    shared: Shared
    account: Account
    verified: set[str] = field(default_factory=set)
    taken: set[str] = field(default_factory=set)
    ahead: Prefetch | None = None
    _begun: bool = False

    def __post_init__(self) -> None:
        self.order = ordered(self.plan)
        self.noting = Noting(self.worker.display, self.account.events)
        self.device = cache(lambda: self.worker.device)

    def look(self) -> None:
        """Tell what is done already, before the first stage that is not."""
        if self.worker.processes.is_first:
            for id, state in states(self.plan, self.kinds, self.folder).items():
                if isinstance(state, State) and state.status == "done":
                    self.account.there(id)

    def prefetch(self) -> Prefetch:
        """A thread for the stages that need neither other stages nor a model."""
        jobs: dict[str, Callable[[Worker], None]] = {}
        for stage in self.order if self.worker.processes.is_first else ():
            if not self.kinds[stage.kind].ahead or stage.reads:
                continue
            description = _description(stage, self.kinds, self.folder)
            if self.folder.state(stage.id, description, verify=stage.id in self.verify).status != "done":
                self._begin()
                if not self._take(stage, description):
                    jobs[stage.id] = lambda worker, stage=stage, d=description: self._build(stage, d, worker)  # type: ignore[misc]
        return Prefetch(self.worker, jobs)

    def ensure(self, stage: Stage, name: str) -> None:
        """Make a stage unless it is done."""
        processes, display = self.worker.processes, self.worker.display
        self.noting.id = stage.id
        if processes.first_does(lambda: self.ahead is not None and stage.id in self.ahead):
            display.stage(name)
            processes.first_does(lambda: self.ahead.finish(stage.id) if self.ahead else None)
            display.end()
            return
        state: State = processes.first_does(lambda: self._state(stage))
        if state.status == "done":
            display.skip(f"{name}{_FROM_STORE * (stage.id in self.taken)}")
            return
        self._make_again(stage, name, state)

    def read(self, id: str) -> None:
        """Check an input against its hashes before it is read, and make it again if it is damaged."""
        # What was verified is the first process's to say: the others do not see it look.
        damage = self.worker.processes.first_does(lambda: None if id in self.verified else self.folder.damage(id))
        if damage is not None:
            self._make_again(self.plan[id], id, State("damaged", damage))
        self.verified.add(id)

    def _make_again(self, stage: Stage, name: str, state: State) -> None:
        """Make a stage that is not done, from inputs that are what was written; say why, if it was there."""
        processes, display = self.worker.processes, self.worker.display
        for id in stage.reads:
            self.read(id)
        self.noting.id = stage.id
        description = processes.first_does(lambda: _description(stage, self.kinds, self.folder))
        if processes.first_does(lambda: self._take(stage, description)):
            display.skip(f"{name}{_FROM_STORE}")
            return
        display.stage(name)
        if state.why:
            display.warn(f"{'damaged, ' * (state.status == 'damaged')}made again: {state.why}")
        if self.ahead is not None:
            processes.first_does(self.ahead.check)
        self._make(stage, description)
        display.end()

    def _state(self, stage: Stage) -> State:
        verify = stage.id in self.verify and stage.id not in self.verified
        description = _description(stage, self.kinds, self.folder)
        state = self.folder.state(stage.id, description, verify=verify)
        if state.status == "done":
            self.folder.forget(stage.id, description)
            self.account.there(stage.id)
            self.verified |= {stage.id} if verify else set()
        return state

    def _take(self, stage: Stage, description: Mapping[str, Any]) -> bool:
        """Take a stage's result from the store, if it is there; whether it was."""
        self._begin()
        is_taken = self.shared.take(stage, self.kinds[stage.kind], description)
        if is_taken:
            self.taken.add(stage.id)
            self.account.taken(stage.id)
            self.verified.add(stage.id)
        return is_taken

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            self.before_first()
            self.account.expect(self.device)

    def _make(self, stage: Stage, description: Mapping[str, Any]) -> None:
        """Make a stage: all processes together, or the first one while the others wait."""
        processes, kind = self.worker.processes, self.kinds[stage.kind]
        if not kind.together or processes.count == 1:
            processes.first_does(lambda: self._build(stage, description, self.worker))
        elif processes.is_first:
            self._build(stage, description, self.worker)
        else:
            scratch = self.folder.scratch(stage.id, description)
            kind.make(stage.params, making.inputs(stage, self.folder), scratch, scratch, self.worker)
        processes.wait()
        self.verified.add(stage.id)

    def _build(self, stage: Stage, description: Mapping[str, Any], worker: Worker) -> None:
        is_whole = not making.is_begun(stage, description, self.folder)
        with self.account.making(stage.id, f"pid {os.getpid()}", self.device, is_whole=is_whole):
            making.make(stage, self.kinds[stage.kind], description, self.folder, worker)
        self.shared.put(stage.id)
