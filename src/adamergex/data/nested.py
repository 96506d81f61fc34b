"""Columns within columns, by path: `translation.en`, `answers.text[0]`."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

_PATH = re.compile(r"[^.\[\]]+(?:\.[^.\[\]]+|\[\d+\])+")
_STEP = re.compile(r"\[(\d+)\]|[^.\[\]]+")


def value(row: Mapping[str, Any], name: str) -> Any:
    """A column of a row, or what stands at a path in it; None where there is nothing.

    A column that is called like the path goes first. `.key` after a list of objects is the list of that key's values, so
    that `answers.text` is a list of texts whichever way round a file has them.
    """
    if name in row or not _PATH.fullmatch(name):
        return row.get(name)
    found: Any = row
    for step in _STEP.finditer(name):
        found = _within(found, step)
        if found is None:
            return None
    return found


def root(name: str) -> str:
    """The column that a path begins with."""
    return re.split(r"[.\[]", name)[0]


def _within(value: Any, step: re.Match[str]) -> Any:
    if step[1] is not None:
        number = int(step[1])
        return value[number] if isinstance(value, list | tuple) and number < len(value) else None
    if isinstance(value, Mapping):
        return value.get(step[0])
    if isinstance(value, list | tuple) and value and all(isinstance(one, Mapping) for one in value):
        return [one.get(step[0]) for one in value]
    return None


def resolved(row: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """A row with what stands at these paths, under their names, too."""
    return dict(row) | {name: value(row, name) for name in names if name not in row and value(row, name) is not None}


def leaves(row: Mapping[str, Any]) -> list[str]:
    """The names of a row's columns; in place of a column that holds an object, or a list of such, the paths within it."""
    found = []
    for name, held in row.items():
        one = held[0] if isinstance(held, list | tuple) and held else held
        inner = [f"{name}.{leaf}" for leaf in leaves(one)] if isinstance(one, Mapping) else []
        found += inner or [str(name)]
    return found
