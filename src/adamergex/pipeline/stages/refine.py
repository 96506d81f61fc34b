"""Kind `refine`: an adapter that learns from the surest answers of another one, beside the items that that one learned."""

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from adamergex.execution.stage import Inputs, Kind
from adamergex.pipeline.stages import calibrate, items, predict, train
from adamergex.pipeline.stages.train import TrainParams
from adamergex.storage.files import write_jsonl
from adamergex.tasks.items import Item, to_row
from adamergex.training.self_training import FACTS, objection, surest

if TYPE_CHECKING:
    from adamergex.pipeline.worker import Worker

LEARNED = "learned.jsonl"


class RefineParams(TrainParams):
    """How an adapter is trained. Inputs: `items`, with labels; `unlabelled`, and the teacher's `answers` to them in the same
    order; its `calibration`; the `teacher`, which is kept where its answers are nothing to learn from.

    Attributes:
        share: of the inputs with each label that are learned, the surest ones.
    """

    share: float = 0.5


def make(params: RefineParams, inputs: Inputs, output: Path, scratch: Path, worker: "Worker") -> None:
    """Write the adapter, `learned.jsonl` (inputs with the labels that they were given) and `refine.json` (facts)."""
    unlabelled = items.read_all(inputs["unlabelled"])
    calibration = calibrate.read(inputs["calibration"][0])
    learned, facts = _learned(unlabelled, inputs, calibration, params.share)
    if facts["refused"] is None:
        place = scratch / "learned"
        if worker.processes.is_first:
            place.mkdir(exist_ok=True)
            write_jsonl(place / items.FILE, map(to_row, learned))
        worker.processes.wait()
        train.make(params, {"items": [*inputs["items"], place]}, output, scratch, worker)
    elif worker.processes.is_first:
        worker.display.warn(f"not refined: {facts['refused']}; the merged adapter is kept")
        (teacher,) = inputs["teacher"]
        for path in sorted(teacher.iterdir()):
            if path.is_file() and path.name != "stage.json":
                shutil.copyfile(path, output / path.name)
        (output / train.FACTS).write_text("{}\n")
        write_jsonl(output / train.LOG, [])
    if worker.processes.is_first:
        write_jsonl(output / LEARNED, map(to_row, learned if facts["refused"] is None else []))
        (output / FACTS).write_text(json.dumps(facts, ensure_ascii=False, indent=2) + "\n", "utf-8")


def _learned(
    unlabelled: list[Item], inputs: Inputs, calibration: dict[str, Any], share: float
) -> tuple[list[Item], dict[str, Any]]:
    """The inputs whose answers are learned, with these, and what the report says of them."""
    bias, labels = calibrate.bias(calibration), calibration["labels"]
    scores = [row["choices"] for folder in inputs["answers"] for row in predict.read(folder)]
    log_scores = np.array(scores, float).reshape(len(scores), len(labels)) + (0 if bias is None else bias)
    expected = calibration["expected"] or [1 / len(labels)] * len(labels)
    refused = objection(log_scores.argmax(axis=1).tolist(), expected, labels)
    pairs = surest(log_scores, share)
    learned = [_labelled(unlabelled[number], label) for number, label in pairs]
    counts = Counter(labels[label] for _, label in pairs)
    return learned, {"inputs": len(unlabelled), "kept": len(pairs), "labels": dict(counts), "refused": refused}


def _labelled(item: Item, label: int) -> Item:
    answer = item.choices[label]
    return replace(item, answer=answer, golds=(answer.strip(),))


KIND = Kind(
    RefineParams,
    make,
    revision=1,
    packages=train.KIND.packages,
    notes=train.KIND.notes,
    together=True,
    needs=lambda params: params.model.needs,
    cost=train.cost,
)
