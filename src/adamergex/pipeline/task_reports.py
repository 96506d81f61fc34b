"""The reports of a run: of one task, or a page for each of several and one of all of them."""

from collections.abc import Sequence

from adamergex.execution.run_folder import RunFolder
from adamergex.pipeline.planned import Planned
from adamergex.pipeline.run_facts import facts
from adamergex.pipeline.run_report import MARKDOWN, PAGE, Facts, write_report, written_rows
from adamergex.pipeline.stage_table import TASKS
from adamergex.recipes import encoders
from adamergex.recipes.recipe import Part, Recipe
from adamergex.reporting import matrix
from adamergex.reporting.matrix import Matrix
from adamergex.reporting.report import Report
from adamergex.storage.run_names import SCORES


def below(task: str) -> str:
    """What the files of a task's report begin with, in the run folder; nothing where there is one task."""
    return f"{TASKS}/{task}/" if task else ""


def write_reports(
    whole: Recipe, parts: Sequence[Part], planned: Planned, folder: RunFolder, model: str
) -> Report | Matrix:
    """Write the reports of a run whose stages are all done, and return the first page's numbers.

    Args:
        whole: the recipe.
        parts: of it.
        planned: its stages.
        folder: of the run.
        model: the base model, as a reader is told.
    """
    if not planned.tasks:
        return write_report(planned, folder, _facts(parts[0], whole.name, planned, folder, model))
    first = {part.task: part for part in reversed(parts)}
    reports = {
        task: write_report(of, folder, _facts(first[task], f"{whole.name}: {task}", of, folder, model))
        for task, of in planned.tasks.items()
    }
    lines = [f"base model: {model}", *_told(whole, planned)]
    pages = {task: below(task) + PAGE for task in reports}
    found = Matrix(whole.name, reports, whole.targets, pages, lines)
    scores, markdown = written_rows([*found.rows, *found.by_seed]), matrix.markdown(found).encode()
    if not (folder.holds(SCORES, scores) and folder.holds(MARKDOWN, markdown) and folder.is_written(PAGE)):
        from adamergex.reporting import matrix_html

        folder.write(PAGE, matrix_html.page(found).encode())
    # Last, so that after a kill in between they say that the page has to be made again.
    folder.write(MARKDOWN, markdown)
    folder.write(SCORES, scores)
    return found


def _facts(part: Part, title: str, planned: Planned, folder: RunFolder, model: str) -> Facts:
    recipe = part.recipe
    left_out = f"; it {encoders.NEW_HEAD}" if part.headless else ""
    lines = [f"base model: {model}{left_out}", *facts(recipe, planned, folder)]
    return Facts(
        title, recipe.source, "t = 0", lines, planned.scales, metric=recipe.evaluate.metric, below=below(part.task)
    )


def _told(whole: Recipe, planned: Planned) -> list[str]:
    """How the run was made; the pages of the tasks say the rest."""
    trained = [id for id, stage in planned.stages.items() if stage.kind == "train"]
    references = sum("adapters/reference-" in id for id in trained)
    refined = sum(stage.kind == "refine" for stage in planned.stages.values())
    of = [f"{references:,} of reference adapters, which the tasks share", f"{len(trained) - references:,} of tasks"]
    of += [f"{refined:,} refinements"] * bool(refined)
    seeds = ", ".join(map(str, whole.seeds or [whole.seed]))
    return [
        f"{len(trained) + refined:,} trainings: {', '.join(of)}",
        "which items were scored, by which tests, what was chosen and what was trained on is on the page of each task",
        f"{'seeds' if whole.seeds else 'seed'} {seeds}",
    ]
