"""The columns of a file: which is the text and which the answer.

What cannot be known is left to whoever asks (`Pick.others`).
"""

import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from adamergex.data import nested, readers, tables
from adamergex.data.formats import Format, Row, kind
from adamergex.errors import DataError
from adamergex.storage.files import from_json
from adamergex.storage.yaml_model import did_you_mean

# More classes than this, or fewer rows of each on average, are answers that are written.
MOST_CLASSES, ROWS_PER_CLASS = 100, 2
_TEXT_NAMES = [
    "text",
    "review",
    "sentence",
    "comment",
    "content",
    "body",
    "message",
    "tweet",
    "document",
    "question",
    "utterance",
    "headline",
    "post",
]
_ANSWER_NAMES = [
    "label",
    "labels",
    "class",
    "category",
    "sentiment",
    "topic",
    "intent",
    "emotion",
    "rating",
    "stars",
    "score",
    "polarity",
    "target",
    "gold",
    "answer",
    "answers",
    "summary",
    "y",
]
# What rows are called by, which nobody asks for.
_ROW_NAMES = {"id", "idx", "index", "uid", "uuid", "guid", "row"}
# Columns of a prompt in their order, and of its answer, in layouts that are well known: two texts that belong together.
_LAYOUTS = (
    (("instruction", "input"), ("output", "response")),  # Alpaca
    (("instruction", "context"), ("response", "output")),  # Dolly
    (("context", "question"), ("answers.text", "answers", "answer")),  # SQuAD
    (("passage", "question"), ("answer", "label")),  # BoolQ
    (("premise", "hypothesis"), ("label", "gold_label")),  # XNLI
    (("sentence1", "sentence2"), ("label", "gold_label", "score")),  # PAWS-X, STS-B
    (("question1", "question2"), ("label", "is_duplicate")),  # QQP
    (("instruction",), ("output", "response", "completion")),
    (("prompt",), ("completion", "response", "output")),
)
# What numbers the first of several texts in its name.
_FIRST = re.compile(r"(?<!\d)1(?!\d)|(?<![A-Za-z])[aA]$")


@dataclass(frozen=True)
class Table:
    """The rows of a file.

    Attributes:
        path: of the file.
        form: how it is written.
        rows: pairs of a location and the row.
        columns: the names of its columns, in their order; of columns within columns their paths (`data.nested`).
    """

    path: Path
    form: Format
    rows: list[Row]
    columns: list[str]

    def values(self, column: str) -> list[str]:
        """A column as text, without white space around it; empty where a row has no value."""
        return [_text(nested.value(row, column)).strip() for _, row in self.rows]

    def has(self, column: str) -> bool:
        """Whether it has a column of this name. A number that stands in for a name says nothing of another file's columns."""
        return self.form.header and column in self.columns


@dataclass(frozen=True)
class Pick:
    """A column that was chosen, and the others that it may be as well."""

    column: str
    others: tuple[str, ...] = ()


def read(path: Path, form: Format, most: int | None = None) -> Table:
    """The rows of a file, or the first `most` of them. Raises DataError where it has none, or one is malformed."""
    rows = list(islice(readers.rows(path, form), most))
    if not rows:
        raise DataError(f"{path}: holds no rows")
    columns = list(dict.fromkeys(name for _, row in rows for name in nested.leaves(row)))
    return Table(path, form, rows, [name for name in columns if name.strip()])


def conversations(table: Table) -> str | None:
    """The column that holds conversations (`tasks.conversations`); None where there is none."""
    _, row = table.rows[0]
    for name, value in row.items():
        if isinstance(value, list) and value and isinstance(value[0], dict) and {"role", "from"} & value[0].keys():
            return name
    return None


def layout(table: Table) -> tuple[str, tuple[str, ...], str] | None:
    """The text, the texts that belong to it, and the answer, where columns are called as in a well-known layout; else None."""
    names = {name.lower(): name for name in table.columns}
    for (text, *others), answers in _LAYOUTS:
        answer = next((names[name] for name in answers if name in names), None)
        if answer is not None and {text, *others} <= names.keys():
            return names[text], tuple(names[name] for name in others), answer
    return _pair(table)


def _pair(table: Table) -> tuple[str, tuple[str, ...], str] | None:
    """The same of two texts that are numbered, such as `sent_A` and `sent_B`, where there is no third and no other text."""
    for name in table.columns if table.form.header else ():
        second, third = (_numbered(name, by) for by in (1, 2))
        if second not in table.columns or third in table.columns:
            continue
        try:
            pick = text_column(table)
            rest = Table(table.path, table.form, table.rows, [one for one in table.columns if one != second])
            answer = answer_column(rest, name)
        except DataError:
            return None
        if {pick.column, *pick.others} <= {name, second} and not answer.others:
            return name, (second,), answer.column
    return None


def _numbered(name: str, by: int) -> str | None:
    """The name of a text after the first one, whose name is given; None where that has no number."""
    mark = _FIRST.search(name)
    return mark and name[: mark.start()] + chr(ord(mark[0]) + by) + name[mark.end() :]


