"""Tables of docs/results.md about what can be told without labels; how all tables are written."""

from collections.abc import Mapping, Sequence

import numpy as np
import study_shares
from study import MERGES
from study_cells import Cell, accuracy, f1

SCALES = {f"{method}-{scale:g}": (method, scale) for method in ("adamergex", "sum") for scale in (0.25, 0.5, 1)}
NAMES = {"base": "base model", "t0": "T (t = 0)"} | {
    system: f"T + {scale:g}·{'(R − S)' if method == 'adamergex' else 'R'}"
    for system, (method, scale) in SCALES.items()
    if system in MERGES
}
MERGED = [system for system in NAMES if system in MERGES]
# What was settled before the study: half of R, with and without S.
CHOSEN = ("adamergex-0.5", "sum-0.5")


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def points(value: float) -> str:
    return f"{100 * value:+.1f}".replace("-", "−")


def signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def p_value(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def counted(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table; numbers on the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def gains_by_sign(cells: Sequence[Cell]) -> str:
    """Whether signs that take no labels go with what calibration gains, over systems and cells."""
    pairs = [(cell, system) for cell in cells for system in NAMES]
    gained = [
        [score(cell, system, "source", cell.scored) - score(cell, system, "raw", cell.scored) for cell, system in pairs]
        for score in (accuracy, f1)
    ]
    seen = [
        study_shares.warnings(cell.scores[system][cell.dev], cell.scores["t0"][cell.dev], cell.prior)
        for cell, system in pairs
    ]
    rows = []
    for name in seen[0]:
        ranks = [study_shares.rank_correlation([signs[name] for signs in seen], values) for values in gained]
        rows.append([name, *map(signed, ranks)])
    return table([f"seen without labels, {len(pairs)} points", "accuracy", "macro-F1"], rows)


Draws = Mapping[Cell, Sequence[study_shares.Draw]]


def _lost(some: Sequence[study_shares.Draw], name: str, asked: float) -> str:
    """The mean gain of a way to calibrate over resamples, and how many of them lose, as `+5.1 (20 %)`."""
    found = [draw.gains[name] for draw in some if draw.asked == asked]
    return f"{points(mean(found))} ({100 * mean([gain < 0 for gain in found]):.0f} %)"


def shares_in_short(draws: Draws) -> str:
    """What calibration gains at the largest distance, in one sentence."""
    flat = [draw for some in draws.values() for draw in some]
    farthest = study_shares.DISTANCES[-1]
    names = ("source shares", "three quarters of the bias", "half of the bias", "batch calibration", "true shares")
    gained = "; ".join(f"{name} {_lost(flat, name, farthest)}" for name in names)
    return (
        f"- **Wrong label shares**, at a total variation of {farthest:g} from the source's: points that T gains over raw answers, "
        f"and in how many resamples it loses: {gained}."
    )


def wrong_shares(draws: Draws) -> str:
    """What calibration is worth where shares are others than expected; what else could be done; what could warn."""
    flat = [draw for some in draws.values() for draw in some]
    head = ["", *(f"{asked:g}" for asked in study_shares.DISTANCES)]
    names = list(flat[0].gains)
    plain = {name: mean([study_shares.unshifted(cell)[name] for cell in draws]) for name in names}
    by_way = [
        [name, points(plain[name]), *(_lost(flat, name, asked) for asked in study_shares.DISTANCES)] for name in names
    ]
    by_cell = [
        [f"{cell.name}, seed {cell.seed}", *(_lost(some, "source shares", asked) for asked in study_shares.DISTANCES)]
        for cell, some in draws.items()
    ]
    return "\n\n".join(
        [
            table(["source shares in", *head[1:]], by_cell),
            table(["mean over cells", "as they are", *head[1:]], by_way),
            "Can it be seen that shares are wrong? How often a sign is larger in a resample at the largest distance than in one "
            "at distance 0 (0.5 is chance): within a cell, and for one threshold over all cells; and its rank correlation with "
            "what calibration gained, within a cell (a useful sign of harm is near −1).",
            table(["sign", "within a cell", "over all cells", "with the gain"], _warnings(draws)),
        ]
    )


def _warnings(draws: Draws) -> list[list[str]]:
    ends = study_shares.DISTANCES[-1], study_shares.DISTANCES[0]
    rows = []
    for name in next(iter(draws.values()))[0].warnings:
        found = [
            [[draw.warnings[name] for draw in some if draw.asked == end] for end in ends] for some in draws.values()
        ]
        within = mean([study_shares.area(*pair) for pair in found])
        over = study_shares.area(*(np.concatenate(values).tolist() for values in zip(*found, strict=True)))
        with_gain = [
            study_shares.rank_correlation(
                [draw.warnings[name] for draw in some], [draw.gains["source shares"] for draw in some]
            )
            for some in draws.values()
        ]
        rows.append([name, f"{within:.2f}", f"{over:.2f}", signed(mean(with_gain))])
    return rows


def choosing(cells: Sequence[Cell]) -> str:
    """Whether a sign that takes no labels finds the best system."""
    systems = ["t0", *MERGED]
    three = ["t0", *CHOSEN]
    right = {cell: {s: accuracy(cell, s, "source", cell.scored) for s in systems} for cell in cells}
    rows = []
    of_all = {cell: study_shares.signs(cell, systems) for cell in cells}
    of_three = {cell: study_shares.signs(cell, three) for cell in cells}
    for name in next(iter(of_all.values())):
        ranks = [study_shares.rank_correlation(of_all[cell][name], [*right[cell].values()]) for cell in cells]
        picked = [three[int(np.argmax(of_three[cell][name]))] for cell in cells]
        gained = mean([right[cell][pick] - right[cell]["t0"] for cell, pick in zip(cells, picked, strict=True)])
        rows.append([name, points(gained), signed(mean(ranks)), *map(signed, ranks)])
    for pick in CHOSEN:
        gained = mean([right[cell][pick] - right[cell]["t0"] for cell in cells])
        rows.append([f"always {NAMES[pick]}", points(gained), *[""] * (1 + len(cells))])
    best = mean([max(right[cell][s] for s in three) - right[cell]["t0"] for cell in cells])
    rows.append(["the best of the three (takes labels)", points(best), *[""] * (1 + len(cells))])
    head = ["chosen by", "points over T", "rank correlation, mean", *(f"{cell.name}, {cell.seed}" for cell in cells)]
    return table(head, rows)
