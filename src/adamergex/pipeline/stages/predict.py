"""Kind `predict`: what the base model, alone or with an adapter, answers to every item of a task in one language."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adamergex.execution.stage import Inputs, Kind, Params, Place
from adamergex.inference.journal import Journal
from adamergex.inference.settings import Evaluate
from adamergex.models.families import longest_item
from adamergex.pipeline.stages import items
from adamergex.pipeline.stages.base_model import BaseModel
from adamergex.scoring.systems import Asking
from adamergex.storage.files import read_json, read_jsonl, write_jsonl
from adamergex.tasks.task import Task

if TYPE_CHECKING:
    from adamergex.inference.predict import Prediction
    from adamergex.pipeline.worker import Worker

FILE, FACTS = "predictions.jsonl", "scoring.json"
# What scores depend on beside the model.
SCORERS = ("babel", "langcodes", "regex", "rouge-score", "sacrebleu")


class ForeignAdapter(Params):
    """A PEFT folder that no stage made.

    Attributes:
        content: SHA-256 of its configuration and its weights.
        folder: its path.
    """

    content: tuple[str, ...]
    folder: Place


class VllmEngine(Params):
    """vLLM in place of the resident model.

    Attributes:
        version: the distribution that it is of, and its version.
        options: further arguments of its engine.
    """

    version: str
    options: dict[str, Any]


class PredictParams(Params):
    """The model, adapter and prompts of an evaluation. Inputs: `items`; `adapter` or nothing; `examples` for few-shot prompts.

    Attributes:
        model: the base model.
        task: how answers are read.
        evaluate: how they are computed.
        language: of the items.
        asking: plain, few-shot or xlt.
        seed: for drawing few-shot examples.
        adapter: one that no stage made, in place of the input.
        classes: of an encoder's head; 0 without one.
        virtual_tokens: of the longest prefix among the adapters that are compared: all are asked the same.
        max_length: the most tokens of an item; None where the model's context alone limits it.
        vllm: the engine, where it is not the resident model.
    """

    model: BaseModel
    task: Task
    evaluate: Evaluate
    language: str
    asking: Asking = "plain"
    seed: int = 0
    adapter: ForeignAdapter | None = None
    classes: int = 0
    virtual_tokens: int = 0
    max_length: int | None = None
    vllm: VllmEngine | None = None

    def identity(self) -> dict[str, Any]:
        """See Params; of the task and the settings only what the answers depend on."""
        task, evaluate = self.task, self.evaluate
        described = super().identity()
        for name in ("task", "evaluate", "seed"):
            del described[name]
        described["kind"] = task.answer_kind
        if task.choices:
            described["length_normalization"] = evaluate.length_normalization
        else:
            described |= {"max_new_tokens": evaluate.max_new_tokens, "marker": task.wording(self.language).marker}
            described |= {"answer_format": task.answer_format} if task.answer_format else {}
        return described | ({"shots": evaluate.shots, "seed": self.seed} if self.asking == "few-shot" else {})


def make(params: PredictParams, inputs: Inputs, output: Path, scratch: Path, worker: "Worker") -> None:
    """Write `predictions.jsonl` and `scoring.json` (facts)."""
    from adamergex.inference.answering import PromptSpec, build_prompts

    processes = worker.processes
    engine = worker.engine(params.model, params.classes, params.vllm.options if params.vllm else None)
    spec = PromptSpec(params.task, params.evaluate, params.language, params.asking, params.seed)

    def prompts() -> "tuple[list[items.Item], int]":
        scored, solved = items.read_all(inputs["items"]), items.read_all(inputs.get("examples", ()))
        return build_prompts(
            engine.reader, spec, scored, solved, longest_item(engine.reader, params.max_length, params.virtual_tokens)
        )

    # Made ready for the first adapter that answers them.
    key = (params.model_copy(update={"adapter": None}).model_dump_json(), *inputs["items"], *inputs.get("examples", ()))
    questions, shortened = worker.once(key, prompts)
    if shortened:
        worker.display.warn(f"{shortened:,} of {len(questions):,} prompts were too long and lost a part of a column")

    def journal(name: str) -> Journal:
        if not processes.split_the_model:
            path = scratch / f"{name}-{processes.rank}-of-{processes.count}.jsonl"
            return Journal(path, warn=worker.display.warn)
        # All answer the same items, and go on from where the first one was.
        firsts = processes.first_does(lambda: Journal(scratch / f"{name}.jsonl", warn=worker.display.warn))
        return firsts if processes.is_first else Journal(None, firsts.rows)

    adapter = params.adapter.folder if params.adapter else next(iter(inputs.get("adapter", ())), None)
    share = engine.answers(adapter, spec, processes.share(questions), journal, worker.display.step)
    parts: list[list[Prediction]] = processes.gathered(share)
    if processes.is_first:
        write_jsonl(output / FILE, [asdict(prediction) for prediction in processes.joined(parts, len(questions))])
        layout = engine.layout if params.task.choices else None
        (output / FACTS).write_text(json.dumps({"shortened": shortened, "layout": layout}) + "\n")


def read(folder: Path) -> list[dict[str, Any]]:
    """The predictions of a stage, a row for each item."""
    return read_jsonl(folder / FILE)


def facts(folder: Path) -> dict[str, Any]:
    """How many prompts had to be shortened, and the layout of batches."""
    return read_json(folder / FACTS)


def _packages(params: PredictParams) -> Sequence[str]:
    # vLLM computes with what it brings along, and says so in its version.
    return (*params.model.packages, *SCORERS)


KIND = Kind(
    PredictParams,
    make,
    revision=2,
    packages=_packages,
    together=True,
    needs=lambda params: params.model.needs,
    cost=lambda params: f"{params.task.answer_kind}, {params.asking}{', vllm' * (params.vllm is not None)}",
)
