"""`adamergex run`: check, resolve, plan, make, report."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from adamergex.distributed import Processes
from adamergex.errors import NetworkError, RecipeError
from adamergex.execution.executor import execute, held, opened
from adamergex.execution.run_folder import RunFolder
from adamergex.pipeline.kinds import KINDS
from adamergex.pipeline.planned import Planned
from adamergex.pipeline.resolve import base_model, contents, given_adapters
from adamergex.pipeline.run_facts import facts
from adamergex.pipeline.run_plan import plan
from adamergex.pipeline.run_report import FILES, PAGE, SCORES, Facts, write_report
from adamergex.pipeline.run_sources import sources
from adamergex.pipeline.run_stages import COMPUTED
from adamergex.pipeline.stages.given import GivenParams
from adamergex.pipeline.worker import Options, Worker
from adamergex.progress import Display, Silent
from adamergex.recipes import chats, encoders
from adamergex.recipes.loading import OF_RUN, dump, folder_of, is_run, load
from adamergex.recipes.preflight import Looked, check, unsplittable, unsuited
from adamergex.recipes.recipe import Recipe
from adamergex.reporting.metrics import tracked_scores
from adamergex.reporting.report import Report
from adamergex.reporting.results import Results
from adamergex.storage.checkpoints import Checkpoint, resolve
from adamergex.storage.files import relative
from adamergex.storage.outputs import resolved
from adamergex.training.trackers import Trackers


def run(
    recipe: Recipe | str | Path,
    *,
    folder: Path | None = None,
    output: str | Path | None = None,
    display: Display | None = None,
    verify: bool = False,
    store: str | None = None,
) -> Results:
    """Make the results of a run that are not there yet, and write its report.

        adamergex.run("own-data.yaml")

    Where `accelerate launch` started several processes, all of them call this; the first one writes.

    Args:
        recipe: what to do: a .yaml file, the folder of a run that is to go on, the name of a shipped recipe, or a recipe itself.
        folder: what the recipe's relative paths are relative to; the file's folder, or the current one, by default.
        output: the run folder; `runs/NAME` by default, or the folder that was given as the recipe.
        display: where progress is shown; nowhere by default.
        verify: compare all results that are there with their hashes, not those that are read alone.
        store: a folder or a URL, such as `s3://bucket/path`, that finished stages are taken from and put to, beside the run
            folder; runs and people share it.

    Returns:
        A sequence of rows, one for each system and target language, of means where there are several seeds, empty where the
        recipe names nothing to score; with `.table` and `.scores` (data frames), `.report`, `.folder` and `.delivered`.

    Raises:
        AdaMergeXError: a problem that the user can fix; finished stages stay done.
    """
    if not isinstance(recipe, Recipe):
        name = str(recipe)
        recipe, output = load(name), output or (name if is_run(name) else None)
        folder = folder or folder_of(name, recipe)
    folder = folder or Path(recipe.folder or "")
    done = finish(recipe, folder, Path(output) if output else None, display, verify=verify, store=store)
    return Results.of(done.report, done.page.parent, done.page.name, done.delivered)


@dataclass(frozen=True)
class Finished:
    """What a run came to.

    Attributes:
        report: its numbers, as they are shown.
        page: the report as a file.
        delivered: language → the folder of the adapter that the run is for, with all that it takes to use it.
    """

    report: Report
    page: Path
    delivered: Mapping[str, Path]


def finish(
    whole: Recipe,
    folder: Path,
    output: Path | None = None,
    display: Display | None = None,
    *,
    verify: bool = False,
    store: str | None = None,
) -> Finished:
    """Make the results of a run that are not there yet; see `run`."""
    processes = Processes()
    looked: Looked = processes.first_does(lambda: check(whole, folder))
    if looked.unreachable:
        raise NetworkError("; ".join(looked.unreachable))
    shared = opened(store, processes)
    resolved(output or place(whole))  # Or else what is written in it cannot say where it is.
    run_folder = RunFolder(output or place(whole))
    with held(run_folder, processes):
        shown = display if display is not None and processes.is_first else Silent()
        for line in looked.warnings:
            shown.warn(line)
        checkpoint, recipe, planned = planned_run(whole, folder, shown, processes)
        trackers = Trackers(recipe.track, recipe.name, run_folder.path, shown.warn)
        worker = Worker({checkpoint.fingerprint: checkpoint}, processes, shown, _options(recipe, trackers))

        def forget() -> None:
            """A report of other results must not lie beside what is made now, should the run be cut off."""
            run_folder.remove(*FILES)

        if processes.is_first and run_folder.write(
            OF_RUN, dump(pinned(whole, planned, folder, run_folder.path)).encode()
        ):
            forget()
        execute(
            planned.stages,
            KINDS,
            run_folder,
            worker,
            read=planned.read,
            verify=verify,
            before_first=forget,
            store=shared,
        )

        def report() -> Report:
            left_out = f"; it {encoders.NEW_HEAD}" if recipe is not whole else ""
            lines = [f"base model: {checkpoint.described}{left_out}", *facts(recipe, planned, run_folder)]
            shown = Facts(recipe.name, recipe.source, "t = 0", lines, planned.scales, metric=recipe.evaluate.metric)
            # A report that is there already was tracked when it was written.
            is_new = not (run_folder.path / SCORES).is_file()
            written = write_report(planned, run_folder, shown)
            if is_new and written.rows:
                with trackers.run("scores") as log:
                    log(0, tracked_scores(written.rows))
            return written

        delivered = {language: run_folder.place(id) for language, id in planned.delivered.items()}
        return Finished(processes.first_does(report), run_folder.path / PAGE, delivered)


def _options(recipe: Recipe, trackers: Trackers) -> Options:
    return Options(
        batch_size=recipe.evaluate.batch_size,
        device=recipe.device,
        train={key: getattr(recipe.train, key) for key in COMPUTED},
        trackers=trackers,
        adapter=recipe.adapter,
    )


def place(recipe: Recipe) -> Path:
    """The run folder of a recipe where no other one is given."""
    return Path("runs") / recipe.name


def planned_run(
    recipe: Recipe, folder: Path, display: Display, processes: Processes | None = None
) -> tuple[Checkpoint, Recipe, Planned]:
    """The base model of a recipe, the recipe without rows that the model cannot have, and its plan.

    Args:
        recipe: what to do.
        folder: what its relative paths are relative to.
        display: where progress is shown.
        processes: that will do it.

    Raises:
        DataError: a source is missing.
        ModelError: there is no such model.
        NetworkError: the hub does not answer.
        RecipeError: the model cannot do what the recipe wants, or an adapter that it takes does not fit.
    """
    processes = processes or Processes()
    display.stage(f"base model {recipe.base_model}")
    # The first process downloads or converts; the others find it done.
    checkpoint: Checkpoint = processes.first_does(lambda: resolve(recipe.base_model, recipe.trust_remote_code))
    model = base_model(checkpoint, recipe.dtype, recipe.quantization)
    problems = unsuited(recipe, model.family, checkpoint.name) + chats.of_recipe(recipe, checkpoint)
    if problems := problems + (unsplittable(recipe) if processes.split_the_model else []):
        raise RecipeError(problems)
    whole, recipe = recipe, encoders.without_new_head(recipe, checkpoint)
    if recipe is not whole:
        display.warn(f"the base model {encoders.NEW_HEAD}")
    display.end()
    found = processes.first_does(lambda: contents(sources(recipe, folder)))
    taken: Mapping[str, GivenParams] = processes.first_does(lambda: given_adapters(recipe, folder, checkpoint))
    return checkpoint, recipe, plan(recipe, model, found, folder, processes.count, taken)


def pinned(recipe: Recipe, planned: Planned, folder: Path, place: Path) -> Recipe:
    """The recipe as it is written into its run's folder: with the commits of what it takes from the hub, and the way to its data.

    Args:
        recipe: of the run.
        planned: its plan.
        folder: what its relative paths are relative to.
        place: the folder of the run.
    """
    params = {name: planned.stages[id].params for name, id in planned.given.items()}
    places = {name: one.place for name, one in params.items() if isinstance(one, GivenParams)}
    found = {"adapters": recipe.adapters.at(places, recipe.source), "folder": relative(folder, place)}
    return recipe.model_copy(update=found)
