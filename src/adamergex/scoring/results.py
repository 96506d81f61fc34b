"""Scores of methods on the same items → one row for each method, with intervals and paired tests. Imports no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Literal

import numpy as np

from adamergex.scoring import statistics
from adamergex.scoring.comparison import Comparison, Resampled, Scores
from adamergex.scoring.label_metrics import interval

AVERAGE = "average"
# What a p-value has to be below to be called a difference.
SIGNIFICANT = 0.05
TESTS = (
    "right or wrong in one language: Wilson intervals and exact McNemar tests; other scores and averages: cluster bootstrap "
    "intervals and sign-flip permutation tests, an item and its translations being one cluster; macro-F1 and balanced accuracy: "
    "percentiles of a cluster bootstrap and permutation tests that swap two methods' answers"
)
Role = Literal["base", "adapter", "merged", "refined", "ceiling"]


@dataclass(frozen=True)
class Row:
    """One method in one language, or its average over the languages.

    Attributes:
        language: the target language, or the name of the average.
        method: its name in the recipe, or the name that the user gave an adapter.
        label: its name in the report.
        metric: whose mean `score` is.
        items: number of items.
        score, low, high: the mean score and its 95 % interval, in 0..1: Wilson's for right or wrong in one language, a
            cluster bootstrap's otherwise; of macro-F1 and balanced accuracy, see `intervals`.
        difference: score minus that of the start on the same items; None for the start itself.
        p_value: of the paired test of that difference, a sign-flip permutation test; for right or wrong in one language
            that is the exact McNemar test. Of macro-F1 and balanced accuracy, a permutation test that swaps answers.
        p_holm: the p-value, adjusted by Holm's method for the number of languages; None where there is one.
        gap_closed: share of the way from the start to the ceiling; None without a ceiling that is significantly above the start.
        gap_closed_low, gap_closed_high: its 95 % interval (`statistics.gap_interval`), by a bootstrap of clusters.
        unreadable: how many answers could not be read, with all seeds.
        others: further metrics; for an average, their means over the languages.
        intervals: 95 % intervals of those of `others` that are metrics of fixed labels (`label_metrics.metrics`): by a Bayesian
            bootstrap of clusters, 1,000 resamples with a fixed seed; see `label_metrics.interval`.
        shares: predicted label → its share of the items, before calibration; empty without labels that all items have. Of an
            average, the mean over languages whose labels have the same names.
        right_shares: the same of the right labels.
        role: what the method is, whatever its name: the base model without an adapter, an adapter, the merged
            adapter of a run, one that learned from its answers, or an adapter trained on the target language's labels.
        average: whether it is of several languages.
        seed: of the trainings, where a report has several and the row is of one of them; None for its other rows.
        seeds: how many seeds the row is a mean over.
        deviations: metric → the sample standard deviation of its values with each seed (n − 1 in the denominator); empty
            with one seed.
        task: of a run that has several; empty otherwise.
    """

    language: str
    method: str
    label: str
    metric: str
    items: int
    score: float
    low: float
    high: float
    difference: float | None = None
    p_value: float | None = None
    p_holm: float | None = None
    gap_closed: float | None = None
    gap_closed_low: float | None = None
    gap_closed_high: float | None = None
    unreadable: int = 0
    others: Mapping[str, float] = field(default_factory=dict)
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)
    right_shares: Mapping[str, float] = field(default_factory=dict)
    role: Role = "adapter"
    average: bool = False
    seed: int | None = None
    seeds: int = 1
    deviations: Mapping[str, float] = field(default_factory=dict)
    task: str = ""


def rows(
    metric: str,
    labels: Mapping[str, Mapping[str, str]],
    scores: Mapping[str, Mapping[str, Scores]],
    start: str = "source-adapter",
    roles: Mapping[str, Role] | None = None,
    items: Mapping[str, Sequence[str]] | None = None,
) -> list[Row]:
    """A row for each language and method, then with several languages the averages.

    Args:
        metric: of the scores; or, where all have `labels`, one that they are compared by in place of the scores' accuracy:
            `macro_f1` or `balanced_accuracy`.
        labels: language → method → its name in the report; their order is that of the rows.
        scores: language → method → its scores, item by item.
        start: the method that all others are compared with; without it there are no differences.
        roles: method → its role; an adapter where left out.
        items: language → ids of its items, shared by an item and its translations; where left out, items with the
            same index in several languages are taken for translations.

    Raises:
        ValueError: methods have scores of different numbers of items, or of none; or no labels for a metric of labels.
    """
    return mean_rows(metric, labels, [scores], start, roles, items)


def mean_rows(
    metric: str,
    labels: Mapping[str, Mapping[str, str]],
    scores: Sequence[Mapping[str, Mapping[str, Scores]]],
    start: str = "source-adapter",
    roles: Mapping[str, Role] | None = None,
    items: Mapping[str, Sequence[str]] | None = None,
) -> list[Row]:
    """`rows` of the means over several seeds, with which methods answered the same items.

    An item is in one cluster with itself under every seed. So a test flips the sign of an item's difference averaged over the
    seeds (of macro-F1 and balanced accuracy: swaps its answers with all seeds), and intervals are those of scores that are
    averaged over the seeds: both are about other items, with these seeds.

    Args:
        metric: as in `rows`.
        labels: as in `rows`.
        scores: of each seed, as in `rows`.
        start: as in `rows`.
        roles: as in `rows`.
        items: as in `rows`.

    Raises:
        ValueError: as `rows`.
    """
    named = items or {
        language: [str(index) for index in range(len(next(iter(by_method.values())).values))]
        for language, by_method in scores[0].items()
    }

    def of(name: str, methods: Mapping[str, str], languages: Sequence[str]) -> list[Row]:
        parts = [of_seed[language] for of_seed in scores for language in languages]
        ids = [named[language] for language in languages]
        found = _rows(metric, name, methods, parts, ids * len(scores), start, roles or {})
        count, average = sum(map(len, ids)), len(languages) > 1
        return [replace(row, items=count, average=average, seeds=len(scores)) for row in found]

    language_rows = [row for language, methods in labels.items() for row in of(language, methods, [language])]
    if len(labels) < 2:
        return language_rows
    # A label that names a language, or what was chosen for it, is no label of the average.
    everywhere = {
        method: shared_label(method, [by_method[method] for by_method in labels.values()])
        for method in next(iter(labels.values()))
        if all(method in by_method for by_method in labels.values())
    }
    return _with_holm(language_rows) + of(AVERAGE, everywhere, list(labels))


def _rows(
    metric: str,
    name: str,
    labels: Mapping[str, str],
    parts: Sequence[Mapping[str, Scores]],
    items: Sequence[Sequence[str]],
    start: str,
    roles: Mapping[str, Role],
) -> list[Row]:
    """A row for each method: its mean over languages and seeds, which are fixed, not sampled; a part is of one of each."""
    if not labels:
        return []
    group = Comparison(metric, list(labels), parts, _clusters(items))
    rows = []
    for (method, label), score, ends in zip(labels.items(), group.scores(), group.intervals(), strict=True):
        of_method = [by_method[method] for by_method in parts]
        row = Row(name, method, label, metric, sum(map(len, items)), score, *ends, role=roles.get(method, "adapter"))
        row = replace(row, unreadable=sum(scores.unreadable for scores in of_method))
        rows.append(_with_others(row, of_method, group.resampled[method]))
    return _compared(rows, group, start) if start in labels else rows


def _with_others(row: Row, of_method: Sequence[Scores], resampled: Resampled) -> Row:
    """The row with all metrics beside its own, and with the shares of labels."""
    others = {
        key: fmean(scores.others[key] for scores in of_method)
        for key in of_method[0].others
        if all(key in scores.others for scores in of_method)
    }
    intervals = {}
    for name, values in resampled.items():
        if name != row.metric:
            others[name] = float(values[0])
            intervals[name] = interval(name, values)
    labelled = [scores.labels for scores in of_method if scores.labels is not None]
    if len(labelled) < len(of_method) or len({tuple(of.labels) for of in labelled}) > 1:
        return replace(row, others=others, intervals=intervals)
    return replace(
        row,
        others=others,
        intervals=intervals,
        shares=_mean([of.shares() for of in labelled]),
        right_shares=_mean([of.right_shares() for of in labelled]),
    )


def _mean(shares: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {label: fmean(of[label] for of in shares) for label in shares[0]}


def _compared(rows: Sequence[Row], group: Comparison, start: str) -> list[Row]:
    """The rows, with their difference from the start, its test, and the share of the gap that is closed."""
    first = next(row for row in rows if row.method == start)
    p_values = group.p_values(start)
    # The share of a gap that may not exist is not shown.
    ceiling = next(
        (row for row, p in zip(rows, p_values, strict=True) if row.role == "ceiling" and p < SIGNIFICANT), None
    )
    compared = []
    for row, p_value in zip(rows, p_values, strict=True):
        if row is first:
            compared.append(row)
            continue
        tested = replace(row, difference=row.score - first.score, p_value=p_value)
        # Not for rows without an adapter, nor for the ceiling itself.
        closes = ceiling is not None and row.role not in ("base", "ceiling")
        compared.append(
            _with_gap(tested, first, ceiling, group.resampled) if closes and ceiling is not None else tested
        )
    return compared


def _with_gap(row: Row, start: Row, ceiling: Row, resampled: Mapping[str, Resampled]) -> Row:
    """The row with the share of the gap between start and ceiling that it closes, and its interval."""
    closed = statistics.gap_closed(row.score, start.score, ceiling.score)
    if closed is None:
        return row
    scores, starts, ceilings = (resampled[one.method][row.metric][1:] for one in (row, start, ceiling))
    low, high = statistics.gap_interval(scores, starts, ceilings, closed)
    return replace(row, gap_closed=closed, gap_closed_low=low, gap_closed_high=high)


def _clusters(items: Sequence[Sequence[str]]) -> list[np.ndarray]:
    """The items of each language as cluster indices, equal for equal ids."""
    numbers: dict[str, int] = {}
    return [np.array([numbers.setdefault(name, len(numbers)) for name in names], int) for names in items]


def shared_label(method: str, labels: Sequence[str]) -> str:
    """What a method is called over all languages or seeds, where it is called otherwise in some.

    Args:
        method: its name in the recipe.
        labels: of each language or seed; what is in brackets at the end may differ, such as what was chosen.
    """
    if len(set(labels)) == 1:
        return labels[0]
    names = {label.partition(" (")[0] for label in labels}
    return names.pop() if len(names) == 1 else method


def _with_holm(rows: list[Row]) -> list[Row]:
    """The rows with p-values adjusted over the languages, separately for each method."""
    adjusted: dict[tuple[str, str], float] = {}
    for method in {row.method for row in rows}:
        tested = [(row, row.p_value) for row in rows if row.method == method and row.p_value is not None]
        for (row, _), p in zip(tested, statistics.holm([p for _, p in tested]), strict=True):
            adjusted[row.language, method] = p
    return [replace(row, p_holm=adjusted.get((row.language, row.method))) for row in rows]
