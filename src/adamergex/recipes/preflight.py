"""A look at all data that a recipe names, before anything runs."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from adamergex.data.settings import Source
from adamergex.errors import AdaMergeXError, RecipeError
from adamergex.models.families import (
    KINDS,
    OBJECTIVES,
    Family,
    family,
    has_its_code,
    refuse_code,
    refuse_quantization,
    runs_code,
)
from adamergex.recipes import budgets, cautions, chats, encoders, lengths, looked_at, overlaps, taken_adapters
from adamergex.recipes.merges import of_recipe
from adamergex.recipes.recipe import Recipe, each_once
from adamergex.storage import checkpoints
from adamergex.tasks import loading
from adamergex.tasks.items import Item, read_items, refuse_unequal
from adamergex.tasks.task import Task
from adamergex.training.reference_task import Reference
from adamergex.training.trackers import missing

# Settings of adapters that name modules of the base model; without them an adapter is on whatever modules there are.
_MODULES = ("target_modules", "feedforward_modules", "rank_pattern", "alpha_pattern")
T = TypeVar("T")


@dataclass(frozen=True)
class Looked:
    """What a look at a recipe's data shows that stops no run.

    Attributes:
        unreachable: what could not be looked at because the hub does not answer, a line each.
        warnings: what is odd about the data, a line each.
    """

    unreachable: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


class _Once:
    """Does what the parts of a recipe have in common once, and says the same of it to each of them."""

    def __init__(self) -> None:
        self._done: dict[tuple[object, ...], object] = {}

    def __call__(self, key: tuple[object, ...], work: Callable[[], T]) -> T:
        if key not in self._done:
            try:
                self._done[key] = work()
            except AdaMergeXError as error:
                self._done[key] = error
        if isinstance(done := self._done[key], AdaMergeXError):
            raise done
        return done  # type: ignore[return-value]  # What `work` returned.


def check(recipe: Recipe, folder: Path) -> Looked:
    """Look at all data and adapters that a recipe names, before anything runs. Data sets on the hub are not downloaded for it.

    Raises:
        RecipeError: with one line for every source that is missing, empty or malformed.
    """
    parts, once = recipe.parts, _Once()
    problems, looked = list[list[str]](), list[Looked]()
    for part in parts:
        found = list[str]()
        looked.append(_look(part.recipe, folder, once, found))
        problems.append(found)
    if any(problems):
        raise RecipeError(each_once(parts, problems))
    warnings = each_once(parts, [of.warnings for of in looked])
    if recipe.tasks and all(part.recipe.scored is None for part in parts):
        warnings.append(
            "nothing is scored: no task has labelled items of a target language, so no number will say whether merging helped; "
            "give a test source where there are some"
        )
    return Looked(each_once(parts, [of.unreachable for of in looked]), warnings)


def _look(recipe: Recipe, folder: Path, once: _Once, problems: list[str]) -> Looked:
    """Look at what a recipe with one task names; what is wrong is added to the problems."""
    problems += missing(recipe.track)

    def attempt(look: Callable[[], object]) -> None:
        try:
            look()
        except AdaMergeXError as error:
            problems.extend(problem for problem in error.problems if problem not in problems)

    attempt(lambda: _look_for_device(recipe))
    read = _read(recipe, folder, once, attempt)
    if recipe.reference.task is not None and not problems:
        key = recipe.reference.task.train.model_dump_json()
        counts = {
            code: len(overlaps.kept(recipe, read, read[key, code]))
            for code in recipe.trained_languages
            if (key, code) in read
        }
        attempt(partial(refuse_unequal, counts))
    if recipe.scored is not None and not problems:
        for look in overlaps.looks(recipe, read, _seen(recipe), looked_at.unlabelled(recipe)):
            attempt(look)
    unseen: list[str] = []
    name = checkpoints.seen_from(folder, recipe.base_model)
    attempt(lambda: unseen.extend(filter(None, [once(("base model", name), lambda: checkpoints.missing(name))])))
    also = chats.files(recipe)
    model = once(("at hand", name, also), lambda: checkpoints.model_at_hand(name, recipe.trust_remote_code, also=also))
    if model is not None:
        attempt(lambda: refuse_code(model))
        attempt(lambda: problems.extend(unsuited(recipe, family(model), recipe.base_model)))
        attempt(lambda: encoders.without_new_head(recipe, model))
        attempt(lambda: problems.extend(_look_for_modules(recipe, model)))
        asked = [item for found in read.values() for item in found]
        attempt(lambda: problems.extend(chats.of_recipe(recipe, model, asked)))
    fits: list[Callable[[], object]] = []
    if model is not None and not problems and budgets.has_tokenizer(model):
        attempt(lambda: fits.extend(lengths.looks(recipe, read, model)))
        for fit in fits:
            attempt(fit)
    for language in recipe.trained_languages if recipe.reference.task is None else ():
        source = recipe.reference_source(language)
        if not source.dataset:
            asked_for = (source.model_dump_json(), language, recipe.reference.model_dump_json(), recipe.seed)
            budget = partial(budgets.check, recipe, source, folder, language, model)
            attempt(partial(once, ("budget", *asked_for), budget))
    taken = taken_adapters.find(recipe, folder)
    attempt(lambda: problems.extend(_misfits(recipe, taken, model)))
    warnings: list[str] = []
    if not problems:
        attempt(lambda: warnings.extend(_warnings(recipe, read, model)))
    return Looked([*unseen, *taken.unreachable], warnings)


def _read(
    recipe: Recipe, folder: Path, once: _Once, attempt: Callable[[Callable[[], object]], None]
) -> dict[tuple[str, str], list[Item]]:
    """The items of all sources that are on this machine, by source and language."""
    read: dict[tuple[str, str], list[Item]] = {}

    def look_at(task: Task, source: Source, language: str, labelled: bool = True) -> None:
        loading.look(source, language)
        if not source.is_local:
            return
        scored = task is recipe.task
        key = (task.model_dump_json(), source.model_dump_json(), language, scored, labelled)
        found = once(("items", *key), lambda: read_items(task, source, folder, language, scored, labelled))
        read.setdefault((source.model_dump_json(), language), found)

    for task, source, language in looked_at.task_sources(recipe):
        attempt(partial(look_at, task, source, language))
    for source, language in [*looked_at.unlabelled(recipe), *looked_at.calibrated_on(recipe, folder)]:
        attempt(partial(look_at, recipe.task, source, language, False))
    return read


def _warnings(recipe: Recipe, read: overlaps.Read, model: checkpoints.Checkpoint | None) -> list[str]:
    """What is odd about the items that were read, by source and language."""
    splits: dict[tuple[str, str], tuple[Task, cautions.Split]] = {}
    for task, source, language in looked_at.task_sources(recipe):
        key = (source.model_dump_json(), language)
        if key not in read:
            continue
        name, role = _called(recipe, source)
        # Of the target language's labels nothing is learned that is merged.
        role = role if role != "learned" or language == recipe.source else "other"
        splits.setdefault(key, (task, cautions.Split(f"{name} ({language})", read[key], role)))
    found = [
        line
        for task in filter(None, (recipe.task, recipe.reference.task))
        for line in cautions.of_items(task, [split for of, split in splits.values() if of is task])
    ]
    return found + (cautions.of_lengths(recipe, model, [split for _, split in splits.values()]) if model else [])


def _called(recipe: Recipe, source: Source) -> tuple[str, cautions.Role]:
    """What a source is called in messages, and what its items are for."""
    task = recipe.task
    named: list[tuple[Source | None, str, cautions.Role]] = [
        (task.train, "train", "learned"),
        (recipe.scored, recipe.evaluate.split, "scored"),
        (task.dev, "dev", "other"),
        (task.examples, "examples", "other"),
        (recipe.refine.labelled if recipe.refine else None, "refine.labelled", "other"),
    ]
    return next(((name, role) for one, name, role in named if one is source), ("reference.task", "other"))


def _look_for_device(recipe: Recipe) -> None:
    """Raises ModelError where torch does not find the device, or what quantizes weights on it is not installed."""
    refuse_quantization(recipe.quantization)
    # torch takes as long to import as all the rest; any machine has what auto takes.
    if recipe.device != "auto":
        from adamergex.models.device import device

        device(recipe.device)


def _look_for_modules(recipe: Recipe, model: checkpoints.Checkpoint) -> list[str]:
    """Where a recipe names modules: why what it sets on them cannot be merged, a line for each problem.

    Raises:
        ModelError: adapters are to be set on modules that the base model does not have.
    """
    scales = [method.scale for method in of_recipe(recipe)]
    named = recipe.adapter.structure == "ia3" or any(scale.layers or scale.modules for scale in scales)
    named |= any(getattr(recipe.adapter, key, None) not in (None, {}, "all-linear") for key in _MODULES)
    # Code that comes with a model is not run for a look.
    if not named or runs_code(model):
        return []
    # What needs code that may not run is said once.
    refuse_code(model)
    from adamergex.models.expected import expected

    own = expected(model, recipe.adapter, KINDS[family(model)]["text"], recipe.task.outputs)
    # Those that are taken are looked at with those that are trained.
    return [] if recipe.given_adapters else taken_adapters.unmergeable(recipe, {}, own)


def _misfits(recipe: Recipe, taken: taken_adapters.Taken, model: checkpoints.Checkpoint | None) -> list[str]:
    """What is wrong with the adapters that a recipe takes, a line each."""
    opened = taken.opened()
    # Of a model on the hub the configuration alone is here, and not the code that may have to be run to read it.
    readable = model if model is None or not model.trust_remote_code or has_its_code(model) else None
    return [*taken.problems, *taken_adapters.unfit(recipe, opened, readable)]


def unsuited(recipe: Recipe, family: Family, name: str) -> list[str]:
    """What a recipe asks for that a model of this family cannot do, or that would have no effect: a line for each.

    Args:
        recipe: of the run.
        family: of the base model.
        name: of the base model.
    """
    reference, problems = recipe.reference, []
    if family == "encoder":
        problems += encoders.unsuited(recipe)
    objective = reference.objective or OBJECTIVES[family][0]
    if objective not in OBJECTIVES[family]:
        problems.append(
            f"reference.objective: {family} models learn {' or '.join(OBJECTIVES[family])} from plain text; got {objective}"
        )
    elif reference.task is None:
        defaults = Reference.model_fields
        for key, users in (("noise", ("masked", "span")), ("span", ("span",))):
            if getattr(reference, key) != defaults[key].default and objective not in users:
                problems.append(f"reference.{key}: has no effect on the {objective} objective; remove it")
    if family != "causal":
        if reference.positions is not None:
            problems.append("reference.positions: for causal models; remove it")
        if recipe.train.packing:
            problems.append("train.packing: for causal models; remove it")
    return [f"base_model {name} is of the {family} family. {problem}" for problem in problems]


def unsplittable(recipe: Recipe) -> list[str]:
    """What a recipe asks for that a sharded base model (`models.fsdp`) cannot do: a line for each."""
    problems = []
    if recipe.quantization is not None:
        problems.append("quantization: not with FSDP, which splits the base model already; leave one of them out")
    if getattr(recipe.adapter, "dora", False):
        problems.append("adapter.dora: not with FSDP; DoRA reads whole weights where an adapter is set")
    return problems


def _seen(recipe: Recipe) -> list[tuple[str, Source, str]]:
    """What models see with its answers before they are scored: what it is called, its source, its language."""
    return [
        (_called(recipe, source)[0], source, language)
        for _, source, language in looked_at.task_sources(recipe)
        if source is not recipe.scored
    ]
