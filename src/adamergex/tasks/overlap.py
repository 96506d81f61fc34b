"""Whether the items of one data set stand in another one."""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def normalised(text: str) -> str:
    """The letters and digits of a text, without case and without differences in how Unicode writes a character."""
    return "".join(char for char in unicodedata.normalize("NFKC", text).casefold() if char.isalnum())


def overlaps(
    some: Iterable[tuple[str, Mapping[str, Any]]],
    others: Iterable[tuple[str, Mapping[str, Any]]],
    columns: Sequence[str],
) -> list[tuple[str, str]]:
    """Pairs of places, one of each data set, whose rows say the same in these columns.

    A translation says it in other words and is not found.
    """
    places: dict[tuple[str, ...], list[str]] = {}
    for place, row in some:
        places.setdefault(_key(row, columns), []).append(place)
    return [(one, place) for place, row in others for one in places.get(_key(row, columns), [])]


def _key(row: Mapping[str, Any], columns: Sequence[str]) -> tuple[str, ...]:
    return tuple(normalised(str(row[column])) for column in columns)
