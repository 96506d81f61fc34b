"""Items that a model has seen with their answers are not scored: found before a run, within it, and in `evaluate`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from adamergex.cli.main import app
from adamergex.errors import DataError, RecipeError
from adamergex.pipeline.run import run
from adamergex.recipes import loading, preflight

STOPPING = {"early_stopping": {"every": 1}, "task": {"batch_size": 4}, "reference": {"batch_size": 4}}
LABELLED = {"prompt": "{text}:", "answer": "label", "choices": {"pos": "yes", "neg": "no"}}


def also(path: Path, among: Path) -> None:
    """The second row of one file stands in another, written a little otherwise."""
    row = json.loads(path.read_text().splitlines()[1])
    among.write_text(among.read_text() + json.dumps({**row, "text": f" {row['text'].upper()} !"}) + "\n")


def data(path: Path, split: str, count: int = 6) -> None:
    for language in ("en", "es"):
        rows = [{"text": f"{split} {language} {i}", "label": ("pos", "neg")[i % 2]} for i in range(count)]
        (path.parent / f"data/{split}.{language}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def recipe(own_data: Callable[..., Path]) -> Path:
    """A recipe with everything that a model may see before it is scored."""
    path = own_data()
    whole: dict[str, Any] = json.loads(path.read_text())
    whole["task"] |= {"dev": "data/dev.{language}.jsonl", "examples": "data/examples.{language}.jsonl"}
    whole["reference"] = {"task": LABELLED | {"train": "data/reference.{language}.jsonl"}}
    whole["train"] |= STOPPING
    whole["evaluate"] = {"methods": ["few-shot", "source-adapter", "adamergex", "ceiling"], "shots": 2}
    path.write_text(json.dumps(whole))
    for split in ("dev", "examples", "reference"):
        data(path, split)
    return path


@pytest.mark.parametrize(
    ("split", "language", "where"),
    [
        ("train", "en", "train"),
        ("train", "es", "train"),
        ("dev", "en", "dev"),
        ("dev", "es", "dev"),
        ("examples", "es", "examples"),
        ("reference", "es", "reference.task"),
    ],
)
def test_whatever_is_seen_and_scored_is_found_before_anything_runs(
    recipe: Path, split: str, language: str, where: str
) -> None:
    loaded = loading.load(str(recipe))
    preflight.check(loaded, recipe.parent)
    also(recipe.parent / f"data/{split}.{language}.jsonl", recipe.parent / "data/test.es.jsonl")
    says = (
        rf"task data \(es\): 1 of \d+ scored items stand in {where}, too \(1 pair, the first data/{split}\.{language}"
    )
    with pytest.raises(RecipeError, match=says) as caught:
        preflight.check(loaded, recipe.parent)
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize("split", ["train", "dev", "examples", "reference"])
def test_data_that_is_there_only_in_a_run_is_looked_at_in_the_run(
    recipe: Path, split: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adamergex.pipeline.run.check", lambda recipe, folder: preflight.Looked())
    also(recipe.parent / f"data/{split}.es.jsonl", recipe.parent / "data/test.es.jsonl")
    with pytest.raises(DataError, match=r"1 of \d+ scored items stand in"):
        run(loading.load(str(recipe)), folder=recipe.parent, output=recipe.parent / "run")
    assert not list(recipe.parent.glob("run/predictions/**/predictions.jsonl"))


def test_adapters_are_not_chosen_by_the_items_that_they_are_scored_on(recipe: Path) -> None:
    for setting in ("evaluate.split=dev", "task.test='data/dev.{language}.jsonl'"):
        with pytest.raises(
            RecipeError, match=r"train\.early_stopping chooses .* by task\.dev, which is the scored"
        ) as e:
            loading.load(str(recipe), [setting])
        assert len(e.value.problems) == 1
    loading.load(str(recipe), ["evaluate.split=dev", "train.early_stopping=null"])
    loading.load(str(recipe), ["task.test=null", "evaluate.methods=[adamergex]"])


def evaluate(*arguments: str) -> None:
    done = CliRunner().invoke(app, ["evaluate", "--language", "es", *arguments])
    if done.exception:
        raise done.exception


def test_evaluate_finds_training_items_that_are_scored(
    own_data: Callable[..., Path], tiny_model: Path, tmp_path: Path
) -> None:
    path, out = own_data(), tmp_path / "out"
    arguments = ["--task", str(path), "--base-model", str(tiny_model), "--output", str(out)]
    evaluate(*arguments)
    said = "recipe, es: none of the scored items is among 12 training items (en, es)"
    assert said in (out / "report.md").read_text()
    # Solved examples are from the training items, and no more of these.
    evaluate(*arguments, "--asking", "few-shot")
    assert said in (out / "report.md").read_text()
    # What is scored is done; what it is compared with changes.
    also(path.parent / "data/test.es.jsonl", path.parent / "data/train.en.jsonl")
    says = r"\(recipe, es\): 1 of 8 scored items stand in train, too \(1 pair, the first data/train\.en\.jsonl:7 and data/test\.es"
    with pytest.raises(DataError, match=says):
        evaluate(*arguments)
    allowing = json.loads(path.read_text())
    path.write_text(json.dumps(allowing | {"task": allowing["task"] | {"overlap": "allow"}}))
    evaluate(*arguments)
    assert "recipe, es: 1 of 8 scored items stand in train, too (task.overlap)" in (out / "report.md").read_text()
    for language in ("en", "es"):
        (path.parent / f"data/train.{language}.jsonl").unlink()
    evaluate(*arguments)
    assert "recipe, es: not compared with training items" in (out / "report.md").read_text()


def test_evaluate_finds_solved_examples_that_are_scored(recipe: Path, tiny_model: Path, tmp_path: Path) -> None:
    also(recipe.parent / "data/examples.es.jsonl", recipe.parent / "data/test.es.jsonl")
    out = tmp_path / "out"
    with pytest.raises(DataError, match=r"1 of \d+ scored items stand in examples, too"):
        evaluate("--task", str(recipe), "--base-model", str(tiny_model), "--output", str(out), "--asking", "few-shot")
