"""Every structure on every family of models, from a recipe to a merged adapter that PEFT loads."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from pydantic import TypeAdapter
from typer.testing import CliRunner

from adamergex.adapters import adapter
from adamergex.cli.main import app
from adamergex.errors import ModelError, RecipeError
from adamergex.inference.choices import class_logits
from adamergex.models import families
from adamergex.models.adapter_settings import IA3, AdapterSettings, Lora
from adamergex.models.encode import for_training
from adamergex.models.resident import ResidentModel
from adamergex.storage.checkpoints import Checkpoint
from adamergex.tasks.items import Item
from adamergex.training.settings import Schedule, Train
from adamergex.training.train import train
from tests.families import AUTO, FAMILY, MODELS, save

STRUCTURES: dict[str, dict[str, Any]] = {
    "lora": {"r": 2, "alpha": 4},
    "ia3": {"structure": "ia3"},
    "prefix": {"structure": "prefix", "virtual_tokens": 3},
}
# What the default target modules come to.
LINEAR = {
    "llama": "down_proj gate_proj k_proj o_proj q_proj up_proj v_proj",
    "gemma3": "down_proj gate_proj k_proj o_proj q_proj up_proj v_proj",
    "gpt2": "c_attn c_fc c_proj",
    "bloom": "dense dense_4h_to_h dense_h_to_4h query_key_value",
    "t5": "k o q v wi wo",
    "bart": "fc1 fc2 k_proj out_proj q_proj v_proj",
    "xlm-r": "intermediate.dense key output.dense query value",
    "bert": "intermediate.dense key output.dense query value",
}
SCALED = {
    "llama": "down_proj k_proj v_proj",
    "gemma3": "down_proj k_proj v_proj",
    "gpt2": "c_attn mlp.c_proj",
    "bloom": "dense_4h_to_h query_key_value",
    "t5": "k v wo",
    "bart": "fc2 k_proj v_proj",
    "xlm-r": "key value",
    "bert": "key value",
}


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root = tmp_path_factory.mktemp("families")
    return lambda name: root / name if (root / name).is_dir() else save(name, root / name)


def run(path: Path, *more: str) -> Any:
    done = CliRunner().invoke(app, ["run", str(path), "--output", str(path.parent / "run"), *more])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt2", "t5", "xlm-r"])
def test_every_structure_on_every_family_is_trained_merged_and_loaded_by_peft(
    name: str, structure: str, models: Callable[[str], Path], own_data: Callable[..., Path]
) -> None:
    train = {"learning_rate": 1e-2, "task": {"epochs": 2, "batch_size": 4}, "reference": {"epochs": 2, "batch_size": 4}}
    path = own_data(
        base_model=str(models(name)),
        adapter=STRUCTURES[structure],
        reference={"corpus": "data/text.{language}.txt", "tokens": 192, "window": 16},
        train=train,
    )
    done = run(path)
    assert done.exit_code == 0, done.stdout
    where = path.parent / "run"
    rows = [json.loads(line) for line in (where / "scores.jsonl").read_text().splitlines()]
    # The head of an encoder is new: its base model has nothing to say.
    untrained = [] if FAMILY.get(name) == "encoder" else ["base"]
    assert [row["method"] for row in rows] == [*untrained, "source-adapter", "adamergex", "ceiling"]
    before, after = adapter.load(where / "adapters/task-en"), adapter.load(where / "merged/es/adamergex")
    assert any(not torch.equal(after.tensors[key], before.tensors[key]) for key in before.tensors)

    task = "classes" if FAMILY.get(name) == "encoder" else FAMILY.get(name, "causal")
    auto = transformers.AutoModelForSequenceClassification if task == "classes" else AUTO[task]
    torch.manual_seed(0)
    base = auto.from_pretrained(models(name)).eval()
    tokens = torch.arange(50, 62)[None]
    inputs = {"input_ids": tokens} | ({"decoder_input_ids": tokens[:, :4]} if task == "seq2seq" else {})
    with torch.no_grad():
        plain = base(**inputs).logits
        merged = peft.PeftModel.from_pretrained(base, where / "merged/es/adamergex").eval()(**inputs).logits
    assert torch.isfinite(merged).all()
    assert not torch.allclose(plain, merged, atol=1e-5)


def test_a_classification_head_is_saved_and_comes_through_the_merge(
    models: Callable[[str], Path], own_data: Callable[..., Path]
) -> None:
    reference = {"corpus": "data/text.{language}.txt", "tokens": 128, "window": 16}
    path = own_data(base_model=str(models("bert")), adapter={"r": 2}, reference=reference)
    assert run(path).exit_code == 0
    task, trained, merged = (
        adapter.load(path.parent / "run" / name)
        for name in ("adapters/task-en", "adapters/reference-es", "merged/es/adamergex")
    )
    head = [name for name in task.tensors if "classifier" in name]
    assert len(head) == 2
    assert all(torch.equal(task.tensors[name], merged.tensors[name]) for name in head)
    assert not [name for name in trained.tensors if "classifier" in name]


def test_named_modules_of_a_head_are_not_adapted(models: Callable[[str], Path], own_data: Callable[..., Path]) -> None:
    reference = {"corpus": "data/text.{language}.txt", "tokens": 128, "window": 16}
    named = {"r": 2, "target_modules": ["query", "dense"]}
    path = own_data(base_model=str(models("xlm-r")), adapter=named, reference=reference, evaluate={})
    assert run(path).exit_code == 0
    for name in ("adapters/task-en", "adapters/reference-es"):
        factors = [key for key in adapter.load(path.parent / "run" / name).tensors if ".lora_" in key]
        assert len(factors) == 2 * 2 * 4  # Two layers: query, and the three dense layers of each.
        assert all(".encoder.layer." in key for key in factors)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_the_base_model_of_an_encoder_answers_alike_before_and_after_training(
    structure: str, models: Callable[[str], Path]
) -> None:
    settings = TypeAdapter(AdapterSettings).validate_python(STRUCTURES[structure])
    resident = ResidentModel(Checkpoint("x", models("xlm-r"), ""), "float32", settings, kind="classes", classes=2)
    items = [Item(str(i), f"text {i}", (" yes", " no")[i % 2], (" yes", " no")) for i in range(4)]
    resident.model.eval()
    learned = for_training(resident.tokenizer, items, "classes")[0]
    with resident.without_adapter(), torch.no_grad():
        before = class_logits(resident, learned)
    train(resident, lambda epoch: learned, Train(), Schedule(epochs=3, batch_size=4), 0, learning_rate=0.1)
    with torch.no_grad():
        with resident.without_adapter():
            assert class_logits(resident, learned) == before
        assert class_logits(resident, learned) != before


@pytest.mark.parametrize("name", MODELS)
def test_the_family_of_a_model_and_the_modules_that_are_adapted(name: str, models: Callable[[str], Path]) -> None:
    checkpoint = Checkpoint(name, models(name), name)
    assert families.family(checkpoint) == FAMILY.get(name, "causal")
    kind = families.KINDS[families.family(checkpoint)]["task"]
    lora = ResidentModel(checkpoint, "float32", Lora(r=2), kind=kind, classes=2).adapter()
    assert sorted({key.split(".lora_")[0] for key in lora.tensors if ".lora_" in key}) == sorted(
        key
        for key in {key.split(".lora_")[0] for key in lora.tensors if ".lora_" in key}
        if key.endswith(tuple(LINEAR[name].split()))
    )
    used = {ending for key in lora.tensors for ending in LINEAR[name].split() if f".{ending}.lora_A" in key}
    assert used == set(LINEAR[name].split())
    ia3 = ResidentModel(checkpoint, "float32", IA3(structure="ia3"), kind=kind, classes=2).adapter()
    scaled = {key.removesuffix(".ia3_l") for key in ia3.tensors if key.endswith(".ia3_l")}
    assert all(any(key.endswith(f".{end}") for key in scaled) for end in SCALED[name].split())
    assert not [key for key in scaled if key.endswith("attention.output.dense")]
    assert len(scaled) == len([key for key in scaled if not key.endswith((".q_proj", ".query", ".q"))])


def test_what_a_family_cannot_do_is_said_at_once(models: Callable[[str], Path], own_data: Callable[..., Path]) -> None:
    path = own_data(
        base_model=str(models("xlm-r")),
        reference={"corpus": "data/text.{language}.txt", "tokens": 128, "window": 16, "objective": "causal"},
        task={"prompt": "{text}:", "answer": "label", "train": "data/train.{language}.jsonl"},
        evaluate={"methods": ["few-shot", "adamergex"]},
        train={"packing": True},
    )
    with pytest.raises(Exception, match="encoder family") as caught:
        run(path)
    assert "task.choices: missing; an encoder chooses" in str(caught.value)
    assert "encoder models learn masked from plain text; got causal" in str(caught.value)
    assert "train.packing: for causal models" in str(caught.value)
    assert "evaluate.methods: few-shot need a model that writes" in str(caught.value)
    validated = CliRunner().invoke(app, ["validate", str(path)])
    assert str(validated.exception) == str(caught.value)


def test_what_has_no_effect_is_refused(models: Callable[[str], Path], own_data: Callable[..., Path]) -> None:
    with pytest.raises(RecipeError, match=r"reference\.span: has no effect on the causal objective; remove it"):
        run(own_data(), "--set", "reference.span=4")
    with pytest.raises(RecipeError, match=r"reference\.noise: has no effect on the causal objective; remove it"):
        run(own_data(), "--set", "reference.noise=0.3")
    assert not (own_data().parent / "run").exists()


def test_a_folder_without_a_configuration_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"base_model x: its config\.json cannot be read"):
        families.family(Checkpoint("x", tmp_path, ""))


def test_the_reference_task_may_be_a_labelled_one(models: Callable[[str], Path], own_data: Callable[..., Path]) -> None:
    """The paper's ablation: no plain text anywhere, and on an encoder a head of its own that is no part of the merge."""
    labelled = {
        "prompt": "{text}?",
        "answer": "label",
        "choices": ["pos", "neg"],
        "train": "data/train.{language}.jsonl",
    }
    for name in ("llama", "xlm-r"):
        path = own_data(base_model=str(models(name)), adapter={"r": 2}, reference={"task": labelled})
        done = run(path)
        assert done.exit_code == 0
        where = path.parent / "run"
        training = json.loads((where / "adapters/reference-es/training.json").read_bytes())
        assert training["examples"] == 5  # One of six is held out.
        assert "reference task of es: 6 items of a labelled task" in (where / "report.md").read_text()
        assert not [key for key in adapter.load(where / "adapters/reference-es").tensors if "classifier" in key]


