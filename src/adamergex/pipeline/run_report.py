"""The results of a plan's stages as rows, examples and facts, and its report: one way for recipes and for comparisons."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from statistics import fmean
from typing import Any

import numpy as np

from adamergex.execution.run_folder import RunFolder
from adamergex.pipeline.planned import Cell, Planned
from adamergex.pipeline.stages import calibrate, corpus, harness, items, merge, predict, train
from adamergex.reporting import report
from adamergex.reporting.report import ChangedAnswer, Report
from adamergex.scoring.calibration import cross_fitted
from adamergex.scoring.label_metrics import LabelScores
from adamergex.scoring.results import Row, Scores, rows
from adamergex.storage.files import jsonl

SCORES, MARKDOWN, PAGE, CURVES = FILES = "scores.jsonl", "report.md", "report.html", "training.png"
# Answers that differ from the start's, shown for each system and language.
_EXAMPLES = 10


@dataclass(frozen=True)
class Facts:
    """What a report says beside its results.

    Attributes:
        title: its heading.
        source: the source language, or None where only adapters are compared.
        start: what the system is called that others are compared with.
        lines: how the numbers came to be.
        scales: system → its t, where systems are one merge at several t.
        metric: what systems are compared by where answers are choices; others than accuracy where all items have the same.
    """

    title: str
    source: str | None
    start: str
    lines: Sequence[str]
    scales: Mapping[str, float] = field(default_factory=dict)
    metric: str = "accuracy"


def write_report(planned: Planned, folder: RunFolder, facts: Facts) -> Report:
    """Write scores.jsonl, report.md and report.html, all of the same numbers, and return them.

    Args:
        planned: whose stages are all done.
        folder: of the run.
        facts: beside the results.
    """
    found = _report(planned, folder, facts)
    scores, markdown = jsonl(map(asdict, found.rows)).encode(), report.markdown(found, CURVES if found.curves else None)
    changed = folder.write(SCORES, scores) | folder.write(MARKDOWN, markdown.encode())
    # matplotlib takes as long to import as a finished run to look at.
    if found.curves and (changed or not (folder.path / CURVES).is_file()):
        from adamergex.reporting import figures

        folder.write(CURVES, figures.training_curves(found.curves))
    if changed or not (folder.path / PAGE).is_file():
        from adamergex.reporting import html

        folder.write(PAGE, html.page(found).encode())
    return found


def _report(planned: Planned, folder: RunFolder, facts: Facts) -> Report:
    found: list[Row] = []
    examples: list[ChangedAnswer] = []
    calibrated: list[Row] = []
    for task, cells in groupby(sorted(planned.cells, key=lambda cell: _tasks(planned).index(cell.task)), _task):
        named = [_named(cell, planned, folder) for cell in cells]
        answers = _Answers(named, folder, planned.start, facts.metric)
        found += [replace(row, language=f"{task} {row.language}".strip()) for row in answers.rows()]
        calibrated += [replace(row, language=f"{task} {row.language}".strip()) for row in answers.calibrated()]
        examples += [replace(one, language=f"{task} {one.language}".strip()) for one in answers.differing()]
    corpora = {
        language: corpus.manifest(folder.place(id))
        for language, id in planned.references.items()
        if (folder.place(id) / corpus.MANIFEST).is_file()
    }
    scales = {
        language: sorted((facts.scales[row.method], row.score) for row in of if row.method in facts.scales)
        for language, of in groupby(found, key=lambda row: row.language)
        if facts.scales
    }
    measured = [
        row | {"task": f"{row['task']} · {name}"}
        for name, id in planned.harness.items()
        for row in harness.read(folder.place(id))
    ]
    records = {id: folder.record(id) for id in planned.read}
    return Report(
        title=facts.title,
        source=facts.source,
        start=facts.start,
        rows=found,
        calibrated=calibrated,
        examples=examples,
        facts=[*facts.lines, *(_calibrations(planned, folder) if calibrated else [])],
        curves={name: train.log(folder.place(id)) for name, id in planned.adapters.items()},
        corpora=corpora,
        scales=scales,
        harness=measured,
        versions=merge.versions(),
        hashes={id: record.digest for id, record in records.items() if record is not None},
    )


def _named(cell: Cell, planned: Planned, folder: RunFolder) -> Cell:
    """The cell with a label that says what was chosen, where something was."""
    if cell.role != "merged" or cell.language not in planned.chosen:
        return cell
    found = merge.figures(folder.place(planned.merged[cell.language]))
    return replace(cell, label=f"{found['title']} (t = {found['scale']:g}, chosen)")


def _calibrations(planned: Planned, folder: RunFolder) -> Iterator[str]:
    """How answers were calibrated, a line for each way."""
    languages: dict[str, list[str]] = {}
    for cell in planned.cells:
        if cell.calibration is not None:
            sentence = calibrate.sentence(calibrate.read(folder.place(cell.calibration)), cell.apart)
            languages.setdefault(sentence, []).append(cell.language)
    for sentence, of in languages.items():
        yield f"calibrated ({', '.join(dict.fromkeys(of))}): {sentence}"


def _task(cell: Cell) -> str:
    return cell.task


def _tasks(planned: Planned) -> list[str]:
    return list(dict.fromkeys(cell.task for cell in planned.cells))


class _Answers:
    """What all systems answered to the items of one task in all languages."""

    def __init__(self, cells: Sequence[Cell], folder: RunFolder, start: str, metric: str):
        self._start, self._folder, self._metric = start, folder, metric
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

    def rows(self) -> list[Row]:
        """A row for each language and system, and the averages."""
        first = next(iter(next(iter(self._predictions.values())).values()))[0]
        metric, *others = first["scores"]
        scores = {
            language: {
                system: Scores(
                    [row["scores"][metric] for row in answers],
                    sum(not row["readable"] for row in answers),
                    {name: fmean(row["scores"][name] for row in answers) for name in others},
                    self._labels(language, system),
                )
                for system, answers in of.items()
            }
            for language, of in self._predictions.items()
        }
        return self._rows(metric if self._metric == "accuracy" else self._metric, scores)

    def calibrated(self) -> list[Row]:
        """The same rows of answers that were calibrated without labels; none where one language has too few items for it."""
        scores: dict[str, dict[str, Scores]] = {}
        for language, of in self._cells.items():
            scores[language] = {}
            for system in of:
                labels, calibrated = self._labels(language, system), self._calibrated[language, system]
                if labels is None or calibrated is None:
                    return []
                after = replace(labels, raw=calibrated, calibrated=None)
                scores[language][system] = Scores((after.predicted == after.right).tolist(), labels=after)
        return self._rows(self._metric, scores)

    def _rows(self, metric: str, scores: Mapping[str, Mapping[str, Scores]]) -> list[Row]:
        labels = {language: {system: cell.label for system, cell in of.items()} for language, of in self._cells.items()}
        roles = {system: cell.role for of in self._cells.values() for system, cell in of.items()}
        # Items that have no name of their own go by their place.
        named = {
            language: [item.doc_id or str(place) for place, item in enumerate(of)]
            for language, of in self._items.items()
        }
        return rows(metric, labels, scores, self._start, roles, named)

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
        return cross_fitted(log_scores, calibrate.prior(found)) if bias is None else log_scores + bias

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
