"""The equations on tensors in memory, against a float64 dense oracle that is written out here a second time."""

import math
import subprocess
import sys
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import adamergex
from adamergex.adapters.adapter import Adapter
from adamergex.adapters.similarity import drift
from adamergex.errors import MergeError
from adamergex.merging.merge import merge
from adamergex.merging.scale import Scale, parse

SHAPES = {"layers.0.q_proj": (6, 5), "layers.1.up_proj": (4, 7)}
SEEDS, SCALES = st.integers(0, 1000), st.floats(-2, 2)


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


@given(SEEDS, SCALES)
def test_exact_merge_equals_the_dense_oracle(seed: int, t: float) -> None:
    task, target, source = adapter(seed, rank=2), adapter(seed + 1, rank=3, alpha=5), adapter(seed + 2, rank=1)
    merged = merge(task, target, source, t)
    assert merged.config["r"] == merged.config["lora_alpha"] == 6
    for name in SHAPES:
        assert_close(dense(merged, name), dense(task, name) + t * (dense(target, name) - dense(source, name)))


@given(SEEDS, SCALES)
def test_sixteen_bits_are_one_rounding_of_the_factors(seed: int, t: float) -> None:
    """Inputs in bfloat16 are summed as the numbers they are; only the result is rounded."""
    short = [
        Adapter(a.config, {name: tensor.bfloat16() for name, tensor in a.tensors.items()})
        for a in map(adapter, range(seed, seed + 3))
    ]
    task, target, source = short
    exact, rounded = merge(task, target, source, t), merge(task, target, source, t, dtype=torch.bfloat16)
    for name in SHAPES:
        expected = dense(short[0], name) + t * (dense(short[1], name) - dense(short[2], name))
        assert_close(dense(exact, name), expected)
    for name, tensor in exact.tensors.items():
        assert rounded.tensors[name].dtype == torch.bfloat16
        assert torch.equal(rounded.tensors[name], tensor.bfloat16())


@given(SEEDS, SCALES, st.integers(1, 4))
def test_truncated_merge_is_the_best_of_its_rank(seed: int, t: float, rank: int) -> None:
    adapters = (adapter(seed), adapter(seed + 1), adapter(seed + 2))
    merged = merge(*adapters, t, rank=rank)
    assert merged.config["r"] == rank
    for name in SHAPES:
        exact = dense(adapters[0], name) + t * (dense(adapters[1], name) - dense(adapters[2], name))
        sigma = torch.linalg.svdvals(exact)
        lost = float(sigma[rank:].square().sum() / sigma.square().sum())
        error = float((dense(merged, name) - exact).square().sum() / exact.square().sum())
        assert abs(error - lost) < 1e-5
        assert abs(merged.discarded_energy[name] - lost) < 1e-9


@given(SEEDS, st.floats(0.05, 1))
def test_energy_chooses_the_smallest_rank_that_keeps_it_everywhere(seed: int, share: float) -> None:
    adapters = (adapter(seed), adapter(seed + 1), adapter(seed + 2))
    merged = merge(*adapters, 0.7, energy=share)
    rank = merged.config["r"]
    assert max(merged.discarded_energy.values()) <= 1 - share + 1e-9
    if rank > 1:
        assert max(merge(*adapters, 0.7, rank=rank - 1).discarded_energy.values()) > 1 - share - 1e-9


def one(a: list[float], b: list[float]) -> Adapter:
    tensors = {
        "base_model.model.m.lora_A.weight": torch.tensor([a], dtype=torch.float32),
        "base_model.model.m.lora_B.weight": torch.tensor([b], dtype=torch.float32).T.contiguous(),
    }
    return Adapter({"peft_type": "LORA", "r": 1, "lora_alpha": 2}, tensors)


def test_merge_of_hand_computed_factors() -> None:
    task, target, source = one([1, 0], [1, 1]), one([0, 1], [2, 0]), one([1, 1], [0, 1])
    # ΔW_T = 2·[[1,0],[1,0]], ΔW_R = 2·[[0,2],[0,0]], ΔW_S = 2·[[0,0],[1,1]]
    assert dense(merge(task, target, source, 0.5), "m").tolist() == [[2.0, 2.0], [1.0, -1.0]]
    # B = [1,1] + ½([2,0] − [0,1]) = [2, ½], A = [1,0] + ½([0,1] − [1,1]) = [½, 0]
    assert dense(merge(task, target, source, 0.5, method="factor-space"), "m").tolist() == [[2.0, 0.0], [0.5, 0.0]]
    # T + ½·R, without S
    assert dense(merge(task, target, scale=0.5, method="task-arithmetic"), "m").tolist() == [[2.0, 2.0], [2.0, 0.0]]


@pytest.mark.parametrize("settings", [{}, {"rank": 2}, {"method": "factor-space"}])
@given(seed=SEEDS)
def test_scale_zero_returns_the_task_adapter(settings: Any, seed: int) -> None:
    task = adapter(seed, alpha=3)
    merged = merge(task, adapter(seed + 1, alpha=3), adapter(seed + 2, alpha=3), 0.0, **settings)
    for name in SHAPES:
        assert_close(dense(merged, name), dense(task, name))


