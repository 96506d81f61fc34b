"""What a column of a row may hold where a prompt or an answer is made of it: text, a number, a date."""

import datetime
import math
import string
from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any

from adamergex.data import nested
from adamergex.errors import DataError

# bool is an int, and a datetime a date.
_PLAIN = (str, int, float, Decimal, datetime.date, datetime.time)


def plain(value: Any, location: str, column: str) -> str:
    """What a column holds, as text.

    Raises:
        DataError: it holds nothing, only white space, no number (NaN), or neither text nor a number.
    """
    where = f"{location}: column {column!r}"
    if value is None:
        raise DataError(f"{where} is null; fill it, or remove the row")
    if not isinstance(value, _PLAIN):
        raise DataError(f"{where} holds a {type(value).__name__}; expected text or a number")
    if isinstance(value, float | Decimal) and not math.isfinite(value):
        raise DataError(f"{where} is {value}, which is no value; fill it, or remove the row")
    text = _digits(value) if isinstance(value, float | Decimal) else str(value)
    if not text.strip():
        raise DataError(f"{where} is empty; fill it, or remove the row")
    return text


def _digits(number: float | Decimal) -> str:
    """A number without an exponent, which readers of numbers do not know."""
    written = str(number)
    return f"{Decimal(written):f}" if "e" in written.lower() else written


def lacks(location: str, column: str, row: Mapping[str, Any]) -> DataError:
    """The error for a row without a column that is needed, or with nothing in it."""
    if column in row:
        return DataError(f"{location}: column {column!r} is null; fill it, or remove the row")
    return DataError(f"{location}: no column {column!r}; the row has {', '.join(nested.leaves(row))}")


def is_empty(value: Any) -> bool:
    """Whether a column holds nothing: null, NaN, or only white space."""
    return value is None or (isinstance(value, str) and not value.strip()) or value != value  # noqa: PLR0124


def filled(
    template: str, location: str, row: Mapping[str, Any], optional: Mapping[str, str] = MappingProxyType({})
) -> tuple[str, tuple[int, int]]:
    """The template filled with a row's columns, and the start and end of the longest one.

    Args:
        template: names columns.
        location: of the row.
        row: its columns.
        optional: column → the template of what stands in its place where it is not empty; nothing does where it is.

    Raises:
        DataError: as `plain`.
    """
    text, longest = "", (0, 0)
    for literal, column, _, _ in string.Formatter().parse(template):
        text += literal
        if column is None or (column in optional and is_empty(row[column])):
            continue
        if column in optional:
            part, (start, end) = filled(optional[column], location, row)
        else:
            part = plain(row[column], location, column)
            start, end = 0, len(part)
        if end - start > longest[1] - longest[0]:
            longest = (len(text) + start, len(text) + end)
        text += part
    return text, longest
