"""Scores of methods that were trained with several seeds → rows of their means, and a row for each seed. Imports no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import stdev

from adamergex.scoring.results import Role, Row, Scores, mean_rows, rows, shared_label


def rows_over_seeds(
    metric: str,
    labels: Mapping[int, Mapping[str, Mapping[str, str]]],
    scores: Mapping[int, Mapping[str, Mapping[str, Scores]]],
    start: str,
    roles: Mapping[str, Role],
    items: Mapping[str, Sequence[str]],
) -> tuple[list[Row], list[Row]]:
    """The rows of a report's tables, and those of each seed.

    Args:
        metric: as in `results.rows`.
        labels: seed → language → method → its name in the report. In rows of means it is
            `results.shared_label`, where the name depends on the seed (it says what was chosen).
        scores: seed → language → method → its scores, of the same items for all seeds.
        start: as in `results.rows`.
        roles: as in `results.rows`.
        items: as in `results.rows`.

    Returns:
        With one seed its rows, and none of each seed. With several, first the rows of `results.mean_rows`, with the sample
        standard deviation over the seeds of every metric; then `results.rows` of each seed.

    Raises:
        ValueError: as `results.rows`.
    """
    first, *others = labels.values()
    if not others:
        return rows(metric, first, next(iter(scores.values())), start, roles, items), []
    of_each = [
        replace(row, seed=seed)
        for seed, of_seed in scores.items()
        for row in rows(metric, labels[seed], of_seed, start, roles, items)
    ]
    everywhere = {
        language: {
            method: shared_label(method, [label, *(other[language][method] for other in others)])
            for method, label in by_method.items()
        }
        for language, by_method in first.items()
    }
    means = mean_rows(metric, everywhere, list(scores.values()), start, roles, items)
    return [_with_deviations(row, of_each) for row in means], of_each


def _with_deviations(mean: Row, of_each: Sequence[Row]) -> Row:
    """A row of means, with the standard deviations of what it is the mean of."""
    where = (mean.language, mean.method, mean.average)
    same = [row for row in of_each if (row.language, row.method, row.average) == where]
    deviations = {mean.metric: stdev(row.score for row in same)}
    deviations |= {
        name: stdev(row.others[name] for row in same) for name in mean.others if all(name in row.others for row in same)
    }
    return replace(mean, deviations=deviations)
