"""Adapters × tasks × languages as stages, without a recipe; pure: the comparison and what was resolved are all it looks at.

data/TASK-LANG-SPLIT   items of a task          predictions/TASK/LANG/ADAPTER   answers to every item
data/TASK-LANG-shots   solved examples          harness/ADAPTER                 scores on lm-evaluation-harness
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from adamergex.data.settings import Source
from adamergex.errors import RecipeError
from adamergex.execution.stage import Stage
from adamergex.inference.settings import Evaluate
from adamergex.pipeline.planned import Cell, Planned
from adamergex.pipeline.resolve import Contents, Wanted
from adamergex.pipeline.stages.base_model import BaseModel
from adamergex.pipeline.stages.harness import HarnessParams
from adamergex.pipeline.stages.items import ItemsParams
from adamergex.pipeline.stages.predict import ForeignAdapter, PredictParams, VllmEngine
from adamergex.scoring.systems import Asking
from adamergex.tasks.task import Task

BASE = "base"


@dataclass(frozen=True)
class ScoredTask:
    """A task that adapters are scored on.

    Attributes:
        task: what is asked.
        folder: what relative paths of its sources are relative to.
        source: the language that it is learned in, whose items few-shot examples are from.
    """

    task: Task
    folder: Path = Path()
    source: str = "en"


@dataclass(frozen=True)
class Comparison:
    """What is compared, on what.

    Attributes:
        base_model: a Hugging Face id, a local folder, or the packaged model.
        adapters: name → PEFT folder. The base model itself is always measured, too.
        start: the adapter that the others are compared with, or `base`.
        tasks: name → task.
        languages: that items are asked in.
        evaluate: split, batches, lengths.
        dtype: of the base model's weights.
        asking: how prompts are put.
        seed: of the draw of few-shot examples.
        harness: tasks for lm-evaluation-harness.
        harness_folder: where their files lie, if they are your own.
        backend: what computes: the resident model, or vLLM.
        vllm: further arguments of vLLM's engine.
        trust_remote_code: whether Python code that comes with the base model may run.

    Raises:
        RecipeError: a name would be a file's outside of the results, or is the base model's.
    """

    base_model: str
    adapters: Mapping[str, Path]
    start: str
    tasks: Mapping[str, ScoredTask]
    languages: Sequence[str]
    evaluate: Evaluate
    dtype: str = "float32"
    asking: Asking = "plain"
    seed: int = 0
    harness: Sequence[str] = ()
    harness_folder: Path | None = None
    backend: Literal["transformers", "vllm"] = "transformers"
    vllm: Mapping[str, Any] = field(default_factory=dict)
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        problems = [
            f"adapter {name}={folder}: {name!r} is no name for an adapter; use letters, digits, -, _ and ., not {BASE}, "
            "which is the base model's: --adapter NAME=DIR"
            for name, folder in self.adapters.items()
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or name == BASE
        ]
        if problems:
            raise RecipeError(problems)

    def scored(self, name: str) -> Source:
        """The items of a task that are scored. Raises DataError where it has none of that split."""
        from adamergex.errors import DataError

        source = getattr(self.tasks[name].task, self.evaluate.split)
        if source is None:
            raise DataError(f"{name}: has no {self.evaluate.split} split; choose another one with --split")
        assert isinstance(source, Source)
        return source

    def examples(self, name: str, language: str) -> Wanted:
        """Solved examples: the task's own in the language, or those that it is learned from."""
        of = self.tasks[name]
        if of.task.examples is not None:
            return Wanted(of.task.examples, language, True, of.folder)
        return Wanted(of.task.train, of.source, True, of.folder)


@dataclass(frozen=True)
class Engines:
    """What else was resolved.

    Attributes:
        adapters: name → SHA-256 of its configuration and weights.
        vllm: its version, where it computes.
        harness_files: SHA-256 of the user's own task files.
    """

    adapters: Mapping[str, tuple[str, ...]]
    vllm: str | None = None
    harness_files: tuple[str, ...] = ()


def sources(wanted: Comparison) -> Iterator[Wanted]:
    """Every source that the plan of a comparison reads."""
    for name, of in wanted.tasks.items():
        for language in wanted.languages:
            yield Wanted(wanted.scored(name), language, True, of.folder)
            if wanted.asking == "few-shot":
                yield wanted.examples(name, language)


def plan(wanted: Comparison, model: BaseModel, contents: Contents, engines: Engines) -> Planned:
    """The stages of a comparison: items, then predictions adapter by adapter.

    Args:
        wanted: what is compared.
        model: the base model.
        contents: of all its `sources`.
        engines: what else was resolved.
    """
    stages: dict[str, Stage] = {}

    def items(id: str, task: Task, of: Wanted, scored: bool) -> str:
        params = ItemsParams(
            task=task,
            source=of.source,
            content=contents.of(of),
            language=of.language,
            scored=scored,
            folder=of.folder,
        )
        stages[id] = Stage(id, "items", params)
        return id

    names = (BASE, *wanted.adapters)
    foreign = {
        name: ForeignAdapter(content=engines.adapters[name], folder=folder) for name, folder in wanted.adapters.items()
    }
    vllm = None if engines.vllm is None else VllmEngine(version=engines.vllm, options=dict(wanted.vllm))
    data: dict[tuple[str, str], dict[str, tuple[str, ...]]] = {}
    for task_name, of in wanted.tasks.items():
        for language in wanted.languages:
            split = wanted.evaluate.split
            source = Wanted(wanted.scored(task_name), language, True, of.folder)
            inputs: dict[str, tuple[str, ...]] = {
                "items": (items(f"data/{task_name}-{language}-{split}", of.task, source, True),)
            }
            if wanted.asking == "few-shot":
                solved = wanted.examples(task_name, language)
                # From training data they are the same in every language.
                id = f"data/{task_name}-{solved.language}-shots"
                inputs["examples"] = (items(id, of.task, solved, False),)
            data[task_name, language] = inputs
    cells = []
    for name in names:
        for (task_name, language), inputs in data.items():
            id = f"predictions/{task_name}/{language}/{name}"
            params = PredictParams(
                model=model,
                task=wanted.tasks[task_name].task,
                evaluate=wanted.evaluate,
                language=language,
                asking=wanted.asking,
                seed=wanted.seed,
                adapter=foreign.get(name),
                classes=len(wanted.tasks[task_name].task.choices or ()),
                vllm=vllm,
            )
            stages[id] = Stage(id, "predict", params, inputs)
            shown = task_name if len(wanted.tasks) > 1 else ""
            label, role = ("base model", "base") if name == BASE else (name, "adapter")
            cells.append(Cell(shown, language, name, label, role, inputs["items"][0], id))  # type: ignore[arg-type]
    harness = {}
    for name in names if wanted.harness else ():
        harness[name] = id = f"harness/{name}"
        measured = HarnessParams(
            model=model,
            tasks=tuple(wanted.harness),
            adapter=foreign.get(name),
            files=engines.harness_files,
            folder=wanted.harness_folder,
        )
        stages[id] = Stage(id, "harness", measured)
    return Planned(stages, tuple(cells), wanted.start, harness=harness)
