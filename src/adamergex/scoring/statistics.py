"""Means, their intervals and paired tests; pure functions on lists of right and wrong, or of scores."""

from collections.abc import Sequence
from statistics import fmean

import numpy as np
from scipy.stats import binomtest


def wilson_interval(correct: Sequence[bool], confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of an accuracy (Wilson 1927), in 0..1."""
    interval = binomtest(sum(correct), len(correct)).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def mcnemar_exact(correct: Sequence[bool], baseline: Sequence[bool]) -> float:
    """Two-sided exact McNemar test (1947): may two paired accuracies be equal?

    Only items where one is right and the other wrong count; under the null hypothesis each way is
    equally likely, so the count follows Binomial(n, ½).

    Args:
        correct: right or wrong, item by item.
        baseline: the same of another method, in the same order.

    Returns:
        The p-value; 1 where the two never disagree.

    Raises:
        ValueError: the lengths differ.
    """
    gained = sum(a and not b for a, b in zip(correct, baseline, strict=True))
    lost = sum(b and not a for a, b in zip(correct, baseline, strict=True))
    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def bootstrap_interval(
    scores: Sequence[float], confidence: float = 0.95, resamples: int = 5_000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean (Efron & Tibshirani 1993, ch. 13), in the unit of the scores.

    For scores that are not merely right or wrong, such as F1 or ROUGE; `wilson_interval` is for the latter.

    Args:
        scores: one for each item; some dozens at least, fewer make the interval too narrow.
        confidence: the share of such intervals that hold the true mean.
        resamples: how often as many items are drawn, with replacement.
        seed: the same seed makes the same interval.

    Raises:
        ValueError: `scores` is empty.
    """
    outside = (1 - confidence) / 2
    low, high = np.quantile(_resampled_means(np.asarray(scores, float), resamples, seed), [outside, 1 - outside])
    return float(low), float(high)


def paired_bootstrap(
    scores: Sequence[float], baseline: Sequence[float], resamples: int = 10_000, seed: int = 0
) -> float:
    """Two-sided paired bootstrap test: may two means over the same items be equal?

    Items are resampled in pairs (Koehn 2004). The differences are first shifted to mean 0, so that the resamples
    follow the null hypothesis (Efron & Tibshirani 1993, section 16.4). The p-value is the share of resamples whose mean
    is at least as far from 0 as the one that was measured, which counts as one of them.

    Args:
        scores: one for each item; some dozens at least, with fewer the test says too often that means differ.
        baseline: the same of another method, in the same order.
        resamples: how often as many items are drawn, with replacement; 1 / (resamples + 1) is the least p-value.
        seed: the same seed makes the same p-value.

    Returns:
        The p-value; 1 where the means are equal.

    Raises:
        ValueError: the lengths differ, or there are no items.
    """
    differences = [a - b for a, b in zip(scores, baseline, strict=True)]
    measured = fmean(differences)
    shifted = _resampled_means(np.asarray(differences) - measured, resamples, seed)
    # What rounding alone parts is not farther away.
    farther = np.count_nonzero(np.abs(shifted) >= abs(measured) - 1e-12)
    return float((farther + 1) / (resamples + 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for testing several hypotheses at once, by Holm's step-down procedure (1979).

    Rejecting what is below α keeps the chance of any false rejection below α, however the tests depend on each other.
    The k-th smallest of m is multiplied by m − k + 1; none is less than a smaller one's, or more than 1.

    Returns:
        The adjusted p-values, in the order of `p_values`.

    Raises:
        ValueError: one is not in 0..1.
    """
    if not all(0 <= p <= 1 for p in p_values):
        raise ValueError(f"p-values outside of 0..1: {p_values}")
    adjusted = [0.0] * len(p_values)
    most = 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        most = max(most, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = most
    return adjusted


def _resampled_means(values: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Means of as many values drawn with replacement, one for each resample. Raises ValueError where there are none."""
    if not len(values):
        raise ValueError("resamples of no items")
    random = np.random.default_rng(seed)
    means = []
    # Drawn in blocks, so that memory stays small.
    for first in range(0, resamples, 500):
        drawn = random.integers(len(values), size=(min(500, resamples - first), len(values)), dtype=np.int32)
        means.append(values[drawn].mean(axis=1))
    return np.concatenate(means)


def gap_closed(score: float, start: float, ceiling: float) -> float | None:
    """(score − start) / (ceiling − start), or None where the ceiling is not above the start."""
    return (score - start) / (ceiling - start) if ceiling > start else None
