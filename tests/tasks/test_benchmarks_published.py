"""Benchmarks as they are published: skipped where the authors' files do not lie beside the repository.

The variable ADAMERGEX_BENCHMARK_DATA names another folder; see the head of each room for the files.
"""

import os
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from adamergex.scoring.numbers import read_number
from adamergex.tasks import benchmarks
from adamergex.tasks.items import Item
from adamergex.tasks.overlap import pairs

DATA = Path(os.environ.get("ADAMERGEX_BENCHMARK_DATA") or Path(__file__).parents[3] / "shared" / "data")
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the authors' files are not here")

Rows = list[tuple[str, dict[str, Any]]]
NEWS = {"en": (300, 472, 948), "fr": (250, 211, 422), "so": (1021, 148, 294), "sw": (350, 237, 476)}
COUNTS: dict[str, tuple[str, dict[str, int]]] = {
    "mgsm": ("de en es fr sw th zh", {"test": 250}),
    "gsm8k": ("en", {"train": 7473, "test": 1319}),
    "xcopa": ("et id sw th tr vi zh", {"dev": 100, "test": 500}),
    "copa": ("en", {"train": 400, "dev": 100}),
    "xnli": ("ar de en es fr sw th tr zh", {"dev": 2490, "test": 5010}),
    "xquad": ("ar de en es tr zh", {"dev": 217, "test": 973}),
    "sib200": ("ar de en es fr ru so sw th tr zh", {"train": 701, "dev": 99, "test": 204}),
}
PARTS = [
    (name, language, split, count)
    for name, (languages, splits) in COUNTS.items()
    for language in languages.split()
    for split, count in splits.items()
] + [
    ("masakhanews", language, split, count)
    for language, counts in NEWS.items()
    for split, count in zip(("train", "dev", "test"), counts, strict=True)
]
TRANSLATED = [name for name in COUNTS if len(COUNTS[name][0].split()) > 1]


def equal(some: Rows, others: Rows, column: str) -> list[tuple[str, str]]:
    """Pairs of rows with the same text in a column."""
    first, second = ([Item(place, row[column], "") for place, row in rows] for rows in (some, others))
    return pairs(first, second)


@cache
def published(name: str, split: str, language: str) -> list[tuple[str, dict[str, Any]]]:
    return list(benchmarks.find(name).rows(split, language, DATA / {"copa": "copa_en"}.get(name, name)))


@pytest.mark.parametrize(("name", "language", "split", "count"), PARTS)
def test_every_row_fills_its_prompts(name: str, language: str, split: str, count: int) -> None:
    benchmark = benchmarks.find(name)
    prompt = benchmark.prompt(language)
    rows = [row for _, row in published(name, split, language)]
    assert len(rows) == count
    for row in rows:
        for wording in (prompt, benchmark.paper or prompt):
            assert wording.prompt.format_map(row).strip()
            assert all(words.format_map(row).strip() for words in wording.choices.values())
        answers = row[benchmark.answer]
        assert all(answer.strip() for answer in ([answers] if isinstance(answers, str) else answers))
    if prompt.choices:
        assert {row[benchmark.answer] for row in rows} == set(prompt.choices)
    if split == "train":
        assert all("\n" not in row[benchmark.learned] for row in rows)


@pytest.mark.parametrize("name", TRANSLATED)
def test_items_are_parallel(name: str) -> None:
    languages, splits = COUNTS[name]
    for split in splits:
        ids = [[row["id"] for _, row in published(name, split, language)] for language in languages.split()]
        assert len(set(ids[0])) == len(ids[0])
        assert all(other == ids[0] for other in ids)


def test_no_paragraph_of_xquad_is_in_both_splits() -> None:
    for language in COUNTS["xquad"][0].split():
        dev, test = ({row["paragraph"] for _, row in published("xquad", split, language)} for split in ("dev", "test"))
        assert (len(dev), len(test), len(dev & test)) == (48, 192, 0)
    assert all(row["answer"] in row["context"] for _, row in published("xquad", "test", "zh"))


def test_mgsm_is_inside_the_test_split_of_gsm8k_and_not_its_train_split() -> None:
    mgsm = published("mgsm", "test", "en")
    assert len(equal(mgsm, published("gsm8k", "test", "en"), "question")) == 250
    assert equal(mgsm, published("gsm8k", "train", "en"), "question") == []


def test_solutions_of_gsm8k_are_plain_sentences_that_end_with_the_answer() -> None:
    for _, row in published("gsm8k", "train", "en"):
        assert row["solution"].endswith(f"The answer is {row['answer']}.")
        assert "<<" not in row["solution"]


def test_the_dev_split_of_xcopa_is_copas_in_translation() -> None:
    """What can be seen without English data in XCOPA: labels and questions by their places; no text is the same."""
    copa = published("copa", "dev", "en")
    wrong = {}
    for language in COUNTS["xcopa"][0].split():
        xcopa = published("xcopa", "dev", language)
        assert [row["label"] for _, row in copa] == [row["label"] for _, row in xcopa]
        assert equal(copa, xcopa, "premise") == []
        wrong[language] = sum(
            ours["question"] != theirs["question"] for (_, ours), (_, theirs) in zip(copa, xcopa, strict=True)
        )
    assert wrong == {"et": 0, "id": 5, "sw": 6, "th": 52, "tr": 52, "vi": 0, "zh": 0}
    assert Counter(row["question"] for _, row in published("xcopa", "test", "th")) == {"effect": 500}
    assert equal(published("copa", "train", "en"), copa, "premise") == []


@pytest.mark.parametrize(
    ("name", "languages"),
    [("mgsm", "es sw"), ("xcopa", "et sw"), ("xnli", "es sw"), ("xquad", "es zh"), ("sib200", "es yo")],
)
def test_translations_have_the_same_id_in_every_language(name: str, languages: str) -> None:
    first, second = ([row["id"] for _, row in published(name, "test", code)] for code in languages.split())
    assert first == second
    assert len(set(first)) == len(first)


@pytest.mark.skipif(not (DATA / "mgsm/exemplars.py").is_file(), reason="the authors' exemplars are not here")
@pytest.mark.parametrize("language", benchmarks.find("mgsm").languages)
def test_the_solutions_of_mgsms_exemplars_are_read_whatever_comes_after_them(language: str) -> None:
    """And whichever marker the prompt has: the language's, the English one, or none."""
    for marker in (benchmarks.find("mgsm").prompt(language).marker, "The answer is", None):
        for _, row in published("mgsm", "exemplars", language):
            assert read_number(f"{row['solution']} (20)", language, marker) == int(row["answer"])
