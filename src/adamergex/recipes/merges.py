"""The merges of a recipe: of its own method, of the rows beside it, and those among which one is chosen."""

from adamergex.merging.methods import METHODS, AnyMethod, given, settings
from adamergex.models.adapter_settings import Lora
from adamergex.recipes.fields import RecipeFields


def candidates(recipe: RecipeFields) -> list[AnyMethod]:
    """The merges among which one is chosen: the recipe's method at t = 0 and at each t; T + t·R, too, where it is defined."""
    chosen = recipe.selection
    assert chosen is not None  # Whoever asks has looked.
    own: str = recipe.merge.method
    tried: list[tuple[str, float]] = [(own, 0.0), *((own, t) for t in chosen.scales if t)]
    for other in METHODS[own].simpler if chosen.sum else ():
        if recipe.structure in METHODS[other].structures:
            tried += [(other, t) for t in chosen.scales if t]
    return [settings(given(method_settings(recipe, method)) | {"scale": t}) for method, t in tried]


def of_recipe(recipe: RecipeFields) -> list[AnyMethod]:
    """All merges of a recipe: its own, those of the rows beside it, and those among which one is chosen."""
    names = dict.fromkeys((recipe.merge.method, *recipe.evaluate.methods))
    merges = [method_settings(recipe, name) for name in names if name in METHODS]
    return merges + (candidates(recipe) if recipe.selection is not None else [])


def method_settings(recipe: RecipeFields, name: str) -> AnyMethod:
    """The settings of a merging method in a recipe: of its own merge, or of a row beside it.

    What is left out is the recipe's where the method has such a setting: the scale, rank, energy and dtype of `merge`, the
    seed, and the rank that was trained.

    Args:
        recipe: has `merge` and `evaluate.baselines`.
        name: of the method.
    """
    kind = METHODS[name]
    if recipe.merge.method == name:
        explicit = given(recipe.merge)
    elif name in recipe.evaluate.baselines:
        explicit = given(recipe.evaluate.baselines[name])
    else:
        explicit = {"method": name, **kind.published}
    merge = given(recipe.merge)
    shared = {"scale": merge.get("scale", recipe.merge.scale), "seed": recipe.seed}
    shared |= {"dtype": merge["dtype"]} if "dtype" in merge else {}
    complete = settings({key: value for key, value in shared.items() if key in kind.model_fields} | explicit)
    if complete.needs_equal_ranks or not {"rank", "energy"}.isdisjoint(explicit):
        return complete
    for key in ("rank", "energy"):
        # "exact" is what is done where no rank is asked for.
        if merge.get(key) is not None and key in kind.model_fields:
            return complete if merge[key] == "exact" else settings(given(complete) | {key: merge[key]})
    if isinstance(recipe.adapter, Lora) and not recipe.adapter.rank_pattern:
        return settings(given(complete) | {"rank": recipe.adapter.r})
    return complete
