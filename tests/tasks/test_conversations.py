"""Rows that hold conversations, as items."""

import json
from pathlib import Path
from typing import Any

import pytest

from adamergex.data.settings import Source
from adamergex.errors import DataError, RecipeError
from adamergex.storage.yaml_model import check
from adamergex.tasks.conversations import conversation
from adamergex.tasks.items import Item, from_row, question, read_items, to_row
from adamergex.tasks.overlap import refuse_overlap
from adamergex.tasks.task import Task

SAID = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Is it?"},
    {"role": "assistant", "content": "It is."},
    {"role": "user", "content": "Since when?"},
    {"role": "assistant", "content": "Since May.\n\nOr June."},
]
SHAREGPT = [
    {"from": one["role"].replace("user", "human").replace("assistant", "gpt"), "value": one["content"]} for one in SAID
]
TURNS = (("system", "Be brief."), ("user", "Is it?"), ("assistant", "It is."))


def task(**more: Any) -> Task:
    return Task.model_validate({"messages": "messages", "train": "x.jsonl"} | more)


def read(folder: Path, rows: list[Any], asked: Task | None = None, labelled: bool = True) -> list[Item]:
    (folder / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_items(asked or task(), Source(files=["x.jsonl"]), folder, "en", labelled=labelled)


@pytest.mark.parametrize(("column", "said"), [("messages", SAID), ("conversations", SHAREGPT)])
def test_the_last_answer_is_learned_and_all_before_it_is_the_prompt(
    column: str, said: list[dict[str, str]], tmp_path: Path
) -> None:
    (item,) = read(tmp_path, [{column: said, "id": 7}], task(messages=column))
    assert (item.chat, item.turns, item.prompt) == (True, TURNS, "Since when?")
    assert (item.answer, item.golds, item.doc_id) == ("Since May.\n\nOr June.", ("Since May.\n\nOr June.",), "7")
    assert from_row(json.loads(json.dumps(to_row(item)))) == item
    # Without its label, whether that is there or not.
    for rows in (said, said[:-1]):
        (unlabelled,) = read(tmp_path, [{column: rows}], task(messages=column), labelled=False)
        assert (unlabelled.turns, unlabelled.prompt, unlabelled.answer) == (TURNS, "Since when?", "")
    assert task().answer_kind == "generation"


def test_labels_may_be_what_the_assistant_says(tmp_path: Path) -> None:
    said = [
        [{"role": "user", "content": f"Mood {n}?"}, {"role": "assistant", "content": ("pos", "neg")[n]}] for n in (0, 1)
    ]
    items = read(tmp_path, [{"messages": one} for one in said], task(choices=["pos", "neg"], system="Say one word."))
    assert [(item.answer, item.choices) for item in items] == [("pos", ("pos", "neg")), ("neg", ("pos", "neg"))]
    assert items[0].turns == (("system", "Say one word."),)
    said[0][1]["content"] = "good"
    with pytest.raises(DataError, match="unknown label 'good'; task.choices has pos, neg"):
        read(tmp_path, [{"messages": said[0]}], task(choices=["pos", "neg"]))


def test_a_row_s_own_system_message_comes_before_the_tasks(tmp_path: Path) -> None:
    own, other = read(tmp_path, [{"messages": SAID}, {"messages": SAID[1:]}], task(system="Speak Latin."))
    assert [item.turns[0][1] for item in (own, other)] == ["Be brief.", "Speak Latin."]


USER, ASSISTANT = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
MALFORMED: dict[str, tuple[Any, str]] = {
    "text": ("hello", "expected a list of .*, got a str"),
    "empty": ([], "got an empty list"),
    "no turn": (["hello"], "turn 1: expected .*, got a str"),
    "no keys": ([{"text": "a"}], "turn 1: expected .*; it has text"),
    "half a turn": ([{"role": "user"}], "turn 1: expected .*; it has role"),
    "unknown role": ([USER, {"role": "tool", "content": "b"}], "turn 2: unknown role 'tool'; expected one of system"),
    "unknown speaker": ([{"from": "bing", "value": "b"}], "turn 1: unknown from 'bing'"),
    "parts": ([{"role": "user", "content": [{"type": "text"}]}], "turn 1: content is a list; expected text"),
    "nothing said": ([USER, {"role": "assistant", "content": None}], "turn 2: content is a NoneType"),
    "white space": ([USER, {"role": "assistant", "content": " \n"}], "turn 2: content is empty"),
    "tools": ([USER, ASSISTANT | {"tool_calls": [{"id": 1}]}], "turn 2: calls tools"),
    "the assistant begins": ([ASSISTANT, USER], "turn 1: is the assistant's; expected the user's"),
    "twice": ([USER, USER, ASSISTANT], "turn 2: is the user's; expected the assistant's"),
    "system later": (
        [USER, ASSISTANT, {"role": "system", "content": "x"}],
        "turn 3: is the system's; expected the user's",
    ),
    "system alone": ([{"role": "system", "content": "x"}], "holds a system message alone"),
    "no answer": ([USER], "ends with the user's turn; expected the assistant's answer"),
}


@pytest.mark.parametrize(("value", "says"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_row_is_an_error_with_its_number(value: Any, says: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"x\.jsonl:2: column 'messages'.*{says}"):
        read(tmp_path, [{"messages": [USER, ASSISTANT]}, {"messages": value}])


def test_a_row_without_the_column_says_what_it_has(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"x\.jsonl:1: no column 'messages'; the row has conversations"):
        read(tmp_path, [{"conversations": SHAREGPT}])


def test_conversations_that_end_alike_are_not_the_same() -> None:
    def item(name: str, *turns: tuple[Any, str]) -> Item:
        return Item(name, "And now?", " yes", chat=True, turns=turns)

    one = item("a", ("user", "Is it red?"), ("assistant", "No."))
    refuse_overlap([one], [item("b", ("user", "Is it blue?"), ("assistant", "No."))], "en")
    with pytest.raises(DataError, match="1 of 1 scored items stand in train"):
        refuse_overlap([one], [item("c", ("system", "Hm."), *one.turns)], "en")


def test_items_without_chat_are_written_as_before_it() -> None:
    assert set(to_row(Item("a", "b", " c"))) == {
        "id",
        "prompt",
        "answer",
        "choices",
        "longest_column",
        "golds",
        "doc_id",
        "text_pair",
    }


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "prompt": ({"messages": "messages", "prompt": "{text}"}, "rows hold whole conversations; remove prompt"),
    "answer": ({"messages": "messages", "answer": "label"}, "remove answer"),
    "not chat": ({"messages": "messages", "chat": False}, "remove chat"),
    "learned": ({"messages": "messages", "learned": "solution"}, "remove learned"),
    "wordings": (
        {"messages": "messages", "wordings": {"sw": {"prompt": "{text}"}}},
        "remove learned, wordings and optional",
    ),
    "column": ({"messages": "my: messages"}, "expected a column"),
    "system": ({"prompt": "{text}", "answer": "label", "system": "Be brief."}, "system belongs to chat: true"),
    "empty system": ({"prompt": "{text}", "answer": "label", "chat": True, "system": " "}, "system is empty"),
    "wording's system": (
        {"prompt": "{t}", "answer": "label", "wordings": {"sw": {"prompt": "{t}", "system": "Jibu."}}},
        "system belongs to chat: true",
    ),
}


@pytest.mark.parametrize(("settings", "says"), WRONG.values(), ids=WRONG)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        check(Task, json.dumps({"train": "x.jsonl"} | settings), "task.yaml", [])


def test_a_task_is_the_same_when_it_is_written_with_all_its_defaults() -> None:
    for one in (task(), task(choices=["a", "b"], system="x")):
        assert Task.model_validate(one.model_dump(mode="json")) == one


def test_a_language_may_have_a_system_message_of_its_own() -> None:
    settings = {"prompt": "{t}", "answer": "a", "train": "x.jsonl", "chat": True, "system": "Answer."}
    wordings = {"sw": {"prompt": "{t}", "system": "Jibu."}, "yo": {"prompt": "{t}!"}}
    asked = Task.model_validate(settings | {"wordings": wordings})
    shown = {code: question(asked.wording(code), (), "x:1", {"t": "so"}) for code in ("en", "sw", "yo")}
    assert {code: item.turns[0][1] for code, item in shown.items()} == {"en": "Answer.", "sw": "Jibu.", "yo": "Answer."}
    assert all(item.chat for item in shown.values())
    assert shown["yo"].prompt == "so!"


def test_a_conversation_is_parsed_alone() -> None:
    assert conversation("x:1", "m", SAID) == ([*TURNS, ("user", "Since when?")], "Since May.\n\nOr June.")
    assert conversation("x:1", "m", SAID[:-1])[1] is None
