"""Whatever a merge writes, PEFT loads whole: no key is missing, unexpected or of another shape, and it computes what was merged.

Over every structure that PEFT writes in the tests, and over what other tools make of its files.
"""

import json
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import peft
import pytest
import safetensors.torch
import torch

import adamergex
from adamergex.adapters.adapter import CONFIG, WEIGHTS
from adamergex.models.placement import misplaced
from adamergex.storage.checkpoints import Checkpoint
from tests import zoo
from tests.merging.test_structures import IA3, PROMPTS, T, close, ia3

Make = Callable[[], zoo.Model]


def dora(**settings: Any) -> Callable[[], peft.PeftConfig]:
    return lambda: zoo.lora(use_dora=True, **settings)


def prompt(case: str) -> tuple[Make, Callable[[], peft.PeftConfig]]:
    make, kind, settings = PROMPTS[case]
    return make, lambda: kind(num_virtual_tokens=3, **settings)


CASES: dict[str, tuple[Make, Callable[[], peft.PeftConfig]]] = {
    **zoo.ADDITIVE,
    **{f"IA3, {case}": (make, partial(ia3, **settings)) for case, (make, settings) in IA3.items()},
    **{case: prompt(case) for case in PROMPTS},
    "DoRA": (zoo.llama, dora()),
    "DoRA of an embedding": (zoo.llama, dora(target_modules=["q_proj", "embed_tokens"])),
    "embeddings trained whole": (zoo.llama, lambda: zoo.lora(modules_to_save=["embed_tokens", "lm_head"])),
    "norms trained whole": (zoo.llama, lambda: zoo.lora(modules_to_save=["norm", "input_layernorm"])),
    "a prefix and a head": (zoo.xlmr, lambda: peft.PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=3)),
    "tokens by the embedding's name": (zoo.llama, lambda: zoo.lora(trainable_token_indices={"embed_tokens": [3, 5]})),
    "a pattern of targets": (zoo.llama, lambda: zoo.lora(target_modules=r".*\.layers\.[01]\.self_attn\.(q|k)_proj")),
    "layers of a pattern": (zoo.llama, lambda: zoo.lora(layers_to_transform=0, layers_pattern="layers")),
    "tying asked for where nothing is tied": (zoo.llama, lambda: zoo.lora(ensure_weight_tying=True)),
}


def distorted(change: Callable[[str], str], folders: list[Path], **settings: Any) -> None:
    """The folders with other names of tensors, as other tools write them, and with further settings."""
    for folder in folders:
        tensors = safetensors.torch.load_file(folder / WEIGHTS)
        # Under other names a tensor would share its memory.
        changed = {change(name): tensor.clone() for name, tensor in tensors.items()}
        safetensors.torch.save_file(changed, folder / WEIGHTS)
        config = json.loads((folder / CONFIG).read_text())
        (folder / CONFIG).write_text(json.dumps(config | settings))


def described(make: Make, folder: Path) -> Checkpoint:
    """A base model of which nothing is there but its configuration."""
    make().config.save_pretrained(folder)  # type: ignore[union-attr, operator]
    return Checkpoint("the-base", folder, "")


def loads_whole(make: Make, folder: Path) -> peft.PeftModel:
    """What PEFT makes of a folder, in float64; every key of the file, and no other, was the adapter's."""
    model = peft.PeftModel.from_pretrained(zoo.base(make), folder)
    expected = peft.get_peft_model_state_dict(model, save_embedding_layers=False)
    stored = safetensors.torch.load_file(folder / WEIGHTS)
    along = set(adamergex.load(folder).schema.frozen)
    assert {name: tensor.shape for name, tensor in stored.items() if name not in along} == {
        name: tensor.shape for name, tensor in expected.items()
    }
    assert along <= {name.replace(".default", "") for name in model.state_dict()}
    result = peft.set_peft_model_state_dict(model, stored)
    # A prompt is set on its own, before the rest.
    assert {*result.unexpected_keys} <= {"prompt_embeddings"}
    assert not getattr(result, "mismatched_keys", None)
    return model.double().eval()


