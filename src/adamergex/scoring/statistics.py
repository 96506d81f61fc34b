"""Means, their intervals and paired tests; pure functions on scores. docs/evaluation.md says why these."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from scipy.stats import binom, binomtest

# Numbers in a block of resamples, of all languages and seeds, which bounds memory: 32 MB in float64.
_BLOCK = 4_000_000
# Differences up to this, relative to the largest of the numbers, are rounding.
_ROUNDING = 1e-9


def wilson_interval(correct: Sequence[bool], confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of an accuracy (Wilson 1927), in 0..1."""
    interval = binomtest(sum(correct), len(correct)).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def cluster_means(scores: Sequence[np.ndarray], clusters: Sequence[np.ndarray]) -> np.ndarray:
    """The contribution of each cluster to the mean over languages, which have equal weights.

    Args:
        scores: of each language, (methods, items).
        clusters: of each language, (items,): the cluster of every item, counted from 0; an item and its translations
            are one cluster.

    Returns:
        (methods, clusters), whose sum over the clusters is the mean over languages of the means over items.

    Raises:
        ValueError: a language has no items, or another number of clusters than of items.
    """
    check(scores, clusters)
    contributions = np.zeros((len(scores[0]), _count(clusters)))
    for values, cluster in zip(scores, clusters, strict=True):
        # Several items of a language may be in one cluster, which plain indexing would overwrite.
        np.add.at(contributions.T, cluster, values.T / (values.shape[1] * len(scores)))
    return contributions


def sign_flip(differences: np.ndarray, resamples: int = 9_999, seed: int = 0) -> np.ndarray:
    """Two-sided paired permutation test (Fisher 1935): are two methods exchangeable, cluster by cluster?

    Under the null hypothesis each cluster's difference has either sign with probability ½, independently of the others.
    The p-value is the share of sign patterns whose sum is at least as far from 0 as the one measured. It is exact
    where all differences that are not 0 have one size, where it is the exact McNemar test (1947), and where there are
    at most as many patterns as resamples; otherwise patterns are drawn, and the measured one is counted among
    them, so that the test holds its level (Phipson & Smyth 2010).

    Args:
        differences: (methods, clusters), each method against another one.
        resamples: how many patterns are drawn; 1 / (resamples + 1) is then the least p-value.
        seed: equal seeds give equal p-values.

    Returns:
        (methods,) p-values, no smaller than 2 ** (1 - clusters); 1 where nothing differs.
    """
    sizes = np.abs(differences)
    largest = sizes.max(axis=1, initial=0.0, keepdims=True)
    differs = sizes > _ROUNDING * largest
    count = differs.sum(axis=1)
    smallest = np.where(differs, sizes, np.inf).min(axis=1, initial=np.inf, keepdims=True)
    alike = ((largest - smallest) <= _ROUNDING * largest)[:, 0] | (count == 0)
    fewer = np.minimum(((differences > 0) & differs).sum(axis=1), ((differences < 0) & differs).sum(axis=1))
    p_values = np.minimum(1.0, 2 * binom.cdf(fewer, count, 0.5))
    # 2 ** (count - 1) patterns are no more than the resamples.
    listed = ~alike & (count <= resamples.bit_length())
    for i in np.flatnonzero(listed):
        p_values[i] = _all_patterns(differences[i, differs[i]])
    if len(drawn := np.flatnonzero(~alike & ~listed)):
        p_values[drawn] = _drawn_patterns(differences[drawn], resamples, seed)
    return p_values


def _all_patterns(differences: np.ndarray) -> float:
    """The share of all sign patterns as far from 0; the first sign is fixed, for the other half mirrors this one."""
    sums = differences[:1]
    for difference in differences[1:]:
        sums = np.concatenate([sums + difference, sums - difference])
    return float(np.mean(np.abs(sums) >= _reached(differences)))


