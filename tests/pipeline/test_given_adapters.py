"""Adapters that a recipe takes in place of trainings: what is made of them, what is not, and what does not fit."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import safetensors.torch
import torch
import transformers
from typer.testing import CliRunner

import adamergex
from adamergex.cli.main import app
from adamergex.errors import NetworkError, RecipeError
from adamergex.pipeline.plan_table import look, table
from adamergex.pipeline.run import finish
from adamergex.pipeline.stages.given import KIND as GIVEN
from adamergex.pipeline.stages.given import GivenParams
from adamergex.recipes import loading
from adamergex.recipes.preflight import Looked, check
from adamergex.storage.files import sha256
from tests import families, zoo
from tests.stand_in_for_the_hub import Hub

METHODS = {"methods": ["source-adapter", "adamergex"]}
WEIGHTS = "adapter_model.safetensors"
Own = Callable[..., Path]


@pytest.fixture(scope="module")
def made(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The adapters of a run, by name: those that a run of `own_data` would train, with other values."""
    folder = tmp_path_factory.mktemp("made")
    for seed, name in enumerate(("task-en", "reference-en", "reference-es")):
        adapter(tiny_model, folder / name, seed)
    return folder


def adapter(base: Path, folder: Path, seed: int = 0, **changes: Any) -> Path:
    """An adapter with random weights, as PEFT writes it."""
    settings = {"r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"} | changes
    model = peft.get_peft_model(transformers.AutoModelForCausalLM.from_pretrained(base), peft.LoraConfig(**settings))
    order = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn(parameter.shape, generator=order) / 10
    model.save_pretrained(folder)
    return folder


def given(made: Path, *languages: str) -> dict[str, Any]:
    return {"task": str(made / "task-en"), "reference": {code: str(made / f"reference-{code}") for code in languages}}


def problems(path: Path, **more: Any) -> list[str]:
    with pytest.raises(RecipeError) as error:
        check(loading.load(str(path)), path.parent)
    return error.value.problems


def test_what_is_given_is_merged_and_nothing_is_trained(own_data: Own, made: Path, tmp_path: Path) -> None:
    path = own_data(adapters=given(made, "en", "es"), evaluate=METHODS, reference={})
    finished = finish(loading.load(str(path)), path.parent, tmp_path / "run")
    ours = adamergex.load(tmp_path / "run/merged/es/adamergex")
    task, target, source = (adamergex.load(made / name) for name in ("task-en", "reference-es", "reference-en"))
    expected = adamergex.merge(task, target, source, scale=0.5, rank=2)
    assert all(torch.equal(ours.tensors[name], expected.tensors[name]) for name in expected.tensors)
    assert not list(tmp_path.glob("run/data/corpus-*"))
    assert not list(tmp_path.glob("run/adapters/*/training.json"))
    page = (tmp_path / "run/report.md").read_text()
    for name in ("task-en", "reference-en", "reference-es"):
        assert sha256(tmp_path / "run/adapters" / name / WEIGHTS) == sha256(made / name / WEIGHTS)
        assert f"{name}: taken, not trained, from {made / name} (SHA-256 {sha256(made / name / WEIGHTS)})" in page
    card = (tmp_path / "run/merged/es/adamergex/README.md").read_text()
    assert f"- R, plain text in the target language: an adapter that was at hand (SHA-256 {target.digest})" in card
    assert str(made) not in card
    assert not finished.report.curves
    assert [row.method for row in finished.report.rows] == METHODS["methods"]


def test_the_rest_is_trained(own_data: Own, made: Path, tmp_path: Path) -> None:
    path = own_data(adapters={"reference": {"en": str(made / "reference-en")}}, evaluate=METHODS)
    finish(loading.load(str(path)), path.parent, tmp_path / "run")
    assert [place.name for place in sorted(tmp_path.glob("run/data/corpus-*"))] == ["corpus-es"]
    trained = {place.parent.name for place in tmp_path.glob("run/adapters/*/training.json")}
    assert trained == {"task-en", "reference-es"}


