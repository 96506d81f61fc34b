"""Planners are pure; what a result depends on is in its key, and nothing else."""

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from adamergex.cli.main import app
from adamergex.execution.stage import Plan, Stage, described, key, ordered
from adamergex.inference.settings import Evaluate
from adamergex.pipeline import evaluation_plan, run_plan, run_sources
from adamergex.pipeline.evaluation_plan import Comparison, Engines, ScoredTask
from adamergex.pipeline.kinds import KINDS
from adamergex.pipeline.resolve import Contents, Wanted
from adamergex.pipeline.run import run
from adamergex.pipeline.stages.base_model import BaseModel
from adamergex.pipeline.stages.checks import OverlapParams
from adamergex.pipeline.stages.choose import ChooseParams
from adamergex.recipes import loading
from adamergex.tasks.task import Task

MODEL = BaseModel(name="tiny", fingerprint="sha256 1", family="causal")


def contents(wanted: Iterable[Wanted], **changed: str) -> Contents:
    """As if each source were a file that holds its own name; `changed`: part of a source → what it holds now."""
    found = {}
    for one in wanted:
        text = f"{one.source.model_dump_json()} {one.language}"
        found[one.key] = {"sha256": next((new for part, new in changed.items() if part in text), text)}
    return Contents(found)


def plan(path: Path, *overrides: str, model: BaseModel = MODEL, processes: int = 1) -> Plan:
    recipe = loading.load(str(path), overrides)
    folder = path.parent
    wanted = [one for part in recipe.parts for one in run_sources.sources(part.recipe, folder)]
    return run_plan.plan(recipe.parts, model, contents(wanted), folder, processes).stages


def keys(stages: Plan) -> dict[str, str]:
    """The key of each stage, if a result's contents were its key."""
    digests: dict[str, str] = {}
    for stage in ordered(stages):
        digests[stage.id] = key(described(stage, KINDS[stage.kind], digests))
    return digests


def changes(one: Plan, other: Plan) -> set[str]:
    """The ids of the stages of `one` that another plan would make again."""
    before, after = keys(one), keys(other)
    return {id for id in before if before[id] != after.get(id)}


def test_a_plan_is_equal_by_value_and_survives_json(own_data: Callable[..., Path]) -> None:
    path = own_data()
    stages = plan(path)
    assert stages == plan(path)
    again = {id: Stage.from_json(json.loads(json.dumps(stage.as_json())), KINDS) for id, stage in stages.items()}
    assert keys(again) == keys(stages)


def test_a_moved_recipe_has_the_same_keys(own_data: Callable[..., Path], tmp_path: Path) -> None:
    path = own_data()
    (tmp_path / "moved").mkdir()
    moved = tmp_path / "moved/recipe.yaml"
    moved.write_text(path.read_text())
    assert keys(plan(path)) == keys(plan(moved))


def test_another_target_makes_nothing_of_the_first_again(own_data: Callable[..., Path]) -> None:
    path = own_data(evaluate={"methods": ["base", "source-adapter", "adamergex"]})
    more = plan(path, "targets=[es, sw]")
    assert changes(plan(path), more) == set()
    assert [id for id in more if id.startswith("adapters/")] == [
        "adapters/task-en",
        "adapters/reference-en",
        "adapters/reference-es",
        "adapters/reference-sw",
    ]
    # What is scored is looked at before anything is learned from.
    assert more["adapters/task-en"].after == ("checks/overlap-es", "checks/overlap-sw")


@pytest.mark.parametrize(
    ("override", "made"),
    [
        (
            "merge.scale=0.1",
            {"merged/es/adamergex", "predictions/es/adamergex", "calibration/es/adamergex", "delivered"},
        ),
        ("evaluate.batch_size=1", set()),
        ("train.checkpoint_seconds=1", set()),
        ("track=[tensorboard]", set()),
        ("train.micro_batch=1", set()),
        ("name=other", set()),
        (
            "train.max_length=64",
            {"adapters/task-en", "merged/es/adamergex", "predictions", "calibration", "delivered"},
        ),
        (
            "adapter.r=3",
            {"adapters", "merged", "delivered"}
            | {
                f"{of}/es/{system}"
                for of in ("predictions", "calibration")
                for system in ("source-adapter", "adamergex")
            },
        ),
        ("evaluate.length_normalization=tokens", {"predictions", "calibration", "delivered"}),
        # Written answers alone are as long as that.
        ("evaluate.max_new_tokens=5", set()),
        # No few-shot row draws examples.
        ("evaluate.shots=2", set()),
    ],
)
def test_a_key_holds_what_the_result_depends_on(own_data: Callable[..., Path], override: str, made: set[str]) -> None:
    path = own_data(evaluate={"methods": ["base", "source-adapter", "adamergex"]})
    found = changes(plan(path), plan(path, override))
    expected = {id for id in plan(path) if any(id == one or id.startswith(f"{one}/") for one in made)}
    assert found == expected


def test_the_base_models_answers_do_not_depend_on_adapters(own_data: Callable[..., Path]) -> None:
    path = own_data()
    for override in ("adapter.r=3", "train.learning_rate=1", "seed=7"):
        assert "predictions/es/base" not in changes(plan(path), plan(path, override))


