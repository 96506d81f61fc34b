"""The stages of a run by id, as those of one task and one seed are added; what tasks share is there once."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from adamergex.execution.stage import Params, Stage

TASKS = "tasks"
_OF_A_TASK = re.compile(rf"{TASKS}/[^/]+/")


class StageTable:
    """The table of a recipe's stages, from where one task with one seed adds to it.

    Args:
        task: whose stages are added; empty where a recipe has one task, whose ids begin with nothing.
        seed: what ids of stages that depend on the seed begin with; nothing for the first one.
        stages: id → stage, of all tasks and seeds.
        shared: their ids, by what these are without a task.

    Attributes:
        below: what ids of the task's stages begin with.
    """

    def __init__(
        self,
        task: str = "",
        seed: str = "",
        stages: dict[str, Stage] | None = None,
        shared: dict[str, list[str]] | None = None,
    ):
        self.task, self.seed = task, seed
        self.below = f"{TASKS}/{task}/" if task else ""
        self.stages: dict[str, Stage] = {} if stages is None else stages
        self.shared: dict[str, list[str]] = {} if shared is None else shared

    def of_task(self, task: str) -> "StageTable":
        """The same table, from where a task adds to it."""
        return StageTable(task, "", self.stages, self.shared)

    def of_seed(self, seed: int) -> "StageTable":
        """The same table, from where another seed adds to it."""
        return StageTable(self.task, f"seed-{seed}/", self.stages, self.shared)

    def add(
        self,
        id: str,
        kind: str,
        params: Params,
        inputs: Mapping[str, tuple[str, ...]] | None = None,
        after: tuple[str, ...] = (),
        *,
        shared: bool = False,
    ) -> str:
        """Add a stage, and return its id: below the seed where it trains, or reads what depends on the seed.

        Args:
            id: without task and seed.
            kind: of the stage.
            params: of the kind; of a training, its `name` is made here.
            inputs: role → ids.
            after: ids of stages that come before it.
            shared: whether it is one for all tasks, where it is equal; where it is not, it is below the task.
        """
        inputs = dict(inputs or {})
        if kind == "train" or any(self._is_of_seed(one) for ids in inputs.values() for one in ids):
            id = f"{self.seed}{id}"
        stage = Stage(
            self._place(Stage(id, kind, params, inputs)) if shared else f"{self.below}{id}", kind, params, inputs
        )
        present = self.stages.get(stage.id)
        if present is None:
            self.shared.setdefault(_OF_A_TASK.sub("", stage.id, count=1), []).append(stage.id)
        # Checks of all tasks come before what they share.
        before = dict.fromkeys((*(present.after if present is not None else ()), *after))
        self.stages[stage.id] = replace(_named(stage), after=tuple(before))
        return stage.id

    def _is_of_seed(self, id: str) -> bool:
        return _OF_A_TASK.sub("", id, count=1).startswith(self.seed)

    def _place(self, stage: Stage) -> str:
        """The id of an equal stage, if there is one; else the stage's own, or that below the task where it is another one's."""
        if not self.task:
            return stage.id
        # Tasks share, they do not take turns: the first one that has it names it.
        for id in self.shared.get(stage.id, ()):
            if _content(self.stages[id]) == _content(stage):
                return id
        return stage.id if stage.id not in self.stages else f"{self.below}{stage.id}"


def _content(stage: Stage) -> tuple[Any, ...]:
    return stage.kind, stage.params.identity(), stage.inputs


def _named(stage: Stage) -> Stage:
    """The stage; a training is called like its adapter, below its task and seed, where its curves are shown."""
    if stage.kind != "train":
        return stage
    name = stage.id.removeprefix(f"{TASKS}/").replace("adapters/", "", 1)
    return replace(stage, params=stage.params.model_copy(update={"name": name}))
