"""Folders go through PEFT and back, and mean the same there."""

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers

from adamergex import adapter
from adamergex.errors import AdapterError
from adamergex.merge import merge
from adamergex.model import Workbench


def trained(folder: Path, tiny_model: Path, seed: int, **config: object) -> Path:
    """A LoRA folder as PEFT writes it, with random A and B."""
    base = transformers.AutoModelForCausalLM.from_pretrained(tiny_model)
    model = peft.get_peft_model(
        base,
        peft.LoraConfig(
            target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM", **{"r": 3, "lora_alpha": 6} | config
        ),
    )
    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(std=0.3)
    model.save_pretrained(folder)
    return folder


def logits(tiny_model: Path, folder: Path) -> torch.Tensor:
    base = transformers.AutoModelForCausalLM.from_pretrained(tiny_model)
    with torch.no_grad():
        return peft.PeftModel.from_pretrained(base, folder)(torch.arange(3, 40)[None]).logits


@pytest.mark.parametrize(
    "config", [{}, {"use_rslora": True}, {"alpha_pattern": {"q_proj": 11}}, {"rank_pattern": {"q_proj": 2}}]
)
def test_modules_mean_what_peft_means(tmp_path: Path, tiny_model: Path, config: dict[str, object]) -> None:
    folder = trained(tmp_path / "a", tiny_model, 1, **config)
    base = transformers.AutoModelForCausalLM.from_pretrained(tiny_model)
    model = peft.PeftModel.from_pretrained(base, folder)
    found = adapter.load(folder).modules()
    layers = {
        n.removeprefix("base_model.model."): m for n, m in model.named_modules() if hasattr(m, "get_delta_weight")
    }
    assert found.keys() == layers.keys()
    for name, layer in layers.items():
        assert torch.allclose(found[name].product.dense().float(), layer.get_delta_weight("default"), atol=1e-6)


@pytest.mark.parametrize("rank", [None, "exact"])
def test_a_merged_folder_loads_in_peft_and_computes_the_dense_oracle(
    tmp_path: Path, tiny_model: Path, rank: Any
) -> None:
    folders = [trained(tmp_path / str(i), tiny_model, i) for i in range(3)]
    task, target, source = map(adapter.load, folders)
    merged = merge(task, target, source, 0.6, rank=rank)
    (tmp_path / "merged").mkdir()
    adapter.save(merged.adapter, tmp_path / "merged")

    base = transformers.AutoModelForCausalLM.from_pretrained(tiny_model)
    deltas = [adapter.load(folder).modules() for folder in folders]
    for name in deltas[0]:
        of_task, of_target, of_source = (of[name].product.dense() for of in deltas)
        update = of_task + 0.6 * (of_target - of_source)
        if rank is None:
            u, s, vt = torch.linalg.svd(update)
            update = (u[:, :3] * s[:3]) @ vt[:3]
        weight = base.get_submodule(name).weight
        weight.data = (weight.double() + update).float()
    with torch.no_grad():
        expected = base(torch.arange(3, 40)[None]).logits
    assert torch.allclose(logits(tiny_model, tmp_path / "merged"), expected, atol=1e-5)


def test_what_the_workbench_holds_is_what_peft_loads(tmp_path: Path, tiny_model: Path, workbench: Workbench) -> None:
    workbench.start(3)
    for parameter in workbench.trainable():
        parameter.data.normal_(std=0.3)
    adapter.save(workbench.adapter(), tmp_path)
    with torch.no_grad():
        assert torch.allclose(
            logits(tiny_model, tmp_path), workbench.model(torch.arange(3, 40)[None]).logits, atol=1e-6
        )
    workbench.start(0)
    workbench.put(adapter.load(tmp_path))
    with torch.no_grad():
        assert torch.allclose(
            logits(tiny_model, tmp_path), workbench.model(torch.arange(3, 40)[None]).logits, atol=1e-6
        )


def test_saving_twice_gives_the_same_bytes(tmp_path: Path, workbench: Workbench) -> None:
    workbench.start(3)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        adapter.save(workbench.adapter(), tmp_path / name)
    for file in (adapter.CONFIG, adapter.WEIGHTS):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_unusable_folders_are_refused_by_name(tmp_path: Path, tiny_model: Path) -> None:
    with pytest.raises(AdapterError, match=r"adapter_config\.json is missing"):
        adapter.load(tmp_path)
    folder = trained(tmp_path / "a", tiny_model, 1)
    config = json.loads((folder / adapter.CONFIG).read_text())
    (folder / adapter.CONFIG).write_text(json.dumps(config | {"use_dora": True}))
    with pytest.raises(AdapterError, match="sets use_dora"):
        adapter.load(folder)
    (folder / adapter.CONFIG).write_text(json.dumps(config | {"peft_type": "IA3"}))
    with pytest.raises(AdapterError, match="describes IA3; supported: LORA"):
        adapter.load(folder)
    (folder / adapter.CONFIG).write_text(json.dumps(config))
    (folder / adapter.WEIGHTS).write_bytes((folder / adapter.WEIGHTS).read_bytes()[:200])
    with pytest.raises(AdapterError, match="cannot be read"):
        adapter.load(folder)