@pytest.mark.parametrize("case", CASES)
def test_what_is_merged_of_any_structure_loads_whole(case: str, tmp_path: Path) -> None:
    make, config = CASES[case]
    folders = zoo.three(make, config, tmp_path)
    zoo.merged(folders, T).save(tmp_path / "merged")
    model = loads_whole(make, tmp_path / "merged")
    assert misplaced(adamergex.load(tmp_path / "merged"), described(make, tmp_path / "base")) == []
    # At t = 0 the result is the task's adapter, whatever PEFT makes of that.
    zoo.merged(folders, 0.0).save(tmp_path / "zero")
    assert close(zoo.logits(loads_whole(make, tmp_path / "zero")), zoo.logits(zoo.loaded(make, folders[0])))
    plain = zoo.logits(zoo.base(make))
    # Prompts have logits, too.
    assert not close(zoo.logits(model)[:, -plain.shape[1] :], plain, 1e-3)


def named(name: str, adapter: str) -> str:
    """A name as it is in the model's own state: with the adapter's name inside."""
    for factor in ("lora_A", "lora_B"):
        name = name.replace(f".{factor}.", f".{factor}.{adapter}.")
    for last in ("lora_embedding_A", "lora_embedding_B", "ia3_l", "lora_magnitude_vector", "trainable_tokens_delta"):
        name = f"{name}.{adapter}" if name.endswith(last) else name
    for head in ("classifier.", "lm_head.weight"):
        start, found, rest = name.partition(f"base_model.model.{head}")
        if found and "lora" not in rest:
            module, _, parameter = head.rpartition(".")
            name = f"{start}base_model.model.{module}.modules_to_save.{adapter}.{parameter}{rest}"
    return name


NAMES: dict[str, tuple[Callable[[str], str], str]] = {
    "compiled": (lambda name: f"_orig_mod.{name}", "_orig_mod in front or inside, as torch.compile leaves it"),
    "compiled within": (lambda name: re.sub(r"\.layers?\.", r"\g<0>_orig_mod.", name), "_orig_mod in front or inside"),
    "in parallel": (lambda name: f"module.{name}", "module in front or inside, as DataParallel or DeepSpeed leaves it"),
    "in parallel within": (lambda name: name.replace("base_model.model.", "base_model.model.module."), "module in"),
    "in pieces": (lambda name: f"_fsdp_wrapped_module.{name}", "_fsdp_wrapped_module"),
    "without the prefix": (lambda name: name.removeprefix("base_model.model."), "no base_model.model. in front"),
    "the prefix twice": (lambda name: f"base_model.model.{name}", "base_model.model. in front more than once"),
    "the adapter's name": (lambda name: named(name, "swahili"), "the adapter's name, swahili, inside"),
    "PEFT's own name": (lambda name: named(name, "default"), ""),
}


@pytest.mark.parametrize(
    "kind", ["plain", "embedding", "classifier", "lora_bias", "trained tokens", "DoRA", "IA3, llama"]
)
@pytest.mark.parametrize("how", NAMES)
def test_files_of_other_names_are_merged_as_what_they_are(how: str, kind: str, tmp_path: Path) -> None:
    make, config = CASES[kind]
    folders = zoo.three(make, config, tmp_path / "own")
    expected = zoo.merged(folders, T)
    others = [Path(shutil.copytree(folder, tmp_path / folder.name)) for folder in folders]
    distorted(NAMES[how][0], others)
    found = zoo.merged(others, T)
    assert found.tensors.keys() == expected.tensors.keys()
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in expected.tensors.items())
    said = adamergex.load(others[0]).notes
    assert NAMES[how][1] in " ".join(said)
    assert bool(said) == bool(NAMES[how][1] and adamergex.load(folders[0]).tensors.keys() != _stored(others[0]))
    found.save(tmp_path / "merged")
    loads_whole(make, tmp_path / "merged")


def _stored(folder: Path) -> set[str]:
    return {*safetensors.torch.load_file(folder / WEIGHTS)}


def test_a_merge_says_which_names_it_read_otherwise(tmp_path: Path) -> None:
    folders = zoo.three(zoo.llama, zoo.lora, tmp_path)
    distorted(NAMES["compiled"][0], folders[1:2])
    assert zoo.merged(folders, T).warnings[0] == (
        "reference-target: 8 tensors had names with _orig_mod in front or inside, as torch.compile leaves it; they are read as "
        "PEFT names them"
    )