def test_contents_count_and_not_places(own_data: Own, made: Path, tmp_path: Path, hub: Hub) -> None:
    path = own_data(adapters=given(made, "en", "es"), evaluate=METHODS)
    finish(loading.load(str(path)), path.parent, tmp_path / "run")
    content = {name: (made / "task-en" / name).read_bytes() for name in ("adapter_config.json", WEIGHTS)}
    commit = hub.put("me/sst2-lora", {f"en/{name}": content[name] for name in content})
    path = own_data(adapters=given(made, "en", "es") | {"task": "me/sst2-lora:en"}, evaluate=METHODS)
    recipe = loading.load(str(path))
    lines = table(look(recipe, path.parent, tmp_path / "run")).splitlines()
    assert all(line.endswith("done") for line in lines[:-1])
    assert "adapters/task-en" in lines[[f"from me/sst2-lora@{commit}:en" in line for line in lines].index(True)]
    finish(recipe, path.parent, tmp_path / "run")
    assert loading.load(str(tmp_path / "run/recipe.yaml")).adapters.task == f"me/sst2-lora@{commit}:en"
    assert f"task-en: taken, not trained, from me/sst2-lora@{commit}:en" in (tmp_path / "run/report.md").read_text()
    hub.put("me/sst2-lora", {f"en/{WEIGHTS}": (made / "reference-en" / WEIGHTS).read_bytes()})
    states = table(look(recipe, path.parent, tmp_path / "run"))
    assert "to do again: weights was" in states
    assert "waits for adapters/task-en" in states


def test_a_hub_that_does_not_answer_stops_a_run_and_not_a_look(own_data: Own, made: Path, hub: Hub) -> None:
    hub.broken = {"me/x": 503}
    path = own_data(adapters={"task": "me/x"})
    notes = check(loading.load(str(path)), path.parent).unreachable
    assert len(notes) == 1
    assert notes[0].startswith("adapters.task: me/x: no such folder here, and the hub answers 503")
    with pytest.raises(NetworkError, match="me/x"):
        finish(loading.load(str(path)), path.parent)
    said = CliRunner().invoke(app, ["validate", str(path)])
    assert said.exit_code == 0
    assert "not looked at: adapters.task: me/x" in said.stderr
    hub.broken = {}
    assert problems(path)[0].startswith("adapters.task: me/x: no such folder here, and the hub has no repository me/x")


def test_a_look_at_them_says_nothing_of_the_libraries(own_data: Own, made: Path) -> None:
    """Standard error is for what is wrong with the recipe: no notices of what they will change."""
    path = own_data(adapters=given(made, "en", "es"), evaluate=METHODS)
    command = [sys.executable, "-m", "adamergex", "validate", str(path), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_paths_are_relative_to_the_recipe(own_data: Own, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = own_data(adapters={"task": "./mine"})
    shutil.copytree(made / "task-en", path.parent / "mine")
    monkeypatch.chdir(made)
    assert check(loading.load(str(path)), path.parent) == Looked()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"r": 4}, "adapters.task has r = 4, and adapter.r is 2; set adapter.r to 4"),
        ({"use_dora": True}, "adapters.task is DoRA, and adapter.structure makes LoRA"),
        (
            {"target_modules": ["q_proj"]},
            "modules differ: adapters.task lacks 2, the first is model.layers.0.self_attn.v_proj",
        ),
        (
            {"target_modules": ["q_proj", "v_proj", "up_proj"]},
            "modules differ: the recipe's adapters lacks 2, the first is model.layers.0.mlp.up_proj",
        ),
        ({"bias": "lora_only", "target_modules": ["q_proj", "v_proj"]}, None),
    ],
)
def test_what_does_not_fit_the_recipe_is_refused(
    own_data: Own, tiny_model: Path, tmp_path: Path, changes: dict[str, Any], expected: str | None
) -> None:
    path = own_data(adapters={"task": str(adapter(tiny_model, tmp_path / "a", **changes))})
    if expected is None:
        # A Llama has no biases to train: the adapter is that of the recipe.
        assert check(loading.load(str(path)), path.parent) == Looked()
    else:
        assert any(expected in problem for problem in problems(path)), problems(path)


def test_what_does_not_fit_the_base_model_is_refused(own_data: Own, tiny_model: Path, tmp_path: Path) -> None:
    wide = transformers.AutoConfig.from_pretrained(tiny_model)
    wide.hidden_size = 64
    transformers.LlamaForCausalLM(wide).save_pretrained(tmp_path / "wide")
    other = adapter(tmp_path / "wide", tmp_path / "a")
    path = own_data(adapters={"task": str(other)})
    assert problems(path)[0].startswith(
        f"adapters.task was trained on {tmp_path / 'wide'}, and the recipe's base_model is"
    )
    config = json.loads((other / "adapter_config.json").read_text()) | {"base_model_name_or_path": None}
    (other / "adapter_config.json").write_text(json.dumps(config))
    assert "shape of model.layers.0.self_attn.q_proj differs" in problems(path)[0]
    weights = (other / WEIGHTS).read_bytes()
    (other / WEIGHTS).write_bytes(weights[:-1])
    assert problems(path)[0].startswith(f"adapters.task: {other}")


