"""What others do with the same adapters: each a function of dense updates or of a layer, with its paper.

A term is a pair of a weight and an update, of any one shape: ΔW of a LoRA module, l − 1 of (IA)³. Weights are
1 for the task, t for the target reference, and −t for the source reference where that is given.
"""

import hashlib
import math
from collections.abc import Sequence

import torch
from torch import Tensor

Terms = Sequence[tuple[float, Tensor]]


def task_arithmetic(t: float) -> tuple[float, float]:
    """The weights of T and R in T + t·R (Ilharco et al., arXiv 2212.04089): nothing is subtracted."""
    return 1.0, t


def ties(terms: Terms, density: float) -> Tensor:
    """TIES: trim, elect signs, merge disjointly (Yadav et al., arXiv 2306.01708, section 4); float64.

    Each update keeps the `density` share of its entries that are largest in magnitude. They are weighted, and only
    then a sign is elected for each entry, that of the sum, so that an update with a negative weight votes against
    its own sign. Entries are the mean over the terms that agree with it and are not zero.
    """
    return elect([weight * _trim(update.double(), density) for weight, update in terms])


def dare_ties(terms: Terms, density: float, generator: torch.Generator) -> Tensor:
    """DARE before TIES' election (Yu et al., arXiv 2311.03099): entries are dropped at random, and the rest rescaled.

    Each update keeps an entry with probability `density`, divided by `density`, which leaves its mean as it was.
    """
    kept = []
    for weight, update in terms:
        mask = torch.rand(update.shape, generator=generator, dtype=torch.float64) < density
        kept.append(weight * update.double() * mask / density)
    return elect(kept)


def elected(method: str, terms: Terms, density: float, seed: int, what: str) -> Tensor:
    """TIES, or DARE-TIES with a mask that depends on the seed and on what the tensor is called alone."""
    if method == "ties":
        return ties(terms, density)
    digest = hashlib.sha256(f"{seed} {what}".encode()).digest()
    return dare_ties(terms, density, torch.Generator().manual_seed(int.from_bytes(digest[:7], "big")))


def elect(updates: Sequence[Tensor]) -> Tensor:
    """For each entry the mean over the updates that have the sign of their sum; 0 where the sum is 0."""
    stacked = torch.stack(list(updates))
    agree = stacked.sign() == stacked.sum(0).sign()
    agree &= stacked != 0
    return (stacked * agree).sum(0) / agree.sum(0).clamp(min=1)


def _trim(update: Tensor, density: float) -> Tensor:
    """The `density` share of the entries that are largest in magnitude, at least one; equal ones stay together."""
    kept = max(1, round(density * update.numel()))
    magnitude = update.abs()
    threshold = magnitude.flatten().kthvalue(update.numel() - kept + 1).values
    return update * (magnitude >= threshold)


def layer_swap(layer: int | None, layers: int, bottom: int, top: int, transition: int) -> float:
    """The share of the language's adapter in a layer (Bandarkar et al., arXiv 2410.01335).

    The first and the last layers are the target reference's, those between are the task's, and a transition of
    layers mixes both, in equal steps. The result is (1 − share)·T + share·R.

    Args:
        layer: from 0; None for a module outside of the layers, which stays the task's.
        layers: how many there are.
        bottom: how many of the first are the language's.
        top: and how many of the last.
        transition: how many mix, next to each of the two.
    """
    if layer is None:
        return 0.0
    inside = min(layer - bottom if bottom else math.inf, (layers - 1 - layer) - top if top else math.inf)
    return min(1.0, max(0.0, 1 - (inside + 1) / (transition + 1)))
