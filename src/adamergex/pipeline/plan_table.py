"""`adamergex plan`: what a run consists of, and how much of it is there."""

from collections import Counter
from pathlib import Path

from adamergex.execution.executor import states
from adamergex.execution.run_folder import RunFolder, State
from adamergex.execution.stage import Stage
from adamergex.pipeline.kinds import KINDS
from adamergex.pipeline.run import place, planned_run
from adamergex.pipeline.stages.given import GivenParams
from adamergex.progress import Silent
from adamergex.recipes.preflight import check
from adamergex.recipes.recipe import Recipe


def table(recipe: Recipe, folder: Path, output: Path | None = None) -> str:
    """A line for each stage, in the order in which they are made, and a count.

    Args:
        recipe: what to do.
        folder: what its relative paths are relative to.
        output: the run folder; `runs/NAME` by default.

    Raises:
        AdaMergeXError: the recipe cannot be run.
    """
    check(recipe, folder)
    _, _, planned = planned_run(recipe, folder, Silent())
    by_stage = states(planned.stages, KINDS, RunFolder(output or place(recipe), make=False))
    rows = [(id, planned.stages[id].kind, _needs(planned.stages[id]), _status(state)) for id, state in by_stage.items()]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = ["  ".join((*map(str.ljust, row[:3], widths), row[3])).rstrip() for row in rows]
    done = Counter(row[3] == "done" for row in rows)
    return "\n".join([*lines, f"{done[True]} of {len(rows)} stages are done"]) + "\n"


def _needs(stage: Stage) -> str:
    """What making a stage takes, in words; or what is taken."""
    if isinstance(stage.params, GivenParams):
        return f"from {stage.params.place}"
    needs = KINDS[stage.kind].needs(stage.params)
    return f"model, {needs.memory / 2**30:.1f} GiB" if needs.model else ""


def _status(state: State | tuple[str, ...]) -> str:
    """Whether a stage is done, in words."""
    if not isinstance(state, State):
        return f"waits for {', '.join(state)}"
    words = {"done": "done", "absent": "to do", "outdated": "to do again", "damaged": "damaged, to do again"}
    return words[state.status] + (f": {state.why}" if state.why else "")
