"""What a run takes from a store, and puts there. A store that fails costs time, never a run."""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Any, TypeVar

from adamergex.errors import NetworkError, StorageError
from adamergex.execution.run_folder import RunFolder
from adamergex.execution.stage import Kind, Stage, key
from adamergex.execution.store import Store
from adamergex.progress import Display

T = TypeVar("T")


class Shared:
    """A store as one run uses it.

    Args:
        store: of finished stages; None for none.
        folder: of the run.
        display: where it is said that the store fails.
        patience: seconds to wait for a store that does not answer, where there is no way without it.

    Attributes:
        answers: whether it has always answered so far.
    """

    def __init__(self, store: Store | None, folder: RunFolder, display: Display, patience: float = 0.0):
        self._store, self._folder, self._display, self.patience = store, folder, display, patience
        self._broken: set[str] = set()
        self._sent: set[str] = set()
        # Once it did not answer, it is not asked again before the end: each time may take as long.
        self.answers = True

    def check(self) -> None:
        """Write to the store. Raises StorageError or NetworkError where that cannot be done within the time that there is."""
        if self._store is not None:
            self._patiently(self._store.check)

    def take(self, stage: Stage, kind: Kind, description: Mapping[str, Any]) -> bool:
        """Put a stage's result into the run folder if the store has it; whether it did."""
        if self._store is None or not self.answers or not stage.params.is_known:
            return False
        name = key(description)
        try:
            if not self._patiently(partial(self._store.has, name)):
                return False
            fetch = partial(self._folder.make, stage, kind, description, partial(self._store.fetch, name))
            self._patiently(fetch)
        except NetworkError as error:
            self._fails(error)
            return False
        except StorageError as error:
            self._broken.add(name)
            self._display.warn(f"{stage.id}: not taken from the store: {error}")
            return False
        return True

    def bring(self, stage: Stage, kind: Kind, description: Mapping[str, Any]) -> str | None:
        """Take what was made elsewhere; the digest of what came, or None where nothing did."""
        record = self._folder.record(stage.id) if self.take(stage, kind, description) else None
        return None if record is None else record.digest

    def put(self, id: str) -> None:
        """Put a result that was made into the store."""
        if self._store is None or not self.answers:
            return
        try:
            self._patiently(partial(self._publish, self._store, id))
        except (NetworkError, StorageError) as error:
            self._fails(error)

    def send(self, ids: Iterable[str]) -> None:
        """Put results there, each once, for a worker that finds them there alone."""
        for id in ids:
            if id not in self._sent:
                self.put(id)
                self._sent.add(id)

    def put_all(self, ids: Collection[str]) -> None:
        """Put all results of a run there that are not, such as those of before there was a store."""
        if self._store is None:
            return
        try:
            there = self._store.keys()
            for id in ids:
                if self._folder.key(id) not in there:
                    self._publish(self._store, id)
        except (NetworkError, StorageError) as error:
            self._display.warn(f"not everything is in the store: {error}; the same command puts it there")

    def _publish(self, store: Store, id: str) -> None:
        store.publish(self._folder.place(id), replace=self._folder.key(id) in self._broken)

    def _patiently(self, ask: Callable[[], T]) -> T:
        """What the store answers, if it does within the time that there is."""
        began, pause = time.monotonic(), 1.0
        while True:
            try:
                return ask()
            except NetworkError:
                if time.monotonic() - began > self.patience:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, 10.0)

    def _fails(self, error: Exception) -> None:
        self.answers = False
        self._display.warn(f"{error}; what is missing is made here")
