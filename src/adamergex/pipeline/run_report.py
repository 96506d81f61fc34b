"""The results of a plan's stages as rows, examples and facts, and its report: one way for recipes and for comparisons."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from typing import TypeVar

from adamergex.execution.run_folder import RunFolder
from adamergex.pipeline.planned import Cell, Planned
from adamergex.pipeline.run_answers import Answers
from adamergex.pipeline.stages import calibrate, corpus, harness, merge, train
from adamergex.reporting import report
from adamergex.reporting.report import ChangedAnswer, Report
from adamergex.reporting.verdict import NOT_REFINED
from adamergex.scoring.results import Row
from adamergex.scoring.seeds import rows_over_seeds
from adamergex.storage.files import jsonl
from adamergex.storage.run_names import SCORES
from adamergex.training import self_training

MARKDOWN, PAGE, CURVES = "report.md", "report.html", "training.png"
FILES = (SCORES, MARKDOWN, PAGE, CURVES)
Named = TypeVar("Named", Row, ChangedAnswer)


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
        below: what the report's files begin with, in the run folder.
    """

    title: str
    source: str | None
    start: str
    lines: Sequence[str]
    scales: Mapping[str, float] = field(default_factory=dict)
    metric: str = "accuracy"
    below: str = ""


def write_report(planned: Planned, folder: RunFolder, facts: Facts) -> Report:
    """Write scores.jsonl, report.md and report.html, all of the same numbers, and return them.

    Args:
        planned: whose stages are all done.
        folder: of the run.
        facts: beside the results.
    """
    found = _report(planned, folder, facts)
    scores, below = written_rows([*found.rows, *found.by_seed]), facts.below
    markdown = report.markdown(found, CURVES if found.curves else None).encode()
    changed = not (folder.holds(below + SCORES, scores) and folder.holds(below + MARKDOWN, markdown))
    # matplotlib takes as long to import as a finished run to look at.
    if found.curves and (changed or not folder.is_written(below + CURVES)):
        from adamergex.reporting import figures

        folder.write(below + CURVES, figures.training_curves(found.curves))
    if changed or not folder.is_written(below + PAGE):
        from adamergex.reporting import html

        folder.write(below + PAGE, html.page(found).encode())
    # Last, so that after a kill in between they say that the page has to be made again.
    folder.write(below + MARKDOWN, markdown)
    folder.write(below + SCORES, scores)
    return found


def written_rows(rows: Iterable[Row]) -> bytes:
    """Rows as scores.jsonl has them: those of a run with one task name none."""
    return jsonl({key: value for key, value in asdict(row).items() if key != "task" or value} for row in rows).encode()


def _report(planned: Planned, folder: RunFolder, facts: Facts) -> Report:
    found, by_seed, calibrated = list[Row](), list[Row](), list[Row]()
    examples: list[ChangedAnswer] = []
    for task in dict.fromkeys(cell.task for cell in planned.cells):
        answers = {of_seed.seed or 0: _answers(task, of_seed, folder) for of_seed in planned.seeds}
        means, of_each = _rows(answers, facts.metric, planned.start, calibrated=False)
        found += _named_by_task(task, _with_roles(means, planned))
        by_seed += _named_by_task(task, _with_roles(of_each, planned))
        after, _ = _rows(answers, facts.metric, planned.start, calibrated=True)
        calibrated += _named_by_task(task, _with_roles(after, planned))
        # Of one seed, for every seed has answers of its own.
        examples += _named_by_task(task, next(iter(answers.values())).differing())
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
        by_seed=by_seed,
        calibrated=calibrated,
        examples=examples,
        facts=[*facts.lines, *_calibrations(planned, folder, done=bool(calibrated))],
        curves={name: train.log(folder.place(id)) for name, id in planned.trained.items()},
        corpora=corpora,
        scales=scales,
        harness=measured,
        above="../../" + PAGE if facts.below else "",
        versions=merge.versions(),
        hashes={id: record.digest for id, record in records.items() if record is not None},
    )


def _answers(task: str, planned: Planned, folder: RunFolder) -> Answers:
    """The answers to one task with one seed."""
    cells = [_named(cell, planned, folder) for cell in planned.cells if cell.task == task]
    return Answers(cells, folder, planned.start)


def _rows(answers: Mapping[int, Answers], metric: str, start: str, calibrated: bool) -> tuple[list[Row], list[Row]]:
    """The rows of one task, then those of each seed where there are several; none where answers cannot be calibrated."""
    first = next(iter(answers.values()))
    scores = {seed: of_seed.calibrated() if calibrated else of_seed.scores() for seed, of_seed in answers.items()}
    complete = {seed: of_seed for seed, of_seed in scores.items() if of_seed is not None}
    if len(complete) < len(scores):
        return [], []
    compared = first.metric if metric == "accuracy" and not calibrated else metric
    labels = {seed: of_seed.labels for seed, of_seed in answers.items()}
    return rows_over_seeds(compared, labels, complete, start, first.roles, first.items)


def _with_roles(rows: Iterable[Row], planned: Planned) -> list[Row]:
    """The rows with the role that a system has in their language: the delivered merge may be another method in another one."""
    roles = {(cell.language, cell.system): cell.role for cell in planned.cells}
    of_all = {system: {role for (_, other), role in roles.items() if other == system} for _, system in roles}
    return [
        replace(row, role=roles[row.language, row.method])
        if not row.average
        else (row if len(of_all[row.method]) == 1 else replace(row, role="adapter"))
        for row in rows
    ]


def _named_by_task(task: str, found: Iterable[Named]) -> list[Named]:
    """Rows or examples whose language is named after their task, too."""
    return [replace(one, language=f"{task} {one.language}".strip()) for one in found]


def _named(cell: Cell, planned: Planned, folder: RunFolder) -> Cell:
    """The cell with a label that says what was chosen, where something was, and whether there was anything to learn."""
    if cell.role == "refined":
        refused = self_training.facts(folder.place(planned.refined[cell.language]))["refused"]
        return cell if refused is None else replace(cell, label=f"{cell.label} {NOT_REFINED}")
    if cell.role != "merged" or cell.language not in planned.chosen:
        return cell
    found = merge.figures(folder.place(planned.merged[cell.language]))
    return replace(cell, label=f"{found['title']} (t = {found['scale']:g}, chosen)")


def _calibrations(planned: Planned, folder: RunFolder, done: bool) -> Iterator[str]:
    """How answers were calibrated, a line for each way; where they were not, why a bias could not be estimated."""
    languages: dict[str, list[str]] = {}
    for cell in (cell for of_seed in planned.seeds for cell in of_seed.cells):
        if cell.calibration is not None:
            found = calibrate.read(folder.place(cell.calibration))
            if not done and found["bias"] is not None:
                continue
            sentence = calibrate.sentence(found, cell.apart) if done else found["why"]
            languages.setdefault(sentence, []).append(cell.language)
    for sentence, of in languages.items():
        yield f"{'' if done else 'not '}calibrated ({', '.join(dict.fromkeys(of))}): {sentence}"
