"""Other people's methods, on numbers small enough to do by hand, and on adapters against their dense definition."""

import math
from typing import Any

import pytest
import torch

from adamergex.adapters.adapter import Adapter
from adamergex.adapters.low_rank import truncate_dense
from adamergex.errors import MergeError
from adamergex.merging.merge import merge
from adamergex.merging.methods.dare_ties import dare_ties
from adamergex.merging.methods.layer_swap import layer_swap
from adamergex.merging.methods.ties import elect, ties
from tests.merging.test_merge import SHAPES, adapter, assert_close, dense


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_signs_are_elected_by_the_sum_and_entries_are_the_mean_of_those_that_agree() -> None:
    updates = [tensor(3, 1, -2, 0, 1), tensor(-1, 1, -4, 0, -1), tensor(2, -3, 0, 5, 0)]
    # Sums 4, −1, −6, 5, 0: the first is the mean of 3 and 2, the third of −2 and −4, and the last has no sign.
    assert elect(updates).tolist() == [2.5, -3.0, -3.0, 5.0, 0.0]


def test_ties_trims_then_weighs_then_elects() -> None:
    task, target = tensor(4, -3, 2, 1), tensor(1, -4, -3, 2)
    # Half of the entries: T = [4, −3, 0, 0], R = [0, −4, −3, 0].
    assert ties([(1.0, task), (1.0, target)], 0.5).tolist() == [4.0, -3.5, -3.0, 0.0]
    # A weight of −2 turns R into [0, 8, 6, 0], which outvotes T's −3.
    assert ties([(1.0, task), (-2.0, target)], 0.5).tolist() == [4.0, 8.0, 6.0, 0.0]
    # Without trimming and with one term it is that term.
    assert torch.equal(ties([(1.0, task)], 1.0), task)


def test_dare_keeps_its_share_of_entries_and_their_mean() -> None:
    update = torch.ones(100_000, dtype=torch.float64)
    kept = dare_ties([(1.0, update)], 0.25, torch.Generator().manual_seed(1))
    assert set(kept.tolist()) == {0.0, 4.0}
    # Four standard deviations of the mean: 4·√(¼·¾/n)·4.
    assert float(kept.mean()) == pytest.approx(1, abs=4 * 4 * math.sqrt(0.1875 / 100_000))


def test_layers_swap_at_both_ends_and_mix_in_between() -> None:
    shares = [layer_swap(layer, 8, 2, 1, 1) for layer in range(8)]
    assert shares == [1, 1, 0.5, 0, 0, 0, 0.5, 1]
    assert [layer_swap(layer, 4, 1, 0, 0) for layer in range(4)] == [1, 0, 0, 0]
    assert layer_swap(None, 8, 2, 1, 1) == 0


def test_task_arithmetic_adds_the_target_reference() -> None:
    merged = merge(adapter(1), adapter(2), scale=0.3, method="task-arithmetic")
    assert merged.config["r"] == 4
    for name in SHAPES:
        assert_close(dense(merged, name), dense(adapter(1), name) + 0.3 * dense(adapter(2), name))


def test_layer_swap_takes_whole_layers_from_the_target() -> None:
    merged = merge(adapter(1), adapter(2), scale=1.0, method="layer-swap", top=1)
    assert_close(dense(merged, "layers.0.q_proj"), dense(adapter(1), "layers.0.q_proj"))
    assert_close(dense(merged, "layers.1.up_proj"), dense(adapter(2), "layers.1.up_proj"))


@pytest.mark.parametrize("three", [False, True])
def test_ties_of_adapters_is_ties_of_their_updates_at_full_rank(three: bool) -> None:
    adapters = [adapter(seed) for seed in range(3 if three else 2)]
    source = adapters[2] if three else None
    merged = merge(adapters[0], adapters[1], source, 0.4, method="ties", rank=5)
    weights = (1.0, 0.4, -0.4)
    for name in SHAPES:
        terms = [(weight, dense(one, name)) for weight, one in zip(weights, adapters, strict=False)]
        expected = ties(terms, 0.2)
        sigma = torch.linalg.svdvals(expected)
        lost = float(sigma[5:].square().sum() / sigma.square().sum())
        assert merged.discarded_energy[name] == pytest.approx(lost, abs=1e-9)
        assert_close(dense(merged, name), expected, tolerance=math.sqrt(lost) + 1e-6)


