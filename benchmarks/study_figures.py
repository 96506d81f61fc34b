"""The pictures of docs/results.md: SVG files that stand on their own, light whatever the reader's theme."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from study_cells import MEASURES, Cell, accuracy, right

from adamergex.reporting.figures import CURVES, INK, MUTED, RULE, figure, look, tidy

TITLES = {"sib200": "SIB-200 topics", "commands": "Voice commands"}
# Pixels of a page: width, around a panel, a row of the overview.
_WIDTH, _AROUND, _ROW = 900, 100, 26
_STEPS = (
    ("t0", "raw", "English labels alone (t = 0), raw", "o", MUTED),
    ("t0", "source", "calibrated without labels", "o", CURVES[0]),
    ("adamergex-0.5", "source", "and merged, T + 0.5·(R − S)", "D", CURVES[1]),
    ("sum-0.5", "source", "and merged, T + 0.5·R", "^", CURVES[2]),
    ("ceiling", "source", "labels of the language itself (ceiling), calibrated", "|", INK),
)


def overview(tasks: Mapping[str, Mapping[str, Sequence[Cell]]], path: Path) -> None:
    """From raw answers to the ceiling, on test items: a panel for each task, a row for each language.

    Args:
        tasks: task → language → its cells, one for each seed.
        path: of the SVG file.
    """
    with look():
        rows = [len(languages) for languages in tasks.values()]
        drawn = figure(_WIDTH, _AROUND + sum(_ROW * count + 46 for count in rows))
        panels = drawn.subplots(len(tasks), 1, squeeze=False, sharex=True, height_ratios=rows)[:, 0]
        for axes, (task, languages) in zip(panels, tasks.items(), strict=True):
            _steps(axes, TITLES[task], languages)
        panels[-1].set_xlabel("accuracy on test items (%), mean over seeds", color=MUTED)
        handles, names = panels[0].get_legend_handles_labels()
        drawn.legend(handles, names, loc="outside lower center", ncols=2, frameon=False)
        _save(drawn, path)


def _steps(axes: Axes, title: str, languages: Mapping[str, Sequence[Cell]]) -> None:
    tidy(axes, title)
    axes.grid(axis="x", color=RULE, lw=0.8)
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_yticks(range(len(languages)), list(languages))
    axes.set_ylim(len(languages) - 0.4, -0.6)
    values = np.array(
        [
            [
                100 * np.mean([accuracy(cell, system, how, cell.test) for cell in cells])
                for system, how, *_ in _STEPS
            ]
            for cells in languages.values()
        ]
    )  # fmt: skip
    axes.hlines(range(len(languages)), values.min(axis=1), values.max(axis=1), color=RULE, lw=2.5)
    for column, (_, _, name, marker, colour) in zip(values.T, _STEPS, strict=True):
        size = 16 if marker == "|" else 7
        axes.plot(column, range(len(languages)), marker, color=colour, ms=size, mew=2.5 if size > 7 else 1, label=name)


def by_competence(tasks: Mapping[str, Mapping[str, Sequence[Cell]]], path: Path) -> None:
    """What merging adds to calibrated t = 0 on all scored items, by what is known of the base model and the language.

    Args:
        tasks: task → language → its cells, one for each seed.
        path: of the SVG file.
    """
    with look():
        drawn = figure(_WIDTH, 60 + 270 * len(MEASURES))
        grid = drawn.subplots(len(MEASURES), len(tasks), squeeze=False, sharex="row", sharey=True)
        for row, (name, measure) in enumerate(MEASURES.items()):
            found = {(task, language): measure(tasks[task][language]) for task in tasks for language in tasks[task]}
            known = {key: value for key, value in found.items() if value is not None}
            # Of languages that are alike, small differences are not blown up.
            largest = max(known.values(), default=1)
            span = max(largest - min(known.values(), default=0), 0.1 * largest)
            for column, task in enumerate(tasks):
                axes = grid[row, column]
                tidy(axes, "" if row else TITLES[task])
                axes.axhline(0, color=INK, lw=1)
                axes.grid(axis="y", color=RULE, lw=0.8)
                axes.set_axisbelow(True)
                axes.set_xlabel(name, color=MUTED)
                axes.margins(y=0.12)
                if known:
                    axes.set_xlim(min(known.values()) - 0.1 * span, max(known.values()) + 0.1 * span)
            for (task, language), value in known.items():
                # The two merges of a language are drawn side by side.
                places = {"D": value - 0.006 * span, "^": value + 0.006 * span}
                _gains(grid[row, list(tasks).index(task)], language, tasks[task][language], places)
            grid[row, 0].set_ylabel("points over t = 0, both calibrated", color=MUTED)
        handles, names = grid[0, 0].get_legend_handles_labels()
        drawn.legend(handles[:2], names[:2], loc="outside upper center", ncols=2, frameon=False)
        _save(drawn, path)


def _gains(axes: Axes, language: str, cells: Sequence[Cell], places: Mapping[str, float]) -> None:
    """A language's two merges, with 95 % intervals over its items of the paired difference.

    Args:
        axes: of points over T.
        language: its code.
        cells: of the language, one for each seed.
        places: of each merge, by its marker.
    """
    tops = []
    for system, _, name, marker, colour in _STEPS[2:4]:
        differences = 100 * np.mean(
            [
                right(cell, system, "source", cell.scored) * 1.0 - right(cell, "t0", "source", cell.scored)
                for cell in cells
            ],
            axis=0,
        )
        half = 1.96 * differences.std(ddof=1) / np.sqrt(len(differences))
        tops.append(differences.mean() + half)
        label = name.removeprefix("and ")
        axes.plot([places[marker]] * 2, [differences.mean() - half, tops[-1]], color=colour, lw=1.2)
        axes.plot(places[marker], differences.mean(), marker, color=colour, ms=6, label=label)
    place = (sum(places.values()) / len(places), max(tops))
    axes.annotate(language, place, xytext=(0, 3), textcoords="offset points", ha="center", color=INK)


def _save(drawn: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn.savefig(path, format="svg", facecolor="white", metadata={"Date": None, "Creator": None})
