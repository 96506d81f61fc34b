"""Kind `harness`: tasks of lm-evaluation-harness, by its prompts and its metrics."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from adamergex.execution.stage import Inputs, Kind, Params, Place
from adamergex.pipeline.stages.base_model import BaseModel
from adamergex.pipeline.stages.predict import ForeignAdapter
from adamergex.storage.files import read_jsonl, write_jsonl

if TYPE_CHECKING:
    from adamergex.pipeline.worker import Worker

FILE = "harness.jsonl"


class HarnessParams(Params):
    """What is measured, and with which adapter.

    Attributes:
        model: the base model.
        tasks: names of the harness's tasks.
        adapter: None for the base model alone.
        files: SHA-256 of the user's own task files.
        folder: of those files.
    """

    model: BaseModel
    tasks: tuple[str, ...]
    adapter: ForeignAdapter | None = None
    files: tuple[str, ...] = ()
    folder: Place | None = None


def make(params: HarnessParams, inputs: Inputs, output: Path, scratch: Path, worker: "Worker") -> None:
    """Write `harness.jsonl`."""
    from adamergex.inference.engines import harness
    from adamergex.inference.engines.resident import Resident

    engine = Resident(worker.resident(params.model, "task"))
    with engine.holding(params.adapter.folder if params.adapter else None):
        rows = harness.measure(engine.reader, params.tasks, params.folder, batch_size=worker.options.batch_size)
    if worker.processes.is_first:
        write_jsonl(output / FILE, rows)


def read(folder: Path) -> list[dict[str, Any]]:
    """Rows of task, metric, value and standard error."""
    return read_jsonl(folder / FILE)


KIND = Kind(
    HarnessParams,
    make,
    revision=1,
    packages=lambda params: (*params.model.packages, "lm-eval"),
    together=True,
    needs=lambda params: params.model.needs,
    cost=lambda params: ", ".join(params.tasks),
)
