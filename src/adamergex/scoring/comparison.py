"""Scores of several methods on the same items of one language or more: their means, intervals and paired tests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from statistics import fmean

import numpy as np

from adamergex.scoring import statistics
from adamergex.scoring.label_metrics import COMPARED, LabelScores, interval, swapped_difference

# Scores that are 0 or 1 for an item: Wilson's interval and McNemar's test are for them.
RIGHT_OR_WRONG = ("accuracy", "exact", "exact_match")
# Metric → its value on the items as they are, then on every resample: (1 + resamples,).
Resampled = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Scores:
    """The scores of one method in one language.

    Attributes:
        values: the score of every item, in 0..1, in the order that all methods share.
        unreadable: how many answers could not be read; they score 0.
        others: means of further metrics, in 0..1.
        labels: the log scores of labels, where all items have the same; their metrics are added to `others`, with intervals.
    """

    values: Sequence[float]
    unreadable: int = 0
    others: Mapping[str, float] = field(default_factory=dict)
    labels: LabelScores | None = None


class Comparison:
    """Methods beside each other, as means over languages, which are fixed, not sampled; so are seeds, if there are several.

    Attributes:
        resampled: method → all its metrics that have scores of items, on the same resamples for all methods.
    """

    def __init__(
        self,
        metric: str,
        methods: Sequence[str],
        languages: Sequence[Mapping[str, Scores]],
        clusters: Sequence[np.ndarray],
    ):
        """Compare methods.

        Args:
            metric: as in `results.rows`.
            methods: those that have scores in all languages.
            languages: of each one, method → its scores; with several seeds, of each language with each seed.
            clusters: as in `statistics.cluster_means`.

        Raises:
            ValueError: methods have scores of different numbers of items, or of none; or the metric is one of labels, and a
                method has no `labels`.
        """
        if metric in COMPARED and any(
            by_method[method].labels is None for by_method in languages for method in methods
        ):
            raise ValueError(f"{metric} is to be compared, but a method has no scores of labels")
        self._metric, self._methods, self._languages, self._clusters = metric, methods, languages, clusters
        self._values = [np.array([by_method[method].values for method in methods], float) for by_method in languages]
        statistics.check(self._values, clusters)
        self.resampled: Mapping[str, Resampled] = self._resampled()

    def scores(self) -> list[float]:
        """The metric of each method, in 0..1."""
        if self._metric in COMPARED:
            return [float(of[self._metric][0]) for of in self.resampled.values()]
        return [fmean(fmean(by_method[method].values) for by_method in self._languages) for method in self._methods]

    def intervals(self) -> list[tuple[float, float]]:
        """The 95 % interval of each method's metric."""
        if self._metric in COMPARED:
            return [interval(self._metric, of[self._metric]) for of in self.resampled.values()]
        if self._metric in RIGHT_OR_WRONG and len(self._languages) == 1:
            return [statistics.wilson_interval([bool(value) for value in values]) for values in self._values[0]]
        ends = statistics.cluster_bootstrap(self._values, self._clusters)
        return [(float(low), float(high)) for low, high in ends]

    def p_values(self, start: str) -> list[float]:
        """The p-value of each method's difference from the start, by a paired test."""
        if self._metric in COMPARED:
            return [self._swap_test(method, start) for method in self._methods]
        at = self._methods.index(start)
        differences = [values - values[at] for values in self._values]
        p_values: list[float] = statistics.sign_flip(statistics.cluster_means(differences, self._clusters)).tolist()
        return p_values

    def _swap_test(self, method: str, start: str) -> float:
        pairs = [(_labels(by_method[method]), _labels(by_method[start])) for by_method in self._languages]
        differs = np.zeros(1 + max(int(cluster.max()) for cluster in self._clusters), bool)
        for (one, other), cluster in zip(pairs, self._clusters, strict=True):
            differs[cluster[one.predicted != other.predicted]] = True

        def difference(swaps: np.ndarray) -> np.ndarray:
            of_each = [
                swapped_difference(self._metric, one, other, swaps[:, cluster])
                for (one, other), cluster in zip(pairs, self._clusters, strict=True)
            ]
            mean: np.ndarray = np.mean(of_each, axis=0)
            return mean

        return statistics.swap_test(difference, differs)

    def _resampled(self) -> dict[str, Resampled]:
        as_they_are = [np.ones((1, len(cluster))) for cluster in self._clusters]
        parts: dict[str, dict[str, list[np.ndarray]]] = {method: {} for method in self._methods}
        for weights in chain([as_they_are], statistics.cluster_weights(self._clusters)):
            for method, of_method in parts.items():
                found = [
                    self._metrics(by_method[method], of_language)
                    for by_method, of_language in zip(self._languages, weights, strict=True)
                ]
                for name in found[0]:
                    if all(name in of_language for of_language in found):
                        mean = np.mean([of_language[name] for of_language in found], axis=0)
                        of_method.setdefault(name, []).append(mean)
        return {
            method: {name: np.concatenate(of) for name, of in of_method.items()} for method, of_method in parts.items()
        }

    def _metrics(self, scores: Scores, weights: np.ndarray) -> dict[str, np.ndarray]:
        of_labels = {} if scores.labels is None else scores.labels.metrics(weights)
        name = "accuracy" if self._metric in COMPARED else self._metric
        return of_labels | {name: weights @ np.asarray(scores.values, float) / weights.sum(axis=1)}


def _labels(scores: Scores) -> LabelScores:
    assert scores.labels is not None  # Of methods that are compared by a metric of labels, all have them.
    return scores.labels
