"""A recipe as stages: build the data → train the adapters → merge → predict → report.

    data/task-LANG-SPLIT   items of the task               adapters/task-LANG        the task's adapters
    data/corpus-LANG       windows of plain text           adapters/reference-LANG   the reference task's
    merged/LANG/METHOD     merged adapters                 predictions/LANG/METHOD   answers to every item

L targets cost L + 1 reference trainings and one task training. The base model is loaded once, when
the first stage needs it. Heavy libraries are imported by the stages that use them, so that a run
whose stages are all done answers in seconds.
"""

from contextlib import nullcontext
from pathlib import Path

from adamergex.distributed import Processes
from adamergex.execution.run_folder import RunFolder, Stage
from adamergex.inference.systems import METHODS
from adamergex.pipeline import data_stages, result_stages, training_stages
from adamergex.pipeline.prefetch import Ahead
from adamergex.pipeline.run_report import CURVES, PAGE, write_report
from adamergex.pipeline.worker import Context
from adamergex.progress import Display, Silent
from adamergex.recipes.loading import dump
from adamergex.recipes.preflight import check
from adamergex.recipes.recipe import Recipe
from adamergex.scoring.results import Row


def run(
    recipe: Recipe, *, folder: Path = Path(), output: Path | None = None, display: Display | None = None
) -> list[Row]:
    """Do whatever of a run is not done yet, and write its report.

    Where `accelerate launch` started several processes, all of them call this; the first one writes.

    Args:
        recipe: what to do.
        folder: what the recipe's relative paths are relative to.
        output: the run folder; `runs/NAME` by default.
        display: where progress is shown; nowhere by default.

    Returns:
        A row for each method and target language; empty where the recipe names nothing to score.

    Raises:
        AdaMergeXError: something that the user can mend; finished stages stay done.
    """
    processes = Processes()
    processes.first_does(lambda: check(recipe, folder))
    run_folder = RunFolder(output or Path("runs") / recipe.name)
    with run_folder.held() if processes.is_first else nullcontext():
        shown = display if display is not None and processes.is_first else Silent()
        context = Context(recipe, folder, run_folder, shown, processes)
        plan(context)
        missing = processes.agreed([stage.name for stage in context.stages if not run_folder.has(stage)])
        if processes.is_first:
            changed = run_folder.write("recipe.yaml", dump(recipe).encode())
            if missing or changed:
                # A report of other settings must not lie beside this recipe, should the run be cut off.
                run_folder.remove("report.md", "scores.jsonl", CURVES, PAGE)
        early = [stage for stage in context.stages if stage.ahead and stage.name in missing]
        with Ahead(context, early if processes.is_first else []) as ahead:
            for number, stage in enumerate(context.stages, 1):
                name = f"[{number}/{len(context.stages)}] {stage.name}"
                if stage.name not in missing:
                    shown.skip(name)
                    continue
                shown.stage(name)
                processes.first_does(ahead.check)
                _make(context, stage, ahead)
                shown.end()
        return processes.first_does(lambda: write_report(context.recipe, context.described, run_folder))


def plan(context: Context) -> None:
    """Items first: what is hashed now is read within the next seconds, not after an hour of training.

    Corpora stand right before the adapter that is trained on them; a thread makes them from the start.
    """
    recipe, scored = context.recipe, context.recipe.scored
    ceilings = recipe.targets if recipe.ceiling else []
    for language in (recipe.source, *ceilings):
        data_stages.items(context, f"task-{language}-train", recipe.task, recipe.task.train, language)
        if recipe.train.early_stopping and recipe.task.dev:
            data_stages.items(context, f"task-{language}-heldout", recipe.task, recipe.task.dev, language)
    if scored is not None:
        for language in recipe.targets:
            data_stages.items(context, f"task-{language}-{recipe.evaluate.split}", recipe.task, scored, language)
            if recipe.task.examples is not None and "few-shot" in recipe.evaluate.methods:
                data_stages.items(context, f"task-{language}-examples", recipe.task, recipe.task.examples, language)
    for language in recipe.languages:
        if recipe.reference.task is not None:
            task = recipe.reference.task
            data_stages.items(context, f"reference-{language}", task, task.train, language)
    training_stages.task(context, recipe.source)
    for language in recipe.languages:
        if recipe.reference.task is None:
            data_stages.windows(context, language)
        training_stages.reference(context, language)
    for language in recipe.targets:
        # What a run is for, whether it is scored or not.
        own = recipe.merge.method
        adapters: dict[str, Stage] = {own: result_stages.merged(context, language, own)}
        for method in recipe.evaluate.methods if scored is not None else ():
            kind = METHODS[method].adapter
            if kind == "ceiling":
                training_stages.task(context, language)
            elif kind == "merged" and method not in adapters:
                adapters[method] = result_stages.merged(context, language, method)
            trained = {
                "none": None,
                "task": context.stage(f"adapters/task-{recipe.source}"),
                "reference-target": context.stage(f"adapters/reference-{language}"),
                "ceiling": context.find(f"adapters/task-{language}"),
                "merged": adapters.get(method),
            }
            result_stages.predictions(context, language, method, trained[kind])


def _make(context: Context, stage: Stage, ahead: Ahead) -> None:
    """Make a stage: all processes together, or the first one, or a thread of its, while the others wait."""
    if stage.ahead:
        context.processes.first_does(lambda: ahead.finish(stage))
    elif not stage.together or context.processes.count == 1:
        context.processes.first_does(lambda: context.run_folder.make(stage))
    elif context.processes.is_first:
        context.run_folder.make(stage)
    else:
        stage.build(context.run_folder.path)
    context.processes.wait()
