"""A limit on rows: a sample with every label in its share, the same in every run."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from adamergex.data.formats import Row
from adamergex.data.settings import Source
from adamergex.tasks import loading
from adamergex.tasks.items import read_items
from adamergex.tasks.sampling import sample, shares
from adamergex.tasks.task import Task


@pytest.mark.parametrize(
    ("counts", "limit", "wanted"),
    [
        ({"a": 50, "b": 30, "c": 20}, 10, {"a": 5, "b": 3, "c": 2}),
        # The largest remainders are rounded up: 3.5, 2.1, 1.4.
        ({"a": 50, "b": 30, "c": 20}, 7, {"a": 4, "b": 2, "c": 1}),
        # Each at least once, out of the largest.
        ({"a": 98, "b": 1, "c": 1}, 10, {"a": 8, "b": 1, "c": 1}),
        ({"a": 98, "b": 1, "c": 1}, 2, {"a": 2, "b": 0, "c": 0}),
        ({"a": 2, "b": 1}, 3, {"a": 2, "b": 1}),
        ({"a": 2, "b": 1}, 9, {"a": 2, "b": 1}),
    ],
)
def test_labels_keep_their_shares(counts: dict[str, int], limit: int, wanted: dict[str, int]) -> None:
    found = shares(Counter(counts), limit)
    assert {label: found[label] for label in counts} == wanted
    rows = [(f"{label}{number}", {"l": label}) for label, count in counts.items() for number in range(count)]
    drawn = sample(rows, limit, "l")
    assert Counter(row["l"] for _, row in drawn) == Counter(wanted)
    assert drawn == sorted(drawn, key=rows.index)
    assert drawn == sample(iter(rows), limit, "l")


def test_a_sample_is_no_beginning_and_translations_have_the_same_one() -> None:
    rows: list[Row] = [(str(number), {"l": "ab"[number // 500], "text": number}) for number in range(1_000)]
    translated = [(f"x{place}", {**row, "text": -row["text"]}) for place, row in rows]
    numbers = [row["text"] for _, row in sample(rows, 100, "l")]
    assert [-row["text"] for _, row in sample(translated, 100, "l")] == numbers
    # Spread over each half: a sample of 50 of 500 has a mean within 5 standard errors (19.4) of the middle.
    for first, half in ((0, numbers[:50]), (500, numbers[50:])):
        assert abs(sum(half) / 50 - first - 249.5) < 97
    assert len({row["text"] for _, row in sample(rows, 100)}) == 100


def test_a_limit_on_a_file_that_is_sorted_by_label_takes_every_label(tmp_path: Path) -> None:
    rows = [{"text": str(number), "label": "abc"[number // 40], "kind": {"of": "x"}} for number in range(120)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def labels(**more: Any) -> Counter[str]:
        settings = {"prompt": "{text}", "answer": "label", "choices": ["a", "b", "c"], "train": "a.jsonl"} | more
        task = Task.model_validate(settings)
        found = read_items(task, Source(files=["a.jsonl"], limit=12), tmp_path, "en")
        return Counter(item.answer.strip() for item in found)

    assert labels() == Counter(a=4, b=4, c=4)
    # Answers that are written are no strata, and still no beginning.
    written = labels(choices=None)
    assert written.total() == 12
    assert len(written) > 1


def test_what_is_drawn_already_or_would_have_to_be_fetched_is_not_drawn() -> None:
    hub = Source(dataset="a/b", split="train", limit=5)
    packaged = Source(package="emoji", split="train", limit=5)
    benchmark = Source(benchmark="mgsm", split="test", limit=5)
    files = Source(files=["a"], limit=5)
    assert [loading.is_sampled(one, None) for one in (hub, packaged, benchmark, files)] == [False, False, False, True]
    assert [loading.is_sampled(one, "l") for one in (hub, packaged, benchmark, files)] == [True, False, True, True]
