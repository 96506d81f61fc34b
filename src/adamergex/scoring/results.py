"""Scores of methods on the same items → one row each, with intervals and paired tests. Imports no torch."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, variance

from scipy.stats import norm

from adamergex.scoring import statistics

# Scores that are 0 or 1 for an item: Wilson's interval and McNemar's test are for them, the bootstrap for others.
RIGHT_OR_WRONG = ("accuracy", "exact", "exact_match")
AVERAGE = "average"
# Methods without an adapter are on no way from the start to the ceiling, which is its end.
_NO_WAY = ("base", "few-shot", "xlt", "ceiling")


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
        language: the target language, or `average`.
        method: its name in the recipe.
        label: what a reader calls it.
        metric: what `score` is the mean of.
        items: how many.
        score, low, high: the mean score and its 95 % interval, in 0..1: Wilson's for right or wrong, bootstrap
            percentiles otherwise; of an average, normal, from the languages' own variances.
        difference: score minus that of the start on the same items; None for the start itself.
        p_value: of the paired test of that difference: exact McNemar for right or wrong, paired bootstrap otherwise;
            of an average, a z test on the paired differences.
        p_holm: the same, adjusted by Holm's method for the number of languages; None where there is one.
        gap_closed: share of the way from the start to the ceiling; None without a ceiling above the start.
        unreadable: how many answers could not be read.
        others: means of further metrics.
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


def is_average(row: Row) -> bool:
    """Whether a row is of several languages."""
    return row.language.endswith(AVERAGE)


def rows(
    metric: str,
    labels: Mapping[str, Mapping[str, str]],
    scores: Mapping[str, Mapping[str, Scores]],
    start: str = "source-adapter",
) -> list[Row]:
    """A row for each language and method, then with several languages the averages.

    Args:
        metric: what the scores are.
        labels: language → method → what a reader calls it; their orders are the rows'.
        scores: language → method → what it scored, item by item.
        start: the method that all others are compared with; without it there are no differences.
    """
    found = [
        _row(metric, language, method, label, scores[language], start)
        for language, of in labels.items()
        for method, label in of.items()
    ]
    if len(labels) < 2:
        return found
    first = next(iter(labels.values()))
    everywhere = [method for method in first if all(method in of for of in labels.values())]
    averages = [_average(metric, method, first[method], scores, start) for method in everywhere]
    return _with_holm(found) + averages


def _row(metric: str, language: str, method: str, label: str, of: Mapping[str, Scores], start: str) -> Row:
    mine, values = of[method], list(of[method].values)
    low, high = _interval(metric, values)
    row = Row(language, method, label, metric, len(values), fmean(values), low, high)
    row = replace(row, unreadable=mine.unreadable, others=dict(mine.others))
    if method == start or start not in of:
        return row
    first = list(of[start].values)
    ceiling = of.get("ceiling")
    closes = ceiling is not None and method not in _NO_WAY
    gap = statistics.gap_closed(row.score, fmean(first), fmean(ceiling.values)) if closes and ceiling else None
    return replace(row, difference=row.score - fmean(first), p_value=_p_value(metric, values, first), gap_closed=gap)


def _interval(metric: str, values: list[float]) -> tuple[float, float]:
    if metric in RIGHT_OR_WRONG:
        return statistics.wilson_interval([bool(value) for value in values])
    return statistics.bootstrap_interval(values)


def _p_value(metric: str, values: list[float], first: list[float]) -> float:
    if metric in RIGHT_OR_WRONG:
        return statistics.mcnemar_exact([bool(value) for value in values], [bool(value) for value in first])
    return statistics.paired_bootstrap(values, first)


def _with_holm(found: list[Row]) -> list[Row]:
    """The rows with p-values adjusted over the languages, for each method apart."""
    adjusted: dict[tuple[str, str], float] = {}
    for method in {row.method for row in found}:
        tested = [(row, row.p_value) for row in found if row.method == method and row.p_value is not None]
        for (row, _), p in zip(tested, statistics.holm([p for _, p in tested]), strict=True):
            adjusted[row.language, method] = p
    return [replace(row, p_holm=adjusted.get((row.language, row.method))) for row in found]


def _average(metric: str, method: str, label: str, scores: Mapping[str, Mapping[str, Scores]], start: str) -> Row:
    """The mean over languages, each counting the same; the languages are taken as they are, not as a sample."""
    mine = [list(of[method].values) for of in scores.values()]
    score, error = _mean_and_error(mine)
    reach = float(norm.ppf(0.975)) * error
    row = Row(
        AVERAGE, method, label, metric, sum(map(len, mine)), score, max(0.0, score - reach), min(1.0, score + reach)
    )
    others = {
        name: fmean(of[method].others[name] for of in scores.values())
        for name in next(iter(scores.values()))[method].others
    }
    row = replace(row, unreadable=sum(of[method].unreadable for of in scores.values()), others=others)
    if method == start or any(start not in of for of in scores.values()):
        return row
    first = [list(of[start].values) for of in scores.values()]
    differences = [[a - b for a, b in zip(ours, theirs, strict=True)] for ours, theirs in zip(mine, first, strict=True)]
    difference, error = _mean_and_error(differences)
    p_value = float(2 * norm.sf(abs(difference) / error)) if error else 1.0 if not difference else 0.0
    gap = None
    if method not in _NO_WAY and all("ceiling" in of for of in scores.values()):
        ceiling = fmean(fmean(of["ceiling"].values) for of in scores.values())
        gap = statistics.gap_closed(score, fmean(map(fmean, first)), ceiling)
    return replace(row, difference=difference, p_value=p_value, gap_closed=gap)


def _mean_and_error(languages: Sequence[Sequence[float]]) -> tuple[float, float]:
    """The mean of the languages' means, and its standard error from the variance within each."""
    of_each = [variance(values) / len(values) if len(values) > 1 else 0.0 for values in languages]
    return fmean(map(fmean, languages)), math.sqrt(sum(of_each)) / len(languages)
