"""Metrics as reports show them: their names, which of them the main table has, and the tables of the others."""

from collections.abc import Sequence

from adamergex.scoring.results import Row

_NAMES = {
    "exact": "exact match",
    "exact_match": "exact match",
    "f1": "F1",
    "rougeL": "ROUGE-L",
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "chrf": "chrF",
    "macro_f1": "macro-F1",
    "balanced_accuracy": "balanced accuracy",
    "log_likelihood": "log-likelihood (nats)",
    "ece": "ECE",
    "calibrated_accuracy": "calibrated",
    "calibrated_macro_f1": "calibrated F1",
    "calibrated_balanced_accuracy": "calibrated balanced",
}
# Metrics that have a table of their own, so that the main one stays as narrow as a terminal.
_FURTHER = ("balanced_accuracy", "log_likelihood", "ece")
_GAP = "gap closed"
FURTHER = "In percent, log-likelihoods in nats, with 95 % intervals; all before calibration."


def metric_name(metric: str) -> str:
    """The name of a metric in the report."""
    return _NAMES.get(metric, metric)


def shown(row: Row, metric: str) -> str:
    """A row's value of a metric for a reader; of several seeds the mean ± the standard deviation."""
    value = _number(metric, row.score if metric == row.metric else row.others[metric])
    return f"{value} ± {_number(metric, row.deviations[metric])}" if metric in row.deviations else value


def of_percent(metric: str, value: float) -> float:
    """A value of a metric in the unit that it is shown in: percent, or nats."""
    return value if metric == "log_likelihood" else 100 * value


def _number(metric: str, value: float) -> str:
    return f"{of_percent(metric, value):.{2 if metric == 'log_likelihood' else 1}f}"


def over_seeds(row: Row) -> str:
    """A sentence on what the numbers of a table are where there are several seeds; empty where there is one."""
    return "" if row.seeds == 1 else f"Scores are means over {row.seeds} seeds ± their standard deviation."


def beside(row: Row) -> list[str]:
    """The metrics of a row's `others` that stand beside its score in the main table."""
    return [
        name
        for name in row.others
        if name.removeprefix("calibrated_") not in _FURTHER or name == f"calibrated_{row.metric}"
    ]


def further(rows: Sequence[Row]) -> list[list[str]]:
    """A table's further metrics with their 95 % intervals: the headings, then the cells of each row; empty without any.

    `FURTHER` says in which units.
    """
    columns = [name for name in _FURTHER if any(name in row.others for row in rows)]
    closed = any(row.gap_closed_low is not None for row in rows)
    if not columns and not closed:
        return []
    headings = ["method", *map(metric_name, columns), *([_GAP] if closed else [])]
    return [
        headings,
        *([row.label, *(_metric(row, name) for name in columns), *([_gap(row)] if closed else [])] for row in rows),
    ]


def _metric(row: Row, name: str) -> str:
    if name not in row.others:
        return ""
    low, high = (_number(name, value) for value in row.intervals[name])
    return f"{shown(row, name)} ({low} to {high})"


def _gap(row: Row) -> str:
    if row.gap_closed is None or row.gap_closed_low is None or row.gap_closed_high is None:
        return ""
    return f"{100 * row.gap_closed:.0f} % ({100 * row.gap_closed_low:.0f} to {100 * row.gap_closed_high:.0f})"


def label_shares(rows: Sequence[Row]) -> list[list[str]]:
    """How often each label is right and is predicted, in percent: the headings, then a line for each; empty without labels."""
    if not all(row.shares for row in rows):
        return []
    right = rows[0].right_shares
    lines = [("right answers", right), *((row.label, row.shares) for row in rows)]
    return [["method", *right], *([who, *(f"{100 * shares[label]:.1f}" for label in right)] for who, shares in lines)]


def tracked_scores(rows: Sequence[Row]) -> dict[str, float]:
    """What experiment trackers get of a report: `LANGUAGE/METHOD/METRIC` → its value, after `TASK/` where there are several."""
    found: dict[str, float] = {}
    for row in rows:
        values = {row.metric: row.score, **row.others}
        of = f"{row.task}/" if row.task else ""
        found |= {f"{of}{row.language}/{row.method}/{metric}": value for metric, value in values.items()}
    return found
