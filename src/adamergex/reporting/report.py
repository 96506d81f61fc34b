"""The contents of a report: tables, a sentence for each language, examples, facts. Imports no torch."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from adamergex.markdown import line
from adamergex.markdown import row as table_row
from adamergex.reporting.metrics import FURTHER, beside, further, metric_name, over_seeds, shown
from adamergex.reporting.verdict import DID, format_p, nothing_done, verdict
from adamergex.scoring.results import Row


@dataclass(frozen=True)
class ChangedAnswer:
    """An item that a method answered otherwise than the start.

    Attributes:
        language, method, label: of the answer, as in `Row`.
        id: of the item.
        prompt: of the method.
        golds: the right answers.
        start, start_score: the start's answer and score.
        prediction, score: the method's answer and score.
    """

    language: str
    method: str
    label: str
    id: str
    prompt: str
    golds: tuple[str, ...]
    start: str
    start_score: float
    prediction: str
    score: float


@dataclass(frozen=True)
class Report:
    """The data of a report.

    Attributes:
        title: its heading.
        source: the source language, or None where only adapters are compared.
        start: the name of the method that others are compared with.
        rows: of all languages, then the averages.
        examples: answers that differ, in the order of the rows.
        facts: lines on how the numbers were computed.
        curves: adapter → the rows of its training log: step, loss, learning_rate, tokens, seconds, memory.
        corpora: language → the manifest of its plain text (`corpus.build`).
        scales: language → pairs of t and score, where t was tried.
        harness: rows of lm-evaluation-harness: task, metric, value, standard error.
        versions: package → version.
        hashes: name → fingerprint.
        calibrated: the same rows, of answers that were calibrated without labels; empty where they were not.
        by_seed: rows of each seed, where `rows` are means over several; empty otherwise.
        above: the address of the page of all tasks, from that of this one; empty where there is none.
    """

    title: str
    source: str | None
    start: str
    rows: Sequence[Row]
    examples: Sequence[ChangedAnswer] = ()
    facts: Sequence[str] = ()
    curves: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    corpora: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    scales: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)
    harness: Sequence[Mapping[str, Any]] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)
    calibrated: Sequence[Row] = ()
    by_seed: Sequence[Row] = ()
    above: str = ""

    def tables(self) -> list[tuple[str, list[Row]]]:
        """Pairs of a heading and its rows, one for each language and one for the average."""
        grouped = groupby(self.rows, key=lambda row: (row.language, row.average))
        return [(self.heading(*language_and_average), list(rows)) for language_and_average, rows in grouped]

    def seed_tables(self) -> list[tuple[str, list[Row]]]:
        """The same of the rows of each seed, those of a method one below the other, with the seed in their label."""
        return [
            (
                heading,
                [
                    replace(row, label=f"{row.label}, seed {row.seed}")
                    for mean in means
                    for row in self.by_seed
                    if (row.language, row.average, row.method) == (mean.language, mean.average, mean.method)
                ],
            )
            for heading, means in (self.tables() if self.by_seed else [])
        ]

    def heading(self, language: str, average: bool = False) -> str:
        """The title of the table of a language, or of an average."""
        return language if self.source is None or average else f"{self.source} → {language}"


def sentences(report: Report, rows: Sequence[Row]) -> list[str]:
    """The verdicts on one table, of merging and of self-training: raw, and after calibration."""
    after = [row for row in report.calibrated if (row.language, row.average) == (rows[0].language, rows[0].average)]
    said: list[str] = []
    for role in DID:
        raw, calibrated = verdict(rows, role), verdict(after, role)
        said += [raw] if raw else []
        # Where nothing was done, calibration changes nothing of that.
        done = any(row.role == role and nothing_done(row) is None for row in rows)
        said += [f"After calibration without labels: {calibrated}"] if calibrated and done else []
    return said


def layouts(what: str, facts: Iterable[Mapping[str, Any]]) -> list[str]:
    """Lines on how sequences were laid out in batches, and why, one for each layout that was used.

    Args:
        what: what was computed, such as training.
        facts: of each training or scoring, with its `layout` if it has one.
    """
    lines = dict.fromkeys(fact["layout"] for fact in facts if fact.get("layout"))
    return [f"sequences of a batch in {what}: {layout}" for layout in lines]


def headings(rows: Sequence[Row], start: str = "t = 0") -> list[str]:
    """The headings of a table of these rows, without empty columns."""
    result = ["", metric_name(rows[0].metric), "95 % interval"]
    if any(row.difference is not None for row in rows):
        result += [f"vs {start}", "p"]
    if any(row.p_holm is not None for row in rows):
        result.append("p (Holm)")
    if any(row.gap_closed is not None for row in rows):
        result.append("gap closed")
    if any(row.unreadable for row in rows):
        result.append("unreadable")
    return result + [metric_name(name) for name in beside(rows[0])]


def cells(row: Row, wanted: Sequence[str]) -> list[str]:
    """A row's cells under the headings of its table."""
    filled = {metric_name(name): shown(row, name) for name in (*row.others, row.metric)} | {
        "": row.label,
        "95 % interval": f"{100 * row.low:.1f} – {100 * row.high:.1f}",
        "p": "" if row.p_value is None else format_p(row.p_value),
        "p (Holm)": "" if row.p_holm is None else format_p(row.p_holm),
        "gap closed": "" if row.gap_closed is None else f"{100 * row.gap_closed:.0f} %",
        "unreadable": f"{row.unreadable}",
    }
    difference = "" if row.difference is None else f"{100 * row.difference:+.1f}"
    return [filled.get(heading, difference if heading.startswith("vs ") else "") for heading in wanted]


