"""Accuracy, its interval, and the paired test; pure functions on lists of right and wrong."""

from collections.abc import Sequence

from scipy.stats import binomtest


def accuracy(correct: Sequence[bool]) -> float:
    """The share of true values, in 0..1. Raises ValueError where `correct` is empty."""
    if not correct:
        raise ValueError("accuracy of no items")
    return sum(correct) / len(correct)


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


def gap_closed(score: float, start: float, ceiling: float) -> float | None:
    """(score − start) / (ceiling − start), or None where the ceiling is not above the start."""
    return (score - start) / (ceiling - start) if ceiling > start else None