def test_dare_depends_on_its_seed_alone() -> None:
    def merged(seed: int) -> torch.Tensor:
        return dense(
            merge(adapter(1), adapter(2), adapter(3), 0.5, method="dare-ties", rank=4, seed=seed), "layers.0.q_proj"
        )

    assert torch.equal(merged(1), merged(1))
    assert not torch.allclose(merged(1), merged(2))


def test_randomised_truncation_is_near_the_best_and_knows_what_it_left_out() -> None:
    generator = torch.Generator().manual_seed(3)
    basis = torch.linalg.qr(torch.randn(60, 60, generator=generator, dtype=torch.float64)).Q
    matrix = basis * (0.9 ** torch.arange(60)) @ torch.linalg.qr(torch.randn(60, 60, generator=generator).double()).Q
    found = truncate_dense(matrix, 8, seed=0)
    sigma = torch.linalg.svdvals(matrix)
    best = float(sigma[8:].square().sum() / sigma.square().sum())
    error = float((found.product.dense() - matrix).square().sum() / matrix.square().sum())
    assert best <= error + 1e-12
    assert error == pytest.approx(best, rel=0.01)
    assert found.discarded_energy == pytest.approx(error, rel=1e-9)


@pytest.mark.parametrize("method", ["task-arithmetic", "ties", "dare-ties"])
def test_ia3_baselines_add_to_the_vector_that_changes_nothing(method: Any) -> None:
    def vectors(values: list[float]) -> Adapter:
        tensors = {"base_model.model.layers.0.k.ia3_l": torch.tensor([[v] for v in values])}
        return Adapter({"peft_type": "IA3"}, tensors)

    density = None if method == "task-arithmetic" else 1.0
    merged = merge(vectors([1.5, 0.5]), vectors([1.25, 1.25]), scale=2.0, method=method, density=density)
    # Updates [½, −½] and, doubled, [½, ½]: added, or elected, where the second entry has no majority.
    expected = [2.0, 1.0] if method == "task-arithmetic" else [1.5, 1.0]
    assert merged.tensors["base_model.model.layers.0.k.ia3_l"].flatten().tolist() == expected


def test_what_a_baseline_cannot_mean_is_refused() -> None:
    with pytest.raises(MergeError, match="adamergex needs the source reference; give it, or use task-arithmetic"):
        merge(adapter(1), adapter(2), scale=0.5)
    with pytest.raises(MergeError, match="layer-swap swaps nothing; say how many layers"):
        merge(adapter(1), adapter(2), scale=0.5, method="layer-swap")
    with pytest.raises(
        MergeError, match="energy: is for task-arithmetic, layer-swap and adamergex; the method is ties"
    ):
        merge(adapter(1), adapter(2), scale=0.5, method="ties", energy=0.9)
    prompts = Adapter(
        {"peft_type": "P_TUNING", "num_virtual_tokens": 2, "num_layers": 1, "token_dim": 3},
        {"prompt_embeddings": torch.ones(2, 3)},
    )
    with pytest.raises(
        MergeError,
        match="task-arithmetic adds updates, and neither a prompt nor DoRA's magnitude is one; the adapters are p-tuning",
    ):
        merge(prompts, prompts, scale=0.5, method="task-arithmetic")
    with pytest.raises(
        MergeError, match="layer-swap swaps layers, and a prompt at the input has none; the adapters are p-tuning"
    ):
        merge(prompts, prompts, scale=0.5, method="layer-swap", top=1)
    biased = Adapter(
        {**adapter(1).config, "bias": "all"},
        {**adapter(1).tensors, "base_model.model.layers.0.norm.bias": torch.ones(2)},
    )
    with pytest.raises(MergeError, match=r"needs what the base model has in place of .*norm.bias \(1 such tensors\)"):
        merge(biased, biased, scale=0.5, method="ties")
