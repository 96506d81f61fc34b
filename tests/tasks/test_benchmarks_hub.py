"""Benchmarks from the hub: which data set is asked for, and that its rows give the same columns as the files."""

from typing import Any

import pytest

from adamergex.tasks import benchmarks
from tests.task_rows import CAUSED, COPA_ROW, HEADED, PAIR, SOLVED, SUM, SUMMED, read

HUB_SQUAD = {"id": "q", "title": "t", "context": "c red", "question": "q?", "answers": {"text": ["red"]}}
HUB = [
    ("gsm8k", "train", "en", "main", "train", SUM, SOLVED),
    (
        "mgsm",
        "test",
        "es-MX",
        "es",
        "test",
        {"question": "¿?", "answer": None, "answer_number": 18, "equation_solution": None},
        {"id": "0", "question": "¿?", "answer": "18"},
    ),
    (
        "mgsm",
        "exemplars",
        "zh",
        "zh",
        "train",
        {"question": "问题：几个？", "answer": "逐步解答：1+1=2。", "answer_number": 2, "equation_solution": "1+1=2"},
        {"id": "0", "question": "几个？", "answer": "2", "solution": "1+1=2。"},
    ),
    ("copa", "dev", "en", "copa", "validation", COPA_ROW | {"idx": 4, "label": 0}, CAUSED),
    (
        "xcopa",
        "test",
        "th",
        "th",
        "test",
        COPA_ROW | {"idx": 4, "label": 0, "changed": False},
        CAUSED | {"connective": "ดังนั้น", "ending1": "i got wet."},
    ),
    (
        "mnli",
        "dev",
        "en",
        "default",
        "validation_matched",
        {"promptID": 1, "premise": 'She said "hi', "hypothesis": "Yes.", "genre": "fiction", "label": 1},
        PAIR,
    ),
    ("xnli", "test", "sw", "sw", "test", {"premise": 'She said "hi', "hypothesis": "Yes.", "label": 1}, PAIR),
    (
        "squad",
        "train",
        "en",
        "plain_text",
        "train",
        HUB_SQUAD,
        {"id": "q", "paragraph": "0", "context": "c red", "question": "q?", "answers": ["red"], "answer": "red"},
    ),
    (
        "xquad",
        "test",
        "el",
        "xquad.el",
        "validation",
        HUB_SQUAD,
        {"id": "q", "paragraph": "0", "context": "c red", "question": "q?", "answers": ["red"], "answer": "red"},
    ),
    ("xlsum", "dev", "zh-TW", "chinese_traditional", "validation", SUMMED | {"url": "u"}, SUMMED),
    (
        "sib200",
        "test",
        "sw",
        "swh_Latn",
        "test",
        {"index_id": 7, "category": "travel", "text": "x"},
        {"id": "7", "text": "x", "category": "travel"},
    ),
    (
        "masakhanews",
        "dev",
        "yo",
        "yor",
        "validation",
        {"category": "sports", "headline": 'A "big"\nwin', "text": "One,\ttwo.\nThree.", "url": "/a"},
        HEADED | {"id": "yo-0"},
    ),
]


@pytest.mark.parametrize(("name", "split", "language", "config", "hub_split", "row", "first"), HUB)
def test_rows_of_the_hub_have_the_same_columns(
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    split: str,
    language: str,
    config: str,
    hub_split: str,
    row: dict[str, Any],
    first: dict[str, Any],
) -> None:
    import datasets

    asked: list[Any] = []

    def load(*names: str, **options: Any) -> list[dict[str, Any]]:
        asked.append((names, options))
        return [row]

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert read(name, split, language, None) == [first]
    benchmark = benchmarks.find(name)
    options = {"split": hub_split, "revision": benchmark.revision, "streaming": True, "trust_remote_code": False}
    assert asked == [((benchmark.dataset, config), options)]
