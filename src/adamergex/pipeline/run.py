"""`adamergex run`: check, resolve, plan, make, report."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adamergex.distributed import Processes
from adamergex.errors import NetworkError, RecipeError
from adamergex.execution.account import Took
from adamergex.execution.executor import execute, held, opened
from adamergex.execution.run_folder import RunFolder
from adamergex.pipeline import executors
from adamergex.pipeline.executors import LOCAL
from adamergex.pipeline.kinds import KINDS
from adamergex.pipeline.planned import Planned
from adamergex.pipeline.resolve import base_model, contents, given_adapters
from adamergex.pipeline.run_plan import plan
from adamergex.pipeline.run_report import FILES, PAGE
from adamergex.pipeline.run_sources import sources
from adamergex.pipeline.run_stages import COMPUTED
from adamergex.pipeline.setup import Setup
from adamergex.pipeline.stages.given import GivenParams
from adamergex.pipeline.task_reports import below, write_reports
from adamergex.pipeline.worker import Options, Worker
from adamergex.progress import Display, Silent
from adamergex.recipes import chats, encoders
from adamergex.recipes.loading import dump, folder_of, is_run, load
from adamergex.recipes.preflight import Looked, check, unsplittable, unsuited
from adamergex.recipes.recipe import Part, Recipe, each_once
from adamergex.reporting.matrix import Matrix
from adamergex.reporting.metrics import tracked_scores
from adamergex.reporting.report import Report
from adamergex.reporting.results import Results
from adamergex.storage.checkpoints import Checkpoint, resolve, seen_from
from adamergex.storage.files import relative
from adamergex.storage.outputs import resolved
from adamergex.storage.run_names import RECIPE, SCORES
from adamergex.training.trackers import Trackers


def run(
    recipe: Recipe | str | Path,
    *,
    folder: Path | None = None,
    output: str | Path | None = None,
    display: Display | None = None,
    verify: bool = False,
    store: str | None = None,
    executor: str = LOCAL,
    address: str | None = None,
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
        executor: who makes it: `local`, this process; `local:N`, N processes of this machine, each with its GPU or its share of
            the cores; `ray`, the workers of a Ray cluster.
        address: of the Ray cluster, such as `auto` or `10.0.0.1:6379`; one on this machine by default.

    Returns:
        A sequence of rows, one for each system and target language (and task, where there are several), of means where there are
        several seeds, empty where the recipe names nothing to score; with `.table` and `.scores` (data frames), `.report`,
        `.folder` and `.delivered`.

    Raises:
        AdaMergeXError: a problem that the user can fix; finished stages stay done.
        IncompleteError: with several workers, some stages failed; all others were made.
    """
    if not isinstance(recipe, Recipe):
        name = str(recipe)
        recipe, output = load(name), output or (name if is_run(name) else None)
        folder = folder or folder_of(name, recipe)
    folder = folder or Path(recipe.folder or "")
    place = Path(output) if output else None
    done = finish(recipe, folder, place, display, verify=verify, store=store, executor=executor, address=address)
    return Results.of(done.shown, done.page.parent, done.page.name, done.delivered)


@dataclass(frozen=True)
class Finished:
    """What a run came to.

    Attributes:
        shown: its numbers, as the first page has them: the report of an only task, or a matrix of several.
        page: the report as a file.
        delivered: language, or task/language where there are several tasks → the folder of the adapter that the run is for, with
            all that it takes to use it.
        took: how long it took beside what was expected, where that was.
    """

    shown: Report | Matrix
    page: Path
    delivered: Mapping[str, Path]
    took: Took | None = None

    @property
    def report(self) -> Report:
        """The report of an only task."""
        assert isinstance(self.shown, Report)  # Whoever asks has a recipe with one.
        return self.shown


