"""Rows of labelled data as items: a prompt, the choices, and the right answer."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from adamergex.data import nested
from adamergex.data.settings import Source
from adamergex.data.wrong_rows import WrongRows
from adamergex.errors import DataError
from adamergex.tasks import loading
from adamergex.tasks.answers import right_answers
from adamergex.tasks.cells import filled, is_empty, lacks
from adamergex.tasks.conversations import Turn, conversation
from adamergex.tasks.task import Conversational, Task, same_words


@dataclass(frozen=True)
class Item:
    """One labelled item.

    Attributes:
        id: the location of its row, such as `data/train.es.jsonl:7`; unique among all sources.
        doc_id: shared by an item and its translations: the row's column `id`, or else its index in the split.
        prompt: the text that the model is given.
        answer: the continuation that is right, with the separator.
        choices: the answer options, each with the separator; empty where the answer is generated.
        longest_column: start and end of the row's longest column in the prompt.
        golds: all right answers, in the form that a model's are compared with.
        text_pair: the second text of an encoder's text pair: none; one that all choices refer to, such as a hypothesis;
            or one for each choice, each in its own sequence.
        chat: whether the prompt is the user's turn in the model's chat template.
        turns: of chat, what was said before the prompt: a system message, and earlier questions with their answers.
        begun: of chat, how the assistant's turn begins, which the answer continues as it is.
    """

    id: str
    prompt: str
    answer: str
    choices: tuple[str, ...] = ()
    longest_column: tuple[int, int] = (0, 0)
    golds: tuple[str, ...] = ()
    doc_id: str = ""
    text_pair: tuple[str, ...] = ()
    chat: bool = False
    turns: tuple[Turn, ...] = ()
    begun: str = ""


# What an item without chat has none of, and its row does not name.
_OF_CHAT = ("chat", "turns", "begun")


def to_row(item: Item) -> dict[str, Any]:
    """An item as a row of a JSON lines file."""
    return {name: value for name, value in asdict(item).items() if value or name not in _OF_CHAT}


def from_row(row: Mapping[str, Any]) -> Item:
    """An item from its row in a JSON lines file."""
    tuples = ("choices", "longest_column", "golds", "text_pair")
    turns = tuple((role, text) for role, text in row.get("turns", ()))
    return Item(**(dict(row) | {key: tuple(row.get(key, ())) for key in tuples} | {"turns": turns}))


def read_items(
    task: Task, source: Source, folder: Path, language: str, scored: bool = True, labelled: bool = True
) -> list[Item]:
    """Read a task's items in one language.

    Args:
        task: the template and the labels.
        source: one of the task's splits.
        folder: what relative paths are relative to.
        language: a BCP 47 code.
        scored: whether answers are compared with a model's, so that white space around them is stripped, and those of kind
            `text` must be one line, and those of kind `number` one number; for training all are kept.
        labelled: whether rows have an answer. Without, whatever stands in its column is not looked at: `answer` and `golds`
            of the items are empty.

    Raises:
        DataError: a source is missing or empty, a row lacks a column, or holds in it what makes no prompt or no answer; of wrong
            rows the first five have a line each, and all are counted.
    """
    root, where = loading.folder_of(source, folder), loading.name(source, language)
    items, wrong = list[Item](), WrongRows(where)
    label = task.answer if task.choices and labelled else None
    for location, row in wrong.read(loading.rows(source, folder, language, label)):
        with wrong.caught():
            item = _item(task, location, row, language, scored, labelled)
            # Relative to the folder, which may be moved.
            items.append(replace(item, id=location.removeprefix(f"{root}/")))
    wrong.refuse()
    if len({item.doc_id for item in items} - {""}) < len(items):
        items = [replace(item, doc_id=str(index)) for index, item in enumerate(items)]
    if not items:
        raise DataError(f"{where}: holds no items")
    return items


def question(wording: Conversational, labels: Iterable[str], location: str, row: Mapping[str, Any]) -> Item:
    """The item of a row without its answer; columns that the wording does not name are not looked at.

    Args:
        wording: how the row becomes a prompt.
        labels: in the order of the item's choices; none where answers are written.
        location: of the row.
        row: its columns.

    Raises:
        DataError: the row lacks a column, or has one that is empty or holds no text, its conversation is malformed, or two
            choices have the same words.
    """
    there = [column for column in wording.optional if nested.root(column) in row]
    row = dict.fromkeys(there) | nested.resolved(row, wording.columns)
    may_be = [column for column in wording.prompt_columns if column not in wording.optional]
    if len(may_be) > 1 and (empty := [column for column in may_be if column in row and is_empty(row[column])]):
        raise DataError(
            f"{location}: column {empty[0]!r} is empty; fill it, remove the row, or let it be empty with task.optional: "
            f"[{empty[0]}]"
        )
    missing = [
        column
        for column in wording.columns
        if row.get(column) is None and not (column in row and column in wording.optional)
    ]
    if missing:
        raise lacks(location, missing[0], row)
    turns: list[Turn] = []
    if wording.messages is None:
        prompt, longest = filled(wording.prompt, location, row, wording.optional)
    else:
        (*turns, (_, prompt)), _ = conversation(location, wording.messages, row[wording.messages])
        longest = (0, len(prompt))
    if wording.system is not None and not (turns and turns[0][0] == "system"):
        turns.insert(0, ("system", wording.system))
    words = wording.choices or {}
    choices = {label: filled(words[label], location, row)[0] for label in labels}
    if len({same_words(words) for words in choices.values()}) < len(choices):
        raise DataError(f"{location}: two choices have the same words; the model could not tell them apart")
    return Item(
        location,
        prompt,
        "",
        tuple(wording.separator + words for words in choices.values()),
        longest,
        (),
        "" if row.get("id") is None else str(row["id"]),
        _text_pair(wording, row, choices),
        wording.chat,
        tuple(turns),
    )


def _item(task: Task, location: str, row: dict[str, Any], language: str, scored: bool, labelled: bool) -> Item:
    # In the order of the task, whatever a language's own wording has: label by label they are the same in every language.
    labels = tuple(task.choices or ())
    wording = task.wording(language)
    row = nested.resolved(row, [name for name in (task.answer, task.learned, task.messages) if name])
    item = question(wording, labels, location, row)
    if not labelled:
        return item
    if task.messages is not None:
        _, last = conversation(location, task.messages, row[task.messages])
        if last is None:
            raise DataError(
                f"{location}: column {task.messages!r} ends with the user's turn; expected the assistant's answer"
            )
        row = row | {task.answer: last}
    if row.get(task.answer) is None:
        raise lacks(location, task.answer, row)
    choices = {label: words.removeprefix(wording.separator) for label, words in zip(labels, item.choices, strict=True)}
    answer, golds = right_answers(task, location, row, choices, language, scored)
    return replace(item, answer=wording.separator + answer, golds=golds)


def _text_pair(wording: Conversational, row: Mapping[str, Any], choices: Mapping[str, str]) -> tuple[str, ...]:
    shared = wording.shared_columns
    if shared is None:
        return tuple(words.strip() for words in choices.values())
    return (" ".join(str(row[column]).strip() for column in shared),) if shared else ()


def refuse_unequal(counts: Mapping[str, int]) -> None:
    """Check that all languages have the same number of items of the reference task.

    Raises:
        DataError: languages have different numbers of items.
    """
    if len(set(counts.values())) > 1:
        raise DataError(
            "reference.task: "
            + ", ".join(f"{code} has {count:,} items" for code, count in counts.items())
            + f"; every language needs as many: set reference.task.train.limit to {min(counts.values())}"
        )
