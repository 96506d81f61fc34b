"""The task of a recipe in `adamergex evaluate`: its folder and its source language go with it, and its name is its own."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import adamergex
from adamergex.cli.main import app
from adamergex.errors import RecipeError
from adamergex.pipeline.run import run
from adamergex.recipes import loading
from adamergex.storage.files import read_jsonl


def evaluate(*arguments: str) -> None:
    done = CliRunner().invoke(app, ["evaluate", *arguments])
    if done.exception:
        raise done.exception


@pytest.fixture
def elsewhere(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory that holds none of a recipe's data."""
    folder = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(folder)
    return folder


def test_a_recipes_task_is_asked_in_evaluate_as_in_its_run(own_data: Callable[..., Path], elsewhere: Path) -> None:
    """From another directory, few-shot, learned from Spanish: the examples are the run's, and so are the answers."""
    path = own_data(
        source="es", targets=["en"], evaluate={"methods": ["few-shot", "source-adapter", "adamergex"], "shots": 2}
    )
    run(loading.load(str(path)), folder=path.parent, output=path.parent / "run")
    model = json.loads(path.read_text())["base_model"]
    common = ["--task", str(path), "--language", "en", "--base-model", model]
    evaluate(*common, "--asking", "few-shot", "--shots", "2", "--output", "out")
    ours = read_jsonl(elsewhere / "out/predictions/recipe/en/base/predictions.jsonl")
    assert ours == read_jsonl(path.parent / "run/predictions/en/few-shot/predictions.jsonl")


def test_tasks_of_one_name_do_not_take_each_others_place(
    own_data: Callable[..., Path], elsewhere: Path, tiny_model: Path, tmp_path: Path
) -> None:
    whole: dict[str, Any] = json.loads(own_data().read_text())
    for name, count in (("one", 4), ("two", 6)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "recipe.yaml").write_text(json.dumps(whole))
        (tmp_path / name / "data").mkdir()
        rows = [{"text": f"{name} {i}", "label": ("pos", "neg")[i % 2]} for i in range(count)]
        (tmp_path / name / "data/test.es.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    one, two = (str(tmp_path / name / "recipe.yaml") for name in ("one", "two"))
    common = ["--language", "es", "--base-model", str(tiny_model), "--output", "out"]
    with pytest.raises(RecipeError, match="two tasks are called recipe; give one another name: --task NAME=TASK"):
        evaluate("--task", one, "--task", two, *common)
    with pytest.raises(RecipeError, match=r"task \.\./x: '\.\./x' is no name for a folder"):
        evaluate("--task", f"../x={one}", *common)
    assert not (elsewhere / "out").exists()
    evaluate("--task", one, "--task", f"other={two}", *common)
    with pytest.raises(RecipeError, match="two tasks are called recipe"):
        adamergex.evaluate({}, [one, two], ["es"], "python", base_model=str(tiny_model))
    counts = {row["language"]: row["items"] for row in read_jsonl(elsewhere / "out/scores.jsonl")}
    assert counts == {"recipe es": 4, "other es": 6}
    prompts = {name: read_jsonl(elsewhere / f"out/data/{name}-es-test/items.jsonl") for name in ("recipe", "other")}
    assert prompts["recipe"][0]["prompt"] == "one 0:"
    assert prompts["other"][0]["prompt"] == "two 0:"


def test_a_run_is_a_recipe_wherever_it_is_named_from(
    own_data: Callable[..., Path],
    elsewhere: Path,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    near = os.path.relpath(tiny_model, tmp_path)
    path = own_data(evaluate={"methods": ["base", "source-adapter"]}, base_model=near)
    assert path.parent == tmp_path
    with monkeypatch.context() as patch:
        patch.chdir(tmp_path)
        assert CliRunner().invoke(app, ["run", str(path), "--output", str(tmp_path / "run")]).exit_code == 0
    made = loading.load(str(tmp_path / "run"))
    assert (made.folder, made.base_model) == ("..", str(tiny_model.resolve()))
    for name in (tmp_path / "run", tmp_path / "run/recipe.yaml"):
        evaluate(
            "--task", f"t={name}", "--language", "es", "--base-model", str(tiny_model), "--output", f"out-{name.stem}"
        )
        assert (elsewhere / f"out-{name.stem}/data/t-es-test/items.jsonl").read_bytes() == (
            tmp_path / "run/data/task-es-test/items.jsonl"
        ).read_bytes()
    # It goes on in its own folder, where nothing is left to do.
    text = (tmp_path / "run/recipe.yaml").read_text()
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "run").rglob("stage.json")}
    assert CliRunner().invoke(app, ["run", str(tmp_path / "run")]).exit_code == 0
    assert (tmp_path / "run/recipe.yaml").read_text() == text
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert not (elsewhere / "runs").exists()
    assert "16 of 16 stages are done" in CliRunner().invoke(app, ["plan", str(tmp_path / "run")]).output


def test_a_folder_with_a_recipe_that_is_no_run_is_none(own_data: Callable[..., Path], tmp_path: Path) -> None:
    own_data()
    result = CliRunner().invoke(app, ["run", str(tmp_path)])
    assert isinstance(result.exception, RecipeError)
    assert "no such recipe; give a .yaml file, the folder of a run, or one of" in str(result.exception)