@pytest.mark.parametrize("settings", [{}, {"rank": 2}, {"method": "factor-space"}])
@given(seed=SEEDS, t=SCALES)
def test_equal_references_return_the_task_adapter(settings: Any, seed: int, t: float) -> None:
    task = adapter(seed)
    merged = merge(task, adapter(seed + 1), adapter(seed + 1), t, **settings)
    for name in SHAPES:
        assert_close(dense(merged, name), dense(task, name))


@given(SEEDS)
def test_scale_one_with_the_task_as_source_returns_the_target(seed: int) -> None:
    merged = merge(adapter(seed), adapter(seed + 1), adapter(seed), 1.0)
    for name in SHAPES:
        assert_close(dense(merged, name), dense(adapter(seed + 1), name))


@given(SEEDS, SCALES, st.floats(0.1, 10))
def test_scaling_all_inputs_scales_the_result(seed: int, t: float, factor: float) -> None:
    plain = merge(adapter(seed), adapter(seed + 1), adapter(seed + 2), t)
    task, target, source = (adapter(s, alpha=4 * factor) for s in range(seed, seed + 3))
    scaled = merge(task, target, source, t)
    for name in SHAPES:
        assert_close(dense(scaled, name), factor * dense(plain, name))


def test_the_order_of_the_modules_does_not_matter() -> None:
    def reversed_(one: Adapter) -> Adapter:
        return Adapter(one.config, dict(reversed(list(one.tensors.items()))))

    for settings in ({}, {"rank": 2}, {"method": "dare-ties", "rank": 3}):
        plain = merge(adapter(1), adapter(2), adapter(3), 0.5, **settings)
        turned = merge(reversed_(adapter(1)), adapter(2), reversed_(adapter(3)), 0.5, **settings)
        assert all(torch.equal(plain.tensors[name], turned.tensors[name]) for name in plain.tensors)


def test_rslora_is_scaled_by_the_root_of_the_rank() -> None:
    task = adapter(1, rank=4, alpha=4, use_rslora=True)
    merged = merge(task, adapter(2), adapter(3), 0.5)
    for name in SHAPES:
        stored = f"base_model.model.{name}.lora_"
        expected = 2 * task.tensors[f"{stored}B.weight"].double() @ task.tensors[f"{stored}A.weight"].double()
        assert_close(dense(merged, name), expected + 0.5 * (dense(adapter(2), name) - dense(adapter(3), name)))


def test_alpha_pattern_scales_the_modules_it_names() -> None:
    products = adapter(1, alpha=4, alpha_pattern={"up_proj": 10}).schema.products
    assert products["layers.0.q_proj"].scaling == 2
    assert products["layers.1.up_proj"].scaling == 5


def test_factor_space_is_near_only_with_a_shared_start() -> None:
    def cosine(adapters: tuple[Adapter, Adapter, Adapter]) -> float:
        found, exact = merge(*adapters, 0.5, method="factor-space"), merge(*adapters, 0.5)
        pairs = [(dense(found, name), dense(exact, name)) for name in SHAPES]
        return min(float((a * b).sum() / (a.norm() * b.norm())) for a, b in pairs)

    shared = (adapter(1, start=9), adapter(2, start=9), adapter(3, start=9))
    apart = (adapter(1), adapter(2), adapter(3))
    assert drift(list(shared)) < 0.15
    assert drift(list(apart)) > 1
    assert cosine(shared) > 0.98
    assert cosine(apart) < 0.9
    assert not merge(*shared, 0.5, method="factor-space").warnings
    assert "of their norm apart" in merge(*apart, 0.5, method="factor-space").warnings[0]


def test_a_scale_may_differ_by_layer_and_by_module() -> None:
    task, target, source = adapter(1), adapter(2), adapter(3)

    def scales(scale: Any) -> list[float]:
        """t of both modules, read off the result."""
        merged = merge(task, target, source, scale)
        found = []
        for name in SHAPES:
            change, whole = dense(merged, name) - dense(task, name), dense(target, name) - dense(source, name)
            found.append(round(float((change * whole).sum() / whole.square().sum()), 5))
        return found

    assert scales([0.25, 0.75]) == [0.25, 0.75]
    assert scales([0.0, 1.0, 0.5]) == [0.0, 0.5]
    assert scales(Scale(0.5, {1: 0.125})) == [0.5, 0.125]
    assert scales(Scale(0.5, {1: 0.125}, {"up_proj": -1.0, "q_.*": 2.0})) == [2.0, -1.0]
    with pytest.raises(MergeError, match=r"scale of k_proj fits no module.*scale of layer 2 fits no module"):
        scales(Scale(0.5, {2: 0.1}, {"k_proj": 1.0}))


