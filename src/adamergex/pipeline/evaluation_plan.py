"""Adapters × tasks × languages as stages, without a recipe; pure: the comparison and what was resolved are all it looks at.

data/TASK-LANG-SPLIT   items of a task          predictions/TASK/LANG/ADAPTER   answers to every item
data/TASK-LANG-train   what may have been seen  harness/ADAPTER                 scores on lm-evaluation-harness
calibration/TASK/LANG/ADAPTER   a bias per label, estimated without labels
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Literal

from adamergex.data.settings import Source
from adamergex.errors import DataError, RecipeError
from adamergex.execution.stage import Stage
from adamergex.inference.settings import Calibration, Evaluate
from adamergex.pipeline.planned import Cell, Planned
from adamergex.pipeline.resolve import Contents, Wanted
from adamergex.pipeline.stages.base_model import BaseModel
from adamergex.pipeline.stages.calibrate import CalibrateParams
from adamergex.pipeline.stages.checks import OverlapParams
from adamergex.pipeline.stages.harness import HarnessParams
from adamergex.pipeline.stages.items import ItemsParams
from adamergex.pipeline.stages.predict import ForeignAdapter, PredictParams, VllmEngine
from adamergex.scoring.results import Role
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
        calibration: how a bias per label is estimated.
    """

    task: Task
    folder: Path = Path()
    source: str = "en"
    calibration: Calibration = field(default_factory=Calibration)


