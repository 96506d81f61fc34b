"""Tables of text: CSV, TSV and the like, with quotes or without."""

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from adamergex.data.bounds import LONGEST_DOCUMENT
from adamergex.data.files import lines
from adamergex.data.formats import Format, Row, kind
from adamergex.data.wrong_rows import each
from adamergex.errors import DataError

# Characters, in whole lines, that are looked at for quotes.
_LOOKED_AT = 1 << 24
# A document may be longer than the library's 131,072 characters.
csv.field_size_limit(LONGEST_DOCUMENT)
# What spreadsheets write ahead of a table, and read there: the character between its fields.
_NAMED = re.compile(r'sep=([^\w"\r\n])|"sep=([^\w"\r\n])"', re.IGNORECASE)
_CLOSED = re.compile(r'"(?:[^"]|"")*"', re.DOTALL)
_HINT = "; quote a field that holds the separator"
_OTHERS = {";": "semicolons", "\t": "tabs", "|": "bars"}


def rows(path: Path, form: Format) -> Iterator[Row]:
    """The rows of a table. Those without any value are left out: spreadsheets write them where rows were emptied.

    Raises:
        DataError: a row has more or fewer fields than there are columns, two columns have one name, or quotes are not closed.
    """
    yield from each(str(path), _records(path, form))


def _records(path: Path, form: Format) -> Iterator[Callable[[], Row]]:
    """A function for each row of a table, which raises DataError where it has more or fewer fields than there are columns."""
    form = _as_named(path, form)
    names: list[str] = list(form.names)
    for number, fields in _numbered(path, form):
        if not any(fields):
            continue
        if not names:
            names = _distinct(fields) if form.header else [f"column_{place}" for place in range(1, len(fields) + 1)]
            if twice := [name for name, count in Counter(filter(None, names)).items() if count > 1]:
                raise DataError(f"{path}:{number}: two columns are called {twice[0]!r}; rename one")
            if form.header:
                _refuse_single(path, number, names, form)
                continue
        yield partial(_record, path, number, names, fields, form)


def _distinct(names: Sequence[str]) -> list[str]:
    """Names of columns, where those that are empty are told apart by spaces: each has values of its own."""
    return [name or " " * names[:place].count("") for place, name in enumerate(names)]


def _record(path: Path, number: int, names: Sequence[str], fields: Sequence[str], form: Format) -> Row:
    if len(fields) != len(names):
        known = f" ({', '.join(form.names)})" if form.names else ""
        hint = _HINT * (form.quotes is not False)
        if len(names) == 1 and form.header and not known:
            hint = f"; remove the lines above the names of the columns, such as {names[0][:60]!r}, if it is none"
        raise DataError(f"{path}:{number}: expected {len(names)} columns{known}, got {len(fields)}{hint}")
    return f"{path}:{number}", dict(zip(names, fields, strict=True))


def lines_in_quotes(path: Path, form: Format) -> tuple[int, int]:
    """How many rows of a table there are, the header among them, and on how many lines they stand: more where line breaks
    stand in quotes. Raises DataError as `rows`.
    """
    form = _as_named(path, form)
    count = sum(1 for _, fields in _numbered(path, form) if any(fields))
    # Spreadsheets write separators alone where rows were emptied.
    empty = f"\r\n{delimiter(path, form)}"
    return count, sum(1 for line in table_lines(path, form.encoding) if line.strip(empty))


def delimiter(path: Path, form: Format) -> str:
    """What stands between the fields of a table."""
    return form.delimiter or ("\t" if kind(path) == ".tsv" else ",")


def table_lines(path: Path, encoding: str) -> Iterator[str]:
    """The lines of a table, with their ends; an empty one in the place of a first line that names the delimiter."""
    for number, line in lines(path, encoding):
        yield "\n" if number == 1 and _named(line) else line


def named_delimiter(path: Path, encoding: str) -> str | None:
    """The character that the first line of a table says to be between fields, as `sep=;` does; None where it says nothing."""
    return next((_named(line) for _, line in lines(path, encoding)), None)


def _as_named(path: Path, form: Format) -> Format:
    return form if form.delimiter else replace(form, delimiter=named_delimiter(path, form.encoding))


def _named(line: str) -> str | None:
    found = _NAMED.fullmatch(line.rstrip("\r\n"))
    return found and (found[1] or found[2])