@pytest.mark.parametrize("task_type", ["SEQ_CLS", "TOKEN_CLS"])
def test_a_head_that_only_the_task_type_explains_is_kept(task_type: str, tmp_path: Path) -> None:
    """PEFT up to 0.5 wrote no modules_to_save for a classifier, which it saved, and adds it when it loads."""
    make, config = zoo.ADDITIVE["classifier"]
    folders = zoo.three(make, config, tmp_path)
    distorted(lambda name: name, folders, modules_to_save=None, task_type=task_type)
    merged = zoo.merged(folders, T)
    assert [name for name in merged.kept if "classifier.out_proj" in name]
    if task_type == "SEQ_CLS":
        merged.save(tmp_path / "merged")
        loads_whole(make, tmp_path / "merged")


def test_numbers_that_the_configuration_lacks_are_peft_s(tmp_path: Path) -> None:
    folders = zoo.three(zoo.llama, lambda: zoo.lora(r=8, lora_alpha=8), tmp_path)
    expected = zoo.merged(folders, T)
    for folder in folders:
        config = json.loads((folder / CONFIG).read_text())
        (folder / CONFIG).write_text(json.dumps({k: v for k, v in config.items() if k not in ("r", "lora_alpha")}))
    found = zoo.merged(folders, T)
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in expected.tensors.items())


def test_settings_of_other_tools_that_change_no_tensor_are_read_over_and_not_written(tmp_path: Path) -> None:
    folders = zoo.three(zoo.llama, zoo.lora, tmp_path)
    distorted(lambda name: name, folders, merge_weights=True, lora_dtype="bfloat16", lorap_emb_lr=1e-6)
    merged = zoo.merged(folders, T)
    assert not merged.config.keys() & {"merge_weights", "lora_dtype", "lorap_emb_lr"}


UNFIT: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    "wider": (
        {},
        {"intermediate_size": 32},
        [
            "2 tensors have another shape than on the-base, such as base_model.model.model.layers.0.mlp.down_proj.lora_A.weight "
            "with (6, 24); expected (6, 32): PEFT would not load them"
        ],
    ),
    "fewer layers": (
        {},
        {"num_hidden_layers": 1},
        [
            "4 tensors have no place in the-base, such as base_model.model.model.layers.1.mlp.down_proj.lora_A.weight: PEFT would "
            "leave them out; the model has modules such as model.layers.0.post_attention_layernorm"
        ],
    ),
    "more layers": (
        {},
        {"num_hidden_layers": 3},
        [
            "4 tensors that PEFT makes on the-base are missing, such as base_model.model.model.layers.2.mlp.down_proj.lora_A.weight: "
            "it would leave them as it initialises them"
        ],
    ),
    "another vocabulary": (
        {"modules_to_save": ["lm_head"]},
        {"vocab_size": 41},
        [
            "1 tensors have another shape than on the-base, such as base_model.model.lm_head.weight with (40, 16); expected (41, 16): "
            "PEFT would not load them"
        ],
    ),
}


@pytest.mark.parametrize("case", UNFIT)
def test_what_a_base_model_has_no_place_for_is_said_by_its_configuration_alone(case: str, tmp_path: Path) -> None:
    settings, changes, expected = UNFIT[case]
    merged = zoo.merged(zoo.three(zoo.llama, lambda: zoo.lora(**settings), tmp_path), T)
    checkpoint = described(zoo.llama, tmp_path / "base")
    path = checkpoint.folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    assert misplaced(merged, checkpoint) == expected


def test_settings_of_where_adapters_compute_are_no_misfit(tmp_path: Path) -> None:
    """PEFT 0.13 wrote runtime_config."""
    folders = zoo.three(zoo.llama, zoo.lora, tmp_path)
    distorted(lambda name: name, folders, runtime_config={"ephemeral_gpu_offload": False})
    merged = zoo.merged(folders, T)
    assert misplaced(merged, described(zoo.llama, tmp_path / "base")) == []
    merged.save(tmp_path / "merged")
    loads_whole(zoo.llama, tmp_path / "merged")


def test_a_prompt_is_held_against_the_base_model_s_width_and_depth(tmp_path: Path) -> None:
    make, config = CASES["llama"]
    merged = zoo.merged(zoo.three(make, config, tmp_path), T)
    checkpoint = described(make, tmp_path / "base")
    path = checkpoint.folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_key_value_heads": 4}))
    assert misplaced(merged, checkpoint) == [
        "1 tensors have another shape than on the-base, such as prompt_embeddings with (3, 32); expected (3, 64): PEFT would not "
        "load them"
    ]
