"""The result files of `study.py`, read; answers raw and calibrated without labels; paired tests between systems."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from adamergex.scoring.calibration import GUESSED, GUESSED_AGAIN, batch_bias, prior_bias, shares
from adamergex.scoring.label_metrics import metrics
from adamergex.scoring.statistics import cluster_means, sign_flip
from adamergex.selection.rule import Reading, merging_pays

# Stands for the system that is delivered by default in a cell.
RULE = "rule"
# Beside a cell's file, what study_refined.py leaves.
REFINED = "refined"

# Calibration → how the tables call it. "true" takes labels, and is here to show what the others lack.
CALIBRATIONS = {
    "raw": "raw",
    "batch": "batch",
    "source": "source shares",
    "uniform": "equal shares",
    "true": "true shares",
}


@dataclass(frozen=True, eq=False)
class Cell:
    """A task in a target language, with one seed.

    Attributes:
        name: of the task and the language, such as `sib200-yo`.
        seed: of the trainings.
        labels: their number.
        split: of each item (str): train, dev or test.
        gold: the right label of each item, from 0.
        prior: label shares of the source language's training items.
        scores: of each system, (items, labels), float64: log-likelihoods; NaN for items that it learned with their labels.
            Systems that learned from answers to train items (`study_refined.VARIANTS`) have scores of these, too.
        learned: of each of these systems, three numbers: inputs, how many of them were learned, how many of those with the
            right label.
        heldout: of the target language's plain text, if it was kept: nats per token of the base model and of the reference
            adapter, tokens, characters.
    """

    name: str
    seed: int
    labels: int
    split: np.ndarray
    gold: np.ndarray
    prior: np.ndarray
    scores: dict[str, np.ndarray]
    heldout: np.ndarray | None
    learned: dict[str, np.ndarray]

    @property
    def task(self) -> str:
        """As in the study's names: sib200 or commands."""
        return self.name.partition("-")[0]

    @property
    def language(self) -> str:
        """The code of the target language."""
        return self.name.partition("-")[2]

    @property
    def dev(self) -> np.ndarray:
        """Which items are read without their labels, and never scored."""
        return self.split == "dev"

    @property
    def scored(self) -> np.ndarray:
        """Which items all systems but the ceiling are scored on; it was trained on some of them."""
        return self.split != "dev"

    @property
    def test(self) -> np.ndarray:
        """Which items nothing was trained on, the ceiling included."""
        return self.split == "test"


def load(folder: Path) -> list[Cell]:
    """The cells of a folder of CELL-SEED.npz, in the order of their names."""
    return [_cell(path) for path in sorted(folder.glob("*.npz"))]


def _cell(path: Path) -> Cell:
    name, _, seed = path.stem.rpartition("-")
    refined = path.parent / REFINED / path.name
    more = np.load(refined) if refined.exists() else {}
    with np.load(path) as file:
        split, count = file["split"], len(file["labels"])
        scores = _named(file, "scores")
        ceiling = np.full((len(split), count), np.nan)
        ceiling[split != "train"] = scores["ceiling"]
        return Cell(
            name=name,
            seed=int(seed),
            labels=count,
            split=split,
            gold=file["gold"].astype(int),
            prior=shares(file["source"].astype(int).tolist(), count),
            scores=scores | {"ceiling": ceiling} | _named(more, "scores"),
            heldout=file["heldout target"] if "heldout target" in file.files else None,
            learned=_named(more, "learned"),
        )


def _named(file: Mapping[str, np.ndarray], what: str) -> dict[str, np.ndarray]:
    """The arrays of a file whose names begin so, by the rest of their names, float64."""
    begin = f"{what} "
    return {key.removeprefix(begin): file[key].astype(float) for key in file if key.startswith(begin)}


def by_rule(cell: Cell) -> str:
    """The system that a run merges to by default, by a rule that takes no labels."""
    reading = None if cell.heldout is None else Reading(float(cell.heldout[0]), float(cell.heldout[1]))
    return "adamergex-0.5" if merging_pays(reading)[0] else "t0"


@cache
def bias(cell: Cell, system: str, how: str) -> np.ndarray:
    """The bias per label, (labels,), in nats, that the dev inputs call for.

    Args:
        cell: whose labels only "true" reads.
        system: as in the file, or RULE.
        how: one of CALIBRATIONS, or "part": of the bias of source shares, what runs add by default. The ceiling's source is
            what it was trained on, the target language's training items.
    """
    if system == RULE:
        return bias(cell, by_rule(cell), how)
    if how == "part":
        return (GUESSED_AGAIN if system in cell.learned else GUESSED) * bias(cell, system, "source")
    inputs = cell.scores[system][cell.dev]
    if how == "raw":
        return np.zeros(cell.labels)
    if how == "batch":
        return batch_bias(inputs)
    priors = {
        "source": cell.prior if system != "ceiling" else shares(cell.gold[cell.split == "train"].tolist(), cell.labels),
        "uniform": np.full(cell.labels, 1 / cell.labels),
        "true": shares(cell.gold[cell.dev].tolist(), cell.labels),
    }
    return prior_bias(inputs, priors[how])


