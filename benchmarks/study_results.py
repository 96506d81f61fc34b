"""From the result files of `study.py` to docs/results.md and its pictures; every figure there is computed here.

    python benchmarks/study_results.py

reads benchmarks/results and writes docs/results.md and docs/images/study-*.svg, the same bytes in every run.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import study_figures as figures
import study_shares
from study import CELLS, RESULTS
from study_cells import CALIBRATIONS, MEASURES, RULE, Cell, accuracy, f1, load, paired
from study_figures import TITLES
from study_refinement import refined_in_short, refinement
from study_tables import (
    CHOSEN,
    MERGED,
    NAMES,
    choosing,
    counted,
    gains_by_sign,
    mean,
    p_value,
    percent,
    points,
    shares_in_short,
    signed,
    table,
    wrong_shares,
)

from adamergex.scoring.statistics import gap_closed, holm

DOCS = Path(__file__).parent.parent / "docs"


def by_task(cells: Sequence[Cell]) -> dict[str, dict[str, list[Cell]]]:
    """Task → language → its cells, in the order of the study."""
    order = sorted(cells, key=lambda cell: (list(TITLES).index(cell.task), CELLS.index(cell.name), cell.seed))
    found: dict[str, dict[str, list[Cell]]] = {}
    for cell in order:
        found.setdefault(cell.task, {}).setdefault(cell.language, []).append(cell)
    return found


def both(cells: Sequence[Cell], system: str, how: str, where: str = "scored") -> str:
    """Accuracy and macro-F1, means over cells, as `47.1 / 44.0`."""
    return " / ".join(
        percent(mean([score(cell, system, how, getattr(cell, where)) for cell in cells])) for score in (accuracy, f1)
    )


def what_there_is(tasks: Mapping[str, Mapping[str, Sequence[Cell]]]) -> str:
    rows = [
        [TITLES[task], language, ", ".join(str(cell.seed) for cell in cells), str(cells[0].labels)]
        + [f"{where.sum():,}" for where in (cells[0].dev, cells[0].scored, cells[0].test)]
        for task, languages in tasks.items()
        for language, cells in languages.items()
    ]
    head = ["task", "language", "seeds", "labels", "dev inputs, read without labels", "scored items", "of these test"]
    there = {cells[0].name for languages in tasks.values() for cells in languages.values()}
    missing = [name for name in CELLS if name not in there]
    said = f"Planned and not there yet: {', '.join(missing)}." if missing else "None of the planned cells is missing."
    return f"{table(head, rows)}\n\n{said}"


def calibration(task: str, languages: Mapping[str, Sequence[Cell]]) -> str:
    """T alone in each language, and the means of every system, under each calibration."""
    cells = [cell for some in languages.values() for cell in some]
    of_t0 = [[language, *(both(some, "t0", how) for how in CALIBRATIONS)] for language, some in languages.items()]
    of_all = [[name, *(both(cells, system, how) for how in CALIBRATIONS)] for system, name in NAMES.items()]
    gains = [accuracy(cell, "t0", "source", cell.scored) - accuracy(cell, "t0", "raw", cell.scored) for cell in cells]
    said = (
        f"{TITLES[task]}: with the source's shares T alone gains {points(mean(gains))} points of accuracy on average over "
        f"{counted(len(cells), 'cell')}; the least is {points(min(gains))}, the most {points(max(gains))}."
    )
    head = list(CALIBRATIONS.values())
    return "\n\n".join([said, table(["T (t = 0) in", *head], of_t0), table(["mean over cells", *head], of_all)])


def merging(task: str, languages: Mapping[str, Sequence[Cell]]) -> str:
    """Every system in each language, calibrated and raw, and paired tests against T alone."""
    cells = [cell for some in languages.values() for cell in some]
    tables = [
        table(
            [f"{TITLES[task]}, {title}", *NAMES.values()],
            [[language, *(both(some, system, how) for system in NAMES)] for language, some in languages.items()],
        )
        for how, title in (("source", "calibrated"), ("raw", "raw"))
    ]
    tests = {how: [paired(cells, system, "t0", how) for system in MERGED] for how in ("source", "raw")}
    adjusted = holm([test.p_clusters for test in tests["source"]])
    rows = [
        [
            *(NAMES[system], points(test.difference), f"{test.up} of {len(cells)}", f"{test.wins} : {test.losses}"),
            *(*map(p_value, (test.p_items, test.p_clusters, p)), points(raw.difference)),
        ]
        for system, test, p, raw in zip(MERGED, tests["source"], adjusted, tests["raw"], strict=True)
    ]
    head = ["against T, calibrated", "points", "cells above", "items won : lost", "McNemar p", "p, by clusters"]
    return "\n\n".join([*tables, table([*head, "Holm over this column", "raw: points"], rows)])


DELIVERED = {
    "T, raw": ("t0", "raw"),
    "T, calibrated": ("t0", "source"),
    **{f"{NAMES[system]}, calibrated": (system, "source") for system in CHOSEN},
    "delivered by default": (RULE, "part"),
    "ceiling, raw": ("ceiling", "raw"),
    "ceiling, calibrated": ("ceiling", "source"),
}


def in_short(task: str, languages: Mapping[str, Sequence[Cell]]) -> str:
    """The main figures of a task."""
    cells = [cell for some in languages.values() for cell in some]
    found = dict(zip(DELIVERED, np.mean([_on_test(some) for some in languages.values()], axis=0), strict=True))
    tests = {NAMES[system]: paired(cells, system, "t0") for system in CHOSEN}
    over = "; ".join(
        f"{name} {points(test.difference)} points (above T in {test.up} of {counted(len(cells), 'cell')}, p "
        f"{'' if test.p_clusters < 0.001 else '= '}{p_value(test.p_clusters)})"
        for name, test in tests.items()
    )
    line = "; ".join(f"{name} {percent(value)}" for name, value in found.items())
    return (
        f"- **{TITLES[task]}** ({', '.join(languages)}), accuracy on test items: {line}. On all scored items, against T, both "
        f"calibrated: {over}."
    )


def goes_with(tasks: Mapping[str, Mapping[str, Sequence[Cell]]]) -> str:
    """Rank correlations over languages between the gain of merging and what is known of the base model."""
    rows = []
    for task, languages in tasks.items():
        for name, measure in MEASURES.items():
            known = [(value, some) for some in languages.values() if (value := measure(some)) is not None]
            gained = [[paired(some, system, "t0").difference for _, some in known] for system in CHOSEN]
            # Fewer say nothing.
            if len(known) >= 4:
                ranks = [study_shares.rank_correlation([value for value, _ in known], values) for values in gained]
                rows.append([f"{TITLES[task]}: {name}", str(len(known)), *map(signed, ranks)])
    if not rows:
        return "Rank correlations over languages follow when a task has four."
    return table(["rank correlation with the gain", "languages", *(NAMES[system] for system in CHOSEN)], rows)


def _on_test(cells: Sequence[Cell]) -> list[float]:
    """A language's accuracy on test items, of each of DELIVERED."""
    return [mean([accuracy(cell, system, how, cell.test) for cell in cells]) for system, how in DELIVERED.values()]


