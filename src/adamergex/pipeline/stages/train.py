"""Kind `train`: one adapter, from labelled items or from windows of plain text."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from adamergex.execution.stage import Inputs, Kind, Params, Unkeyed
from adamergex.models.adapter_settings import AdapterSettings, virtual_tokens
from adamergex.models.families import longest_item
from adamergex.pipeline.stages import corpus, items
from adamergex.pipeline.stages.base_model import BaseModel
from adamergex.storage.files import read_json, read_jsonl, write_jsonl
from adamergex.training.reference_task import Objective
from adamergex.training.settings import Schedule, Train

if TYPE_CHECKING:
    from adamergex.adapters.adapter import Adapter
    from adamergex.models.encoded import EncodedExamples
    from adamergex.models.resident import ResidentModel
    from adamergex.pipeline.worker import Worker

LOG, FACTS = "training.jsonl", "training.json"
# A reference adapter that lowered the held-out loss by less than this, in nats, learned next to nothing.
_LEARNED = 0.01
LEARNED_NOTHING = (
    "it learned next to nothing, and an adapter that learned nothing cannot move anything: "
    "give it more text, more epochs or a higher learning rate"
)


class TrainParams(Params):
    """How an adapter is trained. Inputs: `items` (and `dev`, for early stopping), or `corpus`.

    Attributes:
        name: of the adapter, where its curves are shown.
        model: the frozen base model.
        adapter: structure and size.
        train: optimizer settings; those that change no result are the worker's.
        schedule: epochs and batch size.
        learning_rate: at its highest.
        seed: of the start, the order and what is hidden.
        objective: what is learned from plain text; None for labelled items.
        classes: of the head that an encoder learns; 0 without one.
        keep_head: whether the trained head belongs to the adapter; a reference task's does not.
        heldout: the share of labelled items that is kept apart to measure the loss on.
        processes: how many train together, where that changes the result: with dropout; else None.
    """

    name: Annotated[str, Unkeyed]
    model: BaseModel
    adapter: AdapterSettings
    train: Train
    schedule: Schedule
    learning_rate: float
    seed: int
    objective: Objective | None = None
    classes: int = 0
    keep_head: bool = True
    heldout: float = 0.0
    processes: int | None = None


@dataclass(frozen=True)
class Data:
    """What one adapter is trained on.

    Attributes:
        examples: those of an epoch.
        heldout: those that the loss is measured on, before and after.
        facts: what the report says about them.
    """

    examples: "Callable[[int], EncodedExamples]"
    heldout: "EncodedExamples | None"
    facts: dict[str, Any]


def make(params: TrainParams, inputs: Inputs, output: Path, scratch: Path, worker: "Worker") -> None:
    """Write the adapter, `training.jsonl` (a row for each step) and `training.json` (facts)."""
    from adamergex.training.train import Step, train

    model = worker.resident(
        params.model, "task" if params.objective is None else "text", params.classes, params.adapter
    )
    data = _labelled(params, inputs, model, worker) if params.objective is None else _text(params, inputs, model)
    with worker.tracked(f"adapters/{params.name}", _told(params)) as log:

        def track(steps: list[Step]) -> None:
            for step in steps:
                log(step.step, {"loss": step.loss, "learning_rate": step.learning_rate, "memory": step.memory})

        def on_step(step: Step) -> None:
            worker.display.step(step.step, step.steps, step.tokens, step.loss)
            track([step])

        trained = train(
            model,
            data.examples,
            params.train.model_copy(update=dict(worker.options.train)),
            params.schedule,
            params.seed,
            learning_rate=params.learning_rate,
            heldout=data.heldout,
            on_step=on_step,
            on_resumed=track,
            checkpoint=scratch / "checkpoint",
            processes=worker.processes,
            warn=worker.display.warn,
        )
    if not worker.processes.is_first:
        return
    if trained.heldout is not None and params.objective is not None and learned_nothing(trained.heldout):
        worker.display.warn(LEARNED_NOTHING)
    adapter = trained.adapter if params.keep_head else _without_head(trained.adapter)
    adapter.save(output)
    facts = data.facts | {"heldout": trained.heldout, "best_step": trained.best_step, "layout": str(trained.layout)}
    facts["processes"] = worker.processes.count
    (output / FACTS).write_text(json.dumps(facts, indent=2) + "\n")
    write_jsonl(output / LOG, trained.log)


def _told(params: TrainParams) -> dict[str, Any]:
    """What trackers show of a training's settings, one level deep."""
    return {
        "base_model": params.model.name,
        "adapter": params.adapter.structure,
        "learning_rate": params.learning_rate,
        "epochs": params.schedule.epochs,
        "batch_size": params.schedule.batch_size,
        "seed": params.seed,
    }


