"""Figures of scores: methods with their intervals, and the score by t; a panel for each language."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from adamergex.reporting.figures import ACCENT, INK, MUTED, PAPER, RULE, figure, look, svg, tidy
from adamergex.reporting.html_parts import clean
from adamergex.scoring.results import Row

# Pixels: the widest figure, the margin of a panel, the height of a method.
_WIDTH, _AROUND, _METHOD = 960, 54, 19
_LONGEST = 34


def scores(tables: Sequence[tuple[str, Sequence[Row]]], metric: str, name: str) -> str:
    """Every method's score with its 95 % interval, as an `<svg>`; a dashed line marks the start's score.

    Args:
        tables: pairs of a heading and its rows; not empty.
        metric: its name in the report.
        name: prefix of identifiers, distinct for each figure of a page.
    """
    methods = _methods([row for _, rows in tables for row in rows])
    merged = {row.method for _, rows in tables for row in rows if row.role == "merged"}
    with look():
        drawn, panels = _grid(len(tables), _METHOD * len(methods))
        for axes, (heading, rows) in zip(panels, tables, strict=True):
            tidy(axes, _short(heading))
            axes.grid(axis="x", color=RULE, lw=0.8)
            axes.set_axisbelow(True)
            axes.spines["left"].set_visible(False)
            axes.tick_params(axis="y", length=0)
            for row in rows:
                _whisker(axes, row, list(methods).index(row.method), row is start_of(rows))
        # The panels share both axes.
        panels[0].set_ylim(len(methods) - 0.4, -0.6)
        panels[0].set_yticks(range(len(methods)), [_short(label) for label in methods.values()])
        for axes in panels:
            # Only the panels on the left have labels.
            for label, method in zip(axes.get_yticklabels(), methods, strict=False):
                label.set(color=ACCENT if method in merged else INK)
                label.set_fontweight("bold" if method in merged else "normal")
        drawn.supxlabel(f"{clean(metric)} (%)", color=MUTED, fontsize=12)
        return svg(drawn, name, _words(tables, metric))


def scales(tried: Mapping[str, Sequence[tuple[float, float]]], metric: str, name: str) -> str:
    """The score by t, as an `<svg>`; the highest is marked.

    Args:
        tried: heading → pairs of t and score, in 0..1; not empty, and no language without a pair.
        metric: its name in the report.
        name: prefix of identifiers, distinct for each figure of a page.
    """
    descriptions = []
    with look():
        drawn, panels = _grid(len(tried), 130)
        for axes, (heading, unsorted) in zip(panels, tried.items(), strict=True):
            pairs = sorted(unsorted)
            best = max(pairs, key=lambda pair: pair[1])
            tidy(axes, _short(heading))
            axes.grid(axis="y", color=RULE, lw=0.8)
            axes.set_axisbelow(True)
            axes.plot(*zip(*((t, 100 * score) for t, score in pairs), strict=True), "o-", color=MUTED, lw=1.6, ms=4.5)
            axes.plot(best[0], 100 * best[1], "D", color=ACCENT, ms=8)
            axes.annotate(
                f"t = {best[0]:g}",
                (best[0], 100 * best[1]),
                xytext=(0, 9),
                textcoords="offset points",
                ha="center",
                color=ACCENT,
                fontweight="bold",
            )
            descriptions.append(f"{heading}: highest at t = {best[0]:g} with {100 * best[1]:.1f}")
        panels[0].margins(x=0.1, y=0.2)
        drawn.supxlabel("t", color=MUTED, fontsize=12)
        drawn.supylabel(f"{clean(metric)} (%)", color=MUTED, fontsize=12)
        return svg(
            drawn, name, clean(f"Line charts of {metric} by t, one for each language. {'; '.join(descriptions)}.")
        )


def start_of(rows: Sequence[Row]) -> Row | None:
    """The row of a table that the others are compared with."""
    uncompared = [row for row in rows if row.difference is None]
    return uncompared[0] if len(uncompared) == 1 and len(rows) > 1 else None


def _methods(rows: Sequence[Row]) -> dict[str, str]:
    """Method → its name beside all panels: its label, or its name in the recipe where labels differ."""
    labels: dict[str, set[str]] = {}
    for row in rows:
        labels.setdefault(row.method, set()).add(row.label)
    return {method: next(iter(names)) if len(names) == 1 else method for method, names in labels.items()}


def _short(label: str) -> str:
    label = clean(label).replace("\n", " ")
    return label if len(label) <= _LONGEST else f"{label[: _LONGEST - 1]}…"


def _grid(count: int, height: int) -> tuple[Figure, list[Axes]]:
    """A figure and its panels, which share their axes."""
    # Four panels make a square.
    columns = 2 if count == 4 else min(count, 3)
    lines = -(-count // columns)
    width = min(_WIDTH, 560 + 270 * (columns - 1))
    drawn = figure(width, lines * (height + _AROUND) + 30)
    grid = drawn.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    panels = list(grid.flat)
    for axes in panels[count:]:
        axes.set_visible(False)
    for axes in panels:
        axes.tick_params(axis="x", labelbottom=True)
    return drawn, panels[:count]


def _whisker(axes: Axes, row: Row, y: int, is_start: bool) -> None:
    """Draw a method's interval and score; the merged adapter and the start have markers of their own."""
    merged = row.role == "merged"
    colour = ACCENT if merged else MUTED
    axes.plot([100 * row.low, 100 * row.high], [y, y], color=colour, lw=3 if merged else 1.6, solid_capstyle="round")
    axes.plot(
        100 * row.score,
        y,
        "D" if merged else "o",
        ms=7.5 if merged else 6,
        color=colour,
        mfc=PAPER if is_start else colour,
        mew=1.6,
    )
    if (after := calibrated(row)) is not None:
        axes.plot([100 * row.score, 100 * after], [y, y], color=colour, lw=1, linestyle=(0, (1, 2)), zorder=0.95)
        axes.plot(100 * after, y, "^", ms=6.5, color=colour, mfc=PAPER, mew=1.4)
    if is_start:
        axes.axvline(100 * row.score, color=MUTED, lw=1, linestyle=(0, (3, 3)), zorder=0.9)


def calibrated(row: Row) -> float | None:
    """The score after calibration without labels, in 0..1; None where there is none."""
    return row.others.get(f"calibrated_{row.metric}")


def _words(tables: Sequence[tuple[str, Sequence[Row]]], metric: str) -> str:
    descriptions = []
    for heading, rows in tables:
        start = start_of(rows)
        shown = [row for row in rows if row.role == "merged" or row is start] or rows
        descriptions.append(
            f"{heading}: "
            + ", ".join(
                f"{row.label} {100 * row.score:.1f} ({100 * row.low:.1f} to {100 * row.high:.1f})" for row in shown
            )
        )
    return clean(
        f"Dots with 95 % intervals: {metric} of every method, one panel for each language. {'; '.join(descriptions)}. "
        "The tables have all numbers."
    )
