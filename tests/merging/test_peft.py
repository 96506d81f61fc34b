"""Beside PEFT's own `add_weighted_adapter`: equal where it is right, and right where it is not.

The oracle is the dense sum of what PEFT folds into the base model for each adapter alone (tests/test_structures.py).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch

from tests import zoo
from tests.merging.test_structures import T, close

WEIGHTS = [1.0, T, -T]


def combined(make: Callable[[], zoo.Model], folders: list[Path], kind: str, **settings: Any) -> peft.PeftModel:
    """PEFT's combination of three folders, as the active adapter, in float64."""
    model = zoo.loaded(make, folders[0])
    for folder in folders[1:]:
        model.load_adapter(folder, adapter_name=folder.name)
    names = ["default", *(folder.name for folder in folders[1:])]
    model.add_weighted_adapter(names, WEIGHTS, "combined", combination_type=kind, **settings)
    model.set_adapter("combined")
    return model.double()


def oracle(make: Callable[[], zoo.Model], folders: list[Path], heads: list[str] | None = None) -> torch.Tensor:
    """Logits of the base model with the dense sum in its weights."""
    task, target, source = (dict(zoo.loaded(make, folder).merge_and_unload().state_dict()) for folder in folders)
    model = zoo.base(make)
    kept = heads or []
    model.load_state_dict({n: v if n in kept else v + T * (target[n] - source[n]) for n, v in task.items()})
    return zoo.logits(model)


def ours(make: Callable[[], zoo.Model], folders: list[Path], into: Path) -> torch.Tensor:
    zoo.merged(folders, T).save(into)
    return zoo.logits(zoo.loaded(make, into))


def test_cat_is_what_we_merge_exactly(tmp_path: Path) -> None:
    folders = zoo.three(zoo.llama, zoo.lora, tmp_path)
    model = combined(zoo.llama, folders, "cat")
    merged = zoo.merged(folders, T)
    for module in merged.schema.products:
        layer = model.get_submodule(f"base_model.model.{module}")
        assert close(merged.update(module).dense(), layer.get_delta_weight("combined"))
    assert merged.config["r"] == model.peft_config["combined"].r == 6


def test_svd_is_what_we_truncate_to(tmp_path: Path) -> None:
    folders = zoo.three(zoo.llama, zoo.lora, tmp_path)
    model = combined(zoo.llama, folders, "svd", svd_rank=3)
    merged = zoo.merged(folders, T, rank=3)
    for module in merged.schema.products:
        expected = model.get_submodule(f"base_model.model.{module}").get_delta_weight("combined")
        assert close(merged.update(module).dense(), expected, 1e-5)


@pytest.mark.parametrize(
    ("mistake", "settings", "kind", "options"),
    [
        ("rsLoRA comes out √rank too large", {"use_rslora": True}, "cat", {}),
        ("DoRA's magnitudes are dropped", {"use_dora": True}, "cat", {}),
        ("a negative weight is added", {}, "linear", {}),
        ("the head of the task alone is lost", {"modules_to_save": ["lm_head"]}, "cat", {}),
    ],
)
def test_where_peft_is_wrong_ours_is_right(
    mistake: str, settings: dict[str, Any], kind: str, options: dict[str, Any], tmp_path: Path
) -> None:
    plain = {key: value for key, value in settings.items() if key != "modules_to_save"}
    folders = [
        zoo.train(zoo.llama, zoo.lora(**(settings if name == "task" else plain)), tmp_path / name, seed)
        for seed, name in enumerate(("task", "target", "source"))
    ]
    if "use_dora" in settings:
        # At t = 0 nothing is merged: what comes out is the task adapter, whatever DoRA's merge means.
        expected = zoo.logits(zoo.loaded(zoo.llama, folders[0]))
        zoo.merged(folders, 0.0).save(tmp_path / "merged")
        found = zoo.logits(zoo.loaded(zoo.llama, tmp_path / "merged"))
        model = zoo.loaded(zoo.llama, folders[0])
        model.load_adapter(folders[1], adapter_name="target")
        model.add_weighted_adapter(["default", "target"], [1.0, 0.0], "combined", combination_type=kind)
        model.set_adapter("combined")
    else:
        expected = oracle(zoo.llama, folders, ["lm_head.weight"] if "modules_to_save" in settings else None)
        found = ours(zoo.llama, folders, tmp_path / "merged")
        model = combined(zoo.llama, folders, kind, **options)
    assert close(found, expected)
    assert not close(zoo.logits(model.double()), expected, 0.05), mistake


def test_a_result_of_rank_patterns_loads_again_and_peft_s_does_not(tmp_path: Path) -> None:
    folders = zoo.three(zoo.llama, lambda: zoo.lora(rank_pattern={"q_proj": 4}), tmp_path)
    assert close(ours(zoo.llama, folders, tmp_path / "merged"), oracle(zoo.llama, folders))
    combined(zoo.llama, folders, "linear").save_pretrained(tmp_path / "peft", selected_adapters=["combined"])
    with pytest.raises(RuntimeError, match="size mismatch"):
        zoo.loaded(zoo.llama, tmp_path / "peft" / "combined")
