"""Scores of methods on the same items → one row each, with intervals and paired tests. Imports no torch."""

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
Role = Literal["base", "adapter", "merged", "ceiling"]


@dataclass(frozen=True)
class Scores:
    """What one method scored in one language.

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
        language: the target language, or what the average is called.
        method: its name: in the recipe, or that the user gave an adapter.
        label: what a reader calls it.
        metric: what `score` is the mean of.
        items: how many.
        score, low, high: the mean score and its 95 % interval, in 0..1: Wilson's for right or wrong in one language, a
            cluster bootstrap's otherwise.
        difference: score minus that of the start on the same items; None for the start itself.
        p_value: of the paired test of that difference, a sign-flip permutation test; for right or wrong in one language
            that is the exact McNemar test.
        p_holm: the same, adjusted by Holm's method for the number of languages; None where there is one.
        gap_closed: share of the way from the start to the ceiling; None without a ceiling that is significantly above the start.
        unreadable: how many answers could not be read.
        others: means of further metrics.
        role: what the method is, whatever it is called: the base model without an adapter, an adapter, the merged
            adapter that a run is about, or an adapter trained on the target language's labels.
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
        metric: what the scores are.
        labels: language → method → what a reader calls it; their orders are the rows'.
        scores: language → method → what it scored, item by item.
        start: the method that all others are compared with; without it there are no differences.
        roles: method → what it is; an adapter where left out.
        items: language → what its items are called, an item and its translations alike; where left out, items at the
            same place of several languages are taken for translations.

    Raises:
        ValueError: methods have scores of different numbers of items, or of none.
    """
    named = items or {
        language: [str(place) for place in range(len(next(iter(of.values())).values))]
        for language, of in scores.items()
    }
    found = [
        row
        for language, of in labels.items()
        for row in _rows(metric, language, of, [scores[language]], [named[language]], start, roles or {})
    ]
    if len(labels) < 2:
        return found
    first = next(iter(labels.values()))
    everywhere = {method: label for method, label in first.items() if all(method in of for of in labels.values())}
    of_all = [scores[language] for language in labels]
    averages = _rows(metric, AVERAGE, everywhere, of_all, [named[language] for language in labels], start, roles or {})
    return _with_holm(found) + averages


def _rows(
    metric: str,
    name: str,
    labels: Mapping[str, str],
    languages: Sequence[Mapping[str, Scores]],
    items: Sequence[Sequence[str]],
    start: str,
    roles: Mapping[str, Role],
) -> list[Row]:
    """A row for each method: its mean over the languages, which are taken as they are, not as a sample."""
    if not labels:
        return []
    values = [np.array([of[method].values for method in labels], float) for of in languages]
    clusters = _clusters(items)
    average = len(languages) > 1
    if metric in RIGHT_OR_WRONG and not average:
        intervals = [statistics.wilson_interval([bool(value) for value in of]) for of in values[0]]
    else:
        intervals = [(float(low), float(high)) for low, high in statistics.cluster_bootstrap(values, clusters)]
    means = {method: fmean(fmean(of[method].values) for of in languages) for method in labels}
    found = [
        Row(name, method, label, metric, sum(map(len, items)), means[method], *interval, average=average)
        for (method, label), interval in zip(labels.items(), intervals, strict=True)
    ]
    for number, row in enumerate(found):
        mine = [of[row.method] for of in languages]
        others = {
            key: fmean(of.others[key] for of in mine) for key in mine[0].others if all(key in of.others for of in mine)
        }
        unreadable, role = sum(of.unreadable for of in mine), roles.get(row.method, "adapter")
        found[number] = replace(row, unreadable=unreadable, others=others, role=role)
    return _compared(found, values, clusters, start) if start in labels else found


def _compared(
    found: Sequence[Row], values: Sequence[np.ndarray], clusters: Sequence[np.ndarray], start: str
) -> list[Row]:
    """The rows, all but the start's with the difference from it, its test, and the share of the gap that is closed."""
    at = [row.method for row in found].index(start)
    p_values = statistics.sign_flip(statistics.cluster_means([of - of[at] for of in values], clusters))
    # A share of a gap that may be none is no number to show.
    ceiling = next(
        (row.score for row, p in zip(found, p_values, strict=True) if row.role == "ceiling" and p < SIGNIFICANT), None
    )
    compared = []
    for row, p_value in zip(found, p_values, strict=True):
        # What has no adapter is on no way from the start to the ceiling, which is its end.
        closes = ceiling is not None and row.role not in ("base", "ceiling")
        gap = statistics.gap_closed(row.score, found[at].score, ceiling) if closes and ceiling is not None else None
        difference = row.score - found[at].score
        compared.append(
            row if row.method == start else replace(row, difference=difference, p_value=float(p_value), gap_closed=gap)
        )
    return compared


def _clusters(items: Sequence[Sequence[str]]) -> list[np.ndarray]:
    """The items of each language as numbers, the same for the same name."""
    numbers: dict[str, int] = {}
    return [np.array([numbers.setdefault(name, len(numbers)) for name in of], int) for of in items]


def _with_holm(found: list[Row]) -> list[Row]:
    """The rows with p-values adjusted over the languages, for each method apart."""
    adjusted: dict[tuple[str, str], float] = {}
    for method in {row.method for row in found}:
        tested = [(row, row.p_value) for row in found if row.method == method and row.p_value is not None]
        for (row, _), p in zip(tested, statistics.holm([p for _, p in tested]), strict=True):
            adjusted[row.language, method] = p
    return [replace(row, p_holm=adjusted.get((row.language, row.method))) for row in found]
