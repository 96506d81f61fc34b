"""The best of several candidates on the same items, where the hopeless ones stop early (successive halving).

Karnin et al.: "Almost Optimal Exploration in Multi-Armed Bandits", ICML 2013; Jamieson and Talwalkar: "Non-stochastic Best
Arm Identification and Hyperparameter Optimization", AISTATS 2016, arXiv 1502.07943. Of eleven candidates, all see an eighth of
the items, six a quarter, four a half, three all of them, and so does the one that they are compared with: at most 5.5 times
the cost of one.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from adamergex.scoring.results import SIGNIFICANT

# What the candidates that are left have seen after each round, as shares of all items.
_SHARES = (1 / 8, 1 / 4, 1 / 2, 1.0)


@dataclass(frozen=True)
class Standing:
    """How far a candidate came.

    Attributes:
        right: of each item that it answered, in their order, whether it was right; bool (items,).
    """

    right: np.ndarray

    @property
    def score(self) -> float:
        """The share of right answers."""
        return float(self.right.mean()) if len(self.right) else 0.0


def race(
    candidates: int, items: int, answer: Callable[[int, int, int], Sequence[bool]], stays: int = 0
) -> list[Standing]:
    """Let candidates answer items, the better half of them more and more.

    Args:
        candidates: how many there are.
        items: how many there are, in an order that is not sorted by anything.
        answer: answer(candidate, start, end): whether a candidate is right on all of items[:end]. It was asked for
            items[:start] before; what it says of these may change (a calibration that more items make better).
        stays: a candidate that is never left out, for others to be compared with.

    Returns:
        How far each came, in their order. Those that answered all items are the final.
    """
    standings = [Standing(np.zeros(0, bool))] * candidates
    left, done = list(range(candidates)), 0
    for share in _SHARES:
        end = math.ceil(share * items)
        for candidate in left:
            standings[candidate] = Standing(np.array(answer(candidate, done, end), bool))
        done = end
        # Of equally good ones the first.
        ranked = sorted(left, key=lambda candidate: (-standings[candidate].score, candidate))
        left = sorted({*ranked[: math.ceil(len(ranked) / 2)], stays})
    return standings


def winner(standings: Sequence[Standing], default: int, certain: bool) -> tuple[int, float]:
    """The best of those that answered all items, and the p-value of its difference to the default (exact McNemar).

    Args:
        standings: of `race`, where the default stayed.
        default: the candidate that is taken where no other one is better.
        certain: whether another one has to be significantly better, so that noise does not choose.
    """
    items = len(standings[default].right)
    final = [number for number, one in enumerate(standings) if len(one.right) == items]
    best = max(final, key=lambda number: (standings[number].score, number == default, -number))
    p = _mcnemar(standings[best].right, standings[default].right)
    if best != default and (standings[best].score <= standings[default].score or (certain and p >= SIGNIFICANT)):
        return default, p
    return best, p


def _mcnemar(a: np.ndarray, b: np.ndarray) -> float:
    """The exact McNemar test (1947): of the items that one alone has right, is each as likely to have them?"""
    first, second = int((a & ~b).sum()), int((b & ~a).sum())
    return float(binomtest(first, first + second).pvalue) if first + second else 1.0
