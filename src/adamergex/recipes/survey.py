"""What a labelled file holds: which column is the text and which the answer, the classes, the languages, what is twice.

Pure functions over rows; what cannot be known is left to whoever asks (`Pick.others`).
"""

import re
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from adamergex.data import cleaning, readers
from adamergex.data.readers import Format, Row
from adamergex.errors import DataError
from adamergex.storage.yaml_model import did_you_mean
from adamergex.tasks.overlap import normalised

# More classes than this, or fewer rows of each on average, are answers that are written.
MOST_CLASSES, ROWS_PER_CLASS = 100, 2
# Texts that the language is told by.
_READ_FOR_LANGUAGE = 500
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
    "summary",
    "y",
]
_LABEL_LENGTH = 60

Kind = Literal["choice", "text", "number", "generation"]


@dataclass(frozen=True)
class Table:
    """The rows of a file.

    Attributes:
        path: of the file.
        form: how it is written.
        rows: pairs of a location and the row.
        columns: the names of its columns, in their order.
    """

    path: Path
    form: Format
    rows: list[Row]
    columns: list[str]

    def values(self, column: str) -> list[str]:
        """A column as text, without white space around it; empty where a row has no value."""
        return [_text(row.get(column)).strip() for _, row in self.rows]


@dataclass(frozen=True)
class Pick:
    """A column that was chosen, and the others that it may be as well."""

    column: str
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class Labelled:
    """What a labelled file holds.

    Attributes:
        kind: how its answers are compared (`Task.answer_kind`).
        classes: label → rows, for kind `choice`: numbers in their order, other labels by rows; else empty.
        languages: of the texts: code → share.
        length: of the texts, in characters: the median, and the longest.
        empty: rows without text.
        duplicates: rows whose text stands in an earlier one, and whose answer is the same.
        contradictions: pairs of locations of equal texts with different answers.
    """

    kind: Kind
    classes: dict[str, int]
    languages: dict[str, float]
    length: tuple[int, int]
    empty: int
    duplicates: int
    contradictions: list[tuple[str, str]]


def read(path: Path, form: Format, most: int | None = None) -> Table:
    """The rows of a file, or the first `most` of them. Raises DataError where it has none, or one is malformed."""
    rows = list(islice(readers.rows(path, form), most))
    if not rows:
        raise DataError(f"{path}: holds no rows")
    columns = list(dict.fromkeys(name for _, row in rows for name in row))
    return Table(path, form, rows, [str(name) for name in columns if str(name).strip()])


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
    lengths = {name: length for name, length in lengths.items() if name.lower() not in _ANSWER_NAMES} or lengths
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
    if not others:
        raise DataError(
            f"{table.path}: one column only, {text!r}; expected one with the text and one with the label or the answer"
        )
    classes = [name for name in others if 1 < len(set(table.values(name)) - {""}) <= _most_classes(table)]
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


def look(table: Table, text: str, answer: str) -> Labelled:
    """What a labelled file holds.

    Raises:
        DataError: rows without an answer, one class only, labels that differ in case alone, or a column of lists.
    """
    _refuse_structures(table, text, answer)
    texts, answers = table.values(text), table.values(answer)
    missing = [location for (location, _), value in zip(table.rows, answers, strict=True) if not value]
    if missing:
        raise DataError(
            f"{missing[0]}: column {answer!r} is empty, as in {len(missing):,} of {len(answers):,} rows; fill it or remove them"
        )
    counts = Counter(answers)
    if len(counts) == 1:
        raise DataError(
            f"{table.path}: column {answer!r} has one value only, {answers[0]!r}; expected two labels or more"
        )
    kind = _kind(counts, len(answers), _most_classes(table))
    if kind == "choice":
        _refuse_alike(table, answer, list(counts))
    duplicates, contradictions = _twice(table, texts, answers)
    lengths = [len(value) for value in texts]
    return Labelled(
        kind,
        _ordered(counts) if kind == "choice" else {},
        languages(texts),
        (round(statistics.median(lengths)), max(lengths)),
        texts.count(""),
        duplicates,
        contradictions,
    )


def languages(texts: Iterable[str]) -> dict[str, float]:
    """The languages of texts: code → share of characters; those of several hundred, evenly from the whole."""
    listed = [text for text in texts if text]
    step = max(1, len(listed) // _READ_FOR_LANGUAGE)
    return cleaning.language_shares(listed[::step])


def foreign(found: dict[str, float], language: str) -> str | None:
    """The language that most of a text is in, where that is clearly not the one it is given for."""
    share = sum(share for code, share in found.items() if cleaning.close(language, code))
    if not found or share > 0.3 or not cleaning.identifiable(language):
        return None
    return max(found, key=lambda code: found[code])


def unknown_labels(table: Table, answer: str, classes: Iterable[str]) -> list[tuple[str, str]]:
    """Rows of another file whose label is none of these: pairs of a location and the label."""
    known = set(classes)
    values = table.values(answer)
    return [(location, value) for (location, _), value in zip(table.rows, values, strict=True) if value not in known]


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


def _most_classes(table: Table) -> int:
    return min(MOST_CLASSES, len(table.rows) // ROWS_PER_CLASS)


def _kind(counts: Counter[str], rows: int, most: int) -> Kind:
    if len(counts) <= max(most, 2) and max(map(len, counts)) <= _LABEL_LENGTH and not any("\n" in v for v in counts):
        return "choice"
    if all(re.fullmatch(r"[-+]?[\d,]*\.?\d+", value) for value in counts):
        return "number"
    words = sum(len(value.split()) * count for value, count in counts.items()) / rows
    return "generation" if words > 12 or any("\n" in value for value in counts) else "text"


def _ordered(counts: Counter[str]) -> dict[str, int]:
    if all(re.fullmatch(r"-?\d+", label) for label in counts):
        return {label: counts[label] for label in sorted(counts, key=int)}
    return dict(counts.most_common())


def _refuse_structures(table: Table, *columns: str) -> None:
    for location, row in table.rows:
        for column in columns:
            if isinstance(row.get(column), dict | bytes):
                raise DataError(
                    f"{location}: column {column!r} holds a {type(row[column]).__name__}; expected text or a number"
                )


def _refuse_alike(table: Table, answer: str, labels: Sequence[str]) -> None:
    """Labels that differ in case and spaces alone are one label, written in two ways."""
    seen: dict[str, str] = {}
    for label in labels:
        other = seen.setdefault(" ".join(label.casefold().split()), label)
        if other != label:
            raise DataError(
                f"{table.path}: column {answer!r} has {other!r} and {label!r}, which differ in case or spaces alone; write one"
            )


def _twice(table: Table, texts: Sequence[str], answers: Sequence[str]) -> tuple[int, list[tuple[str, str]]]:
    """How many rows repeat an earlier one, and the pairs of rows with equal texts and different answers."""
    first: dict[str, int] = {}
    duplicates, contradictions = 0, []
    for number, (text, answer) in enumerate(zip(texts, answers, strict=True)):
        if not (key := normalised(text)):
            continue
        earlier = first.setdefault(key, number)
        if earlier == number:
            continue
        if answers[earlier] == answer:
            duplicates += 1
        else:
            contradictions.append((table.rows[earlier][0], table.rows[number][0]))
    return duplicates, contradictions