def _drawn_patterns(differences: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    total, reached = differences.sum(axis=1), _reached(differences)
    farther = np.zeros(len(differences), int)
    for size in _blocks(resamples, differences.shape[1]):
        # The sum of all, less twice what is flipped.
        flipped = random.integers(2, size=(size, differences.shape[1]), dtype=np.int8).astype(float)
        farther += (np.abs(total - 2 * flipped @ differences.T) >= reached).sum(axis=0)
    return (farther + 1) / (resamples + 1)


def _reached(differences: np.ndarray) -> np.ndarray:
    """The distance of the sum of differences from 0, less what rounding may add."""
    return np.abs(differences.sum(axis=-1)) - _ROUNDING * np.abs(differences).sum(axis=-1)


def swap_test(
    difference: Callable[[np.ndarray], np.ndarray], differs: np.ndarray, resamples: int = 9_999, seed: int = 0
) -> float:
    """Two-sided paired permutation test of any metric: approximate randomisation (Noreen 1989; Yeh 2000).

    Under the null hypothesis two methods are exchangeable, cluster by cluster: their answers may as well be swapped. The
    p-value is the share of patterns of swaps whose difference is at least as far from 0 as the one measured. It is exact where
    there are at most as many patterns as resamples; otherwise patterns are drawn, and the measured one is counted among them.
    Of a mean over items it is `sign_flip`.

    Args:
        difference: from swaps, (patterns, clusters), float64, 1 where a cluster's answers are swapped and 0 elsewhere, the
            difference between the methods' metrics, (patterns,), in -1..1.
        differs: (clusters,), bool: whether a swap changes anything.
        resamples: how many patterns are drawn; 1 / (resamples + 1) is then the least p-value.
        seed: equal seeds give equal p-values.

    Returns:
        The p-value; 1 where nothing differs.
    """
    places, count = np.flatnonzero(differs), len(differs)
    reached = abs(difference(np.zeros((1, count))).item()) - _ROUNDING

    def farther(patterns: np.ndarray) -> np.ndarray:
        swaps = np.zeros((len(patterns), count))
        swaps[:, places[: patterns.shape[1]]] = patterns
        return np.abs(difference(swaps)) >= reached

    if len(places) <= resamples.bit_length():
        # The last cluster is never swapped, for the other half of the patterns mirrors this one.
        bits = max(0, len(places) - 1)
        return float(farther(np.arange(2**bits)[:, None] >> np.arange(bits) & 1).mean())
    random = np.random.default_rng(seed)
    found = sum(
        farther(random.integers(2, size=(size, len(places)), dtype=np.int8)).sum() for size in _blocks(resamples, count)
    )
    return float((found + 1) / (resamples + 1))


def cluster_bootstrap(
    scores: Sequence[np.ndarray],
    clusters: Sequence[np.ndarray],
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> np.ndarray:
    """Intervals of the mean over languages of mean scores, by a Bayesian bootstrap of clusters.

    Clusters get random weights, an item and its translations the same one (Rubin 1981; Field & Welsh 2007). Two more
    clusters of half an item each, one that scores 0 everywhere and one that scores 1, keep the interval from closing
    where few items were seen (a Dirichlet process prior, Hjort 1991): for right and wrong in one language the interval is
    Jeffreys', which Brown, Cai & DasGupta (2001) recommend for few items; as they do, it is widened to hold the measured
    mean.

    Args:
        scores: of each language, (methods, items), in 0..1.
        clusters: as in `cluster_means`.
        confidence: the share of such intervals that hold the true mean.
        resamples: number of draws of the weights.
        seed: equal seeds give equal intervals.

    Returns:
        (methods, 2): the lower and upper ends.

    Raises:
        ValueError: as `cluster_means`.
    """
    check(scores, clusters)
    random = np.random.default_rng(seed)
    added = random.gamma(0.5, size=(resamples, 2))
    means = []
    for weights in _weights(clusters, resamples, random):
        (zeros, ones), added = added[: len(weights[0])].T[..., None], added[len(weights[0]) :]
        of_each = [
            (drawn @ values.T + ones) / (drawn.sum(axis=1, keepdims=True) + zeros + ones)
            for values, drawn in zip(scores, weights, strict=True)
        ]
        means.append(sum(of_each) / len(of_each))
    outside = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(means), [outside, 1 - outside], axis=0)
    measured = sum(values.mean(axis=1) for values in scores) / len(scores)
    return np.stack([np.minimum(low, measured), np.maximum(high, measured)], axis=1)


def cluster_weights(
    clusters: Sequence[np.ndarray], resamples: int = 1_000, seed: int = 0
) -> Iterator[list[np.ndarray]]:
    """Random weights of items for a Bayesian bootstrap of clusters (Rubin 1981), in blocks of resamples that bound memory.

    Weights are standard exponential, and an item and its translations have the same one. No weight is 0, so that every label
    that occurs does so in every resample, which is not so where items are drawn with replacement.

    Args:
        clusters: as in `cluster_means`.
        resamples: number of draws, all blocks together.
        seed: equal seeds give equal weights.

    Yields:
        The weights of each language's items, (resamples of the block, items).
    """
    yield from _weights(clusters, resamples, np.random.default_rng(seed))


def _weights(clusters: Sequence[np.ndarray], resamples: int, random: np.random.Generator) -> Iterator[list[np.ndarray]]:
    for size in _blocks(resamples, sum(map(len, clusters))):
        weights = random.standard_exponential((size, _count(clusters)))
        yield [weights[:, cluster] for cluster in clusters]


def percentile_interval(values: np.ndarray, measured: float, confidence: float = 0.95) -> tuple[float, float]:
    """The interval between two percentiles of a bootstrap, as many values being below as above it; holds what was measured.

    Args:
        values: (resamples,), of a metric on each resample.
        measured: the metric on the items as they are; the interval is widened to hold it.
        confidence: the share of the values in the interval.
    """
    outside = (1 - confidence) / 2
    low, high = np.quantile(values, [outside, 1 - outside])
    return min(float(low), measured), max(float(high), measured)


def basic_interval(values: np.ndarray, measured: float, confidence: float = 0.95) -> tuple[float, float]:
    """The percentile interval, mirrored at what was measured (Davison & Hinkley 1997, Bootstrap Methods, 5.2), in 0..1.

    For metrics that are biased, and once more so in resamples: what resamples add to the metric is taken from it.

    Args:
        values: as in `percentile_interval`.
        measured: as in `percentile_interval`.
        confidence: as in `percentile_interval`.
    """
    low, high = percentile_interval(values, measured, confidence)
    return max(0.0, 2 * measured - high), min(1.0, 2 * measured - low)


def check(scores: Sequence[np.ndarray], clusters: Sequence[np.ndarray]) -> None:
    """Check that items have clusters.

    Args:
        scores: as in `cluster_means`.
        clusters: as in `cluster_means`.

    Raises:
        ValueError: a language has no items, or another number of clusters than of items.
    """
    for values, cluster in zip(scores, clusters, strict=True):
        if not values.shape[1] or values.shape[1] != len(cluster):
            raise ValueError(f"{values.shape[1]} items, {len(cluster)} clusters of items; expected as many, and some")


def _count(clusters: Sequence[np.ndarray]) -> int:
    return 1 + max(int(cluster.max()) for cluster in clusters)


def _blocks(resamples: int, width: int) -> list[int]:
    """The sizes of blocks of resamples that are computed at once."""
    size = max(1, _BLOCK // max(1, width))
    return [min(size, resamples - first) for first in range(0, resamples, size)]


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


def gap_closed(score: float, start: float, ceiling: float) -> float | None:
    """(score − start) / (ceiling − start), or None where the ceiling is not above the start."""
    return (score - start) / (ceiling - start) if ceiling > start else None


def gap_interval(scores: np.ndarray, starts: np.ndarray, ceilings: np.ndarray, measured: float) -> tuple[float, float]:
    """The 95 % interval of `gap_closed`, by the bootstrap of all three scores on the same resamples.

    Resamples whose ceiling is not above the start have no share and are left out; they are few where the gap is significant.

    Args:
        scores: (resamples,).
        starts: the same of the start.
        ceilings: the same of the ceiling.
        measured: the share on the items as they are.
    """
    there = ceilings > starts
    return percentile_interval((scores - starts)[there] / (ceilings - starts)[there], measured)
