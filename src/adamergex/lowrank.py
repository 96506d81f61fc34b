"""Low-rank products, stacked, truncated and measured without ever forming the dense matrix.

A LoRA update is ΔW = left @ right with left of shape (out, k) and right of shape (k, in). A sum of
such updates is their stack; the best rank-k approximation of a stack comes from QR of both sides
and the SVD of a (k, k) core, at a cost linear in `out + in`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class LowRank(NamedTuple):
    """The matrix `left @ right`: left of shape (out, k), right of shape (k, in), any float dtype."""

    left: Tensor
    right: Tensor

    @property
    def rank(self) -> int:
        """The number of columns of `left`: an upper bound of the matrix's rank."""
        return self.left.shape[1]

    def dense(self) -> Tensor:
        """The matrix itself, shape (out, in), float64."""
        return self.left.double() @ self.right.double()


class Truncated(NamedTuple):
    """A rank-k approximation and the share of the squared Frobenius norm that it leaves out."""

    product: LowRank
    discarded_energy: float


def stack(terms: Sequence[tuple[float, LowRank]]) -> LowRank:
    """The exact weighted sum Σ wᵢ·Lᵢ@Rᵢ as one product of rank Σ kᵢ, in float64.

    Args:
        terms: pairs of a weight and a product; all products have the same (out, in).
    """
    left = torch.cat([weight * product.left.double() for weight, product in terms], dim=1)
    right = torch.cat([product.right.double() for _, product in terms], dim=0)
    return LowRank(left, right)


def _core(product: LowRank) -> tuple[Tensor, Tensor, Tensor]:
    """Orthonormal bases (out, p), (in, q) and the (p, q) core C with left @ right = Qₗ C Qᵣᵀ."""
    q_left, r_left = torch.linalg.qr(product.left.double())
    q_right, r_right = torch.linalg.qr(product.right.double().T)
    return q_left, q_right, r_left @ r_right.T


def truncate(product: LowRank, rank: int) -> Truncated:
    """The best approximation of rank at most `rank` in the Frobenius norm (Eckart–Young), in float64.

    The singular values are shared equally between both sides, so that neither factor is ill-scaled
    when it is stored in a short dtype. A product of smaller rank is padded with zeros.

    Args:
        product: left (out, k), right (k, in).
        rank: the rank wanted, at least 1.

    Returns:
        left (out, rank), right (rank, in), and the discarded share of ‖left @ right‖²_F, in 0..1.
    """
    q_left, q_right, core = _core(product)
    u, sigma, vt = torch.linalg.svd(core, full_matrices=False)
    kept = min(rank, sigma.shape[0])
    root = sigma[:kept].sqrt()
    left = torch.zeros(product.left.shape[0], rank, dtype=torch.float64)
    right = torch.zeros(rank, product.right.shape[1], dtype=torch.float64)
    left[:, :kept] = q_left @ (u[:, :kept] * root)
    right[:kept] = (root[:, None] * vt[:kept]) @ q_right.T
    energy = sigma.square()
    total = float(energy.sum())
    return Truncated(LowRank(left, right), float(energy[kept:].sum()) / total if total else 0.0)