def test_languages_with_unequal_labelled_references_are_refused_before_anything_runs(
    own_data: Callable[..., Path],
) -> None:
    labelled = {"prompt": "{text}?", "answer": "label", "train": "data/train.{language}.jsonl"}
    path = own_data(reference={"task": labelled})
    rows = (path.parent / "data/train.es.jsonl").read_text().splitlines(keepends=True)
    (path.parent / "data/train.es.jsonl").write_text("".join(rows[:4]))
    with pytest.raises(RecipeError, match=r"en has 6 items, es has 4 items; .* set reference\.task\.train\.limit to 4"):
        run(path, "--set", "evaluate={}")
    assert not (path.parent / "run").exists()


def test_curves_for_tensorboard_are_those_of_the_log(own_data: Callable[..., Path]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    path = own_data()
    assert run(path, "--set", "track=[tensorboard]", "--set", "train.precision=bf16").exit_code == 0
    events = EventAccumulator(str(path.parent / "run/tensorboard/adapters/task-en")).Reload()
    log = (path.parent / "run/adapters/task-en/training.jsonl").read_text().splitlines()
    assert [event.value for event in events.Scalars("loss")] == pytest.approx([json.loads(row)["loss"] for row in log])


def test_a_reference_adapter_that_learned_nothing_is_pointed_out(own_data: Callable[..., Path]) -> None:
    done = run(own_data(), "--set", "train.learning_rate=1e-9", "--set", "evaluate={}")
    assert "] adapters/reference-es: it learned next to nothing" in done.stderr
    assert "it learned next to nothing" in (Path(done.stdout.split("report:")[1].strip())).read_text()
