"""Overlap between the items of two data sets."""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_SIGNS = "#*&@%/\\"


class _Kept(dict[int, int | None]):
    """A table for `str.translate` that removes characters which are not compared."""

    def __missing__(self, code: int) -> int | None:
        char = chr(code)
        # Combining marks are kept: vowels of Hindi and Thai are such. Signs are kept, because they may be all that differs.
        kept = char in _SIGNS or unicodedata.category(char)[0] not in "ZPC"
        self[code] = code if kept else None
        return self[code]


_KEPT = _Kept()


def normalised(text: str) -> str:
    """A text without case, white space, punctuation and differences in how Unicode writes a character."""
    return unicodedata.normalize("NFKC", text).casefold().translate(_KEPT)


def overlaps(
    some: Iterable[tuple[str, Mapping[str, Any]]],
    others: Iterable[tuple[str, Mapping[str, Any]]],
    columns: Sequence[str],
) -> list[tuple[str, str]]:
    """Pairs of locations, one of each data set, whose rows have equal text in these columns, normalised.

    Translations are not found.
    """
    locations: dict[tuple[str, ...], list[str]] = {}
    for location, row in some:
        locations.setdefault(_key(row, columns), []).append(location)
    return [(other, location) for location, row in others for other in locations.get(_key(row, columns), [])]


def _key(row: Mapping[str, Any], columns: Sequence[str]) -> tuple[str, ...]:
    return tuple(normalised(str(row[column])) for column in columns)