def calibrated(cell: Cell, system: str, how: str, where: np.ndarray) -> np.ndarray:
    """The scores of the items of the mask `where`, calibrated as CALIBRATIONS say, (items, labels).

    Raises:
        ValueError: the system was trained on some of them.
    """
    scores = cell.scores[by_rule(cell) if system == RULE else system][where]
    if np.isnan(scores).any():
        raise ValueError(f"{cell.name}: {system} has no scores of some of these items")
    return scores + bias(cell, system, how)


def right(cell: Cell, system: str, how: str, where: np.ndarray) -> np.ndarray:
    """Which items of the mask `where` are answered rightly; bool."""
    found: np.ndarray = calibrated(cell, system, how, where).argmax(axis=1) == cell.gold[where]
    return found


def accuracy(cell: Cell, system: str, how: str, where: np.ndarray) -> float:
    """In 0..1."""
    return float(right(cell, system, how, where).mean())


def f1(cell: Cell, system: str, how: str, where: np.ndarray) -> float:
    """The macro-F1, in 0..1."""
    found = metrics(calibrated(cell, system, how, where), cell.gold[where], np.ones((1, where.sum())))
    return float(found["macro_f1"][0])


@dataclass(frozen=True)
class Paired:
    """A system against another one on the scored items of several cells.

    Attributes:
        difference: of accuracy, the mean over cells, in -1..1.
        up: in how many cells it is above the other.
        wins: items that it alone answers rightly.
        losses: items that the other alone answers rightly.
        p_items: of the exact McNemar test (1947) over all items.
        p_clusters: of a sign-flip test in which an item, its translations and its other seeds are one cluster.
    """

    difference: float
    up: int
    wins: int
    losses: int
    p_items: float
    p_clusters: float


def paired(cells: Sequence[Cell], system: str, other: str, how: str = "source", items: str = "scored") -> Paired:
    """Compare two systems, both calibrated in one way, on the items of cells of one task: the scored ones, or test."""
    masks = [np.asarray(getattr(cell, items)) for cell in cells]
    of_each = [
        right(cell, system, how, mask).astype(float) - right(cell, other, how, mask)
        for cell, mask in zip(cells, masks, strict=True)
    ]
    # Where all languages have the same labels in the same order, items are translations of each other.
    translated = all(np.array_equal(cell.gold, cells[0].gold) for cell in cells)
    firsts: dict[str, int] = {}
    clusters: list[np.ndarray] = []
    for cell, differences in zip(cells, of_each, strict=True):
        first = firsts.setdefault("" if translated else cell.language, sum(len(of_cell) for of_cell in clusters))
        clusters.append(first + np.arange(len(differences)))
    contributions = cluster_means([differences[None] for differences in of_each], clusters)
    pooled = np.concatenate(of_each)
    means = [float(differences.mean()) for differences in of_each]
    return Paired(
        difference=sum(means) / len(means),
        up=sum(mean > 0 for mean in means),
        wins=int((pooled > 0).sum()),
        losses=int((pooled < 0).sum()),
        p_items=float(sign_flip(pooled[None])[0]),
        p_clusters=float(sign_flip(contributions)[0]),
    )


def _base_accuracy(cells: Sequence[Cell]) -> float:
    return 100 * float(np.mean([accuracy(cell, "base", "source", cell.scored) for cell in cells]))


def _nats(cells: Sequence[Cell]) -> float | None:
    known = [cell.heldout for cell in cells if cell.heldout is not None]
    return float(np.mean([before * tokens / characters for before, _, tokens, characters in known])) if known else None


def _learned(cells: Sequence[Cell]) -> float | None:
    known = [cell.heldout for cell in cells if cell.heldout is not None]
    return float(np.mean([100 * (1 - after / before) for before, after, *_ in known])) if known else None


# What may go with the gain of merging: how the pictures call it → of a language's cells; None where it was not kept.
MEASURES: dict[str, Callable[[Sequence[Cell]], float | None]] = {
    "accuracy of the base model, calibrated (%)": _base_accuracy,
    "loss of the base model on plain text (nats per character)": _nats,
    "how much of that loss R takes away (%)": _learned,
}
