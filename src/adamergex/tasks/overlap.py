"""Whether the items of one data set stand in another one."""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_SIGNS = "#*&@%/\\"


class _Kept(dict[int, int | None]):
    """Characters that are compared, for `str.translate`."""

    def __missing__(self, code: int) -> int | None:
        char = chr(code)
        # Marks stay: vowels of Hindi and Thai are such. What stands for itself stays, too: it may be all that differs.
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
    """Pairs of places, one of each data set, whose rows say the same in these columns.

    A translation says it in other words and is not found.
    """
    places: dict[tuple[str, ...], list[str]] = {}
    for place, row in some:
        places.setdefault(_key(row, columns), []).append(place)
    return [(one, place) for place, row in others for one in places.get(_key(row, columns), [])]


def _key(row: Mapping[str, Any], columns: Sequence[str]) -> tuple[str, ...]:
    return tuple(normalised(str(row[column])) for column in columns)
