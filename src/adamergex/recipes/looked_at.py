"""Which data of a recipe are looked at before anything runs."""

from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from adamergex.data.settings import Source
from adamergex.errors import DataError
from adamergex.recipes.recipe import Recipe
from adamergex.tasks import loading
from adamergex.tasks.task import Task


def task_sources(recipe: Recipe) -> list[tuple[Task, Source, str]]:
    """The labelled sources that a recipe reads, with their task and language."""
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
    for language in recipe.targets:
        sources_in_use += [(task, task.dev, code) for code in recipe.choosing(language) if task.dev]
        if recipe.refine is not None and recipe.refine.labelled is not None:
            sources_in_use.append((task, recipe.refine.labelled, language))
    if labelled is not None:
        sources_in_use += [(labelled, labelled.train, language) for language in recipe.trained_languages]
    return sources_in_use


def unlabelled(recipe: Recipe) -> list[tuple[Source, str]]:
    """Sources of inputs whose labels are not looked at, none of which may be scored."""
    some = [recipe.task.unlabelled if recipe.calibrates else None, recipe.refined_inputs]
    found = {source.model_dump_json(): source for source in some if source is not None}
    return [(source, language) for source in found.values() for language in recipe.targets]


def calibrated_on(recipe: Recipe, folder: Path) -> Iterator[tuple[Source, str]]:
    """The inputs that calibration is estimated on: in each language the first that is there (`RecipeFields.inputs`)."""

    def is_there(source: Source, language: str) -> bool:
        with suppress(DataError):
            return recipe.is_needed(source) or (source.is_local and bool(loading.fingerprint(source, folder, language)))
        return False

    for language in recipe.targets:
        yield from islice(((source, language) for source in recipe.inputs if is_there(source, language)), 1)
