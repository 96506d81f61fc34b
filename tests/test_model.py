"""The resident model: where adapters start, and what it refuses."""

from pathlib import Path

import pytest
import torch

from adamergex.errors import ModelError
from adamergex.models.adapter_settings import Lora
from adamergex.models.resident import Workbench
from adamergex.storage.checkpoints import Checkpoint


def test_all_adapters_of_a_run_start_from_the_same_a(workbench: Workbench) -> None:
    workbench.start(0)
    first = workbench.adapter()
    for parameter in workbench.trainable():
        parameter.data.normal_()
    torch.manual_seed(99)
    workbench.start(0)
    second = workbench.adapter()
    assert all(torch.equal(first.tensors[name], second.tensors[name]) for name in first.tensors)
    assert all(tensor.any() == (".lora_A." in name) for name, tensor in first.tensors.items())
    workbench.start(1)
    other = workbench.adapter().tensors
    assert not any(torch.equal(other[name], tensor) for name, tensor in first.tensors.items() if ".lora_A." in name)


def test_the_start_of_a_module_does_not_depend_on_the_other_modules(tiny_model: Path, workbench: Workbench) -> None:
    workbench.start(0)
    checkpoint = Checkpoint("tiny-llama", tiny_model, "tiny")
    alone = Workbench(checkpoint, "float32", Lora(r=2, alpha=4, target_modules=["v_proj"]))
    alone.start(0)
    of_all = workbench.adapter().tensors
    assert all(torch.equal(tensor, of_all[name]) for name, tensor in alone.adapter().tensors.items())


def test_a_target_module_that_matches_nothing_is_named(tiny_model: Path) -> None:
    with pytest.raises(ModelError, match="query matches no module of tiny; it has .*q_proj"):
        Workbench(Checkpoint("tiny", tiny_model, ""), "float32", Lora(target_modules=["q_proj", "query"]))


@pytest.mark.parametrize("key", ["rank_pattern", "alpha_pattern"])
def test_a_pattern_that_matches_no_adapted_module_is_named(tiny_model: Path, key: str) -> None:
    checkpoint = Checkpoint("tiny", tiny_model, "")
    settings = {"r": 2, "target_modules": ["q_proj"], key: {"layers.0.v_proj": 4}}
    with pytest.raises(
        ModelError, match=f"adapter.{key}: 'layers.0.v_proj' matches no module of tiny .* such as model"
    ):
        Workbench(checkpoint, "float32", Lora(**settings))
    settings[key] = {r"layers\.0\..*q_proj": 4}
    Workbench(checkpoint, "float32", Lora(**settings))


def test_a_model_that_does_not_load_is_one_line(tmp_path: Path, tiny_model: Path) -> None:
    for file in tiny_model.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"not a model")
    with pytest.raises(ModelError, match="^base_model broken: does not load: ") as caught:
        Workbench(Checkpoint("broken", tmp_path, ""), "float32", Lora())
    assert "\n" not in str(caught.value)
