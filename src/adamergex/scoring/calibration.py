"""Calibration without labels: an added bias per label, such that predictions have the label shares that are expected.

A small model's classifier answers in another language with a label bias of its own. Prior matching (arXiv 2309.04992)
removes it: the bias is the one with which the mean predicted distribution over unlabelled inputs equals given shares, here
those of the labels that the task was learned from. Pure functions; no torch.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax

# Fewer inputs than this say too little about the shares of predictions.
FEWEST = 50
# The share of the bias that is added where expected shares are those of the source language, for want of others: docs/results.md
# has what all of it costs where they are wrong, and what is lost where they are right.
GUESSED = 0.75
# The same for an adapter that learned from answers which were calibrated so: it has a part of the bias in it.
GUESSED_AGAIN = 0.5


def shares(labels: Sequence[int], count: int) -> np.ndarray:
    """The share of each label, in (0, 1), float64 (count,); half an item is added to each, so that none is zero.

    Args:
        labels: of the items, from 0.
        count: how many labels there are.
    """
    counts = np.bincount(labels, minlength=count) + 0.5
    return counts / counts.sum()


def prior_bias(log_scores: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """The bias per label with which the mean predicted distribution is the prior.

    It is the minimum of a convex function, mean(logsumexp(log_scores + b)) − prior·b, whose gradient is the mean predicted
    distribution minus the prior.

    Args:
        log_scores: (inputs, labels), log-likelihoods or logits of each label.
        prior: (labels,), positive, sums to 1.

    Returns:
        (labels,), float64, with mean 0.
    """

    def objective(bias: np.ndarray) -> tuple[float, np.ndarray]:
        shifted = log_scores + bias
        return float(logsumexp(shifted, axis=1).mean() - prior @ bias), softmax(shifted, axis=1).mean(axis=0) - prior

    minimum = minimize(objective, np.zeros(log_scores.shape[1]), jac=True, method="BFGS", options={"gtol": 1e-9})
    bias: np.ndarray = minimum.x - minimum.x.mean()
    return bias


def batch_bias(log_scores: np.ndarray) -> np.ndarray:
    """The bias per label of batch calibration (arXiv 2309.17249): minus the log of the mean predicted distribution.

    Args:
        log_scores: (inputs, labels), log-likelihoods or logits of each label.

    Returns:
        (labels,), float64, with mean 0.
    """
    bias: np.ndarray = -np.log(softmax(log_scores, axis=1).mean(axis=0))
    return bias - bias.mean()


def bias_of(log_scores: np.ndarray, prior: np.ndarray | None) -> np.ndarray:
    """The bias per label that inputs call for: `prior_bias` where a prior is given, else `batch_bias`."""
    return batch_bias(log_scores) if prior is None else prior_bias(log_scores, prior)


def cross_fitted(log_scores: np.ndarray, prior: np.ndarray | None) -> np.ndarray | None:
    """Scores with the bias added, each half of the inputs with the bias of the other half; None below 2·FEWEST inputs.

    No label is used, and no input's own scores decide its bias. Halves are the inputs with even and with odd indices.

    Args:
        log_scores: (inputs, labels), log-likelihoods or logits of each label.
        prior: (labels,), positive, sums to 1; None for batch calibration.
    """
    if len(log_scores) < 2 * FEWEST:
        return None
    calibrated = np.array(log_scores, dtype=float)
    for half in (0, 1):
        calibrated[half::2] += bias_of(log_scores[1 - half :: 2], prior)
    return calibrated


def expected(shares_given: Mapping[str, float], labels: Sequence[str]) -> np.ndarray:
    """The shares that a user states, as a prior, in (0, 1), float64 (labels,).

    Args:
        shares_given: label → its share, or its count in a sample (whole numbers); a label that is left out has none.
        labels: all labels, in their order.
    """
    values = np.array([float(shares_given.get(label, 0)) for label in labels])
    if values.sum() > 1.5:
        # Counts: half an item is added to each, as in `shares`.
        values += 0.5
    # A label whose share is 0 could not be matched by any finite bias.
    values = np.maximum(values / values.sum(), 1e-4)
    return values / values.sum()
