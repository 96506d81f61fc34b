"""Rows of labelled data as items: a prompt, the answers to choose from, and the right one."""

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adamergex.data.settings import Source
from adamergex.errors import DataError
from adamergex.tasks import loading
from adamergex.tasks.overlap import normalised
from adamergex.tasks.task import Task, Wording


@dataclass(frozen=True)
class Item:
    """One labelled item.

    Attributes:
        id: where it comes from, such as `data/train.es.jsonl:7`; no other row of any source has it.
        doc_id: the same for an item and its translations: the row's column `id`, or else its place in the split.
        prompt: what the model reads.
        answer: what it should write next, the separator included.
        choices: the answers to choose from, each with the separator; empty where the answer is generated.
        longest_column: where in the prompt the row's longest column stands, as start and end.
        golds: all right answers, as they are compared with a model's.
        text_pair: what an encoder reads behind the prompt, as the second text of a pair: nothing; what all choices speak
            of, such as a hypothesis; or each choice, in a sequence of its own.
    """

    id: str
    prompt: str
    answer: str
    choices: tuple[str, ...] = ()
    longest_column: tuple[int, int] = (0, 0)
    golds: tuple[str, ...] = ()
    doc_id: str = ""
    text_pair: tuple[str, ...] = ()


def from_row(row: Mapping[str, Any]) -> Item:
    """An item as it was written to a file of JSON lines."""
    tuples = ("choices", "longest_column", "golds", "text_pair")
    return Item(**(dict(row) | {key: tuple(row.get(key, ())) for key in tuples}))


def read_items(task: Task, source: Source, folder: Path, language: str, scored: bool = True) -> list[Item]:
    """Read a task's items in one language.

    Args:
        task: the template and the labels.
        source: one of the task's splits.
        folder: what relative paths are relative to.
        language: a BCP 47 code.
        scored: whether answers are compared with a model's, which reads no white space around them, and of kind
            `text` one line; a task that is only learned keeps both.

    Raises:
        DataError: a source is missing or empty, a row lacks a column, or its label is not among the choices.
    """
    root = loading.folder_of(source, folder)
    found = [
        # Nothing of where the folder lies: it may be moved.
        replace(_item(task, place, row, language, scored), id=place.removeprefix(f"{root}/"))
        for place, row in loading.rows(source, folder, language)
    ]
    where = loading.name(source, language)
    if len({item.doc_id for item in found} - {""}) < len(found):
        found = [replace(item, doc_id=str(place)) for place, item in enumerate(found)]
    if not found:
        raise DataError(f"{where}: holds no items")
    if task.choices and source.limit and len(found) > 1 and len({item.answer for item in found}) == 1:
        only = found[0].answer.strip()
        raise DataError(f"{where}: all {len(found)} items have the label for {only!r}; a limit takes the first rows")
    return found


def _item(task: Task, place: str, row: dict[str, Any], language: str, scored: bool) -> Item:
    wording = task.wording(language)
    missing = [column for column in (*wording.columns, task.answer) if row.get(column) is None]
    if missing:
        raise DataError(f"{place}: no column {missing[0]!r}; the row has {', '.join(map(str, row))}")
    golds = [_text(value, place, task.answer) for value in _listed(row[task.answer])]
    if not golds or not all(gold.strip() for gold in golds):
        raise DataError(f"{place}: the answer in column {task.answer!r} is empty")
    prompt, longest = _filled(wording.prompt, row)
    if not prompt.strip():
        raise DataError(f"{place}: the prompt is empty; fill the columns that it is made of")
    # In the order of the task, whatever a language's own wording has: label by label they are the same in every language.
    words = wording.choices or {}
    choices = {label: _filled(words[label], row)[0] for label in task.choices or ()}
    if choices:
        label = golds[0].strip()
        if label not in choices:
            raise DataError(f"{place}: unknown label {label!r}; task.choices has {', '.join(choices)}")
        if len({" ".join(words.split()) for words in choices.values()}) < len(choices):
            raise DataError(f"{place}: two choices have the same words; the model could not tell them apart")
        answer, golds = choices[label], [choices[label].strip()]
    else:
        # Benchmarks learn from other columns than they are scored by, where the rows have them.
        learned = row.get(task.learned or task.answer)
        answer = golds[0] if learned is None else _text(_listed(learned)[0], place, task.learned or task.answer)
        answer = answer.strip() if scored else answer
    if scored and task.answer_kind == "text" and "\n" in answer:
        raise DataError(f"{place}: the answer in column {task.answer!r} has several lines; one is expected")
    separator = wording.separator
    return Item(
        place,
        prompt,
        separator + answer,
        tuple(separator + words for words in choices.values()),
        longest,
        tuple(gold.strip() for gold in golds),
        "" if row.get("id") is None else str(row["id"]),
        _text_pair(wording, row, choices),
    )


def _text_pair(wording: Wording, row: dict[str, Any], choices: Mapping[str, str]) -> tuple[str, ...]:
    shared = wording.shared_columns
    if shared is None:
        return tuple(words.strip() for words in choices.values())
    return (" ".join(str(row[column]).strip() for column in shared),) if shared else ()


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _text(value: Any, place: str, column: str) -> str:
    """The text of an answer. Raises DataError where the column holds something that no model writes."""
    if not isinstance(value, str | int | float):
        raise DataError(
            f"{place}: the answer in column {column!r} is a {type(value).__name__}; expected text or a number"
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


def refuse_overlap(seen: Sequence[Item], scored: Sequence[Item], language: str, where: str = "train") -> None:
    """Items that a model has seen with their answers must not be scored on.

    Args:
        seen: what is learned from, what adapters are chosen by, or solved examples.
        scored: of the language.
        language: for the message.
        where: what the seen items are, for the message.

    Raises:
        DataError: a prompt stands in both, by its letters and digits alone.
    """
    places = {normalised(item.prompt): item.id for item in seen}
    both = [(places[key], item.id) for item in scored if (key := normalised(item.prompt)) in places]
    if both:
        raise DataError(
            f"task data ({language}): {len(both)} items stand both in {where} and in the scored split, "
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
