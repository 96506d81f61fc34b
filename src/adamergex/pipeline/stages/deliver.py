"""Kind `deliver`: the adapter that a run is for, with all that it takes to use it."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adamergex.execution.stage import Inputs, Kind, Params
from adamergex.inference import usage
from adamergex.inference.settings import Evaluate
from adamergex.pipeline.stages import calibrate
from adamergex.pipeline.stages.base_model import BaseModel
from adamergex.tasks.task import Task

if TYPE_CHECKING:
    from adamergex.pipeline.worker import Worker

# What a training or a stage left beside an adapter and nobody needs to use it.
_LEFT = ("stage.json", "training.jsonl", "training.json", "learned.jsonl", "refine.json")


class DeliverParams(Params):
    """Inputs: `adapter`, and its `calibration` if it has one.

    Attributes:
        model: the base model.
        task: how it is asked.
        evaluate: how answers are computed.
        source: the language that the task was learned in.
        language: that it answers in.
        max_length: the most tokens of an item; None where the model's context alone limits it.
    """

    model: BaseModel
    task: Task
    evaluate: Evaluate
    source: str
    language: str
    max_length: int | None = None

    def identity(self) -> dict[str, Any]:
        """See Params: what `adamergex.json` says."""
        return {"usage": self._usage(None)}

    def _usage(self, calibration: dict[str, Any] | None) -> dict[str, Any]:
        return usage.described(
            self.task,
            self.evaluate,
            self.language,
            base_model=self.model.name,
            weights=self.model.fingerprint,
            dtype=self.model.dtype,
            quantization=self.model.quantization,
            max_length=self.max_length,
            calibration=calibration,
            chat_template=self.model.template,
        )


def make(params: DeliverParams, inputs: Inputs, output: Path, scratch: Path, worker: "Worker") -> None:
    """Copy the adapter and write `adamergex.json`."""
    (adapter,) = inputs["adapter"]
    for path in sorted(adapter.iterdir()):
        if path.name not in _LEFT and path.is_file():
            shutil.copyfile(path, output / path.name)
    found = calibrate.read(inputs["calibration"][0]) if "calibration" in inputs else None
    calibration = found if found and found["bias"] is not None else None
    usage.write(output, params._usage(calibration))


KIND = Kind(DeliverParams, make, revision=2)