def table(title: str, rows: Sequence[Row], start: str = "t = 0") -> Table:
    """The rows of one language for a terminal."""
    return _drawn(title, rows, headings(rows, start))


def _drawn(title: str, rows: Sequence[Row], columns: Sequence[str]) -> Table:
    drawn = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1))
    for number, heading in enumerate(columns):
        # Names may take two lines; numbers are never cut.
        drawn.add_column(heading, justify="right" if number else "left", no_wrap=bool(number))
    for row in rows:
        drawn.add_row(*cells(row, columns), style="bold" if row.role == "merged" else "")
    return drawn


def show(console: Console, report: Report) -> None:
    """Print the tables and their verdicts."""
    if report.by_seed:
        console.print(f"\n{over_seeds(report.rows[0])}")
    for heading, rows in report.tables():
        console.print()
        for part in _fitting(console, heading, rows, report.start):
            console.print(part)
        for sentence in sentences(report, rows):
            console.print(sentence)
        console.print()


def _fitting(console: Console, title: str, rows: Sequence[Row], start: str) -> list[Table]:
    """The table of one language; where the terminal is too narrow for it, further metrics in a second table."""
    whole = table(title, rows, start)
    if (
        not beside(rows[0])
        or whole.__rich_measure__(console, console.options.update(max_width=10_000)).maximum <= console.width
    ):
        return [whole]
    plain = [replace(row, others={}) for row in rows]
    others = [metric_name(name) for name in beside(rows[0])]
    return [table(title, plain, start), _drawn("", rows, ["", *others])]


def markdown(report: Report, curves: str | None) -> str:
    """The whole report as markdown.

    Args:
        report: the data.
        curves: the path of an image of the training curves, if there is one.
    """
    parts = [f"# {line(report.title)}", ""]
    parts += [over_seeds(report.rows[0]), ""] if report.by_seed else []
    for heading, rows in report.tables():
        parts += [f"## {line(heading)}", "", *_lines(rows, report.start)]
        parts += ["", *(part for sentence in sentences(report, rows) for part in (line(sentence), ""))]
    parts += ["## Each seed", ""] if report.by_seed else []
    for heading, rows in report.seed_tables():
        parts += [f"### {line(heading)}", "", *_lines(rows, report.start), ""]
    further_tables = [(heading, found) for heading, rows in report.tables() if (found := further(rows))]
    if further_tables:
        parts += ["## Further metrics", "", FURTHER, ""]
    for heading, (columns, *cells_of) in further_tables:
        parts += [f"### {line(heading)}", "", _line(columns), "|---" + "|---:" * (len(columns) - 1) + "|"]
        parts += [*map(_line, cells_of), ""]
    if report.harness:
        parts += [
            "## lm-evaluation-harness",
            "",
            _line(("task", "metric", "value", "± standard error")),
            "|---|---|---:|---:|",
        ]
        parts += [
            _line(
                (
                    row["task"],
                    row["metric"],
                    f"{row['value']:.4f}",
                    f"{row['stderr']:.4f}" if isinstance(row["stderr"], float) else "",
                )
            )
            for row in report.harness
        ]
        parts.append("")
    if curves is not None:
        parts += ["## Training", "", f"![loss, learning rate, tokens per second and memory by step]({curves})", ""]
    facts = [*report.facts, *(f"{what}: {fingerprint}" for what, fingerprint in report.hashes.items())]
    facts.append(", ".join(" ".join(pair) for pair in report.versions.items()))
    parts += ["## How these numbers came to be", "", *(f"- {line(fact)}" for fact in facts), ""]
    return "\n".join(parts)


def markdown_table(rows: Sequence[Row], start: str = "t = 0") -> str:
    """A table of rows as markdown."""
    return "\n".join(_lines(rows, start))


def _lines(rows: Sequence[Row], start: str) -> list[str]:
    """Its lines."""
    columns = headings(rows, start)
    head = [_line(columns), "|---" + "|---:" * (len(columns) - 1) + "|"]
    return head + [_line(cells(row, columns)) for row in rows]


def _line(cells: Sequence[str]) -> str:
    return table_row(list(map(line, cells)))