def class_names(table: Table, column: str) -> dict[str, str]:
    """The names of a column's classes by their numbers, as the hub's data sets have them in Parquet; none elsewhere."""
    if kind(table.path) != ".parquet":
        return {}
    import pyarrow.parquet as pq

    try:
        stored = (pq.read_schema(table.path).metadata or {}).get(b"huggingface", b"{}")
        names = from_json(stored)["info"]["features"][column]["names"]
        return {str(number): str(name) for number, name in enumerate(names)}
    except (ValueError, KeyError, TypeError):
        return {}


def require(table: Table, column: str, option: str) -> str:
    """A column that the user names. Raises DataError where the table has none such."""
    if column not in table.columns:
        raise DataError(
            f"{table.path}: {option}: no column {column!r}; there are {', '.join(table.columns)}"
            + did_you_mean(column, table.columns)
        )
    return column


def text_column(table: Table, answer: str | None = None) -> Pick:
    """Which column holds the text: the longest, or one about as long whose name says so.

    Args:
        table: to look at.
        answer: the column with the answer, where it is known.

    Raises:
        DataError: there is no column but the answer's, or none with words.
    """
    lengths = {name: _mean_length(table.values(name)) for name in table.columns if name != answer}
    lengths = {name: length for name, length in lengths.items() if length and not _is_plain(table.values(name))}
    if not lengths:
        raise DataError(f"{table.path}: no column holds text; there are {', '.join(table.columns)}")
    # A summary may be longer than what is asked.
    lengths = {
        name: length for name, length in lengths.items() if name.lower().split(".")[0] not in _ANSWER_NAMES
    } or lengths
    longest = max(lengths.values())
    close = [name for name in lengths if lengths[name] >= longest / 2]
    best = _named(close, _TEXT_NAMES) or max(close, key=lambda name: lengths[name])
    return Pick(best, tuple(name for name in close if name != best))


def answer_column(table: Table, text: str) -> Pick:
    """Which column holds the label or the answer: by its name, or the last one with few different values.

    Raises:
        DataError: there is no column but the text's, or none that may be it.
    """
    others = [name for name in table.columns if name != text and any(table.values(name))]
    others = [name for name in others if name.lower().split(".")[-1] not in _ROW_NAMES]
    if not others:
        raise DataError(
            f"{table.path}: one column only, {text!r}; expected one with the text and one with the label or the answer"
            + "; plain text has no columns: give a table its own ending, .csv or .tsv" * (kind(table.path) == ".txt")
            + "; other columns have no name: remove the lines above the names of the columns, if there are any"
            * any(not name.strip() and _text(value).strip() for _, row in table.rows for name, value in row.items())
        )
    classes = [name for name in others if 1 < len(set(table.values(name)) - {""}) <= most_classes(table)]
    if best := _named(others, _ANSWER_NAMES):
        return Pick(best, tuple(name for name in classes if name != best and _named([name], _ANSWER_NAMES)))
    if classes:
        return Pick(classes[-1], tuple(classes[:-1]))
    several = [name for name in others if len(set(table.values(name))) > 1]
    if not several:
        raise DataError(
            f"{table.path}: no column has several values; expected labels or answers in one of {', '.join(others)}"
        )
    return Pick(several[-1], tuple(several[:-1]))


def written(table: Table) -> str:
    """How a table is written, in words."""
    form = table.form
    parts = [form.encoding.upper() if form.encoding == "utf-8" else f"not UTF-8: read as {form.encoding}"]
    if form.encoding not in ("utf-8", "utf-16") and (sample := _sample(table)):
        parts.append(f"as in “{sample}”")
    names = {";": "semicolons", "\t": "tabs", "|": "bars", ",": "commas"}
    parts += [f"{names.get(form.delimiter, form.delimiter)} between fields"] if form.delimiter else []
    parts += [] if form.header else ["without names of columns"]
    if kind(table.path) in (".csv", ".tsv"):
        rows, lines = tables.lines_in_quotes(table.path, form)
        parts += [f"on {lines:,} lines, as line breaks stand in quotes"] if rows != lines else []
    return ", ".join(parts)


def _sample(table: Table) -> str:
    """A few words around the first character that another encoding would have made something else of."""
    for _, row in table.rows:
        for value in map(str, row.values()):
            if found := re.search(r"\S* ?\S*[^\x00-\x7f]\S* ?\S*", value):
                return found[0]
    return ""


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        value = value[0] if value else None
    return "" if value is None else str(value)


def _mean_length(values: Sequence[str]) -> float:
    filled = [len(value) for value in values if value]
    return statistics.fmean(filled) if filled else 0.0


def _is_plain(values: Sequence[str]) -> bool:
    """Whether a column holds numbers, dates, addresses or identifiers, which nobody reads as text."""
    filled = [value for value in values if value]
    odd = sum(1 for value in filled if re.fullmatch(r"https?://\S+|[\d\s.,:/+-]+|[0-9a-fA-F-]{16,}", value))
    return 2 * odd > len(filled)


def _named(columns: Sequence[str], names: Sequence[str]) -> str | None:
    """The column whose name is one of these, or has one of these among its words; the first of the names."""
    words = {column: re.findall(r"[a-z]+", column.lower()) for column in columns}
    for match in (lambda name, parts: parts == [name], lambda name, parts: name in parts):
        for name in names:
            if found := [column for column in columns if match(name, words[column])]:
                return found[0]
    return None


def most_classes(table: Table) -> int:
    """How many different answers may be labels; more are written."""
    return min(MOST_CLASSES, len(table.rows) // ROWS_PER_CLASS)