def test_the_number_of_processes_counts_where_there_is_dropout(own_data: Callable[..., Path]) -> None:
    path = own_data()
    assert changes(plan(path), plan(path, processes=2)) == set()
    dropout = ("adapter.dropout=0.1",)
    assert "adapters/task-en" in changes(plan(path, *dropout), plan(path, *dropout, processes=2))
    assert "adapters/task-en" in changes(plan(path, *dropout), plan(path, *dropout, "train.micro_batch=1"))


def test_the_model_is_part_of_what_it_computes(own_data: Callable[..., Path]) -> None:
    path = own_data()
    for update in ({"fingerprint": "sha256 2"}, {"dtype": "bfloat16"}, {"quantization": "4bit"}):
        found = changes(plan(path), plan(path, model=MODEL.model_copy(update=update)))
        assert {id for id in plan(path) if id.startswith(("adapters/", "predictions/"))} <= found
    # How large its files are is of use to whoever plans, and of no consequence.
    assert changes(plan(path), plan(path, model=MODEL.model_copy(update={"weight_bytes": 5}))) == set()


def test_only_quantization_depends_on_bitsandbytes(own_data: Callable[..., Path]) -> None:
    params: Any = plan(own_data())["adapters/task-en"].params
    quantized = params.model_copy(update={"model": MODEL.model_copy(update={"quantization": "4bit"})})
    names = [KINDS["train"].packages(one) for one in (params, quantized)]
    assert [("bitsandbytes" in of, "accelerate" in of, "numpy" in of) for of in names] == [
        (False, True, True),
        (True, True, True),
    ]


TASK = Task(prompt="{text}:", answer="label", choices={"a": "a", "b": "b"}, train="train.{language}.csv", test="t.csv")


def comparison(**more: Any) -> Comparison:
    settings = {"adapters": {"a": Path("a")}, "start": "base", "languages": ["es"], "evaluate": Evaluate()}
    return Comparison(**{"base_model": "tiny", "tasks": {"task": ScoredTask(TASK)}, **settings, **more})


def compared(wanted: Comparison, engines: Engines | None = None, **changed: str) -> Plan:
    found = contents(evaluation_plan.sources(wanted), **changed)
    return evaluation_plan.plan(wanted, MODEL, found, engines or Engines({"a": ("1", "2")})).stages


def test_few_shot_examples_are_inputs_of_an_evaluation() -> None:
    plain, shots = comparison(), comparison(asking="few-shot")
    assert "predictions/task/es/a" not in changes(compared(plain), compared(plain, train="other"))
    assert "predictions/task/es/a" in changes(compared(shots), compared(shots, train="other"))


def test_engines_and_adapters_are_part_of_an_evaluations_keys() -> None:
    wanted = comparison(backend="vllm", vllm={"max_model_len": 256})
    engine = Engines({"a": ("1", "2")}, vllm="vllm 1")
    before = compared(wanted, engine)
    both = {f"{of}/task/es/{name}" for of in ("predictions", "calibration") for name in ("base", "a")}
    assert changes(before, compared(replace(wanted, vllm={"max_model_len": 512}), engine)) == both
    assert changes(before, compared(wanted, replace(engine, vllm="vllm 2"))) == both
    changed = changes(before, compared(wanted, replace(engine, adapters={"a": ("1", "3")})))
    assert changed == {"predictions/task/es/a", "calibration/task/es/a"}
    # Where the adapter lies does not count.
    assert changes(before, compared(replace(wanted, adapters={"a": Path("moved")}), engine)) == set()


def test_plan_says_what_is_done_and_what_waits(own_data: Callable[..., Path], tmp_path: Path) -> None:
    path = own_data(evaluate={"methods": ["base", "source-adapter"]})

    def said(*more: str) -> dict[str, str]:
        done = CliRunner().invoke(app, ["plan", str(path), "--output", str(tmp_path / "run"), *more])
        assert done.exit_code == 0, done.output
        return {line.split()[0]: " ".join(line.split()[1:]) for line in done.output.splitlines()}

    assert said()["data/task-en-train"] == "items to do"
    assert not (tmp_path / "run").exists()
    run(loading.load(str(path)), folder=path.parent, output=tmp_path / "run")
    assert {text.split()[-1] for name, text in said().items() if "/" in name} == {"done"}
    later = said("--set", "train.learning_rate=0.5")
    assert later["data/corpus-en"] == "corpus done"
    assert later["adapters/task-en"].endswith("to do again: learning_rate was 0.01, is 0.5")
    assert (
        later["merged/es/adamergex"] == "merge waits for adapters/task-en, adapters/reference-es, adapters/reference-en"
    )


def test_a_look_at_overlap_that_refuses_has_the_key_that_it_had() -> None:
    refusing = OverlapParams(language="es", where={"dev": "dev"})
    assert refusing.identity() == {"language": None, "where": None}
    assert OverlapParams(language="es", allowed=True).identity()["allowed"] is True


def test_a_choice_by_written_answers_depends_on_their_length_and_on_how_they_are_compared() -> None:
    def choice(**about: Any) -> Any:
        task = Task.model_validate({"prompt": "{q}", "answer": "a", "train": "train.jsonl", "dev": "dev.jsonl"} | about)
        return ChooseParams(model=MODEL, task=task, evaluate=evaluate, candidates=(), labels=("fr",)).identity()

    evaluate = Evaluate()
    text, label = choice(), choice(choices=["a", "b"])
    assert text != choice(kind="extraction")
    evaluate = Evaluate(max_new_tokens=3)
    assert text != choice()
    # Labels are not written.
    assert label == choice(choices=["a", "b"])
