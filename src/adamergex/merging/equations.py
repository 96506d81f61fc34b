"""The merging equations of AdaMergeX (arXiv 2402.18913, section 3), one for each way of entering the model.

Three adapters of one frozen base model: the task in the source language (T), and the reference task in the
target language (R) and in the source language (S). What the reference task differs by between the languages,
the task is taken to differ by as well; how to carry a difference over depends on how the adapter enters the
model. `t` is one scalar; every equation gives T at t = 0 and wherever R = S. All compute in float64.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from adamergex.adapters.low_rank import LowRank, stack


def additive(task: Tensor, target: Tensor, source: Tensor, t: float) -> Tensor:
    """T + t·(R − S), for what is added to the model. All of one shape."""
    return task.double() + t * (target.double() - source.double())


def multiplicative(task: Tensor, target: Tensor, source: Tensor, t: float) -> Tensor:
    """T ⊙ (1 + t·(R ⊘ S − 1)), for what multiplies: (IA)³'s vectors and DoRA's magnitudes. All of one shape.

    A divisor near zero makes the quotient meaningless; `near_zero` counts them, and the caller decides.
    """
    return task.double() * (1 + t * (target.double() / source.double() - 1))


# (IA)³ starts at 1, so that a channel below this is all but switched off, and its quotient is noise.
FLOOR = 2.0**-10


def near_zero(divisor: Tensor, floor: float = FLOOR) -> Tensor:
    """Where |divisor| ≤ floor, as a boolean tensor."""
    return divisor.abs() <= floor


class Prompts(NamedTuple):
    """Merged prompts, and how well the equation was posed."""

    merged: Tensor
    condition: float


def pseudo_inverse(task: Tensor, target: Tensor, source: Tensor, t: float) -> Prompts:
    """T + t·(R − S)·S⁺·T, for prompts: rows are virtual tokens; S⁺ is the Moore–Penrose inverse.

    The paper has t·(R·S⁺)·T: R·S⁺ is the (v, v) map that takes the source's tokens to the target's, and T goes
    through it. At t = 1 both agree if S has full row rank (S·S⁺ = 1), which v virtual tokens of width d ≥ v have;
    this form is T at t = 0, where the paper's is zero, and wherever R = S, also where S has not full rank.

    Args:
        task: (v, d): one layer's keys, one layer's values, or p-tuning's embeddings.
        target: of the same shape.
        source: of the same shape.
        t: the scale.

    Returns:
        The merged (v, d), and the condition number of S: the factor by which its noise may be amplified; infinity
        where it has not full row rank. Singular values below max(v, d)·ε(float32) of the largest count as zero.
    """
    u, sigma, vt = torch.linalg.svd(source.double(), full_matrices=False)
    kept = sigma > max(source.shape) * torch.finfo(torch.float32).eps * sigma[0]
    inverse = (vt[kept].mT / sigma[kept]) @ u[:, kept].mT
    condition = float(sigma[0] / sigma[-1]) if bool(kept.all()) and len(sigma) == len(source) else float("inf")
    return Prompts(task.double() + t * ((target.double() - source.double()) @ (inverse @ task.double())), condition)


def lora_product(terms: Sequence[tuple[float, LowRank]]) -> LowRank:
    """Σ wᵢ·ΔWᵢ, exactly; with the weights 1, t, −t it is ΔW_T + t·(ΔW_R − ΔW_S).

    The factors are stacked, B = [B_T, t·B_R, −t·B_S] and A = [A_T; A_R; A_S], of rank r_T + r_R + r_S.

    Args:
        terms: pairs of a weight and a product, left (..., out, r) with the scaling in it, right (..., r, in).
    """
    return stack(terms)


def lora_factors(terms: Sequence[tuple[float, LowRank]]) -> LowRank:
    """(Σ wᵢ·Bᵢ) @ (Σ wᵢ·Aᵢ): the paper's published code merges A and B apart, with the weights 1, t, −t.

    That is not the sum of the updates: there are cross terms, and S enters as +t²·B_S·A_S. It is near
    `lora_product` only where the three A lie close to one shared start (`adamergex.adapters.compatibility.drift`).

    Args:
        terms: pairs of a weight and a product; all of one rank and one scaling.
    """
    left = torch.stack([weight * product.left.double() for weight, product in terms]).sum(0)
    return LowRank(left, torch.stack([weight * product.right.double() for weight, product in terms]).sum(0))
