"""What a run would refuse after it has begun, `validate` refuses at once."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adamergex.errors import RecipeError, StorageError
from adamergex.pipeline.run import finish, planned_run
from adamergex.progress import Silent
from adamergex.recipes import loading
from adamergex.recipes.preflight import check


def problems(path: Path) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        check(loading.load(str(path)), path.parent)
    return caught.value.problems


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"benchmark": "../x", "split": "test"}, "../x: no such benchmark; expected one of "),
        ({"benchmark": "xcopa", "split": "tset"}, "xcopa: has no split 'tset'; it has "),
        ({"benchmark": "xcopa", "split": "test"}, "xcopa: has no data in "),
    ],
)
def test_a_benchmark_is_known_before_it_is_fetched(
    source: dict[str, str], said: str, own_data: Callable[..., Path]
) -> None:
    recipe: dict[str, Any] = {"prompt": "{text}:", "answer": "label", "choices": ["pos", "neg"]}
    recipe |= {"train": "data/train.{language}.jsonl", "test": source}
    [line] = problems(own_data(task=recipe, evaluate={"methods": ["source-adapter"]}))
    assert line.startswith(said)


@pytest.mark.parametrize("name", ["a/b/c", "~nosuchuser/model", "/" + "x" * 300, "/nowhere"])
def test_a_base_model_that_is_nowhere(name: str, own_data: Callable[..., Path]) -> None:
    [line] = problems(own_data(base_model=name))
    assert line.startswith(f"base_model {name}: no such folder; expected a Hugging Face id, a folder, or package:")


def test_a_base_model_in_a_folder_is_seen_from_the_recipes(
    own_data: Callable[..., Path], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = own_data(base_model="model")
    (path.parent / "model").symlink_to(tiny_model, target_is_directory=True)
    (tmp_path / "a/b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a/b")
    recipe = loading.load(str(path))
    assert check(recipe, path.parent) == check(loading.load(str(path), [f"base_model={tiny_model}"]), path.parent)
    assert planned_run(recipe, path.parent, Silent())[0].name == str(tiny_model.resolve())
    # Else from the current folder.
    (tmp_path / "a/elsewhere").symlink_to(tiny_model, target_is_directory=True)
    recipe = loading.load(str(path), ["base_model=../elsewhere"])
    assert planned_run(recipe, path.parent, Silent())[0].name == str(tiny_model.resolve())


@pytest.mark.parametrize(
    ("adapter", "said"),
    [
        ({"target_modules": ["nope"]}, "adapter.target_modules: nope matches no module of "),
        ({"rank_pattern": {"nope": 3}}, "adapter.rank_pattern: 'nope' matches no module of "),
        ({"structure": "ia3", "target_modules": ["nope"]}, "adapter.target_modules: nope matches no module of "),
    ],
)
def test_adapters_are_on_modules_that_there_are(
    adapter: dict[str, Any], said: str, own_data: Callable[..., Path]
) -> None:
    [line] = problems(own_data(adapter=adapter))
    assert line.startswith(said)


def test_several_problems_are_said_at_once(own_data: Callable[..., Path]) -> None:
    path = own_data(base_model="a/b/c")
    for name in ("test.es.jsonl", "text.es.txt"):
        (path.parent / "data" / name).unlink()
    found = problems(path)
    assert [line.partition(": ")[0].removeprefix(f"{path.parent}/data/") for line in found] == [
        "test.es.jsonl",
        "base_model a/b/c",
        "text.es.txt",
    ]


def test_an_output_that_cannot_be_written_down_is_refused_first(own_data: Callable[..., Path]) -> None:
    path = own_data()
    with pytest.raises(StorageError, match=r"out\\\\udcff' is no path that can be written down"):
        finish(loading.load(str(path)), path.parent, path.parent / "out\udcff")
    assert not list(path.parent.glob("out*"))
