"""The equations against a float64 dense oracle, written out here a second time."""

import math
import subprocess
import sys
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adamergex.adapter import Adapter
from adamergex.errors import MergeError
from adamergex.merge import merge

SHAPES = {"layers.0.q_proj": (6, 5), "layers.1.up_proj": (4, 7)}


def adapter(seed: int, *, rank: int = 2, alpha: float = 4, start: int | None = None, **config: Any) -> Adapter:
    """Random factors; adapters with the same `start` have nearly the same A."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, (out, into) in SHAPES.items():
        a = torch.randn(rank, into, generator=generator)
        if start is not None:
            a = 0.05 * a + torch.randn(rank, into, generator=torch.Generator().manual_seed(start))
        tensors[f"base_model.model.{name}.lora_A.weight"] = a
        tensors[f"base_model.model.{name}.lora_B.weight"] = torch.randn(out, rank, generator=generator)
    settings = {"peft_type": "LORA", "base_model_name_or_path": "base", "r": rank, "lora_alpha": alpha}
    return Adapter(settings | config, tensors, f"adapter {seed}")


def dense(one: Adapter, name: str) -> torch.Tensor:
    """ΔW as PEFT computes it, in float64."""
    a = one.tensors[f"base_model.model.{name}.lora_A.weight"].double()
    b = one.tensors[f"base_model.model.{name}.lora_B.weight"].double()
    rank, alpha = a.shape[0], one.config["lora_alpha"]
    return (alpha / (math.sqrt(rank) if one.config.get("use_rslora") else rank)) * b @ a


def assert_close(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-6) -> None:
    assert float((found - expected).norm()) <= tolerance * max(float(expected.norm()), 1e-3)


@given(st.integers(0, 1000), st.floats(-2, 2))
def test_exact_merge_equals_the_dense_oracle(seed: int, t: float) -> None:
    task, target, source = adapter(seed, rank=2), adapter(seed + 1, rank=3, alpha=5), adapter(seed + 2, rank=1)
    merged = merge(task, target, source, t, rank="exact").adapter
    assert merged.config["r"] == merged.config["lora_alpha"] == 6
    for name in SHAPES:
        assert_close(dense(merged, name), dense(task, name) + t * (dense(target, name) - dense(source, name)))


@given(st.integers(0, 1000), st.floats(-2, 2), st.integers(1, 4))
def test_truncated_merge_is_the_best_of_its_rank(seed: int, t: float, rank: int) -> None:
    adapters = (adapter(seed), adapter(seed + 1), adapter(seed + 2))
    merged = merge(*adapters, t, rank=rank)
    assert merged.adapter.config["r"] == rank
    for name in SHAPES:
        exact = dense(adapters[0], name) + t * (dense(adapters[1], name) - dense(adapters[2], name))
        sigma = torch.linalg.svdvals(exact)
        lost = float(sigma[rank:].square().sum() / sigma.square().sum())
        error = float((dense(merged.adapter, name) - exact).square().sum() / exact.square().sum())
        assert abs(error - lost) < 1e-5
        assert abs(merged.discarded_energy[name] - lost) < 1e-9


def test_merge_of_hand_computed_factors() -> None:
    def one(a: list[float], b: list[float]) -> Adapter:
        tensors = {
            "base_model.model.m.lora_A.weight": torch.tensor([a]),
            "base_model.model.m.lora_B.weight": torch.tensor([b]).T.contiguous(),
        }
        return Adapter({"peft_type": "LORA", "r": 1, "lora_alpha": 2}, tensors)

    task, target, source = one([1, 0], [1, 1]), one([0, 1], [2, 0]), one([1, 1], [0, 1])
    # ΔW_T = 2·[[1,0],[1,0]], ΔW_R = 2·[[0,2],[0,0]], ΔW_S = 2·[[0,0],[1,1]]
    product = merge(task, target, source, 0.5, rank="exact").adapter
    assert dense(product, "m").tolist() == [[2.0, 2.0], [1.0, -1.0]]
    # B = [1,1] + ½([2,0] − [0,1]) = [2, ½], A = [1,0] + ½([0,1] − [1,1]) = [½, 0]
    factors = merge(task, target, source, 0.5, space="factors").adapter
    assert dense(factors, "m").tolist() == [[2.0, 0.0], [0.5, 0.0]]


@pytest.mark.parametrize("space", ["product", "factors"])
def test_scale_zero_returns_the_task_adapter(space: Any) -> None:
    task = adapter(1, alpha=3)
    merged = merge(task, adapter(2), adapter(3), 0.0, space=space).adapter
    for name in SHAPES:
        assert_close(dense(merged, name), dense(task, name))


@pytest.mark.parametrize("space", ["product", "factors"])
def test_equal_references_return_the_task_adapter(space: Any) -> None:
    task = adapter(1)
    merged = merge(task, adapter(2), adapter(2), 0.7, space=space).adapter
    for name in SHAPES:
        assert_close(dense(merged, name), dense(task, name))


def test_scale_one_with_the_task_as_source_returns_the_target() -> None:
    merged = merge(adapter(1), adapter(2), adapter(1), 1.0).adapter
    for name in SHAPES:
        assert_close(dense(merged, name), dense(adapter(2), name))


def test_rslora_is_scaled_by_the_root_of_the_rank() -> None:
    task = adapter(1, rank=4, alpha=4, use_rslora=True)
    merged = merge(task, adapter(2), adapter(3), 0.5, rank="exact").adapter
    for name in SHAPES:
        expected = 2 * task.modules()[name].b.double() @ task.modules()[name].a.double()
        assert_close(dense(merged, name), expected + 0.5 * (dense(adapter(2), name) - dense(adapter(3), name)))


def test_alpha_pattern_scales_the_modules_it_names() -> None:
    task = adapter(1, alpha=4, alpha_pattern={"up_proj": 10})
    assert task.modules()["layers.0.q_proj"].scaling == 2
    assert task.modules()["layers.1.up_proj"].scaling == 5


def test_factor_space_is_near_only_with_a_shared_start() -> None:
    def cosine(adapters: tuple[Adapter, Adapter, Adapter]) -> float:
        found, exact = (merge(*adapters, 0.5, space="factors"), merge(*adapters, 0.5, rank="exact"))
        pairs = [(dense(found.adapter, name), dense(exact.adapter, name)) for name in SHAPES]
        return min(float((a * b).sum() / (a.norm() * b.norm())) for a, b in pairs)

    shared = (adapter(1, start=9), adapter(2, start=9), adapter(3, start=9))
    apart = (adapter(1), adapter(2), adapter(3))
    assert merge(*shared, 0.5).drift < 0.15
    assert merge(*apart, 0.5).drift > 1
    assert cosine(shared) > 0.98
    assert cosine(apart) < 0.9


def test_all_differences_are_reported_together() -> None:
    other = adapter(2, base_model_name_or_path="other")
    del other.tensors["base_model.model.layers.0.q_proj.lora_A.weight"]
    del other.tensors["base_model.model.layers.0.q_proj.lora_B.weight"]
    broken = adapter(3)
    broken.tensors["base_model.model.layers.1.up_proj.lora_A.weight"][0, 0] = math.nan
    with pytest.raises(MergeError) as caught:
        merge(adapter(1), other, broken, 0.5)
    message = str(caught.value)
    assert "base model differs: task was trained on base, reference-target on other" in message
    assert "reference-target lacks 1, the first is layers.0.q_proj" in message
    assert "reference-source holds NaN or infinity in 1 modules, the first is layers.1.up_proj" in message


def test_factor_space_refuses_unequal_ranks() -> None:
    with pytest.raises(MergeError, match="rank of layers.0.q_proj differs: task 2, reference-target 3"):
        merge(adapter(1), adapter(2, rank=3), adapter(3), 0.5, space="factors")


def test_merging_imports_neither_transformers_nor_peft() -> None:
    code = "import sys, adamergex.merge; print([m for m in ('transformers', 'peft', 'pydantic') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
