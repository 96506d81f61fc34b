"""The resident model: where adapters start, and what it refuses."""

from pathlib import Path

import pytest
import torch

from adamergex.errors import ModelError
from adamergex.models.adapter_settings import Lora
from adamergex.models.resident import ResidentModel
from adamergex.storage.checkpoints import Checkpoint


def test_all_adapters_of_a_run_start_from_the_same_a(resident: ResidentModel) -> None:
    resident.start(0)
    first = resident.adapter()
    for parameter in resident.trainable():
        parameter.data.normal_()
    torch.manual_seed(99)
    resident.start(0)
    second = resident.adapter()
    assert all(torch.equal(first.tensors[name], second.tensors[name]) for name in first.tensors)
    assert all(tensor.any() == (".lora_A." in name) for name, tensor in first.tensors.items())
    resident.start(1)
    other = resident.adapter().tensors
    assert not any(torch.equal(other[name], tensor) for name, tensor in first.tensors.items() if ".lora_A." in name)


def test_the_start_of_a_module_does_not_depend_on_the_other_modules(tiny_model: Path, resident: ResidentModel) -> None:
    resident.start(0)
    checkpoint = Checkpoint("tiny-llama", tiny_model, "tiny")
    alone = ResidentModel(checkpoint, "float32", Lora(r=2, alpha=4, target_modules=["v_proj"]))
    alone.start(0)
    of_all = resident.adapter().tensors
    assert all(torch.equal(tensor, of_all[name]) for name, tensor in alone.adapter().tensors.items())


def test_a_target_module_that_matches_nothing_is_named(tiny_model: Path) -> None:
    with pytest.raises(ModelError, match="query matches no module of tiny; it has .*q_proj"):
        ResidentModel(Checkpoint("tiny", tiny_model, ""), "float32", Lora(target_modules=["q_proj", "query"]))


@pytest.mark.parametrize("key", ["rank_pattern", "alpha_pattern"])
def test_a_pattern_that_matches_no_adapted_module_is_named(tiny_model: Path, key: str) -> None:
    checkpoint = Checkpoint("tiny", tiny_model, "")
    settings = {"r": 2, "target_modules": ["q_proj"], key: {"layers.0.v_proj": 4}}
    with pytest.raises(
        ModelError, match=f"adapter.{key}: 'layers.0.v_proj' matches no module of tiny .* such as model"
    ):
        ResidentModel(checkpoint, "float32", Lora(**settings))
    settings[key] = {r"layers\.0\..*q_proj": 4}
    ResidentModel(checkpoint, "float32", Lora(**settings))


def test_a_model_that_does_not_load_is_one_line(tmp_path: Path, tiny_model: Path) -> None:
    for file in tiny_model.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"not a model")
    with pytest.raises(ModelError, match="^base_model broken: does not load: ") as caught:
        ResidentModel(Checkpoint("broken", tmp_path, ""), "float32", Lora())
    assert "\n" not in str(caught.value)
