"""What the stages of one run share: the recipe, the run folder, the display, and resident models."""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adamergex.checkpoints import Checkpoint, resolve
from adamergex.disk import read_jsonl
from adamergex.errors import RecipeError
from adamergex.families import KINDS, OBJECTIVES, Family, Kind, family, load_tokenizer
from adamergex.items import Item
from adamergex.processes import Processes
from adamergex.progress import Display
from adamergex.recipe import Recipe
from adamergex.recipe_data import Task
from adamergex.stages import RunFolder, Stage
from adamergex.summary import ITEMS

if TYPE_CHECKING:
    from adamergex.model import Workbench


class Context:
    """One tokenizer, one base model (an encoder: one with each head), and the stages by name.

    Args:
        recipe: what to do.
        folder: what the recipe's relative paths are relative to.
        run_folder: where results go.
        display: where progress is shown.
        processes: that do the run.

    Raises:
        ModelError: there is no such model.
        RecipeError: the model cannot do what the recipe wants.
    """

    def __init__(self, recipe: Recipe, folder: Path, run_folder: RunFolder, display: Display, processes: Processes):
        self.recipe, self.folder, self.run_folder, self.display = recipe, folder, run_folder, display
        self.processes = processes
        display.stage(f"base model {recipe.base_model}")
        # The first process downloads or converts; the others find it done.
        found: list[Checkpoint] = []
        processes.first_does(lambda: found.append(resolve(recipe.base_model)))
        self.checkpoint: Checkpoint = processes.agreed(found[0] if found else None)  # type: ignore[assignment]
        display.end()
        self.family: Family = family(self.checkpoint)
        self._check()
        self.stages: list[Stage] = []
        self._by_name: dict[str, Stage] = {}
        self._workbenches: dict[tuple[Kind, int], Workbench] = {}

    def _check(self) -> None:
        """Whether a model of this family can do what the recipe wants."""
        recipe, reference, problems = self.recipe, self.recipe.reference, []
        if self.family == "encoder":
            for name, task in (("task", recipe.task), ("reference.task", reference.task)):
                if task is not None and not task.choices:
                    problems.append(f"{name}.choices: missing; an encoder chooses, it does not write")
        if reference.objective is not None and reference.objective not in OBJECTIVES[self.family]:
            problems.append(
                f"reference.objective: {self.family} models learn {' or '.join(OBJECTIVES[self.family])} "
                f"from plain text; got {reference.objective}"
            )
        if self.family != "causal":
            if reference.positions is not None:
                problems.append("reference.positions: for causal models; remove it")
            if recipe.train.packing:
                problems.append("train.packing: for causal models; remove it")
        if problems:
            raise RecipeError(
                [f"base_model {self.checkpoint.name} is of the {self.family} family. {p}" for p in problems]
            )

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer."""
        return load_tokenizer(self.checkpoint)

    def workbench(self, task: Task | None) -> "Workbench":
        """The resident base model that learns a task and is scored on it; without a task, that learns plain text."""
        from adamergex.model import Workbench, keep_freed_memory

        kind, recipe = KINDS[self.family]["text" if task is None else "task"], self.recipe
        classes = len(task.choices or ()) if task is not None and kind == "classes" else 0
        if (kind, classes) not in self._workbenches:
            keep_freed_memory()
            self._workbenches[kind, classes] = Workbench(
                self.checkpoint, recipe.dtype, recipe.adapter, self.tokenizer, kind, classes, recipe.quantization
            )
        return self._workbenches[kind, classes]

    def longest(self, workbench: "Workbench") -> int | None:
        """The most tokens of a labelled item, in training and in scoring; None where nothing limits it."""
        limits = [limit for limit in (self.recipe.train.max_length, workbench.context) if limit is not None]
        return min(limits, default=None)

    def add(self, stage: Stage) -> Stage:
        """Another stage of the run, after those that it needs."""
        self.stages.append(stage)
        self._by_name[stage.name] = stage
        return stage

    def stage(self, name: str) -> Stage:
        """One that was added."""
        return self._by_name[name]

    def path(self, stage: Stage) -> Path:
        """Where a stage's result lies."""
        return self.run_folder.of(stage)

    def items(self, stage: Stage) -> list[Item]:
        """The items that a data stage holds."""
        rows = read_jsonl(self.path(stage) / ITEMS)
        tuples = ("choices", "longest_column")
        return [Item(**(row | {key: tuple(row[key]) for key in tuples})) for row in rows]

    def model_settings(self) -> dict[str, Any]:
        """What the model is, for fingerprints."""
        return {
            "base_model": [self.checkpoint.name, self.checkpoint.fingerprint],
            "dtype": self.recipe.dtype,
            "quantization": self.recipe.quantization,
            "adapter": self.recipe.adapter.model_dump(),
        }
