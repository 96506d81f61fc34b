"""Tables of docs/results.md about self-training, of what study_refined.py left."""

from collections.abc import Mapping, Sequence

import numpy as np
from study_cells import RULE, Cell, accuracy, paired
from study_figures import TITLES
from study_tables import counted, mean, p_value, percent, points, table

from adamergex.scoring.statistics import gap_closed

Tasks = Mapping[str, Mapping[str, Sequence[Cell]]]
# Variant → how the tables call it.
VARIANTS = {
    "refined": "self-trained",
    "two rounds": "a second round, taught by the first one's adapter",
    "raw teacher": "the teacher's answers not calibrated",
    "teacher T": "T as the teacher where the rule merges",
    "without source": "without the English items",
}


def _having(cells: Sequence[Cell], variant: str) -> list[Cell]:
    return [cell for cell in cells if variant in cell.scores]


def _of(task: Mapping[str, Sequence[Cell]], variant: str) -> list[Cell]:
    return _having([cell for cells in task.values() for cell in cells], variant)


def refinement(tasks: Tasks) -> str:
    """What self-training adds to what is delivered by default, in each cell and over all; what its parts are worth."""
    parts = [_by_language(task, languages) for task, languages in tasks.items() if _of(languages, "refined")]
    if not parts:
        return "Nothing was measured yet."
    cells = [cell for languages in tasks.values() for cell in _of(languages, "refined")]
    missing = [cell.name for languages in tasks.values() for some in languages.values() for cell in some]
    missing = [name for name in missing if name not in {cell.name for cell in cells}]
    parts.append(_share(cells) + (f" Not there yet: {', '.join(missing)}." if missing else ""))
    parts += [_ablations(cells)] * any(len(_having(cells, variant)) for variant in VARIANTS if variant != "refined")
    return "\n\n".join(parts)


def refined_in_short(tasks: Tasks) -> list[str]:
    """The main figures, a line for the page's beginning; none where nothing was measured."""
    lines = []
    for task, languages in tasks.items():
        if cells := _of(languages, "refined"):
            test = paired(cells, "refined", RULE, "part", items="test")
            before, after = (
                mean([accuracy(cell, system, "part", cell.test) for cell in cells]) for system in (RULE, "refined")
            )
            lines.append(
                f"{TITLES[task]} ({', '.join(dict.fromkeys(cell.language for cell in cells))}) {percent(before)} → "
                f"{percent(after)} ({points(test.difference)} points, p {'' if test.p_clusters < 0.001 else '= '}"
                f"{p_value(test.p_clusters)})"
            )
    return (
        [f"- **Self-training** on top of what is delivered by default, test items: {'; '.join(lines)}."]
        if lines
        else []
    )


def _by_language(task: str, languages: Mapping[str, Sequence[Cell]]) -> str:
    head = [f"{TITLES[task]}, test items", "T, raw", "delivered by default", "self-trained, raw", "self-trained"]
    head += [
        "ceiling, calibrated",
        "share: delivered by default",
        "share: self-trained",
        "inputs",
        "learned",
        "of these right",
    ]
    rows = []
    every = [(language, some) for language, cells in languages.items() if (some := _having(cells, "refined"))]
    for language, cells in [*every, *([("mean", [cell for _, some in every for cell in some])] * (len(every) > 1))]:
        found = [
            mean([accuracy(cell, system, how, cell.test) for cell in cells])
            for system, how in (
                ("t0", "raw"), (RULE, "part"), ("refined", "raw"), ("refined", "part"), ("ceiling", "source"),
            )
        ]  # fmt: skip
        shares = [gap_closed(found[place], found[0], found[-1]) for place in (1, 3)]
        inputs, learned, right = np.sum([cell.learned["refined"] for cell in cells], axis=0)
        rows.append(
            [
                language,
                *map(percent, found),
                *("–" if share is None else f"{100 * share:.0f} %" for share in shares),
                f"{inputs:,.0f}",
                f"{learned:,.0f}",
                f"{100 * right / learned:.0f} %",
            ]
        )
    return table(head, rows)


def _share(cells: Sequence[Cell]) -> str:
    """Sum of gains over sum of gaps."""
    start, end = (
        np.array([accuracy(cell, *of, cell.test) for cell in cells]) for of in (("t0", "raw"), ("ceiling", "source"))
    )
    shares = [
        100
        * (np.array([accuracy(cell, system, "part", cell.test) for cell in cells]) - start).sum()
        / (end - start).sum()
        for system in (RULE, "refined")
    ]
    return (
        f"Sum of gains over sum of gaps, over {counted(len(cells), 'cell')}: delivered by default {shares[0]:.0f} %, self-trained "
        f"{shares[1]:.0f} %."
    )


def _ablations(cells: Sequence[Cell]) -> str:
    """Each other way to do it against the one above, in the cells in which both were measured."""
    rows = []
    for variant, name in VARIANTS.items():
        if variant == "refined" or not (some := _having(cells, variant)):
            continue
        for task in dict.fromkeys(cell.task for cell in some):
            of_task = [cell for cell in some if cell.task == task]
            test = paired(of_task, variant, "refined", "part", items="test")
            values = [mean([accuracy(cell, of, "part", cell.test) for cell in of_task]) for of in ("refined", variant)]
            learned = [np.sum([cell.learned[of] for cell in of_task], axis=0) for of in ("refined", variant)]
            rows.append(
                [
                    name,
                    ", ".join(cell.name for cell in of_task),
                    *map(percent, values),
                    points(test.difference),
                    p_value(test.p_clusters),
                    *(f"{100 * right / count:.0f} %" for _, count, right in learned),
                ]
            )
    head = ["instead", "cells", "self-trained", "so", "points", "p, by clusters", "right, as above", "right, so"]
    return table(head, rows)
