"""Rows as tables, a sentence and a model card. Computes scores from predictions; imports no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table

from adamergex import metrics

_SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Row:
    """One method in one language.

    Attributes:
        language: the target language.
        method: base, source-adapter (t = 0), adamergex or ceiling.
        label: what a reader calls it.
        items, correct: counts.
        accuracy, low, high: the share of right answers and its 95 % Wilson interval, in 0..1.
        difference: accuracy minus that of t = 0 on the same items; None for t = 0 itself.
        p_value: of the exact McNemar test of that difference.
        gap_closed: share of the way from t = 0 to the ceiling; None without a ceiling above t = 0.
    """

    language: str
    method: str
    label: str
    items: int
    correct: int
    accuracy: float
    low: float
    high: float
    difference: float | None
    p_value: float | None
    gap_closed: float | None


def rows(language: str, labels: dict[str, str], correct: Mapping[str, Sequence[bool]]) -> list[Row]:
    """One row for each method, in the order of `labels`.

    Args:
        language: the target language.
        labels: method → what a reader calls it.
        correct: method → right or wrong for each item, all in the same order.
    """
    start = correct["source-adapter"]
    ceiling = correct.get("ceiling")
    result = []
    for method, label in labels.items():
        of = correct[method]
        score = metrics.accuracy(of)
        low, high = metrics.wilson_interval(of)
        is_start = method == "source-adapter"
        gap = (
            metrics.gap_closed(score, metrics.accuracy(start), metrics.accuracy(ceiling))
            if ceiling and method == "adamergex"
            else None
        )
        result.append(
            Row(
                language,
                method,
                label,
                len(of),
                sum(of),
                score,
                low,
                high,
                None if is_start else score - metrics.accuracy(start),
                None if is_start else metrics.mcnemar_exact(of, start),
                gap,
            )
        )
    return result


def verdict(of_language: Sequence[Row]) -> str:
    """One sentence: did merging help?"""
    merged = next(row for row in of_language if row.method == "adamergex")
    if merged.difference is None or merged.p_value is None:
        raise ValueError("the merged row was not compared with t = 0")
    shown = _p_value(merged.p_value)
    p_value = f"p {shown}" if shown.startswith("<") else f"p = {shown}"
    what = (
        f"{merged.language}: merging changed accuracy by {100 * merged.difference:+.1f} points over the source-language "
        f"adapter alone ({merged.items} items, exact McNemar {p_value})"
    )
    if merged.p_value >= _SIGNIFICANT:
        return f"{what}: no difference that this test can show."
    if merged.difference > 0:
        return f"{what}: merging helped."
    return f"{what}: merging hurt; use the source-language adapter."


_HEADINGS = ("", "accuracy", "95 % interval", "vs t = 0", "p", "gap closed")


def _p_value(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.label,
        f"{100 * row.accuracy:.1f}",
        f"{100 * row.low:.1f} – {100 * row.high:.1f}",
        "" if row.difference is None else f"{100 * row.difference:+.1f}",
        "" if row.p_value is None else _p_value(row.p_value),
        "" if row.gap_closed is None else f"{100 * row.gap_closed:.0f} %",
    )


def table(title: str, of_language: Sequence[Row]) -> Table:
    """The rows of one language for a terminal."""
    drawn = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1))
    for number, heading in enumerate(_HEADINGS):
        drawn.add_column(heading, justify="right" if number else "left", no_wrap=True)
    for row in of_language:
        drawn.add_row(*_cells(row), style="bold" if row.method == "adamergex" else "")
    return drawn


def markdown(title: str, tables: Sequence[tuple[str, Sequence[Row]]], facts: Sequence[str], curves: str) -> str:
    """The whole report.

    Args:
        title: its heading.
        tables: pairs of a heading and the rows of one language.
        facts: lines on how the numbers came to be.
        curves: the file of a picture of the training curves.
    """
    parts = [f"# {title}", ""]
    for heading, of_language in tables:
        parts += [
            f"## {heading}",
            "",
            "| " + " | ".join(_HEADINGS) + " |",
            "|---" + "|---:" * (len(_HEADINGS) - 1) + "|",
        ]
        parts += ["| " + " | ".join(_cells(row)) + " |" for row in of_language]
        parts += ["", verdict(of_language), ""]
    parts += ["## Training", "", f"![loss, learning rate, tokens per second and memory by step]({curves})", ""]
    parts += ["## How these numbers came to be", "", *(f"- {fact}" for fact in facts), ""]
    return "\n".join(parts)
