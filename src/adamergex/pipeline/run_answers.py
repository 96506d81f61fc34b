"""What the systems of a run answered to the items of one task, as scores, and as examples of answers that differ."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

import numpy as np

from adamergex.execution.run_folder import RunFolder
from adamergex.pipeline.planned import Cell
from adamergex.pipeline.stages import calibrate, items, predict
from adamergex.reporting.report import ChangedAnswer
from adamergex.scoring.calibration import cross_fitted
from adamergex.scoring.label_metrics import LabelScores
from adamergex.scoring.results import Role, Scores

# Answers that differ from the start's, shown for each system and language.
_EXAMPLES = 10
# Language → system → its scores.
ByLanguage = Mapping[str, Mapping[str, Scores]]


class Answers:
    """What all systems answered to the items of one task in all languages, trained with one seed.

    Args:
        cells: of the task and the seed.
        folder: of the run.
        start: the system that the others are compared with.

    Attributes:
        metric: the first one of the answers' scores, which systems are compared by unless labels have another one.
    """

    def __init__(self, cells: Sequence[Cell], folder: RunFolder, start: str):
        self._start, self._folder = start, folder
        self._cells: dict[str, dict[str, Cell]] = {}
        for cell in cells:
            self._cells.setdefault(cell.language, {})[cell.system] = cell
        self._items = {
            language: items.read(folder.place(next(iter(of.values())).items)) for language, of in self._cells.items()
        }
        self._predictions = {
            language: {system: predict.read(folder.place(cell.predictions)) for system, cell in of.items()}
            for language, of in self._cells.items()
        }
        self._right = {language: self._find_right(language) for language in self._cells}
        self._calibrated = {
            (language, system): self._calibrate(language, system)
            for language, of in self._cells.items()
            for system in of
        }
        answered = next(iter(next(iter(self._predictions.values())).values()))
        self.metric, *self._others = answered[0]["scores"]

    @property
    def labels(self) -> dict[str, dict[str, str]]:
        """Language → system → what a reader calls it."""
        return {language: {system: cell.label for system, cell in of.items()} for language, of in self._cells.items()}

    @property
    def roles(self) -> dict[str, Role]:
        """System → its role."""
        return {system: cell.role for of in self._cells.values() for system, cell in of.items()}

    @property
    def items(self) -> dict[str, list[str]]:
        """Language → what items and their translations are called; those without a name of their own go by their place."""
        return {
            language: [item.doc_id or str(place) for place, item in enumerate(of)]
            for language, of in self._items.items()
        }

    def scores(self) -> ByLanguage:
        """The scores of all answers."""
        return {
            language: {
                system: Scores(
                    [row["scores"][self.metric] for row in answers],
                    sum(not row["readable"] for row in answers),
                    {name: fmean(row["scores"][name] for row in answers) for name in self._others},
                    self._labels(language, system),
                )
                for system, answers in of.items()
            }
            for language, of in self._predictions.items()
        }

    def calibrated(self) -> ByLanguage | None:
        """The same of answers that were calibrated without labels; None where one language has too few items for it."""
        scores: dict[str, dict[str, Scores]] = {}
        for language, of in self._cells.items():
            scores[language] = {}
            for system in of:
                labels, calibrated = self._labels(language, system), self._calibrated[language, system]
                if labels is None or calibrated is None:
                    return None
                after = replace(labels, raw=calibrated, calibrated=None)
                scores[language][system] = Scores((after.predicted == after.right).tolist(), labels=after)
        return scores

    def _find_right(self, language: str) -> np.ndarray | None:
        """The label of each item, by number; None where items have no choices, or choices of their own."""
        labels = self._items[language][0].choices
        if not labels or any(item.choices != labels for item in self._items[language]):
            return None
        return np.array([labels.index(item.answer) for item in self._items[language]])

    def _calibrate(self, language: str, system: str) -> np.ndarray | None:
        """Log scores after calibration; None where it was not done."""
        cell = self._cells[language][system]
        if self._right[language] is None or cell.calibration is None:
            return None
        found, log_scores = calibrate.read(self._folder.place(cell.calibration)), self._log_scores(language, system)
        bias = calibrate.bias(found) if cell.apart else None
        if bias is not None:
            return log_scores + bias
        fitted = cross_fitted(log_scores, calibrate.prior(found))
        return None if fitted is None else log_scores + found["strength"] * (fitted - log_scores)

    def _log_scores(self, language: str, system: str) -> np.ndarray:
        return np.array([row["choices"] for row in self._predictions[language][system]])

    def _labels(self, language: str, system: str) -> LabelScores | None:
        """The log scores of the labels, where all items of a language have the same ones."""
        right = self._right[language]
        if right is None:
            return None
        names = [choice.strip() for choice in self._items[language][0].choices]
        return LabelScores(names, right, self._log_scores(language, system), self._calibrated[language, system])

    def differing(self) -> Iterator[ChangedAnswer]:
        """For each system up to ten answers that are not the start's; those that are scored otherwise come first."""
        for language, of in self._cells.items():
            predictions = self._predictions[language]
            prompts = {item.id: item.prompt for item in self._items[language]}
            for system, cell in of.items():
                if system == self._start or self._start not in of:
                    continue
                pairs = zip(predictions[system], predictions[self._start], strict=True)
                other = [(mine, first) for mine, first in pairs if mine["prediction"] != first["prediction"]]
                metric = next(iter(predictions[system][0]["scores"]))
                # Stable: gains and losses as they come, then what is as wrong as before.
                other.sort(key=lambda pair, metric=metric: pair[0]["scores"][metric] == pair[1]["scores"][metric])  # type: ignore[misc]
                for mine, first in other[:_EXAMPLES]:
                    yield _example(cell, metric, prompts, mine, first)


def _example(
    cell: Cell, metric: str, prompts: Mapping[str, str], mine: Mapping[str, Any], first: Mapping[str, Any]
) -> ChangedAnswer:
    return ChangedAnswer(
        cell.language,
        cell.system,
        cell.label,
        mine["id"],
        prompts[mine["id"]],
        tuple(mine["golds"]),
        first["prediction"],
        first["scores"][metric],
        mine["prediction"],
        mine["scores"][metric],
    )