def test_an_encoders_head_has_to_fit_the_labels(own_data: Own, tmp_path: Path) -> None:
    base = families.save("xlm-r", tmp_path / "xlm-r")
    path = own_data(
        base_model=str(base),
        adapter={"r": 2, "alpha": 4, "target_modules": ["query", "value"]},
        adapters={"task": "./given"},
        reference={"corpus": "data/text.{language}.txt", "tokens": 128, "window": 16},
        evaluate=METHODS,
    )

    def give(labels: int | None) -> None:
        """An adapter with a head for so many labels, or with none."""
        settings = {"r": 2, "lora_alpha": 4, "target_modules": ["query", "value"]}
        if labels is None:
            model = transformers.AutoModelForMaskedLM.from_pretrained(base)
            config = peft.LoraConfig(**settings, task_type="FEATURE_EXTRACTION")
        else:
            model = transformers.AutoModelForSequenceClassification.from_pretrained(base, num_labels=labels)
            config = peft.LoraConfig(**settings, task_type="SEQ_CLS")
        peft.get_peft_model(model, config).save_pretrained(path.parent / "given")

    give(2)
    assert check(loading.load(str(path)), path.parent) == Looked()
    finished = finish(loading.load(str(path)), path.parent, tmp_path / "run")
    assert [row.method for row in finished.report.rows] == METHODS["methods"]
    for labels, found in ((3, "(3, 32)"), (None, "got none")):
        give(labels)
        (problem,) = problems(path)
        assert problem.startswith("adapters.task: its classification head does not fit the task's labels: expected")
        assert found in problem


def test_adapters_that_are_not_merged_alike_are_refused(
    own_data: Own, made: Path, tiny_model: Path, tmp_path: Path
) -> None:
    other = adapter(tiny_model, tmp_path / "a", lora_alpha=7)
    exact = own_data(adapters={"task": str(other)})
    assert check(loading.load(str(exact)), exact.parent) == Looked()
    path = own_data(adapters={"task": str(other)}, merge={"method": "factor-space", "scale": 0.5})
    assert any("rank or scaling of model.layers.0.self_attn.q_proj differs" in line for line in problems(path))


def test_what_is_inconsistent_is_refused_when_it_is_read(own_data: Own, made: Path) -> None:
    for changes, expected in (
        ({"adapters": {"reference": {"fr": "x"}}}, "adapters.reference lists fr, which the recipe does not read"),
        (
            {"reference": {}},
            "reference: expected exactly one of corpus and task, which the reference adapters of en, es",
        ),
        ({"reference": {}, "adapters": {"reference": {"en": "x"}}}, "the reference adapters of es are"),
        ({"adapters": {"reference": {"es": ""}}}, "es has no place"),
        (
            {"adapters": given(made, "en", "es"), "seeds": [0, 1], "evaluate": METHODS},
            "seeds: all adapters are given, and nothing is trained that a seed could change",
        ),
    ):
        with pytest.raises(RecipeError, match=expected):
            loading.load(str(own_data(**changes)))


def test_with_several_seeds_what_is_given_is_the_same(own_data: Own, made: Path, tmp_path: Path) -> None:
    path = own_data(adapters={"reference": given(made, "en", "es")["reference"]}, seeds=[0, 1], evaluate=METHODS)
    finish(loading.load(str(path)), path.parent, tmp_path / "run")
    assert [place.name for place in (tmp_path / "run/seed-1/adapters").iterdir()] == ["task-en"]
    stage = json.loads((tmp_path / "run/seed-1/merged/es/adamergex/stage.json").read_text())["stage"]
    assert stage["inputs"]["reference-target"] == ["adapters/reference-es"]
    assert stage["inputs"]["task"] == ["seed-1/adapters/task-en"]


def test_a_merge_is_chosen_beside_a_given_reference(own_data: Own, made: Path, tmp_path: Path) -> None:
    path = own_data(adapters=given(made, "en", "es"), merge={"scale": "auto"}, evaluate=METHODS)
    finish(loading.load(str(path)), path.parent, tmp_path / "run")
    assert "no text was held out to look at" in (tmp_path / "run/report.md").read_text()


def test_one_with_a_wrappers_names_is_copied_under_names_that_peft_reads(tmp_path: Path) -> None:
    own = zoo.train(zoo.llama, zoo.lora(), tmp_path / "own", 1)
    tensors = safetensors.torch.load_file(own / WEIGHTS)
    wrapped = tmp_path / "wrapped"
    shutil.copytree(own, wrapped)
    safetensors.torch.save_file({f"module.{name}": tensor for name, tensor in tensors.items()}, wrapped / WEIGHTS)
    params = GivenParams(
        folder=wrapped,
        place="wrapped",
        repository=None,
        base_model="base",
        config=sha256(wrapped / "adapter_config.json"),
        weights=sha256(wrapped / WEIGHTS),
    )
    (tmp_path / "out").mkdir()
    GIVEN.make(params, {}, tmp_path / "out", tmp_path, None)
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == (own / WEIGHTS).read_bytes()
