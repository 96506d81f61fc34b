"""Metrics of answers that are one of a few fixed labels, from the labels' log scores. No torch.

Every metric is computed for many weightings of the items at once, from sums of the items' contributions: a product of matrices
for all resamples of a bootstrap.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from adamergex.scoring import statistics

# Bins of the expected calibration error, as in Guo et al. 2017.
_BINS = 15
_CALIBRATED = "calibrated_"


@dataclass(frozen=True)
class LabelScores:
    """What one method says of items that all have the same labels.

    Attributes:
        labels: their names: the words that stand for them.
        right: (items,), integers: the right label of each item, from 0.
        raw: (items, labels), log scores: log-likelihoods in nats, or logits; a constant for an item changes nothing.
        calibrated: the same after calibration without labels; None where that was not done.
    """

    labels: Sequence[str]
    right: np.ndarray
    raw: np.ndarray
    calibrated: np.ndarray | None = None

    def metrics(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """All `metrics`, (resamples,) each; those of calibrated scores begin with `calibrated_`.

        Args:
            weights: (resamples, items), not negative, float64.
        """
        found = metrics(self.raw, self.right, weights)
        if self.calibrated is not None:
            after = metrics(self.calibrated, self.right, weights)
            found |= {f"{_CALIBRATED}{name}": values for name, values in after.items()}
        return found

    @property
    def predicted(self) -> np.ndarray:
        """(items,): the label of the highest raw log score; of equal ones the first."""
        labels: np.ndarray = self.raw.argmax(axis=1)
        return labels

    def shares(self) -> dict[str, float]:
        """The share of the items for which each label is predicted, by raw scores."""
        return self._by_label(self.predicted)

    def right_shares(self) -> dict[str, float]:
        """The share of the items for which each label is right."""
        return self._by_label(self.right)

    def _by_label(self, indices: np.ndarray) -> dict[str, float]:
        counts = np.bincount(indices, minlength=len(self.labels))
        return dict(zip(self.labels, (counts / len(indices)).tolist(), strict=True))


def metrics(log_scores: np.ndarray, right: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Metrics by name, (resamples,) each, of items that count as much as their weights. Of equal scores, the first label counts.

    - `accuracy`: in 0..1.
    - `macro_f1`: `macro_f1`, in 0..1.
    - `balanced_accuracy`: the mean over labels that occur of the share of their items that is right, in 0..1.
    - `log_likelihood`: the mean log-probability of the right label, in nats, at most 0; probabilities are the softmax of the
      log scores over the labels. Its negative is the cross entropy; log(1 / labels) is what knows nothing.
    - `ece`: the expected calibration error (Guo et al. 2017, arXiv 1706.04599, eq. 3), in 0..1: items are put into 15 bins of
      equal width, ((m − 1)/15, m/15], by the probability p of the label that is predicted; the mean over bins, weighted by
      their items, of |share of right items − mean p|.

    Args:
        log_scores: (items, labels), log-likelihoods in nats, or logits.
        right: (items,), integers: the right label of each item, from 0.
        weights: (resamples, items), not negative; ones for the metrics of the items as they are.
    """
    log_p = log_scores - np.logaddexp.reduce(log_scores, axis=1, keepdims=True)
    predicted, top = log_scores.argmax(axis=1), np.exp(log_p.max(axis=1))
    # Rounding may take a probability of 1 above it.
    bins = np.clip(np.ceil(top * _BINS).astype(int), 1, _BINS) - 1
    in_bins = ((predicted == right) - top)[:, None] * np.eye(_BINS)[bins]
    hits, rights, predictions = (weights @ counted for counted in _counted(predicted, right, log_scores.shape[1]))
    total = weights.sum(axis=1)
    return {
        "accuracy": hits.sum(axis=1) / total,
        "macro_f1": macro_f1(hits, rights, predictions),
        "balanced_accuracy": balanced_accuracy(hits, rights, predictions),
        "log_likelihood": weights @ log_p[np.arange(len(right)), right] / total,
        "ece": np.abs(weights @ in_bins).sum(axis=1) / total,
    }


def interval(metric: str, values: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of a metric, by a bootstrap: between percentiles; of calibration errors, which few items make larger, basic.

    Args:
        metric: its name in `LabelScores.metrics`.
        values: (1 + resamples,): the metric on the items as they are, then on resamples.
    """
    of = statistics.basic_interval if metric.removeprefix(_CALIBRATED) == "ece" else statistics.percentile_interval
    return of(values[1:], float(values[0]))


def _counted(predicted: np.ndarray, right: np.ndarray, labels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whether a label is both predicted and right for an item, right, predicted: (items, labels) of 0 and 1 each."""
    is_predicted, is_right = np.eye(labels)[predicted], np.eye(labels)[right]
    return is_predicted * is_right, is_right, is_predicted


def macro_f1(hits: np.ndarray, rights: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """The mean of the labels' F1, (resamples,), in 0..1, over the labels that are right or predicted for any item.

    Args:
        hits: (resamples, labels), the weight of items for which a label is both predicted and right.
        rights: the same of items for which it is right.
        predictions: the same of items for which it is predicted.
    """
    return _mean_ratio(2 * hits, rights + predictions)


def balanced_accuracy(hits: np.ndarray, rights: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """The mean recall, (resamples,), in 0..1, over the labels that are right for any item.

    Args:
        hits: as in `macro_f1`.
        rights: as in `macro_f1`.
        predictions: as in `macro_f1`; of no effect.
    """
    return _mean_ratio(hits, rights)


# The metrics that methods can be compared by in place of their accuracy, from counts of labels.
COMPARED = {"macro_f1": macro_f1, "balanced_accuracy": balanced_accuracy}


def swapped_difference(metric: str, one: LabelScores, other: LabelScores, swaps: np.ndarray) -> np.ndarray:
    """How much higher one method's metric is than the other's once they have swapped their answers to some items, (patterns,).

    Args:
        metric: one of `COMPARED`.
        one: a method's scores; its raw ones count.
        other: another method's, of the same items.
        swaps: (patterns, items), float64: 1 where the answers to an item are swapped, 0 elsewhere.
    """
    labels = len(one.labels)
    hits, rights, predictions = _counted(one.predicted, one.right, labels)
    other_hits, _, other_predictions = _counted(other.predicted, one.right, labels)
    more_hits, more_predictions = swaps @ (other_hits - hits), swaps @ (other_predictions - predictions)
    right = np.broadcast_to(rights.sum(axis=0), more_hits.shape)
    values = COMPARED[metric](hits.sum(axis=0) + more_hits, right, predictions.sum(axis=0) + more_predictions)
    others = COMPARED[metric](
        other_hits.sum(axis=0) - more_hits, right, other_predictions.sum(axis=0) - more_predictions
    )
    return values - others


def _mean_ratio(numerators: np.ndarray, denominators: np.ndarray) -> np.ndarray:
    """The mean over labels of numerator / denominator, without those whose denominator is 0."""
    occurs = denominators > 0
    ratios = np.divide(numerators, denominators, out=np.zeros_like(denominators), where=occurs)
    means: np.ndarray = ratios.sum(axis=1) / occurs.sum(axis=1)
    return means