@dataclass(frozen=True)
class Comparison:
    """What is compared, on what.

    Attributes:
        base_model: a Hugging Face id, a local folder, or the packaged model.
        adapters: name → PEFT folder. The base model itself is always measured, too.
        start: the adapter that the others are compared with, or `base`.
        tasks: name → task.
        languages: that items are asked in.
        evaluate: split, metric, batches, lengths.
        dtype: of the base model's weights.
        asking: plain, few-shot or xlt.
        seed: for drawing few-shot examples.
        harness: tasks for lm-evaluation-harness.
        harness_folder: of the user's own task files for it.
        backend: what computes: the resident model, or vLLM.
        vllm: further arguments of vLLM's engine.
        trust_remote_code: whether Python code that comes with the base model may run.
        named: name → what the report calls the place of an adapter: its folder, or its place on the hub.

    Raises:
        RecipeError: a name would be a file's outside of the results, or is the base model's; or a task has no labels for
            the metric.
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
    named: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        problems = [
            f"task {name}: {name!r} is no name for a folder; use letters, digits, -, _ and .: --task NAME=TASK"
            for name in self.tasks
            if not re.fullmatch(r"\w[\w. -]*", name)
        ]
        problems += [
            f"adapter {name}={folder}: {name!r} is no name for an adapter; use letters, digits, -, _ and ., not {BASE}, "
            "which is the base model's: --adapter NAME=DIR"
            for name, folder in self.adapters.items()
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or name == BASE
        ]
        problems += [
            f"task {name}: metric: {reason}"
            for name, scored in self.tasks.items()
            if (reason := scored.task.refuses(self.evaluate.metric))
        ]
        if problems:
            raise RecipeError(problems)

    def scored(self, name: str) -> Source:
        """The items of a task that are scored. Raises DataError where it has none of that split."""
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

    def training(self, name: str, language: str) -> list[Wanted]:
        """Items that adapters may have been trained on: of the source language, and of this one, as a ceiling is.

        A task may have come without them, and nothing is downloaded to be looked at.
        """
        of = self.tasks[name]
        codes = dict.fromkeys((of.source, language))
        return [Wanted(of.task.train, code, True, of.folder, needed=False) for code in codes]


@dataclass(frozen=True)
class Engines:
    """What else was resolved.

    Attributes:
        adapters: name → SHA-256 of its configuration and weights.
        vllm: its version, where it computes.
        harness_files: SHA-256 of the user's own task files.
        virtual_tokens: of the longest prefix among the adapters.
        without_base: tasks that the base model has no head for, and no row.
    """

    adapters: Mapping[str, tuple[str, ...]]
    vllm: str | None = None
    harness_files: tuple[str, ...] = ()
    virtual_tokens: int = 0
    without_base: tuple[str, ...] = ()


def sources(wanted: Comparison) -> Iterator[Wanted]:
    """Every source that the plan of a comparison reads."""
    for name, of in wanted.tasks.items():
        for language in wanted.languages:
            yield Wanted(wanted.scored(name), language, True, of.folder)
            yield from wanted.training(name, language)
            if wanted.asking == "few-shot":
                yield wanted.examples(name, language)


def plan(wanted: Comparison, model: BaseModel, contents: Contents, engines: Engines) -> Planned:
    """The stages of a comparison: items, a look at what was seen in training, then predictions adapter by adapter.

    Args:
        wanted: what is compared.
        model: the base model.
        contents: of all its `sources` that are there.
        engines: what else was resolved.
    """
    return _Planner(wanted, model, contents, engines).plan()


class _Planner:
    """The stages of a comparison, as they are added."""

    def __init__(self, wanted: Comparison, model: BaseModel, contents: Contents, engines: Engines):
        self.wanted, self.contents, self.engines, self._resolved = wanted, contents, engines, model
        self.stages: dict[str, Stage] = {}

    def plan(self) -> Planned:
        """Items of all tasks and languages first."""
        wanted = self.wanted
        pairs = list(product(wanted.tasks, wanted.languages))
        data = {pair: self._data(*pair) for pair in pairs}
        overlaps = {pair: self._overlap(*pair, data[pair]) for pair in pairs}
        foreign = {
            name: ForeignAdapter(content=self.engines.adapters[name], folder=folder)
            for name, folder in wanted.adapters.items()
        }
        names = (BASE, *wanted.adapters)
        cells = tuple(
            self._cell(name, *pair, foreign.get(name), data[pair], overlaps[pair])
            for name in names
            for pair in pairs
            if name != BASE or pair[0] not in self.engines.without_base
        )
        harness = {name: self._harness(name, foreign.get(name)) for name in names if wanted.harness}
        without_base = self.engines.without_base
        return Planned(self.stages, cells, wanted.start, harness=harness, without_base=without_base, overlaps=overlaps)

    def _items(self, id: str, task: Task, of: Wanted) -> str:
        params = ItemsParams(
            task=task,
            source=of.source,
            content=self.contents.of(of),
            language=of.language,
            scored=True,
            folder=of.folder,
        )
        self.stages[id] = Stage(id, "items", params)
        return id

    def _data(self, name: str, language: str) -> dict[str, tuple[str, ...]]:
        """The items of a task in one language, and solved examples for them; the inputs of all predictions."""
        wanted, of = self.wanted, self.wanted.tasks[name]
        source = Wanted(wanted.scored(name), language, True, of.folder)
        inputs: dict[str, tuple[str, ...]] = {
            "items": (self._items(f"data/{name}-{language}-{wanted.evaluate.split}", of.task, source),)
        }
        if wanted.asking == "few-shot":
            solved = wanted.examples(name, language)
            kind = "train" if of.task.examples is None else "examples"
            inputs["examples"] = (self._items(f"data/{name}-{solved.language}-{kind}", of.task, solved),)
        return inputs

    def _overlap(self, name: str, language: str, data: dict[str, tuple[str, ...]]) -> str:
        of = self.wanted.tasks[name]
        training = [one for one in self.wanted.training(name, language) if self.contents.has(one)]
        inputs: dict[str, tuple[str, ...]] = {"scored": data["items"]}
        if training:
            inputs["train"] = tuple(self._items(f"data/{name}-{one.language}-train", of.task, one) for one in training)
        if "examples" in data:
            inputs["examples"] = data["examples"]
        id = f"checks/overlap-{name}-{language}"
        allowed = of.task.overlap != "refuse" or None
        params = OverlapParams(language=f"{name}, {language}", where={"examples": "examples"}, allowed=allowed)
        self.stages[id] = Stage(id, "overlap", params, inputs)
        return id

    def _cell(
        self,
        adapter: str,
        name: str,
        language: str,
        foreign: ForeignAdapter | None,
        data: dict[str, tuple[str, ...]],
        overlap: str,
    ) -> Cell:
        """One adapter's answers to the items of a task in one language."""
        wanted, task = self.wanted, self.wanted.tasks[name].task
        id = f"predictions/{name}/{language}/{adapter}"
        version = self.engines.vllm
        params = PredictParams(
            model=self._resolved.asked(task.chat),
            task=task,
            evaluate=wanted.evaluate,
            language=language,
            asking=wanted.asking,
            seed=wanted.seed,
            adapter=foreign,
            classes=task.outputs,
            virtual_tokens=self.engines.virtual_tokens,
            vllm=None if version is None else VllmEngine(version=version, options=dict(wanted.vllm)),
        )
        self.stages[id] = Stage(id, "predict", params, data, after=(overlap,))
        role: Role = "adapter" if foreign else "base"
        shown = name if len(wanted.tasks) > 1 else ""
        calibration = self._calibrate(name, language, adapter, id)
        label = adapter if foreign else "base model"
        return Cell(shown, language, adapter, label, role, data["items"][0], id, calibration)

    def _calibrate(self, name: str, language: str, adapter: str, predictions: str) -> str | None:
        """The bias per label; None where nothing is calibrated, or to the shares of training items that are not here."""
        scored = self.wanted.tasks[name]
        settings, learned = scored.calibration, f"data/{name}-{scored.source}-train"
        missing = settings.from_source and learned not in self.stages
        if not scored.task.has_fixed_labels or settings.method == "none" or missing:
            return None
        id = f"calibration/{name}/{language}/{adapter}"
        inputs = {"answers": (predictions,)} | ({"learned": (learned,)} if settings.from_source else {})
        self.stages[id] = Stage(id, "calibrate", CalibrateParams.of(settings, scored.task.choices or ()), inputs)
        return id

    def _harness(self, name: str, foreign: ForeignAdapter | None) -> str:
        id = f"harness/{name}"
        params = HarnessParams(
            model=self._resolved.asked(False),
            tasks=tuple(self.wanted.harness),
            adapter=foreign,
            files=self.engines.harness_files,
            folder=self.wanted.harness_folder,
        )
        self.stages[id] = Stage(id, "harness", params)
        return id