def delivered(task: str, languages: Mapping[str, Sequence[Cell]]) -> str:
    """How much of the way from raw T to the calibrated ceiling is gone, on test items."""

    def line(name: str, found: Sequence[float]) -> list[str]:
        shares = [gap_closed(value, found[0], found[-1]) for value in found[1:-2]]
        return [name, *map(percent, found), *("–" if share is None else f"{100 * share:.0f} %" for share in shares)]

    every = {language: _on_test(cells) for language, cells in languages.items()}
    rows = [line(language, found) for language, found in every.items()]
    rows.append(line("mean", [mean(column) for column in zip(*every.values(), strict=True)]))
    head = [f"{TITLES[task]}, test items", *DELIVERED, *(f"share: {name}" for name in list(DELIVERED)[1:-2])]
    return table(head, rows)


def gone_by_default(tasks: Mapping[str, Mapping[str, Sequence[Cell]]]) -> str:
    """How much of the way is gone by what is delivered by default, over all tasks and languages."""
    place = list(DELIVERED).index("delivered by default")
    every = {task: np.array([_on_test(cells) for cells in languages.values()]) for task, languages in tasks.items()}
    share = {
        task: 100 * (found[:, place] - found[:, 0]).sum() / (found[:, -1] - found[:, 0]).sum()
        for task, found in ({"all": np.concatenate([*every.values()])} | every).items()
    }
    of_each = ", ".join(f"{TITLES[task]} {share[task]:.0f} %" for task in tasks)
    return f"Sum of gains over sum of gaps, delivered by default: {share['all']:.0f} % ({of_each})."


def page(tasks: Mapping[str, Mapping[str, Sequence[Cell]]]) -> str:
    """The markdown of docs/results.md."""
    cells = [cell for languages in tasks.values() for some in languages.values() for cell in some]
    draws = {cell: study_shares.draws(cell) for cell in cells}
    parts = TEXT.split("@")
    filled = {
        "short": "\n".join(
            [*(in_short(*pair) for pair in tasks.items()), *refined_in_short(tasks), shares_in_short(draws)]
        ),
        "there": what_there_is(tasks),
        "calibration": "\n\n".join(calibration(*pair) for pair in tasks.items()),
        "gains": gains_by_sign(cells),
        "merging": "\n\n".join(merging(*pair) for pair in tasks.items()),
        "with": goes_with(tasks),
        "refined": refinement(tasks),
        "delivered": "\n\n".join([*(delivered(*pair) for pair in tasks.items()), gone_by_default(tasks)]),
        "shares": wrong_shares(draws),
        "draws": str(study_shares.DRAWS),
        "choosing": choosing(cells),
    }
    return "".join(filled[part] if odd % 2 else part for odd, part in enumerate(parts))


TEXT = (Path(__file__).parent / "study_results.txt").read_text("utf-8")


def main() -> None:
    """Write the page and its pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS, help="holds CELL-SEED.npz (default: %(default)s)")
    parser.add_argument("--docs", type=Path, default=DOCS, help="gets results.md and images/ (default: %(default)s)")
    options = parser.parse_args()
    tasks = by_task(load(options.results))
    if not tasks:
        print(f"{options.results}: no CELL-SEED.npz; make some with benchmarks/study.py", file=sys.stderr)
        raise SystemExit(2)
    figures.overview(tasks, options.docs / "images" / "study-overview.svg")
    figures.by_competence(tasks, options.docs / "images" / "study-merging.svg")
    (options.docs / "results.md").write_text(page(tasks), encoding="utf-8")


if __name__ == "__main__":
    main()
