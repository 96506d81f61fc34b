"""What a recipe reads: every source, in every language that it is wanted in."""

from collections.abc import Iterator
from pathlib import Path

from adamergex.pipeline.resolve import Wanted
from adamergex.recipes.recipe import Recipe


def sources(recipe: Recipe, folder: Path) -> Iterator[Wanted]:
    """Every source that the plan of a recipe reads.

    Args:
        recipe: what to do.
        folder: what its relative paths are relative to.
    """
    task, scored = recipe.task, recipe.scored
    trained = [recipe.source, *(recipe.targets if recipe.ceiling else [])]
    for language in trained:
        yield Wanted(task.train, language, True, folder)
        if recipe.train.early_stopping and task.dev:
            yield Wanted(task.dev, language, True, folder)
    for language in recipe.targets if scored is not None else ():
        assert scored is not None
        yield Wanted(scored, language, True, folder)
        if task.examples is not None and "few-shot" in recipe.evaluate.methods:
            yield Wanted(task.examples, language, True, folder)
    for language in recipe.targets:
        for source in recipe.inputs:
            yield Wanted(source, language, True, folder, recipe.is_needed(source))
        if recipe.refined_inputs is not None:
            yield Wanted(recipe.refined_inputs, language, True, folder)
        if recipe.refine is not None and recipe.refine.labelled is not None:
            yield Wanted(recipe.refine.labelled, language, True, folder)
        for choosing in recipe.choosing(language):
            assert task.dev is not None  # Without it no labels choose.
            yield Wanted(task.dev, choosing, True, folder)
    for language in recipe.trained_languages:
        reference = recipe.reference.task
        source = reference.train if reference is not None else recipe.reference_source(language)
        yield Wanted(source, language, reference is not None, folder)
