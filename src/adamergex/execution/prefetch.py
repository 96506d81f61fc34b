"""Makes stages ahead in a thread, so that no training waits for its corpus."""

from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from threading import Event
from types import TracebackType
from typing import Self

from adamergex.execution.stage import Worker
from adamergex.progress import Display, Silent


class Prefetch:
    """Makes stages in order in a background thread while its context is open; leaving the context stops the thread.

    Args:
        worker: of the run; the thread uses `worker.in_thread`.
        jobs: id → what makes the stage, with the thread's worker.
    """

    def __init__(self, worker: Worker, jobs: Mapping[str, Callable[[Worker], None]]):
        self._display, self._jobs = worker.display, jobs
        self._stop = Event()
        self._progress = _Progress()
        self._futures: dict[str, Future[None]] = {}
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch")
        # Here, not in the thread: libraries with circular imports may fail when two threads import them at once.
        self._worker = worker.in_thread(self._progress, self._stop) if jobs else worker

    def __enter__(self) -> Self:
        self._futures = {id: self._thread.submit(job, self._worker) for id, job in self._jobs.items()}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._thread.shutdown(wait=True, cancel_futures=True)

    def __contains__(self, id: str) -> bool:
        return id in self._futures

    def finish(self, id: str) -> None:
        """Wait until a stage is made, showing its progress. Raises what making it raised."""
        self._progress.shown = self._display
        try:
            self._futures[id].result()
        finally:
            self._progress.shown = Silent()

    def check(self) -> None:
        """Raise what making a stage raised, before a training that would be wasted."""
        for future in self._futures.values():
            if future.done() and (problem := future.exception()) and not isinstance(problem, CancelledError):
                raise problem


class _Progress(Silent):
    """Forwards to the user's display while the run waits for the thread."""

    def __init__(self) -> None:
        self.shown: Display = Silent()

    def step(self, done: int, total: int, tokens: int = 0, loss: float | None = None) -> None:
        """See Display."""
        self.shown.step(done, total, tokens, loss)

    def warn(self, text: str) -> None:
        """See Display."""
        self.shown.warn(text)
