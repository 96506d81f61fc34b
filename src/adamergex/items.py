"""Rows of labelled data as items: a prompt, the answers to choose from, and the right one."""

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adamergex.errors import DataError
from adamergex.recipe_data import Source, Task
from adamergex.sources import rows


@dataclass(frozen=True)
class Item:
    """One labelled item.

    Attributes:
        id: where it comes from, such as `train.jsonl:7`.
        prompt: what the model reads.
        answer: what it should write next, the separator included.
        choices: the answers to choose from, each with the separator; empty where the answer is generated.
        longest_column: where in the prompt the row's longest column stands, as start and end.
    """

    id: str
    prompt: str
    answer: str
    choices: tuple[str, ...] = ()
    longest_column: tuple[int, int] = (0, 0)


def read_items(task: Task, source: Source, folder: Path, language: str, scored: bool = True) -> list[Item]:
    """Read a task's items in one language.

    Args:
        task: the template and the labels.
        source: one of the task's splits.
        folder: what relative paths are relative to.
        language: a BCP 47 code.
        scored: whether answers are compared with a model's, which reads one line and no white space around it; a
            task that is only learned keeps both.

    Raises:
        DataError: a source is missing or empty, a row lacks a column, or its label is not among the choices.
    """
    choices = tuple(task.separator + words for words in (task.choices or {}).values())
    found = []
    for place, row in rows(source.in_language(language), folder, language):
        missing = [column for column in (*task.columns, task.answer) if row.get(column) is None]
        if missing:
            raise DataError(f"{place}: no column {missing[0]!r}; the row has {', '.join(map(str, row))}")
        label = _answer(row[task.answer], place, task)
        if task.choices is not None and label.strip() not in task.choices:
            raise DataError(f"{place}: unknown label {label.strip()!r}; task.choices has {', '.join(task.choices)}")
        words = task.choices[label.strip()] if task.choices else label.strip() if scored else label
        if not words.strip():
            raise DataError(f"{place}: the answer in column {task.answer!r} is empty")
        prompt, longest = _filled(task.prompt, row)
        if not prompt.strip():
            raise DataError(f"{place}: the prompt is empty; fill the columns that it is made of")
        if scored and "\n" in words.strip():
            raise DataError(f"{place}: the answer in column {task.answer!r} has several lines; one is expected")
        found.append(Item(place.rpartition("/")[2], prompt, task.separator + words, choices, longest))
    if not found:
        raise DataError(f"{_name(source, language)}: holds no items")
    if choices and source.limit and len(found) > 1 and len({item.answer for item in found}) == 1:
        only = found[0].answer.strip()
        raise DataError(
            f"{_name(source, language)}: all {len(found)} items have the label for {only!r}; a limit takes the first rows"
        )
    return found


def _answer(value: Any, place: str, task: Task) -> str:
    """The text of an answer. Raises DataError where the column holds something that no model writes."""
    if not isinstance(value, str | int | float):
        raise DataError(
            f"{place}: the answer in column {task.answer!r} is a {type(value).__name__}; expected text or a number"
        )
    return str(value)


def _filled(template: str, row: dict[str, Any]) -> tuple[str, tuple[int, int]]:
    """The template with a row's columns in it, and where the longest of them stands."""
    text, longest = "", (0, 0)
    for literal, column, _, _ in string.Formatter().parse(template):
        text += literal
        if column is not None:
            value = str(row[column])
            if len(value) > longest[1] - longest[0]:
                longest = (len(text), len(text) + len(value))
            text += value
    return text, longest


def _name(source: Source, language: str) -> str:
    filled = source.in_language(language)
    return (
        ", ".join(filled.files) if filled.files else f"{filled.dataset or filled.package}:{filled.split} ({language})"
    )


def refuse_overlap(train: Sequence[Item], test: Sequence[Item], language: str) -> None:
    """Training items must not be scored on.

    Raises:
        DataError: a prompt stands in both, compared without case and white space.
    """
    seen = {"".join(item.prompt.casefold().split()): item.id for item in train}
    both = [(seen[key], item.id) for item in test if (key := "".join(item.prompt.casefold().split())) in seen]
    if both:
        raise DataError(
            f"task data ({language}): {len(both)} items stand both in train and in the scored split, "
            f"the first as {both[0][0]} and {both[0][1]}; remove them from one"
        )


def refuse_unequal(counts: Mapping[str, int]) -> None:
    """Every language needs as much of the reference task as the others.

    Raises:
        DataError: languages have different numbers of items.
    """
    if len(set(counts.values())) > 1:
        raise DataError(
            "reference.task: "
            + ", ".join(f"{code} has {count:,} items" for code, count in counts.items())
            + f"; every language needs as many: set reference.task.train.limit to {min(counts.values())}"
        )
