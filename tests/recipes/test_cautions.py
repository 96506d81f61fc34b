"""What is odd about a recipe's data is said before anything is trained, and stops nothing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from adamergex.cli.main import app
from adamergex.recipes import loading, preflight


@pytest.fixture
def warnings(own_data: Callable[..., Path]) -> Callable[..., list[str]]:
    """Write files, as rows by their names, and check the recipe: what it warns of."""
    path = own_data()

    def found(files: dict[str, list[dict[str, Any]]] | None = None, *overrides: str) -> list[str]:
        for name, rows in (files or {}).items():
            (path.parent / "data" / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        return preflight.check(loading.load(str(path), list(overrides)), path.parent).warnings

    return found


def row(text: str, label: object = "pos") -> dict[str, Any]:
    return {"text": text, "label": label}


def test_of_good_data_nothing_is_said(warnings: Callable[..., list[str]]) -> None:
    assert warnings() == []


@pytest.mark.parametrize("scored", [True, False])
def test_several_tasks_of_which_none_is_scored(own_data: Callable[..., Path], scored: bool) -> None:
    path = own_data()
    recipe = json.loads(path.read_text())
    task, recipe["evaluate"] = recipe.pop("task"), {}
    unlabelled = {key: value for key, value in task.items() if key != "test"}
    path.write_text(json.dumps(recipe | {"tasks": {"a": task if scored else unlabelled, "b": unlabelled}}))
    assert preflight.check(loading.load(str(path)), path.parent).warnings == [
        "nothing is scored: no task has labelled items of a target language, so no number will say whether merging helped; "
        "give a test source where there are some"
    ] * (not scored)


def test_a_single_class_and_classes_that_are_not_learned(warnings: Callable[..., list[str]]) -> None:
    found = warnings({"train.en.jsonl": [row(f"train {number}") for number in range(6)]})
    assert found == [
        "train (en): all 6 items have the label 'pos'",
        "test (es): 4 of 8 items have labels that train (en) has none of, and that are not learned: neg (4)",
    ]
    written = ("task.choices=null", "task.kind=text")
    assert warnings(None, *written) == []


def test_the_same_prompt_with_another_answer_and_in_another_file(warnings: Callable[..., list[str]]) -> None:
    rows = [row("a"), row("b", "neg"), row(" a", "neg"), row("c"), row("c"), row("b", "pos")]
    found = warnings({"train.en.jsonl": rows})
    assert found == [
        "train (en): 2 of 6 items have another answer than the same prompt has before, such as data/train.en.jsonl:1 and "
        "data/train.en.jsonl:3"
    ]
    files = {"train.en.jsonl": [row("a"), row("b", "neg")], "more.en.jsonl": [row("b", "neg"), row("c"), row("a")]}
    files["more.es.jsonl"] = [row("d")]
    copied = ["task.train={files: ['data/train.{language}.jsonl', 'data/m*.{language}.jsonl']}"]
    assert warnings(files, *copied) == [
        "train (en): 2 of 5 items stand in two files, such as data/train.en.jsonl:1 and data/more.en.jsonl:3"
    ]


def test_a_space_before_a_space(warnings: Callable[..., list[str]]) -> None:
    for prompt, separator, count in (
        ("{text}: ", " ", 3),
        ("{text}:", " ", 0),
        ("{text}: ", "", 0),
        ("{text}:\n", " ", 0),
    ):
        found = warnings(None, f"task.prompt={json.dumps(prompt)}", f"task.separator={json.dumps(separator)}")
        # In each split that there is.
        assert len([line for line in found if "prompts end in a space" in line]) == count, found
    assert warnings(None, "task.prompt='{text}: '")[0] == (
        "train (en): 6 of 6 prompts end in a space, and their answers begin with one, which makes other tokens than models know: "
        "remove it from task.prompt, or write separator: ''"
    )


def test_items_that_are_mostly_longer_than_what_is_read(warnings: Callable[..., list[str]]) -> None:
    # A token a byte: the model reads 1,024.
    long = [row(f"{number} " + "x" * (1100 if number < 4 else 20), ("pos", "neg")[number % 2]) for number in range(6)]
    assert warnings({"train.en.jsonl": long}) == [
        "train (en): about 67% of the items are longer than the 1,024 tokens that are read of one (the model’s context); the longest "
        "column of each loses its end"
    ]
    assert (
        "longer than the 512 tokens that are read of one (train.max_length)"
        in warnings(None, "train.max_length=512")[0]
    )
    assert warnings({"train.en.jsonl": long[3:]}) == []


def test_warnings_stop_nothing_and_are_shown(own_data: Callable[..., Path]) -> None:
    path = own_data()
    arguments = ["validate", str(path), "--set", "task.prompt='{text}: '"]
    shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == 0
    assert "warning: train (en): 6 of 6 prompts end in a space" in shown.stderr
    assert json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)["warnings"][0].startswith(
        "train (en): 6 of 6"
    )
