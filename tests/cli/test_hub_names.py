"""Adapters of the hub where commands take adapters: merged, remade from the plan, inspected, scored."""

from collections.abc import Callable
from pathlib import Path

import peft
import pytest
import torch
import transformers
from typer.testing import CliRunner

import adamergex
from adamergex.cli.main import app
from adamergex.errors import RecipeError
from adamergex.storage.files import sha256
from tests.stand_in_for_the_hub import Hub

NAMES = ("task-en", "wiki-sw", "wiki-en")
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def published(hub: Hub, tiny_model: Path, tmp_path: Path) -> Hub:
    """Three adapters in folders, and in one repository, each in a subfolder."""
    for seed, name in enumerate(NAMES):
        config = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
        model = peft.get_peft_model(transformers.AutoModelForCausalLM.from_pretrained(tiny_model), config)
        order = torch.Generator().manual_seed(seed)
        for key, parameter in model.named_parameters():
            if "lora_" in key:
                parameter.data = torch.randn(parameter.shape, generator=order)
        model.save_pretrained(tmp_path / name)
        files = (tmp_path / name / "adapter_config.json", tmp_path / name / WEIGHTS)
        hub.put("me/three", {f"{name}/{file.name}": file.read_bytes() for file in files})
    return hub


def call(*arguments: str) -> str:
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


def test_a_merge_names_the_commits_that_it_took(published: Hub, tmp_path: Path) -> None:
    roles = ("--task", "--reference-target", "--reference-source")
    mine = [part for role, name in zip(roles, NAMES, strict=True) for part in (role, str(tmp_path / name))]
    theirs = [part for role, name in zip(roles, NAMES, strict=True) for part in (role, f"me/three:{name}")]
    call("merge", *mine, "--scale", "0.5", "--output", str(tmp_path / "mine"))
    said = call("merge", *theirs, "--scale", "0.5", "--output", str(tmp_path / "theirs"))
    assert sha256(tmp_path / "mine" / WEIGHTS) == sha256(tmp_path / "theirs" / WEIGHTS)
    commit = published.repositories["me/three"].branches["main"]
    assert f"task: from the hub, me/three@{commit}:task-en" in said
    plan = (tmp_path / "theirs/merge.yaml").read_text()
    assert all(f"folder: me/three@{commit}:{name}" in plan for name in NAMES)
    card = (tmp_path / "theirs/README.md").read_text()
    assert f"| me/three@{commit}:wiki-sw |" in card
    assert str(tmp_path) not in plan + card
    published.put("me/three", {f"task-en/{WEIGHTS}": b"another one"})
    call("merge", "--plan", str(tmp_path / "theirs/merge.yaml"), "--output", str(tmp_path / "again"))
    assert sha256(tmp_path / "again" / WEIGHTS) == sha256(tmp_path / "theirs" / WEIGHTS)


def test_inspect_shows_what_is_there_and_what_differs(published: Hub) -> None:
    said = call("inspect", *(f"me/three:{name}" for name in NAMES))
    assert "they can be merged with each other" in said
    assert published.repositories["me/three"].branches["main"] in said


def test_adapters_of_the_hub_are_scored_as_those_in_folders(
    published: Hub, own_data: Callable[..., Path], tmp_path: Path
) -> None:
    tasks = {"own": str(own_data())}
    theirs = adamergex.evaluate({"a": "me/three:task-en"}, tasks, ["es"], tmp_path / "theirs")
    mine = adamergex.evaluate({"a": tmp_path / "task-en"}, tasks, ["es"], tmp_path / "mine")
    assert theirs == mine
    answers = "predictions/own/es/a/predictions.jsonl"
    assert (tmp_path / "theirs" / answers).read_bytes() == (tmp_path / "mine" / answers).read_bytes()
    commit = published.repositories["me/three"].branches["main"]
    assert f"a: me/three@{commit}:task-en" in (tmp_path / "theirs/report.md").read_text()


def test_adapters_are_called_like_their_subfolder(published: Hub) -> None:
    from adamergex.cli.evaluate import _adapters

    named = _adapters(["me/three:task-en", "b=me/three@v1:x", "me/three"])
    assert named == {"task-en": "me/three:task-en", "b": "me/three@v1:x", "three": "me/three"}
    with pytest.raises(RecipeError, match="two adapters are called task-en"):
        _adapters(["me/three:task-en", "other/task-en"])
