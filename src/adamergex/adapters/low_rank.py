"""Low-rank products, stacked, truncated and measured without ever forming the dense matrix.

A LoRA update is ΔW = left @ right with left of shape (out, k) and right of shape (k, in). A sum of
such updates is their stack; the best rank-k approximation of a stack comes from QR of both sides
and the SVD of a (k, k) core, at a cost linear in `out + in`. All functions take leading batch
dimensions, which are the experts of a mixture.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class LowRank(NamedTuple):
    """The matrix `left @ right`: left of shape (..., out, k), right of shape (..., k, in), any float dtype."""

    left: Tensor
    right: Tensor

    @property
    def rank(self) -> int:
        """The number of columns of `left`: an upper bound of the matrix's rank."""
        return self.left.shape[-1]

    def dense(self) -> Tensor:
        """The matrix itself, shape (..., out, in), float64."""
        return self.left.double() @ self.right.double()


class Truncated(NamedTuple):
    """A rank-k approximation and the share of the squared Frobenius norm that it leaves out."""

    product: LowRank
    discarded_energy: float


def stack(terms: Sequence[tuple[float, LowRank]]) -> LowRank:
    """The exact weighted sum Σ wᵢ·Lᵢ@Rᵢ as one product of rank Σ kᵢ, in float64.

    Args:
        terms: pairs of a weight and a product; all products have the same (..., out, in).
    """
    left = torch.cat([weight * product.left.double() for weight, product in terms], dim=-1)
    right = torch.cat([product.right.double() for _, product in terms], dim=-2)
    return LowRank(left, right)


def singular_values(product: LowRank) -> Tensor:
    """The singular values of the product, descending, shape (..., min(k, out, in)), float64."""
    left = torch.linalg.qr(product.left.double(), mode="r").R
    right = torch.linalg.qr(product.right.double().mT, mode="r").R
    return torch.linalg.svdvals(left @ right.mT)


def truncate(product: LowRank, rank: int) -> Truncated:
    """The best approximation of rank at most `rank` in the Frobenius norm (Eckart–Young), in float64.

    The singular values are shared equally between both sides, so that neither factor is ill-scaled
    when it is stored in a short dtype. A product of smaller rank is padded with zeros.

    Args:
        product: left (..., out, k), right (..., k, in).
        rank: the target rank, at least 1.

    Returns:
        left (..., out, rank), right (..., rank, in), and the discarded share of ‖left @ right‖²_F
        over all of the batch, in 0..1.
    """
    q_left, r_left = torch.linalg.qr(product.left.double())
    q_right, r_right = torch.linalg.qr(product.right.double().mT)
    u, sigma, vt = torch.linalg.svd(r_left @ r_right.mT, full_matrices=False)
    total, lost = float(sigma.square().sum()), float(sigma[..., rank:].square().sum())
    return Truncated(_cut(q_left @ u, sigma, vt @ q_right.mT, rank), lost / total if total else 0.0)


def truncate_dense(matrix: Tensor, rank: int, seed: int, passes: int = 4, oversampling: int = 16) -> Truncated:
    """An approximation of rank at most `rank` of a matrix that has no factors, near the best one.

    Randomised SVD with subspace iterations (Halko, Martinsson and Tropp, arXiv 0909.4061, algorithms 4.4
    and 5.1). What it discards is known exactly, because the norm of the whole is.

    Args:
        matrix: (out, in), any float dtype.
        rank: the target rank, at least 1.
        seed: of the random start.
        passes: subspace iterations; each makes the weaker directions count less.
        oversampling: directions beyond `rank` to carry along.
    """
    matrix = matrix.double()
    width = min(rank + oversampling, *matrix.shape)
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(matrix @ torch.randn(matrix.shape[1], width, generator=generator, dtype=torch.float64)).Q
    for _ in range(passes):
        basis = torch.linalg.qr(matrix @ torch.linalg.qr(matrix.mT @ basis).Q).Q
    u, sigma, vt = torch.linalg.svd(basis.mT @ matrix, full_matrices=False)
    total = float(matrix.square().sum())
    lost = max(0.0, total - float(sigma[:rank].square().sum()))
    return Truncated(_cut(basis @ u, sigma, vt, rank), lost / total if total else 0.0)


def _cut(u: Tensor, sigma: Tensor, vt: Tensor, rank: int) -> LowRank:
    """The first `rank` singular triplets as a product, padded with zeros to that rank."""
    root = sigma[..., :rank].sqrt()
    left, right = u[..., :rank] * root[..., None, :], root[..., None] * vt[..., :rank, :]
    return pad(LowRank(left, right), rank)


def pad(product: LowRank, rank: int) -> LowRank:
    """The same matrix with factors of a larger rank, by zeros."""
    missing = rank - product.rank
    if not missing:
        return product
    functional = torch.nn.functional
    return LowRank(functional.pad(product.left, (0, missing)), functional.pad(product.right, (0, 0, 0, missing)))


def inner(x: LowRank, y: LowRank) -> float:
    """The Frobenius inner product ⟨L₁R₁, L₂R₂⟩ = Σ (L₁ᵀL₂) ∘ (R₁R₂ᵀ), in float64, over all of the batch."""
    lefts = x.left.double().mT @ y.left.double()
    return float((lefts * (x.right.double() @ y.right.double().mT)).sum())


def norm(product: LowRank) -> float:
    """The Frobenius norm of the product, in float64."""
    square = inner(product, product)
    return math.sqrt(square) if not square < 0 else 0.0