def _labelled(params: TrainParams, inputs: Inputs, model: "ResidentModel", worker: "Worker") -> Data:
    from adamergex.models.encode import for_training

    longest = longest_item(model, params.train.max_length, virtual_tokens(params.adapter))

    def encoded(role: str) -> tuple[list[Any], dict[str, Any]]:
        labelled = items.read_all(inputs[role])
        examples, shortened = for_training(model.tokenizer, labelled, model.kind, model.decoder_start, longest)
        return examples, {"examples": len(examples), "shortened": shortened}

    examples, facts = encoded("items")
    if "dev" in inputs:
        return Data(lambda epoch: examples, encoded("dev")[0], facts)
    order = list(range(len(examples)))
    random.Random(params.seed).shuffle(order)
    # By the seed alone: the items of a language's reference data are often translations of each other.
    count = max(1, round(params.heldout * len(examples))) if params.heldout and len(examples) > 1 else 0
    if not count:
        return Data(lambda epoch: examples, None, facts)
    heldout, rest = [examples[i] for i in order[:count]], [examples[i] for i in order[count:]]
    return Data(lambda epoch: rest, heldout, facts | {"examples": len(rest)})


def _text(params: TrainParams, inputs: Inputs, model: "ResidentModel") -> Data:
    from adamergex.training.objectives import Windows

    objective = params.objective
    assert objective is not None
    training, heldout = corpus.windows(inputs["corpus"][0])

    def windows(bodies: Any, seed: int, epoch: int) -> Windows:
        return Windows(bodies, objective, params.model.family, model.tokenizer, seed, epoch, model.decoder_start)

    examples: Callable[[int], Windows] = lambda epoch: windows(training, params.seed, epoch)  # noqa: E731
    return Data(examples, windows(heldout, params.seed + 1, 0), {"examples": len(training)})


def _without_head(adapter: "Adapter") -> "Adapter":
    """A reference adapter without its classification head: that is another task's, and no part of the merge."""
    from adamergex.adapters.adapter import Adapter

    names = adapter.config.get("modules_to_save") or ()
    # A prefix wraps the base model once, the other structures twice.
    heads = tuple(f"{above}.{name}." for name in names for above in ("base_model", "base_model.model"))
    tensors = {name: tensor for name, tensor in adapter.tensors.items() if not heads or not name.startswith(heads)}
    return Adapter({**adapter.config, "modules_to_save": None}, tensors)


def log(folder: Path) -> list[dict[str, Any]]:
    """A row for each step of a training."""
    return read_jsonl(folder / LOG)


def facts(folder: Path) -> dict[str, Any]:
    """What a training was, in numbers: examples, held-out loss, the step that the adapter is from."""
    return read_json(folder / FACTS)


def heldout(folder: Path) -> dict[str, float] | None:
    """The loss on held-out items or text before and after a training; None where there is none, as for a given adapter."""
    found: dict[str, float] | None = facts(folder).get("heldout") if (folder / FACTS).is_file() else None
    return found


def learned_nothing(heldout: dict[str, float]) -> bool:
    """Whether a training hardly lowered the loss on text that it had not seen."""
    return not heldout["after"] < heldout["before"] - _LEARNED


def cost(params: TrainParams) -> str:
    """What the seconds of a training are comparable across, beside its model: the data are not known before."""
    learned = "items" if params.objective is None else "text"
    return f"{params.adapter.structure}, {learned}, {params.schedule.epochs} epochs"


KIND = Kind(
    TrainParams,
    make,
    revision=1,
    packages=lambda params: (*params.model.packages, "accelerate"),
    notes=(LOG, FACTS),
    together=True,
    needs=lambda params: params.model.needs,
    cost=cost,
)
