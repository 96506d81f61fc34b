"""The right answers of a row: what is learned, and what a model's answers are compared with."""

import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

from adamergex.errors import DataError
from adamergex.scoring.languages import folded
from adamergex.tasks.cells import plain
from adamergex.tasks.task import Task


def right_answers(
    task: Task, location: str, row: Mapping[str, Any], choices: Mapping[str, str], language: str, scored: bool
) -> tuple[str, tuple[str, ...]]:
    """What is learned, and all right answers in the form that a model's are compared with: numbers canonical.

    Args:
        task: which column is the answer, and how answers are compared.
        location: of the row.
        row: its columns, the answer among them.
        choices: label → its words; none where answers are written.
        language: a BCP 47 code; of the answers.
        scored: whether answers are compared with a model's; see `read_items`.

    Raises:
        DataError: the answer is empty, is neither text nor a number, or is not what its kind wants: one of the labels, one
            number, one line.
    """
    listed = _listed(row[task.answer])
    if not listed:
        raise DataError(f"{location}: the answer in column {task.answer!r} is an empty list; expected a right answer")
    golds = [plain(value, location, task.answer) for value in listed]
    if choices:
        if len(golds) > 1:
            raise DataError(
                f"{location}: column {task.answer!r} lists {len(golds)} labels; of choices one is right: name it, or leave "
                "choices out (kind: text takes any of several answers)"
            )
        label = golds[0].strip()
        if label not in choices:
            raise DataError(
                f"{location}: unknown label {label!r}; task.choices has {', '.join(choices)}{_cause(label, choices, language)}"
            )
        return choices[label], (choices[label].strip(),)
    # Benchmarks may be trained on another column than they are scored by.
    column = task.learned if task.learned and row.get(task.learned) is not None else task.answer
    answer = plain(next(iter(_listed(row[column])), None), location, column)
    if scored:
        answer = answer.strip()
        if task.answer_kind == "text" and "\n" in answer:
            raise DataError(f"{location}: the answer in column {task.answer!r} has several lines; one is expected")
        if task.answer_kind == "number":
            golds = [_number(task, gold, location, language) for gold in golds]
    return answer, tuple(gold.strip() for gold in golds)


def _number(task: Task, gold: str, location: str, language: str) -> str:
    # Its package takes a while to import, and only numbers need it.
    from adamergex.scoring.numbers import read_gold, written

    try:
        return written(read_gold(gold, language, task.wording(language).marker, task.answer_format))
    except DataError as error:
        raise DataError(f"{location}: the answer in column {task.answer!r}: {error.args[0]}") from error


def _cause(label: str, known: Iterable[str], language: str) -> str:
    """Why a label is none of those that are known where one of them looks like it; empty where none does."""
    for other in known:
        if unicodedata.normalize("NFC", label) == unicodedata.normalize("NFC", other):
            return f"; it differs from {other!r} in its form of Unicode alone (NFC, NFD); write both in one"
        if folded(label, language) == folded(other, language):
            return (
                f"; it differs from {other!r} in case, spaces or look-alike characters alone; write it in the same way"
            )
        if label.removesuffix(".0") == other:
            return (
                f"; it is {other!r} as a decimal number, as tables with empty cells have it; write it without the point"
            )
    return ""


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
