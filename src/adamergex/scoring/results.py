"""Scores of methods on the same items → one row for each method, with intervals and paired tests. Imports no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Literal

import numpy as np

from adamergex.scoring import statistics

# Scores that are 0 or 1 for an item: Wilson's interval and McNemar's test are for them.
RIGHT_OR_WRONG = ("accuracy", "exact", "exact_match")
AVERAGE = "average"
# What a p-value has to be below to be called a difference.
SIGNIFICANT = 0.05
TESTS = (
    "right or wrong in one language: Wilson intervals and exact McNemar tests; other scores and averages: cluster bootstrap "
    "intervals and sign-flip permutation tests, an item and its translations being one cluster"
)
Role = Literal["base", "adapter", "merged", "refined", "ceiling"]


@dataclass(frozen=True)
class Scores:
    """The scores of one method in one language.

    Attributes:
        values: the score of every item, in 0..1, in the order that all methods share.
        unreadable: how many answers could not be read; they score 0.
        others: means of further metrics, in 0..1.
    """

    values: Sequence[float]
    unreadable: int = 0
    others: Mapping[str, float] = field(default_factory=dict)


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
            cluster bootstrap's otherwise.
        difference: score minus that of the start on the same items; None for the start itself.
        p_value: of the paired test of that difference, a sign-flip permutation test; for right or wrong in one language
            that is the exact McNemar test.
        p_holm: the p-value, adjusted by Holm's method for the number of languages; None where there is one.
        gap_closed: share of the way from the start to the ceiling; None without a ceiling that is significantly above the start.
        unreadable: how many answers could not be read.
        others: means of further metrics.
        role: what the method is, whatever its name: the base model without an adapter, an adapter, the merged
            adapter of a run, one that learned from its answers, or an adapter trained on the target language's labels.
        average: whether it is of several languages.
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
    unreadable: int = 0
    others: Mapping[str, float] = field(default_factory=dict)
    role: Role = "adapter"
    average: bool = False


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
        metric: of the scores.
        labels: language → method → its name in the report; their order is that of the rows.
        scores: language → method → its scores, item by item.
        start: the method that all others are compared with; without it there are no differences.
        roles: method → its role; an adapter where left out.
        items: language → ids of its items, shared by an item and its translations; where left out, items with the
            same index in several languages are taken for translations.

    Raises:
        ValueError: methods have scores of different numbers of items, or of none.
    """
    named = items or {
        language: [str(index) for index in range(len(next(iter(by_method.values())).values))]
        for language, by_method in scores.items()
    }
    language_rows = [
        row
        for language, by_method in labels.items()
        for row in _rows(metric, language, by_method, [scores[language]], [named[language]], start, roles or {})
    ]
    if len(labels) < 2:
        return language_rows
    # A label that names a language, or what was chosen for it, is no label of the average.
    everywhere = {
        method: label if all(by_method[method] == label for by_method in labels.values()) else method
        for method, label in next(iter(labels.values())).items()
        if all(method in by_method for by_method in labels.values())
    }
    of_all = [scores[language] for language in labels]
    averages = _rows(metric, AVERAGE, everywhere, of_all, [named[language] for language in labels], start, roles or {})
    return _with_holm(language_rows) + averages


def _rows(
    metric: str,
    name: str,
    labels: Mapping[str, str],
    languages: Sequence[Mapping[str, Scores]],
    items: Sequence[Sequence[str]],
    start: str,
    roles: Mapping[str, Role],
) -> list[Row]:
    """A row for each method: its mean over the languages, which are fixed, not sampled."""
    if not labels:
        return []
    values = [np.array([by_method[method].values for method in labels], float) for by_method in languages]
    clusters = _clusters(items)
    average = len(languages) > 1
    if metric in RIGHT_OR_WRONG and not average:
        intervals = [
            statistics.wilson_interval([bool(value) for value in method_values]) for method_values in values[0]
        ]
    else:
        intervals = [(float(low), float(high)) for low, high in statistics.cluster_bootstrap(values, clusters)]
    means = {method: fmean(fmean(by_method[method].values) for by_method in languages) for method in labels}
    rows = [
        Row(name, method, label, metric, sum(map(len, items)), means[method], *interval, average=average)
        for (method, label), interval in zip(labels.items(), intervals, strict=True)
    ]
    for number, row in enumerate(rows):
        of_method = [by_method[row.method] for by_method in languages]
        others = {
            key: fmean(scores.others[key] for scores in of_method)
            for key in of_method[0].others
            if all(key in scores.others for scores in of_method)
        }
        unreadable, role = sum(scores.unreadable for scores in of_method), roles.get(row.method, "adapter")
        rows[number] = replace(row, unreadable=unreadable, others=others, role=role)
    return _compared(rows, values, clusters, start) if start in labels else rows


def _compared(
    rows: Sequence[Row], values: Sequence[np.ndarray], clusters: Sequence[np.ndarray], start: str
) -> list[Row]:
    """The rows, with their difference from the start, its test, and the share of the gap that is closed."""
    at = [row.method for row in rows].index(start)
    p_values = statistics.sign_flip(statistics.cluster_means([matrix - matrix[at] for matrix in values], clusters))
    # The share of a gap that may not exist is not shown.
    ceiling = next(
        (row.score for row, p in zip(rows, p_values, strict=True) if row.role == "ceiling" and p < SIGNIFICANT), None
    )
    compared = []
    for row, p_value in zip(rows, p_values, strict=True):
        # Not for rows without an adapter, nor for the ceiling itself.
        closes = ceiling is not None and row.role not in ("base", "ceiling")
        gap = statistics.gap_closed(row.score, rows[at].score, ceiling) if closes and ceiling is not None else None
        difference = row.score - rows[at].score
        compared.append(
            row if row.method == start else replace(row, difference=difference, p_value=float(p_value), gap_closed=gap)
        )
    return compared


def _clusters(items: Sequence[Sequence[str]]) -> list[np.ndarray]:
    """The items of each language as cluster indices, equal for equal ids."""
    numbers: dict[str, int] = {}
    return [np.array([numbers.setdefault(name, len(numbers)) for name in names], int) for names in items]


def _with_holm(rows: list[Row]) -> list[Row]:
    """The rows with p-values adjusted over the languages, separately for each method."""
    adjusted: dict[tuple[str, str], float] = {}
    for method in {row.method for row in rows}:
        tested = [(row, row.p_value) for row in rows if row.method == method and row.p_value is not None]
        for (row, _), p in zip(tested, statistics.holm([p for _, p in tested]), strict=True):
            adjusted[row.language, method] = p
    return [replace(row, p_holm=adjusted.get((row.language, row.method))) for row in rows]