def test_a_curve_is_interpolated_over_the_layers_and_its_mean_elsewhere() -> None:
    layers = {"model.layers": 5}
    curve = Scale((0.0, 1.0, 0.0))
    found = [curve.of(f"model.layers.{layer}.q_proj", layers) for layer in range(5)]
    assert found == [0.0, 0.5, 1.0, 0.5, 0.0]
    assert curve.of("lm_head", layers) == pytest.approx(1 / 3)
    assert parse("0.6") == 0.6
    assert parse("0.2,0.8") == (0.2, 0.8)
    with pytest.raises(MergeError, match="scale is '0.2;0.8'; expected a number"):
        parse("0.2;0.8")


def test_forcing_another_rule_is_an_ablation_that_says_its_numbers() -> None:
    task, target, source = one([1, 2], [3, 4]), one([2, 2], [6, 4]), one([1, 4], [2, 8])
    # A = [1,2]⊙(1 + ½([2,½] − 1)) = [1½, 1½], B = [3,4]⊙(1 + ½([3,½] − 1)) = [6, 3], times the scaling of 2
    merged = merge(task, target, source, 0.5, rule="multiplicative")
    assert dense(merged, "m").tolist() == [[18.0, 18.0], [9.0, 9.0]]
    with pytest.raises(MergeError, match="pseudo-inverse rule is for prompts; the adapters are LoRA"):
        merge(task, target, source, 0.5, rule="pseudo-inverse")


def test_what_was_computed_is_not_computed_again() -> None:
    """Also where nothing is discarded, as in factor space."""
    for settings in ({"method": "factor-space"}, {"rank": 2}, {}):
        merged = merge(adapter(1), adapter(2), adapter(3), 0.5, **settings)
        dict(merged.tensors)
        asked: list[str] = []
        merged.tensors.pieces = lambda name, asked=asked: asked.append(name)  # type: ignore[attr-defined]
        assert max(merged.discarded_energy.values(), default=0) < 1
        assert not asked


def test_a_rank_beyond_the_sum_of_the_ranks_is_the_sum() -> None:
    merged = merge(adapter(1), adapter(2), adapter(3), 0.5, rank=10**9)
    assert merged.config["r"] == 6
    assert merged.warnings == ("rank 1000000000 is more than the result can have: 6 is all of it",)
    same = merge(adapter(1), adapter(2), adapter(2), 0.5, energy=1)
    assert same.config["r"] == 2


def test_all_differences_are_reported_together() -> None:
    other = adapter(2, base_model_name_or_path="other", revision="abc")
    kept = {name: tensor for name, tensor in other.tensors.items() if "q_proj" not in name}
    broken = adapter(3)
    broken.tensors["base_model.model.layers.1.up_proj.lora_A.weight"][0, 0] = math.nan
    with pytest.raises(MergeError) as caught:
        merge(adapter(1), Adapter(other.config, kept), broken, 0.5, rank=0, method="adamergx")
    message = str(caught.value)
    assert "base model differs: task was trained on base, reference-target on other" in message
    assert "revision of the base model differs: task was trained on main, reference-target on abc" in message
    assert "modules differ: reference-target lacks 1, the first is layers.0.q_proj" in message
    assert "reference-source holds NaN or infinity in 1 tensors" in message
    assert "rank: expected a whole number from 1, or exact; got 0" in message
    assert "method: expected one of task-arithmetic, ties, dare-ties, layer-swap, adamergex, factor-space" in message
    assert "did you mean adamergex?" in message


def test_factor_space_refuses_unequal_ranks_and_scalings() -> None:
    with pytest.raises(MergeError, match="rank or scaling of layers.0.q_proj differs: task 2, 2, reference-target 3"):
        merge(adapter(1), adapter(2, rank=3), adapter(3), 0.5, method="factor-space")
    with pytest.raises(MergeError, match="task 2, 2, reference-source 2, 1"):
        merge(adapter(1), adapter(2), adapter(3, alpha=2), 0.5, method="factor-space")


def test_a_dtype_that_loses_precision_must_be_said() -> None:
    wide = Adapter(adapter(1).config, {name: tensor.double() for name, tensor in adapter(1).tensors.items()})
    with pytest.raises(MergeError, match="task is stored in float64, and the result in float32 loses of it"):
        merge(wide, adapter(2), adapter(3), 0.5)
    merged = merge(wide, adapter(2), adapter(3), 0.5, dtype=torch.float32)
    assert "stored dtypes differ (task float64, reference-target float32" in merged.warnings[0]
    with pytest.raises(MergeError, match="has values beyond float16's 65504; use a smaller scale or another dtype"):
        dict(merge(adapter(1, alpha=1e6), adapter(2), adapter(3), 0.5, dtype=torch.float16).tensors)
    with pytest.raises(MergeError, match="has values beyond float32's 3.4028e"):
        dict(merge(adapter(1), adapter(2), adapter(3), 1e39).tensors)


def test_merging_needs_neither_transformers_nor_peft_and_merge_is_a_function() -> None:
    code = """
import sys, adamergex
assert 'torch' not in sys.modules
import adamergex.merging, adamergex.merging.methods, adamergex.merging.plan
assert 'torch' not in sys.modules
import adamergex.merging.folder
from adamergex.merging.merge import merge
assert adamergex.merge is merge
print([m for m in ('transformers', 'peft', 'typer') if m in sys.modules])
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
    assert callable(adamergex.merge)
