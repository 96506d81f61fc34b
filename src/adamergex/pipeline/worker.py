"""What the stages of one run share: the recipe, the run folder, the display, and resident models."""

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from adamergex.distributed import Processes
from adamergex.errors import RecipeError
from adamergex.execution.run_folder import RunFolder, Stage
from adamergex.models.families import KINDS, Family, Kind, family, load_tokenizer
from adamergex.pipeline.run_report import ITEMS
from adamergex.progress import Display
from adamergex.recipes.encoders import NEW_HEAD, without_new_head
from adamergex.recipes.preflight import unsplittable, unsuited
from adamergex.recipes.recipe import Recipe
from adamergex.storage.checkpoints import Checkpoint, resolve
from adamergex.storage.files import read_jsonl
from adamergex.tasks.items import Item, from_row
from adamergex.tasks.task import Task

if TYPE_CHECKING:
    from adamergex.models.resident import Workbench

T = TypeVar("T")


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
        self.folder, self.run_folder = folder, run_folder
        self._display, self._local = display, threading.local()
        self.processes = processes
        display.stage(f"base model {recipe.base_model}")
        # The first process downloads or converts; the others find it done.
        self.checkpoint: Checkpoint = processes.first_does(lambda: resolve(recipe.base_model, recipe.trust_remote_code))
        self.family: Family = family(self.checkpoint)
        problems = unsuited(recipe, self.family, self.checkpoint.name)
        if problems := problems + (unsplittable(recipe) if processes.split_the_model else []):
            raise RecipeError(problems)
        self.recipe = without_new_head(recipe, self.checkpoint)
        # What the report says of the base model.
        self.described = self.checkpoint.described
        if self.recipe is not recipe:
            self.described += f"; it {NEW_HEAD}"
            display.warn(f"the base model {NEW_HEAD}")
        display.end()
        self.stages: list[Stage] = []
        self._by_name: dict[str, Stage] = {}
        self._done: dict[tuple[str, ...], Any] = {}
        self._workbenches: dict[tuple[Kind, int], Workbench] = {}

    @property
    def tokenizer(self) -> Any:
        """The tokenizer; a thread beside the main one has its own, since it cannot do two things at once."""
        if not hasattr(self._local, "tokenizer"):
            self._local.tokenizer = load_tokenizer(self.checkpoint)
        return self._local.tokenizer

    @property
    def display(self) -> Display:
        """Where the calling thread shows its progress."""
        return getattr(self._local, "display", self._display)

    @contextmanager
    def aside(self, tokenizer: Any, display: Display, stop: threading.Event) -> Iterator[None]:
        """Within this context the calling thread has its own tokenizer and display, and can be stopped."""
        self._local.tokenizer, self._local.display, self._local.stop = tokenizer, display, stop
        try:
            yield
        finally:
            del self._local.tokenizer, self._local.display, self._local.stop

    def while_wanted(self, texts: Iterable[str]) -> Iterator[str]:
        """The texts, as long as nobody stops this thread. Raises CancelledError then."""
        stop = getattr(self._local, "stop", None)
        for text in texts:
            if stop is not None and stop.is_set():
                raise CancelledError
            yield text

    def workbench(self, task: Task | None) -> "Workbench":
        """The resident base model that learns a task and is scored on it; without a task, that learns plain text."""
        from adamergex.models.resident import Workbench, keep_freed_memory

        kind, recipe = KINDS[self.family]["text" if task is None else "task"], self.recipe
        classes = task.outputs if task is not None and kind == "classes" else 0
        if (kind, classes) not in self._workbenches:
            keep_freed_memory()
            split_over = self.processes.count if self.processes.split_the_model else 0
            self._workbenches[kind, classes] = Workbench(
                self.checkpoint,
                recipe.dtype,
                recipe.adapter,
                self.tokenizer,
                kind,
                classes,
                recipe.quantization,
                split_over,
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

    def find(self, name: str) -> Stage | None:
        """One that was perhaps added."""
        return self._by_name.get(name)

    def path(self, stage: Stage) -> Path:
        """Where a stage's result lies."""
        return self.run_folder.of(stage)

    def items(self, stage: Stage) -> list[Item]:
        """The items that a data stage holds."""
        return [from_row(row) for row in read_jsonl(self.path(stage) / ITEMS)]

    def once(self, key: tuple[str, ...], work: Callable[[], T]) -> T:
        """What `work` returns, done once for each key: items are made ready for the first of their methods."""
        if key not in self._done:
            self._done[key] = work()
        return self._done[key]

    def model_settings(self) -> dict[str, Any]:
        """What the model is, for fingerprints."""
        return {
            "base_model": [self.checkpoint.name, self.checkpoint.fingerprint],
            "dtype": self.recipe.dtype,
            "quantization": self.recipe.quantization,
            "adapter": self.recipe.adapter.model_dump(),
        }
