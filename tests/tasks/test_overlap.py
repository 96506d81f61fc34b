"""Which items ask the same, and what is done about those that are seen and scored."""

import json
from pathlib import Path

import pytest

from adamergex.errors import DataError
from adamergex.tasks.items import Item, read_items
from adamergex.tasks.overlap import normalised, pairs, refuse_emptied, refuse_overlap, without
from adamergex.tasks.task import Task


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is -5 + 3?", "What is 5 + 3?"),
        ("What is −5 + 3?", "What is 5 + 3?"),
        ("What is 5 - 3?", "What is 5 3?"),
        ("1.5", "15"),
        ("1,5 kg", "15 kg"),
        ("3 5", "35"),
        ("at 10:30", "at 1030"),
        ("١٫٥", "١٥"),
        (":)", ":("),
        ("...", "?!"),
        ("keycap #", "keycap *"),
        ("का", "की"),
    ],
)
def test_what_says_another_thing_is_another_text(one: str, other: str) -> None:
    assert normalised(one) != normalised(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("How many — ２ or 3?", "how many 2 or 3"),
        ("Good  film!!", "good film"),
        ("cafe\u0301", "café"),
        ("Straße 1", "strasse1"),
        ("−5 °C", "-5 °C"),
        ("5 - 3", "5-3"),
        (" :) ", ":)"),
        ("COVID-19", "covid 19"),
        ("It ended. 5 stars", "It ended 5 stars"),
    ],
)
def test_what_looks_the_same_is_the_same(one: str, other: str) -> None:
    assert normalised(one) == normalised(other)


def items(tmp_path: Path, name: str, *texts: str) -> list[Item]:
    (tmp_path / name).write_text("".join(json.dumps({"text": text, "label": "a"}) + "\n" for text in texts))
    task = Task.model_validate(
        {"prompt": "Review: {text}\nSentiment:", "answer": "label", "choices": ["a", "b"], "train": name}
    )
    return read_items(task, task.train, tmp_path, "en")


def test_texts_of_symbols_are_told_apart_within_a_template(tmp_path: Path) -> None:
    seen, scored = items(tmp_path, "a.jsonl", ":)", "ok"), items(tmp_path, "b.jsonl", ":(", "OK!")
    assert pairs(seen, scored) == [("a.jsonl:2", "b.jsonl:2")]


def test_all_pairs_are_counted_and_what_is_dropped_is_what_is_seen(tmp_path: Path) -> None:
    seen = items(tmp_path, "a.jsonl", "one", "two", "One!", "three")
    scored = items(tmp_path, "b.jsonl", "ONE", "four", "one.", "three")
    found = pairs(seen, scored)
    assert found == [
        ("a.jsonl:1", "b.jsonl:1"),
        ("a.jsonl:3", "b.jsonl:1"),
        ("a.jsonl:1", "b.jsonl:3"),
        ("a.jsonl:3", "b.jsonl:3"),
        ("a.jsonl:4", "b.jsonl:4"),
    ]
    assert [item.id for item in without(seen, scored)] == ["a.jsonl:2"]
    says = (
        r"\(es\): 3 of 4 scored items stand in dev, too \(5 pairs, the first a\.jsonl:1 and b\.jsonl:1\); remove them from one, or "
        r"set task\.overlap: drop takes them out of dev, allow "
    )
    with pytest.raises(DataError, match=says):
        refuse_overlap(seen, scored, "es", "dev")
    refuse_overlap(seen, scored[1:2], "es")


def test_nothing_left_is_refused(tmp_path: Path) -> None:
    seen = items(tmp_path, "a.jsonl", "one", "One!")
    with pytest.raises(DataError, match=r"\(es\): all 2 items of train are scored, too, and task\.overlap drops them"):
        refuse_emptied(seen, items(tmp_path, "b.jsonl", "ONE"), "es")
    refuse_emptied(seen, items(tmp_path, "b.jsonl", "two"), "es")
    refuse_emptied([], seen, "es")
