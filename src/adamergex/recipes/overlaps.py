"""Whether what a recipe scores is among what it learns from, and what is left where that is dropped."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, product

from adamergex.data.settings import Source
from adamergex.recipes.recipe import Recipe
from adamergex.tasks.items import Item
from adamergex.tasks.overlap import refuse_emptied, refuse_overlap, without

# The items that were read: by their source, as JSON, and language.
Read = Mapping[tuple[str, str], Sequence[Item]]


def looks(
    recipe: Recipe,
    read: Read,
    seen: Sequence[tuple[str, Source, str]],
    unlabelled: Sequence[tuple[Source, str]],
) -> Iterator[Callable[[], None]]:
    """Looks at what is seen and scored, too, each of which may raise DataError.

    Args:
        recipe: of the run.
        read: the items that were read.
        seen: what is seen with its answers: what it is called, its source, its language.
        unlabelled: sources of inputs, and their language.
    """
    scored = {language: _of(read, recipe.scored, language) for language in recipe.targets}
    drops = recipe.task.overlap == "drop"
    refuse = refuse_emptied if drops else refuse_overlap
    # What is dropped is dropped for all target languages.
    beside = {", ".join(scored): list(chain(*scored.values()))} if drops else scored
    if recipe.task.overlap != "allow":
        for (language, some), (where, source, trained) in product(beside.items(), seen):
            yield partial(refuse, _of(read, source, trained), some, language, where)
        for source, language in unlabelled:
            yield partial(refuse, _of(read, source, language), scored[language], language, "the unlabelled inputs")


def kept(recipe: Recipe, read: Read, seen: Sequence[Item]) -> Sequence[Item]:
    """The items that are left where those that are scored, too, are dropped."""
    if recipe.task.overlap != "drop":
        return seen
    return without(seen, chain(*(_of(read, recipe.scored, language) for language in recipe.targets)))


def _of(read: Read, source: Source | None, language: str) -> Sequence[Item]:
    return () if source is None else read.get((source.model_dump_json(), language), ())