def finish(
    whole: Recipe,
    folder: Path,
    output: Path | None = None,
    display: Display | None = None,
    *,
    verify: bool = False,
    store: str | None = None,
    executor: str = LOCAL,
    address: str | None = None,
) -> Finished:
    """Make the results of a run that are not there yet; see `run`."""
    processes = Processes()
    executors.check(executor, address, processes)
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
        checkpoint, parts, planned = planned_run(whole, folder, shown, processes)
        trackers = Trackers(whole.track, whole.name, run_folder.path, shown.warn)
        worker = Worker({checkpoint.fingerprint: checkpoint}, processes, shown, _options(whole, trackers))

        def forget() -> None:
            """A report of other results must not lie beside what is made now, should the run be cut off."""
            run_folder.remove(*FILES, *(below(task) + name for task in planned.tasks for name in FILES))

        if processes.is_first and run_folder.write(
            RECIPE, dump(pinned(whole, checkpoint.name, planned, folder, run_folder.path)).encode()
        ):
            forget()
        settings: dict[str, Any] = {"verify": verify, "before_first": forget, "store": shared}
        if executor == LOCAL:
            took = execute(planned.stages, KINDS, run_folder, worker, read=planned.read, **settings)
        else:
            setup = _setup(whole, checkpoint, run_folder)
            took = executors.make(planned, run_folder, executor, address, setup, store, whole.device, shown, settings)

        def report() -> Report | Matrix:
            # A report that is there already was tracked when it was written.
            is_new = not (run_folder.path / SCORES).is_file()
            written = write_reports(whole, parts, planned, run_folder, checkpoint.described)
            if is_new and written.rows:
                with trackers.run("scores") as log:
                    log(0, tracked_scores(written.rows))
            return written

        delivered = {name: run_folder.place(id) for name, id in planned.delivered.items()}
        return Finished(processes.first_does(report), run_folder.path / PAGE, delivered, took)


def _setup(recipe: Recipe, checkpoint: Checkpoint, folder: RunFolder) -> Setup:
    """What workers elsewhere are started with."""
    return Setup(
        recipe.base_model,
        checkpoint.fingerprint,
        recipe.trust_remote_code,
        _options(recipe, None),
        tuple(recipe.track),
        recipe.name,
        folder.path.absolute(),
    )


def _options(recipe: Recipe, trackers: Trackers | None) -> Options:
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
) -> tuple[Checkpoint, tuple[Part, ...], Planned]:
    """The base model of a recipe, its parts without rows that the model cannot have, and its plan.

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
    name = seen_from(folder, recipe.base_model)
    # The first process downloads or converts; the others find it done.
    checkpoint: Checkpoint = processes.first_does(lambda: resolve(name, recipe.trust_remote_code))
    model = base_model(checkpoint, recipe.dtype, recipe.quantization)
    parts = recipe.parts

    def problems(part: Part) -> list[str]:
        found = unsuited(part.recipe, model.family, checkpoint.name) + chats.of_recipe(part.recipe, checkpoint)
        return found + (unsplittable(part.recipe) if processes.split_the_model else [])

    if found := each_once(parts, [problems(part) for part in parts]):
        raise RecipeError(found)
    kept = [encoders.without_new_head(part.recipe, checkpoint) for part in parts]
    parts = tuple(
        replace(part, recipe=recipe, headless=recipe is not part.recipe)
        for part, recipe in zip(parts, kept, strict=True)
    )
    if any(part.headless for part in parts):
        display.warn(f"the base model {encoders.NEW_HEAD}")
    display.end()
    wanted = [one for part in parts for one in sources(part.recipe, folder)]
    found_there = processes.first_does(lambda: contents(wanted))
    taken = processes.first_does(lambda: [given_adapters(part.recipe, folder, checkpoint) for part in parts])
    return checkpoint, parts, plan(parts, model, found_there, folder, processes.count, taken)


def pinned(recipe: Recipe, model: str, planned: Planned, folder: Path, place: Path) -> Recipe:
    """The recipe as it is written into its run's folder: with the commits of the adapters that it takes from the hub, and the
    way to its data and its base model from wherever it is run.

    Args:
        recipe: of the run.
        model: the base model, as its adapters call it.
        planned: its plan.
        folder: what its relative paths are relative to.
        place: the folder of the run.
    """
    params = {name: planned.stages[id].params for name, id in planned.given.items()}
    places = {name: one.place for name, one in params.items() if isinstance(one, GivenParams)}
    # Tasks share their reference adapters; each may have an adapter of its own, below its name.
    shared = {name.rpartition("/")[2]: place for name, place in places.items()}
    overrides = {
        name: sections | {"adapters": sections["adapters"] | {"task": places[f"{name}/{one}"]}}
        for name, sections in recipe.overrides.items()
        for one in (f"task-{sections.get('source', recipe.source)}",)
        if f"{name}/{one}" in places and "adapters" in sections
    }
    found: dict[str, Any] = {"base_model": model, "adapters": recipe.adapters.at(shared, recipe.source)}
    found |= {"overrides": recipe.overrides | overrides, "folder": relative(folder, place)}
    return recipe.model_copy(update=found)
