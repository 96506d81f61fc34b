"""What a recipe may say in short, as it is meant; a look at its keys and values as they were read."""

from typing import Any

from adamergex.merging.methods import METHODS
from adamergex.scoring.systems import START
from adamergex.selection.settings import Selection


def written_out(value: Any) -> Any:
    """A recipe's keys and values, without what is short for something else; anything else is returned unchanged.

    Raises:
        ValueError: two of them contradict each other.
    """
    return _seed_or_seeds(_selection_of_merge(_scores_what_it_merges(value))) if isinstance(value, dict) else value


def _seed_or_seeds(value: dict[str, Any]) -> dict[str, Any]:
    """`seed: 0` is the short form of `seeds: [0]`; `seed: null` is none, so that `--set` can replace a file's."""
    if value.get("seeds") is None or "seed" not in value:
        return value
    if value["seed"] is not None:
        raise ValueError(
            "seed and seeds are both given; remove one (on the command line --set seed=null, or --set seeds=null)"
        )
    return {key: given for key, given in value.items() if key != "seed"}


def _selection_of_merge(value: dict[str, Any]) -> dict[str, Any]:
    """`merge.scale: auto`, or a list of values to try, and `merge.selection` make a `Selection`."""
    if value.get("selection") is not None and not isinstance(value["selection"], Selection):
        raise ValueError("selection stands in merge; write merge.selection")
    if not isinstance(merge := value.get("merge"), dict):
        return value
    merge, scale = dict(merge), merge.get("scale")
    chosen, tried = merge.pop("selection", None), isinstance(scale, list)
    if chosen is None and scale != "auto" and not tried:
        # Without a selection that is null.
        return value | {"merge": merge}
    if chosen is not None and not isinstance(chosen, dict):
        raise ValueError("merge.selection: expected settings, such as validation: [fr]")
    if scale not in ("auto", None) and not tried:
        raise ValueError(f"merge.selection chooses among several t, and merge.scale is {scale}; write auto, or a list")
    merge.pop("scale", None)
    return value | {"merge": merge, "selection": (chosen or {}) | ({"scales": scale} if tried else {})}


def _scores_what_it_merges(value: dict[str, Any]) -> dict[str, Any]:
    """Where the rows of the table are left out, the recipe's own merge is one of them, whichever method it has."""
    if not isinstance(merge := value.get("merge"), dict):
        return value
    evaluate, method = value.get("evaluate") or {}, merge.get("method")
    if method not in METHODS or not isinstance(evaluate, dict) or "methods" in evaluate:
        return value
    return value | {"evaluate": {**evaluate, "methods": ["base", START, method]}}