def parsed(text: Sequence[str], separator: str, most: int) -> tuple[list[list[str]], bool]:
    """The first rows of some lines that have a value, and whether nothing spoke against this delimiter.

    Args:
        text: the first lines of a table, with their ends.
        separator: between fields.
        most: rows that are wanted.
    """
    found: list[list[str]] = []
    reads = _with_quotes(text, separator) if quoted(text, separator) else _without_quotes(text, separator)
    try:
        for _, fields in reads:
            if any(fields):
                found.append(fields)
            if len(found) == most:
                break
    except csv.Error:
        return found, False
    return found, True


def quoted(text: Iterable[str], separator: str) -> bool:
    """Whether the fields of a table may stand in quotes.

    Between tabs they seldom do, and a quote there is a character of the text, unless the table is plainly quoted: lines have
    equally many fields only if quotes count, or every field that begins with a quote is closed as it should be, and quotes
    within one are doubled or a whole column stands in quotes. Elsewhere they do, unless only lines without them make a table.

    Args:
        text: the lines, with their ends.
        separator: between fields.
    """
    looked_at, is_all = _beginning(text)
    table = [line.rstrip("\r\n").split(separator) for line in looked_at]
    in_tabs = separator == "\t"
    if not any(field.startswith('"') for fields in table for field in fields):
        return not in_tabs
    is_even = len(set(map(len, table))) == 1
    if not in_tabs:
        return not is_even or len(table[0]) < 2 or _is_whole(looked_at, separator, is_all)
    if not is_even:
        return _is_whole(looked_at, separator, is_all)
    opened = [field for fields in table for field in fields if field.startswith('"')]
    if not all(map(_CLOSED.fullmatch, opened)):
        return False
    return any('""' in field[1:-1] for field in opened) or any(
        all(not field or field.startswith('"') for field in column) and any(column)
        for column in zip(*table, strict=True)
    )


def _beginning(text: Iterable[str]) -> tuple[list[str], bool]:
    """The first lines that are not empty, and whether there are no more."""
    found, size = list[str](), 0
    for line in text:
        if size > _LOOKED_AT:
            return found, False
        if line.strip("\r\n"):
            found.append(line)
            size += len(line)
    return found, True


def _is_whole(text: Sequence[str], separator: str, is_all: bool) -> bool:
    """Whether lines are a table if quotes count; the last row may be cut, where there are more."""
    widths: list[int] = []
    try:
        widths += (len(fields) for _, fields in _with_quotes(text, separator))
    except csv.Error:
        return not is_all
    return len(set(widths if is_all else widths[:-1])) <= 1


def _numbered(path: Path, form: Format) -> Iterator[tuple[int, list[str]]]:
    """Rows with the number of the line that they begin on."""
    separator = delimiter(path, form)
    quotes = form.quotes
    if quotes is None:
        quotes = quoted(table_lines(path, form.encoding), separator)
    if not quotes:
        yield from _without_quotes(table_lines(path, form.encoding), separator)
        return
    number = 0
    try:
        for number, fields in _with_quotes(table_lines(path, form.encoding), separator):
            yield number, fields
    except csv.Error as error:
        reason = str(error)
        if "field limit" in reason:
            reason = f"a field of more than {LONGEST_DOCUMENT:,} characters, or a quote is not closed"
        elif "unexpected end" in reason:
            reason = "a quote is not closed"
        raise DataError(
            f"{path}: after line {number}: {reason}; write quotes: false where quotes are characters"
        ) from error


def _with_quotes(text: Iterable[str], separator: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(text, delimiter=separator, strict=True)
    start = 1
    for fields in reader:
        yield start, fields
        start = reader.line_num + 1


def _without_quotes(text: Iterable[str], separator: str) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(text, 1):
        yield number, line.rstrip("\r\n").split(separator)


def _refuse_single(path: Path, number: int, names: Sequence[str], form: Format) -> None:
    """Check that a lone column is no whole line. Raises DataError where another delimiter stands in its name."""
    if form.delimiter is None and len(names) == 1:
        for mark, called in _OTHERS.items():
            if mark in names[0].strip():
                raise DataError(
                    f"{path}:{number}: one column only, {names[0]!r}; if {called} are between fields, write delimiter: "
                    f'"{mark if mark != chr(9) else chr(92) + "t"}"'
                )
