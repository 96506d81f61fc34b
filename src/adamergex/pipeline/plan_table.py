"""`adamergex plan`: what a run consists of, and how much of it is there."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adamergex.execution.durations import Durations, together
from adamergex.execution.executor import states
from adamergex.execution.run_folder import RunFolder, State
from adamergex.execution.stage import Needs, Stage
from adamergex.execution.store import Store
from adamergex.pipeline.kinds import KINDS
from adamergex.pipeline.run import place, planned_run
from adamergex.pipeline.stages.given import GivenParams
from adamergex.pipeline.worker import Options, Worker
from adamergex.progress import Silent, span
from adamergex.recipes.preflight import check
from adamergex.recipes.recipe import Recipe

_WORDS = {
    "done": "done",
    "absent": "to do",
    "outdated": "to do again",
    "damaged": "damaged, to do again",
    "stored": "in the store",
}
# What takes a few seconds at most.
_THERE = ("done", "stored")


@dataclass(frozen=True)
class Looked:
    """The stages of a run.

    Attributes:
        folder: of the run; it may not exist yet.
        stages: in the order in which they are made, each with the state of its result, or the ids of the stages that it
            waits for.
        seconds_left: what the missing ones will take in this process, by what stages took before on its device; None where
            that is unknown of one of them.
        measured: how many stages that were made before say so.
    """

    folder: Path
    stages: list[tuple[Stage, State | tuple[str, ...]]]
    seconds_left: float | None = None
    measured: int = 0

    @property
    def done(self) -> int:
        """How many are done."""
        return sum(_is_done(state) for _, state in self.stages)


def look(recipe: Recipe, folder: Path, output: Path | None = None, store: str | None = None) -> Looked:
    """The stages of a recipe's run, and how they stand.

    Args:
        recipe: what to do.
        folder: what its relative paths are relative to.
        output: the run folder; `runs/NAME` by default.
        store: of finished stages (`adamergex.execution.store`).

    Raises:
        AdaMergeXError: the recipe cannot be run.
    """
    check(recipe, folder)
    _, _, planned = planned_run(recipe, folder, Silent())
    run_folder = output or place(recipe)
    opened = None if store is None else Store(store)
    by_stage = states(planned.stages, KINDS, RunFolder(run_folder, make=False), opened)
    looked = Looked(run_folder, [(planned.stages[id], state) for id, state in by_stage.items()])
    return replace(looked, **_left(looked, recipe))


def _left(looked: Looked, recipe: Recipe) -> dict[str, Any]:
    """What is left to do in seconds, and by how many measurements."""
    missing = [stage for stage, state in looked.stages if not isinstance(state, State) or state.status not in _THERE]
    device = Worker({}, options=Options(device=recipe.device)).device
    found = Durations().expected(missing, KINDS, device)
    before = {stage.id: (*stage.reads, *stage.after) for stage in missing}
    return {"seconds_left": together(found.seconds, before), "measured": found.measured}


def table(looked: Looked) -> str:
    """A line for each stage, and a count."""
    rows = [(stage.id, stage.kind, _memory(stage), _status(state)) for stage, state in looked.stages]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = ["  ".join((*map(str.ljust, row[:3], widths), row[3])).rstrip() for row in rows]
    lines.append(f"{looked.done} of {len(rows)} stages are done")
    if looked.seconds_left and looked.measured:
        by = f"{looked.measured} stage{'s' * (looked.measured > 1)} of before on this device"
        lines.append(f"about {span(looked.seconds_left, roughly=True)} are left, by {by}")
    return "\n".join(lines) + "\n"


def document(looked: Looked) -> dict[str, Any]:
    """The same for programs; docs/commands.md says what the keys mean."""
    stages = [
        {
            "id": stage.id,
            "kind": stage.kind,
            "status": state.status if isinstance(state, State) else "waiting",
            "why": state.why if isinstance(state, State) else "",
            "waits_for": [] if isinstance(state, State) else list(state),
            "model": _needs(stage).model,
            "memory": _needs(stage).memory,
            "taken_from": stage.params.place if isinstance(stage.params, GivenParams) else None,
        }
        for stage, state in looked.stages
    ]
    about = {"folder": str(looked.folder), "done": looked.done, "seconds_left": looked.seconds_left}
    return about | {"stages": stages}


def _is_done(state: State | tuple[str, ...]) -> bool:
    return isinstance(state, State) and state.status == "done"


def _needs(stage: Stage) -> Needs:
    return KINDS[stage.kind].needs(stage.params)


def _memory(stage: Stage) -> str:
    """What making a stage takes, in words; or what is taken."""
    if isinstance(stage.params, GivenParams):
        return f"from {stage.params.place}"
    needs = _needs(stage)
    return f"model, {needs.memory / 2**30:.1f} GiB" if needs.model else ""


def _status(state: State | tuple[str, ...]) -> str:
    """Whether a stage is done, in words."""
    if not isinstance(state, State):
        return f"waits for {', '.join(state)}"
    return _WORDS[state.status] + (f": {state.why}" if state.why else "")
