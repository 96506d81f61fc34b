"""Data stages that a thread makes while adapters train, so that no training waits for its text."""

from collections.abc import Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from threading import Event
from types import TracebackType
from typing import Self

from adamergex.execution.run_folder import Stage
from adamergex.models.families import load_tokenizer
from adamergex.pipeline.worker import Context
from adamergex.progress import Display, Silent


class Ahead:
    """Makes stages in their order, in a thread of its own, from `with` on; its end stops what is not done.

    Args:
        context: of the run.
        stages: that need no other stage, and no model.
    """

    def __init__(self, context: Context, stages: Sequence[Stage]):
        self._context, self._stages = context, stages
        self._stop = Event()
        self._progress = _Progress()
        self._futures: dict[str, Future[None]] = {}
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ahead")

    def __enter__(self) -> Self:
        if self._stages:
            # The library's modules import each other when they are first used, and not well in two threads at once.
            self._tokenizer = load_tokenizer(self._context.checkpoint)
        self._futures = {stage.name: self._thread.submit(self._make, stage) for stage in self._stages}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._thread.shutdown(wait=True, cancel_futures=True)

    def __contains__(self, stage: Stage) -> bool:
        return stage.name in self._futures

    def _make(self, stage: Stage) -> None:
        with self._context.aside(self._tokenizer, self._progress, self._stop):
            self._context.run_folder.make(stage)

    def finish(self, stage: Stage) -> None:
        """Wait until a stage is made, and show how far it is meanwhile. Raises what making it raised."""
        self._progress.shown = self._context.display
        try:
            self._futures[stage.name].result()
        finally:
            self._progress.shown = Silent()

    def check(self) -> None:
        """Raise what making a stage raised, before an adapter is trained that will not be of use."""
        for future in self._futures.values():
            if future.done() and (problem := future.exception()) and not isinstance(problem, CancelledError):
                raise problem


class _Progress(Silent):
    """Passed on to the user's display while the run waits for the thread."""

    def __init__(self) -> None:
        self.shown: Display = Silent()

    def step(self, done: int, total: int, tokens: int = 0, loss: float | None = None) -> None:
        """See Display."""
        self.shown.step(done, total, tokens, loss)

    def warn(self, text: str) -> None:
        """See Display."""
        self.shown.warn(text)
