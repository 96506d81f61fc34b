"""Curves and scores in experiment trackers, through those of Accelerate. One that fails never fails a run."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any, Literal

from adamergex.storage.files import remove

Name = Literal["tensorboard", "wandb", "mlflow", "trackio"]
Log = Callable[[int, Mapping[str, float]], None]


def missing(names: Sequence[Name]) -> list[str]:
    """A line for each tracker that is not installed."""
    return [
        f"track: {name} is not installed; run: pip install 'adamergex[{'tensorboard' if name == 'tensorboard' else 'trackers'}]'"
        for name in names
        if find_spec(name) is None
    ]


class Trackers:
    """Where the curves of trainings go, and the scores of the run; each training is a run of its own in every tracker.

    Args:
        names: of the trackers.
        project: what their project or experiment is called.
        folder: of the run, for the files of those that write files: `tensorboard/`, `wandb/`, `mlflow.db` (where
            `MLFLOW_TRACKING_URI` names no other place). Trackio has a place of its own, which `TRACKIO_DIR` names.
        warn: called with a line for a tracker that failed, once; it is left out from then on.
    """

    def __init__(self, names: Sequence[Name], project: str, folder: Path, warn: Callable[[str], None]):
        self._names, self._project, self._folder, self._warn = list(names), project, folder, warn

    @contextmanager
    def run(self, name: str, settings: Mapping[str, Any] | None = None) -> Iterator[Log]:
        """Within this context a run of every tracker is open; yields what writes the values of a step, by name.

        Args:
            name: of the run, such as `adapters/task-en`.
            settings: of the run, for the trackers' tables.
        """
        opened: dict[Name, Any] = {}
        begun = False

        def log(step: int, values: Mapping[str, float]) -> None:
            nonlocal begun
            if not begun:
                begun = True
                for tracker in list(self._names):
                    with self._guarded(tracker):
                        opened[tracker] = self._open(tracker, name, dict(settings or {}))
            for tracker in [one for one in opened if one in self._names]:
                with self._guarded(tracker):
                    opened[tracker].log(dict(values), step=step)

        try:
            yield log
        finally:
            for tracker, one in opened.items():
                with self._guarded(tracker):
                    one.finish()

    @contextmanager
    def _guarded(self, tracker: Name) -> Iterator[None]:
        try:
            # Their notices would stand within our progress.
            with redirect_stdout(StringIO()):
                yield
        except Exception as error:  # whatever a tracker, its files or its server raise
            if tracker in self._names:
                self._names.remove(tracker)
                reason = str(error).strip().splitlines()
                self._warn(
                    f"{tracker} failed, and is left out from here on: {reason[0] if reason else type(error).__name__}"
                )

    def _open(self, tracker: Name, name: str, settings: dict[str, Any]) -> Any:
        from accelerate import PartialState, tracking

        # Trackers log by it.
        PartialState()
        opened: Any
        if tracker == "tensorboard":
            folder = self._folder / "tensorboard"
            # Of a process that was killed: a training that goes on tells its steps from the beginning.
            remove(folder / name)
            opened = tracking.TensorBoardTracker(name, folder, flush_secs=10)
        elif tracker == "wandb":
            opened = tracking.WandBTracker(self._project, name=name, dir=str(self._folder), settings={"silent": True})
        elif tracker == "mlflow":
            import mlflow

            if "MLFLOW_TRACKING_URI" not in os.environ:
                mlflow.set_tracking_uri(f"sqlite:///{self._folder.resolve() / 'mlflow.db'}")
            opened = tracking.MLflowTracker(self._project, run_name=name)
        else:
            opened = tracking.TrackioTracker(self._project, name=name)
        opened.start()
        if tracker != "tensorboard":
            # There it would be a run of its own.
            opened.store_init_configuration(settings)
        return opened
