"""What a labelled file holds: the classes, the languages, what is twice. Pure functions over its rows."""

import re
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from adamergex.data import cleaning, nested
from adamergex.errors import DataError
from adamergex.recipes.columns import Table, most_classes, text_column
from adamergex.scoring.languages import folded
from adamergex.tasks.overlap import normalised

# Texts that the language is told by.
_READ_FOR_LANGUAGE = 500
_LABEL_LENGTH = 60
# What spreadsheets write where a formula has no value.
_ERRORS = {"#N/A", "#REF!", "#VALUE!", "#DIV/0!", "#NAME?", "#NULL!", "#NUM!"}

Kind = Literal["choice", "text", "number", "generation", "extraction"]


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


def look(table: Table, text: str, answer: str, others: Sequence[str] = ()) -> Labelled:
    """What a labelled file holds.

    Args:
        table: its rows.
        text: the column with the text.
        answer: the column with the label or the answer.
        others: columns with texts that belong to it.

    Raises:
        DataError: rows without an answer, one class only, labels that look alike, or a column of lists.
    """
    _refuse_structures(table, text, answer, *others)
    parts, answers = [table.values(column) for column in (text, *others)], table.values(answer)
    texts = ["\n".join(filter(None, values)) for values in zip(*parts, strict=True)]
    missing = [location for (location, _), value in zip(table.rows, answers, strict=True) if not value]
    if missing:
        raise DataError(
            f"{missing[0]}: column {answer!r} is empty, as in {len(missing):,} of {len(answers):,} rows; fill it or remove them"
        )
    if errors := [(at, value) for (at, _), value in zip(table.rows, answers, strict=True) if value in _ERRORS]:
        raise DataError(
            f"{errors[0][0]}: column {answer!r} is {errors[0][1]}, an error of a spreadsheet's formula, as in {len(errors):,} of "
            f"{len(answers):,} rows; set the formula right, or remove them"
        )
    counts = Counter(answers)
    if len(counts) == 1:
        raise DataError(
            f"{table.path}: column {answer!r} has one value only, {answers[0]!r}; expected two labels or more, or another "
            "--label-column"
        )
    kind = _kind(counts, len(answers), most_classes(table))
    if others and kind in ("text", "generation") and all(map(str.__contains__, texts, answers)):
        kind = "extraction"
    if kind == "choice":
        _refuse_alike(table, answer, list(counts))
    duplicates, contradictions = _twice(table, texts, answers)
    lengths = [len(value) for value in texts]
    return Labelled(
        kind,
        _ordered(counts) if kind == "choice" else {},
        languages(texts),
        (round(statistics.median(lengths)), max(lengths)),
        parts[0].count(""),
        duplicates,
        contradictions,
    )


def languages(texts: Iterable[str]) -> dict[str, float]:
    """The languages of texts: code → share of characters; those of several hundred, evenly from the whole."""
    listed = [text for text in texts if text]
    step = max(1, len(listed) // _READ_FOR_LANGUAGE)
    return cleaning.language_shares(listed[::step])


def shares(found: Mapping[str, float]) -> str:
    """The languages of a text in words, the first three."""
    return ", ".join(f"{code} {share:.0%}" for code, share in list(found.items())[:3]) or "no language"


def foreign(found: dict[str, float], language: str) -> str | None:
    """The language that most of a text is in, where that is clearly not the one it is given for."""
    share = sum(share for code, share in found.items() if cleaning.close(language, code))
    if not found or share > 0.3 or not cleaning.identifiable(language):
        return None
    return max(found, key=lambda code: found[code])


def described(found: Labelled, rows: int, language: str) -> list[tuple[str, str]]:
    """What a file of so many rows, in this language, holds, in words: pairs of what it is about and what it is."""
    if found.classes:
        listed = ", ".join(f"{label} {count / rows:.0%}" for label, count in list(found.classes.items())[:12])
        more = f" and {len(found.classes) - 12} more" if len(found.classes) > 12 else ""
        answers = ("labels", f"{len(found.classes)}: {listed}{more}")
    else:
        how = {"text": "a few words", "number": "numbers", "extraction": "words of the text"}.get(found.kind, "texts")
        answers = ("answers", f"{how}, which the model writes: too many different ones for labels")
    return [
        answers,
        ("language", f"{language}; found {shares(found.languages)}"),
        ("length", f"{found.length[0]:,} characters (median), {found.length[1]:,} at most"),
        ("twice", f"{found.duplicates:,} rows; {len(found.contradictions):,} with the same text and another answer"),
    ]


def left_out(table: Table, answer: str, columns: Iterable[str]) -> list[str]:
    """Notes on columns that may belong to the prompt, and are not in it: the first that holds lists, as that of what is chosen
    from, and those about as long as the text, as the second of a pair.

    Args:
        table: of the labelled rows.
        answer: the column with the label.
        columns: that are in neither.
    """
    given, pick = list(columns), text_column(table, answer)
    lists = [name for name in given if isinstance(nested.value(table.rows[0][1], name), list)]
    return [
        f"column {name!r} holds lists and is not in the prompt; if they are what is chosen from, name them in it, or as the words "
        f"of choices: {{{name}[0]}}"
        for name in lists[:1]
    ] + [
        f"column {name!r} holds text, too, and is not in the prompt; write {{{name}}} there if it belongs to it"
        for name in given
        if name not in lists and name in (pick.column, *pick.others)
    ]


def unknown_labels(table: Table, answer: str, classes: Iterable[str]) -> list[tuple[str, str]]:
    """Rows of another file whose label is none of these: pairs of a location and the label."""
    known = set(classes)
    values = table.values(answer)
    return [(location, value) for (location, _), value in zip(table.rows, values, strict=True) if value not in known]


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
    """Labels that differ in case, spaces and forms of Unicode alone are one label, written in two ways."""
    seen: dict[str, str] = {}
    for label in labels:
        other = seen.setdefault(folded(label, "und"), label)
        if other != label:
            raise DataError(
                f"{table.path}: column {answer!r} has {other!r} and {label!r}, which differ in case, spaces or form of Unicode "
                "alone; write one"
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
