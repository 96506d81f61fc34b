"""Names of modules: their layer, their stack, and how PEFT's patterns match them."""

import importlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

# Python has no other way to look at what a pattern repeats.
_parser = importlib.import_module("re._parser")
# Matching a name takes time that grows with its length to the power of the repetitions that have no end.
_MOST_REPETITIONS = 6


def ending(expression: str) -> str:
    """The regular expression that PEFT makes of a pattern's key: it matches the end of a module's name, after a dot."""
    return rf"(.*\.)?({expression})$"


def objection(expression: str) -> str | None:
    """Why a pattern from a file cannot be used, by us or by PEFT; None where it can.

    Python's engine tries every way in which a repetition may be split. One inside another has exponentially many, and a name of
    forty letters would take years.
    """
    try:
        repeated = list(_repetitions(_parser.parse(ending(expression)), False))
    except (re.error, RecursionError, OverflowError) as error:
        return f"is no regular expression: {error}"
    # The first one is that of `ending`.
    if any(is_inside for is_inside, _ in repeated):
        return "repeats what has repetitions or alternatives of its own, as (a+)+ does, and may take for ever"
    if sum(has_no_end for _, has_no_end in repeated) - 1 > _MOST_REPETITIONS:
        return f"has more than {_MOST_REPETITIONS} repetitions without an end, such as .*, and may take for ever"
    return None


def _repetitions(parsed: Any, inside: bool) -> Iterator[tuple[bool, bool]]:
    """Of each part that may be taken in several ways: whether it is inside a repetition, and whether it has no end."""
    for operation, about in parsed:
        name = str(operation)
        if name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            least, most, repeated = about
            if least != most:
                yield inside, most == _parser.MAXREPEAT
            yield from _repetitions(repeated, inside or int(most) > 1)
        elif name == "BRANCH":
            yield inside, False
            for branch in about[1]:
                yield from _repetitions(branch, inside)
        else:
            # Groups, conditions and what looks ahead or behind hold patterns among numbers.
            for part in about if isinstance(about, tuple) else (about,):
                if isinstance(part, _parser.SubPattern):
                    yield from _repetitions(part, inside)


def position(module: str) -> tuple[str, int | None]:
    """The stack of layers that a module is in and the index of its layer: the first number in its name.

    `model.layers.3.mlp.up_proj` → ("model.layers", 3); `decoder.block.0.layer.1.EncDecAttention.q` →
    ("decoder.block", 0); `lm_head` → ("", None).
    """
    parts = module.split(".")
    for i, part in enumerate(parts):
        if part.isdecimal():
            return ".".join(parts[:i]), int(part)
    return "", None


def place(module: str) -> str:
    """The layer that a module's figures are summed under, such as `model.layers.3`, or `other`."""
    stack, layer = position(module)
    return "other" if layer is None else f"{stack}.{layer}"


def depths(modules: Iterable[str]) -> dict[str, int]:
    """The number of layers of each stack: the highest index among its modules, plus one."""
    counts: dict[str, int] = {}
    for stack, layer in map(position, modules):
        if layer is not None:
            counts[stack] = max(counts.get(stack, 0), layer + 1)
    return counts
