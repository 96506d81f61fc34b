"""Toy stages for pools: what they do stands in their parameters, and a worker's process can be told to die."""

import os
import signal
import warnings
from pathlib import Path
from threading import Event
from typing import Any

from adamergex.distributed import Processes
from adamergex.errors import DataError
from adamergex.execution.stage import Inputs, Kind, Kinds, Needs, Params, Stage
from adamergex.progress import Display


class Does(Params):
    """What a stage does: writes a text, after what `then` says."""

    text: str = ""
    then: str = ""
    model: str = ""


class Hand:
    """A worker without a model."""

    device = "toy"

    def __init__(self, display: Display):
        self.processes, self.display = Processes(), display

    def in_thread(self, display: Display, stop: Event) -> "Hand":
        return Hand(display)


def write(params: Does, inputs: Inputs, output: Path, scratch: Path, worker: Any) -> None:
    parts = [(folder / "text").read_text() for folders in inputs.values() for folder in folders]
    worker.display.step(1, 2, 10, 0.5)
    if params.then == "dies once" and not (scratch / "here").exists():
        (scratch / "here").write_text("")
        os.kill(os.getpid(), signal.SIGKILL)
    if params.then == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if params.then == "defect":
        raise ValueError("of nothing")
    if params.then == "outlook":
        warnings.warn("`of` will be removed in v6", FutureWarning, stacklevel=1)
    if params.then == "wrong":
        raise DataError("rows.csv:3: no label")
    worker.display.warn("half done")
    # What an earlier attempt left shows in the result.
    (output / "text").write_text("".join([*parts, params.text, "+" * (scratch / "here").exists()]))
    (output / "pid").write_text(str(os.getpid()))


def _needs(params: Does) -> Needs:
    return Needs(bool(params.model), 0, params.model)


KINDS: Kinds = {
    "write": Kind(Does, write, revision=1, notes=("pid",), packages=lambda params: ("numpy",), needs=_needs)
}


def setup(display: Display) -> tuple[Kinds, Hand]:
    """What a pool starts its workers with."""
    return KINDS, Hand(display)


def stage(id: str, then: str = "", *reads: str, model: str = "") -> Stage:
    """A stage that writes the last part of its id behind the texts that it reads."""
    text = id.rpartition("/")[2]
    return Stage(id, "write", Does(text=text, then=then, model=model), {"all": reads} if reads else {})
