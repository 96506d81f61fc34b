"""What a run would refuse after it has begun, `validate` refuses at once."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adamergex.errors import RecipeError, StorageError
from adamergex.pipeline.run import finish, planned_run
from adamergex.progress import Silent
from adamergex.recipes import loading
from adamergex.recipes.preflight import check

TASK = {
    "prompt": "{text}:",
    "answer": "label",
    "choices": {"pos": "yes", "neg": "no"},
    "train": "data/train.{language}.jsonl",
    "test": "data/test.{language}.jsonl",
}


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
        (
            {"structure": "ia3", "target_modules": ["q_proj"], "feedforward_modules": ["down_proj"]},
            "adapter.feedforward_modules: down_proj is not one of adapter.target_modules, q_proj; list it there, too",
        ),
    ],
)
def test_adapters_are_on_modules_that_there_are(
    adapter: dict[str, Any], said: str, own_data: Callable[..., Path]
) -> None:
    [line] = problems(own_data(adapter=adapter))
    assert line.startswith(said)


def test_a_model_without_code_of_its_own_is_looked_at_where_code_may_run(own_data: Callable[..., Path]) -> None:
    path = own_data(trust_remote_code=True, adapter={"target_modules": ["nope"]})
    reference = {"corpus": "data/text.{language}.txt", "tokens": 128, "window": 2000}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"reference": reference}))
    assert [line.partition(" matches")[0] for line in problems(path)] == [
        "adapter.target_modules: nope",
        "reference.tokens is 128, less than one window of 1999; raise it or lower reference.window",
    ]


def test_inputs_that_answers_are_calibrated_on_are_looked_at(own_data: Callable[..., Path]) -> None:
    path = own_data(task=TASK | {"dev": "data/dev.{language}.jsonl"})
    # Without dev items of the target language there is nothing to look at.
    assert check(loading.load(str(path)), path.parent).warnings == []
    dev = path.parent / "data/dev.es.jsonl"
    dev.write_text("{")
    assert [line.partition(": ")[0] for line in problems(path)] == [f"{dev}:1"]
    # No label of theirs is looked at.
    dev.write_text('{"text": "neither"}\n')
    assert check(loading.load(str(path)), path.parent).warnings == []


def test_a_benchmark_has_the_inputs_that_answers_are_calibrated_on(own_data: Callable[..., Path]) -> None:
    path = own_data(task={"benchmark": "sib200", "data": "data"}, evaluate={"methods": ["source-adapter"]})
    for code in ("eng_Latn", "spa_Latn"):
        (path.parent / "data" / code).mkdir()
        for split in ("train", "test"):
            rows = [f"{n}\t{topic}\t{split} {n}" for n, topic in enumerate(("travel", "sports", "travel", "sports"))]
            content = "\n".join(["index_id\tcategory\ttext", *rows])
            (path.parent / f"data/{code}/{split}.tsv").write_text(content)
    assert problems(path) == [
        f"{path.parent}/data: holds no spa_Latn/dev.tsv and no data/annotated/spa_Latn/dev.tsv; put the authors' file there"
    ]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        # A byte is a token, and <bos> and <eos> stand around it: `train 0 good: yes` and `test 0 bueno: yes` are 17 bytes each.
        ({"train": {"max_length": 10}}, []),
        ({"train": {"max_length": 8}, "task": {"prompt": "Text: {text}:"}}, ["train.en.jsonl:1", "test.es.jsonl:1"]),
        ({"adapter": {"structure": "prefix", "virtual_tokens": 1020}}, ["train.en.jsonl:1", "test.es.jsonl:1"]),
        ({"evaluate": {"methods": ["few-shot"], "shots": 6}, "train": {"max_length": 100}}, ["test.es.jsonl:1"]),
        ({"evaluate": {"methods": ["xlt"]}, "train": {"max_length": 300}}, ["test.es.jsonl:1"]),
        ({"task": {"choices": None}, "evaluate": {"methods": ["base"], "max_new_tokens": 1023}}, ["test.es.jsonl:1"]),
    ],
)
def test_what_is_too_long_to_be_read_is_found_before(
    changes: dict[str, Any], said: list[str], own_data: Callable[..., Path]
) -> None:
    task = TASK | changes.pop("task", {})
    path = own_data(task=task, **{"evaluate": {"methods": ["source-adapter"]}} | changes)
    if not said:
        check(loading.load(str(path)), path.parent)
        return
    found = [line.removeprefix("data/").partition(": ") for line in problems(path)]
    assert [place for place, _, _ in found] == said
    assert all("even without the text of its longest column" in why for _, _, why in found)


@pytest.mark.parametrize("merge", [{"modules": {"nope": 1}}, {"layers": {"2": 1}}])
def test_a_scale_is_of_modules_that_are_merged(merge: dict[str, Any], own_data: Callable[..., Path]) -> None:
    [line] = problems(own_data(merge={"scale": {"default": 0.5} | merge}))
    what = next(iter(merge)).replace("modules", "nope").replace("layers", "layer 2")
    assert line == (
        f"merging for es: the scale of {what} fits no module, or none that an earlier pattern leaves; they are named like "
        "model.layers.0.self_attn.q_proj"
    )


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
