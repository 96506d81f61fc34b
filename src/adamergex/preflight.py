"""A look at all data that a recipe names, before anything runs."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from adamergex import sources, tasks
from adamergex.errors import AdaMergeXError, DataError, RecipeError
from adamergex.recipe import Recipe, Source


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

    for source, language in _task_sources(recipe):
        if not source.dataset:
            attempt(partial(tasks.items, recipe.task, source, folder, language))
    for language in recipe.languages:
        source = recipe.corpus(language)
        if not source.dataset:
            attempt(partial(_first_text, recipe, source, folder, language))
    if recipe.evaluate.ceiling and recipe.scored and not problems:
        for language in recipe.targets:
            attempt(partial(_refuse_overlap, recipe, recipe.task.train, recipe.scored, folder, language))
    if problems:
        raise RecipeError(problems)


def _task_sources(recipe: Recipe) -> list[tuple[Source, str]]:
    found = [(recipe.task.train, recipe.source)]
    for language in recipe.targets:
        if recipe.scored:
            found.append((recipe.scored, language))
        if recipe.evaluate.ceiling:
            found.append((recipe.task.train, language))
    return found


def _refuse_overlap(recipe: Recipe, train: Source, scored: Source, folder: Path, language: str) -> None:
    if not train.dataset and not scored.dataset:
        items = [tasks.items(recipe.task, source, folder, language) for source in (train, scored)]
        tasks.refuse_overlap(items[0], items[1], language)


def _first_text(recipe: Recipe, source: Source, folder: Path, language: str) -> None:
    if not any(text.strip() for text in texts(recipe, source, folder, language)):
        raise DataError(f"corpus of {language}: holds no text")


def texts(recipe: Recipe, source: Source, folder: Path, language: str) -> Iterator[str]:
    """The documents of a corpus. Raises DataError where a row has no text in the recipe's column."""
    column = recipe.reference.text
    for place, row in sources.rows(source, folder, language):
        if not isinstance(row.get(column), str):
            raise DataError(
                f"{place}: no text in column {column!r}; the row has {', '.join(map(str, row))}; set reference.text"
            )
        yield row[column]
