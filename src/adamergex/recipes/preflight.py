"""A look at all data that a recipe names, before anything runs."""

from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path

from adamergex.data import sources
from adamergex.data.settings import Source
from adamergex.errors import AdaMergeXError, DataError, RecipeError
from adamergex.models.families import OBJECTIVES, Family, family, refuse_code
from adamergex.recipes import encoders
from adamergex.recipes.recipe import Recipe
from adamergex.storage import checkpoints
from adamergex.tasks.items import Item, read_items, refuse_overlap, refuse_unequal
from adamergex.tasks.task import Task
from adamergex.training.reference_task import Reference


def check(recipe: Recipe, folder: Path) -> None:
    """Look at all data that a recipe names, before anything runs. Data sets on the hub are not downloaded for it.

    Raises:
        RecipeError: with one line for every source that is missing, empty or malformed.
    """
    problems = []

    def attempt(look: Callable[[], object]) -> None:
        try:
            look()
        except AdaMergeXError as error:
            if str(error) not in problems:
                problems.append(str(error))

    read: dict[tuple[str, str], list[Item]] = {}

    def look_at(task: Task, source: Source, language: str) -> None:
        scored = task is recipe.task
        read[source.model_dump_json(), language] = read_items(task, source, folder, language, scored)

    for task, source, language in _task_sources(recipe):
        if source.is_local:
            attempt(partial(look_at, task, source, language))
    for language in recipe.languages if recipe.reference.task is None else ():
        source = recipe.reference_source(language)
        if not source.dataset:
            attempt(partial(_first_text, recipe, source, folder, language))
    if recipe.reference.task is not None and not problems:
        key = recipe.reference.task.train.model_dump_json()
        counts = {code: len(read[key, code]) for code in recipe.languages if (key, code) in read}
        attempt(partial(refuse_unequal, counts))
    if recipe.scored is not None and not problems:
        for language, (where, source, trained) in product(recipe.targets, _seen(recipe)):
            scored = read.get((recipe.scored.model_dump_json(), language), [])
            attempt(partial(refuse_overlap, read.get((source.model_dump_json(), trained), []), scored, language, where))
    model = checkpoints.model_at_hand(recipe.base_model, recipe.trust_remote_code)
    if model is not None:
        attempt(lambda: refuse_code(model))
        attempt(lambda: problems.extend(unsuited(recipe, family(model), recipe.base_model)))
        attempt(lambda: encoders.without_new_head(recipe, model))
    if problems:
        raise RecipeError(problems)


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


def _task_sources(recipe: Recipe) -> list[tuple[Task, Source, str]]:
    task, labelled = recipe.task, recipe.reference.task
    sources_in_use = [(task, task.train, recipe.source)]
    trained = [recipe.source, *(recipe.targets if recipe.ceiling else ())]
    if recipe.train.early_stopping and task.dev:
        sources_in_use += [(task, task.dev, language) for language in trained]
    for language in recipe.targets:
        if recipe.scored:
            sources_in_use.append((task, recipe.scored, language))
        if recipe.ceiling:
            sources_in_use.append((task, task.train, language))
    if recipe.scored and task.examples and "few-shot" in recipe.evaluate.methods:
        sources_in_use += [(task, task.examples, language) for language in recipe.targets]
    if labelled is not None:
        sources_in_use += [(labelled, labelled.train, language) for language in recipe.languages]
    return sources_in_use


def _seen(recipe: Recipe) -> list[tuple[str, Source, str]]:
    """What models see with its answers before they are scored: what it is called, its source, its language."""
    names = {id(recipe.task.train): "train", id(recipe.task.dev): "dev", id(recipe.task.examples): "examples"}
    return [
        (names.get(id(source), "reference.task"), source, language)
        for _, source, language in _task_sources(recipe)
        if source is not recipe.scored
    ]


def _first_text(recipe: Recipe, source: Source, folder: Path, language: str) -> None:
    if not any(text.strip() for text in sources.texts(source, folder, language, recipe.reference.text)):
        raise DataError(f"corpus of {language}: holds no text")
