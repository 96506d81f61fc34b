import torch
from hypothesis import given
from hypothesis import strategies as st

from adamergex.adapters.low_rank import LowRank, stack, truncate


def product(seed: int, out: int, into: int, rank: int) -> LowRank:
    generator = torch.Generator().manual_seed(seed)
    return LowRank(torch.randn(out, rank, generator=generator), torch.randn(rank, into, generator=generator))


sizes = st.tuples(st.integers(0, 99), st.integers(1, 20), st.integers(1, 20), st.integers(1, 6))


def test_stack_of_hand_computed_matrices() -> None:
    one = LowRank(torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0, 4.0]]))
    two = LowRank(torch.tensor([[1.0], [0.0]]), torch.tensor([[1.0, 1.0]]))
    stacked = stack([(1.0, one), (-2.0, two)])
    assert stacked.rank == 2
    assert stacked.dense().tolist() == [[1.0, 2.0], [6.0, 8.0]]


@given(sizes, st.floats(-2, 2))
def test_stack_is_the_weighted_sum(size: tuple[int, int, int, int], weight: float) -> None:
    seed, out, into, rank = size
    a, b = product(seed, out, into, rank), product(seed + 1, out, into, 3)
    expected = a.dense() + weight * b.dense()
    assert torch.allclose(stack([(1.0, a), (weight, b)]).dense(), expected, atol=1e-12)


@given(sizes, st.integers(1, 8))
def test_truncation_equals_the_full_svd(size: tuple[int, int, int, int], kept: int) -> None:
    a = product(*size)
    found = truncate(a, kept)
    u, s, vt = torch.linalg.svd(a.dense(), full_matrices=False)
    best = (u[:, :kept] * s[:kept]) @ vt[:kept]
    lost = float(s[kept:].square().sum() / s.square().sum())
    assert found.product.left.shape == (size[1], kept)
    assert found.product.right.shape == (kept, size[2])
    # The error of the approximation is what is unique; at equal singular values the matrix is not.
    error = float((found.product.dense() - a.dense()).square().sum() / a.dense().square().sum())
    assert abs(error - lost) < 1e-10
    assert abs(found.discarded_energy - lost) < 1e-10
    assert torch.allclose((best - a.dense()).norm(), (found.product.dense() - a.dense()).norm(), atol=1e-9)


def test_truncation_of_nothing_is_nothing() -> None:
    found = truncate(LowRank(torch.zeros(3, 2), torch.zeros(2, 4)), 1)
    assert found.discarded_energy == 0.0
    assert not found.product.dense().any()
