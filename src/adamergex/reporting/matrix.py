"""A run of several tasks as one table: what is delivered for each task and language, beside t = 0. Imports no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from rich import box
from rich.console import Console
from rich.table import Table

from adamergex.markdown import line
from adamergex.markdown import row as table_row
from adamergex.reporting.metrics import metric_name, over_seeds
from adamergex.reporting.report import Report
from adamergex.reporting.verdict import format_p
from adamergex.scoring.results import SIGNIFICANT, Row
from adamergex.scoring.statistics import holm

AVERAGE = "average"
# Beside a difference that is none by chance.
MARK = "*"


@dataclass(frozen=True)
class Cell:
    """What is delivered for a task in a language.

    Attributes:
        row: of its report: of the refined adapter, where there is one, else of the merged one.
        p_value: of its difference from the start, adjusted by Holm's method over all cells; None where nothing was compared.
        table: the number of the language's table in the task's report, from 1.
    """

    row: Row
    p_value: float | None
    table: int

    @property
    def is_significant(self) -> bool:
        """Whether it differs from the start."""
        return self.p_value is not None and self.p_value < SIGNIFICANT


@dataclass(frozen=True)
class Matrix:
    """The data of a report on several tasks.

    Attributes:
        title: its heading.
        reports: task → its own report.
        languages: the targets, in the order of the recipe.
        pages: task → the address of its own page, from this one.
        facts: lines on how the numbers came to be.
        start: what the others are compared with.
    """

    title: str
    reports: Mapping[str, Report]
    languages: Sequence[str]
    pages: Mapping[str, str]
    facts: Sequence[str] = ()
    start: str = "t = 0"

    @property
    def rows(self) -> list[Row]:
        """The rows of all tasks, each with its task."""
        return [replace(row, task=task) for task, report in self.reports.items() for row in report.rows]

    @property
    def by_seed(self) -> list[Row]:
        """The same of each seed."""
        return [replace(row, task=task) for task, report in self.reports.items() for row in report.by_seed]

    def cells(self) -> dict[tuple[str, str], Cell]:
        """Task and language → what is delivered, where it was scored."""
        found: dict[tuple[str, str], tuple[Row, int]] = {}
        for task, report in self.reports.items():
            for number, (_, rows) in enumerate(report.tables(), 1):
                row = _delivered(rows)
                if row is not None and not row.average:
                    found[task, row.language] = row, number
        tested = {where: row.p_value for where, (row, _) in found.items() if row.p_value is not None}
        adjusted = dict(zip(tested, holm(list(tested.values())), strict=True))
        return {where: Cell(row, adjusted.get(where), number) for where, (row, number) in found.items()}


def _delivered(rows: Sequence[Row]) -> Row | None:
    """The row of what is delivered among those of one language."""
    by_role = {row.role: row for row in rows}
    return by_role.get("refined") or by_role.get("merged")


def mean(cells: Sequence[Cell]) -> tuple[float, float | None] | None:
    """The mean score of cells, in 0..1, and of their differences from the start, where all have one; None without cells."""
    if not cells:
        return None
    differences = [cell.row.difference for cell in cells if cell.row.difference is not None]
    return fmean(cell.row.score for cell in cells), fmean(differences) if len(differences) == len(cells) else None


def points(difference: float) -> float:
    """A difference in points, as it is shown; never a negative nothing."""
    return round(100 * difference, 1) + 0.0


def shown(score: float, difference: float | None, is_significant: bool = False) -> str:
    """A score in percent, and its difference in points."""
    change = "" if difference is None else f" ({points(difference):+.1f}{MARK * is_significant})"
    return f"{100 * score:.1f}{change}"


def cell_text(cell: Cell | None) -> str:
    """A cell as text; a dash where nothing was scored."""
    return "–" if cell is None else shown(cell.row.score, cell.row.difference, cell.is_significant)


def mean_text(cells: Sequence[Cell]) -> str:
    """The mean of cells as text."""
    found = mean(cells)
    return "–" if found is None else shown(*found)


def summary(matrix: Matrix) -> str:
    """What came out, in a sentence or two."""
    cells = list(matrix.cells().values())
    if not cells:
        return "Nothing was scored."
    tested = [cell for cell in cells if cell.p_value is not None]
    better = sum(cell.is_significant and (cell.row.difference or 0) > 0 for cell in tested)
    worse = sum(cell.is_significant and (cell.row.difference or 0) < 0 for cell in tested)
    parts = [f"{len(matrix.reports):,} {_plural('task', len(matrix.reports))}, {len(matrix.languages):,} "]
    parts[0] += f"{_plural('language', len(matrix.languages))}, {len(cells):,} scored {_plural('pair', len(cells))}."
    if tested:
        changes = [cell.row.difference or 0 for cell in tested]
        parts.append(
            f"What is delivered differs from {matrix.start} by {points(fmean(changes)):+.1f} points on average: it is better in "
            f"{better:,} {_plural('pair', better)} and worse in {worse:,} by more than chance, of {len(tested):,} that were tested "
            "(Holm-adjusted over all of them)."
        )
    return " ".join([*parts, over_seeds(cells[0].row)]).rstrip()


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"


def legend(matrix: Matrix) -> str:
    """What the numbers of the table are."""
    metrics = {row.metric for row in matrix.rows}
    of = f" ({metric_name(next(iter(metrics)))})" if len(metrics) == 1 else ", each task's by its own metric"
    return (
        f"Scores of what is delivered in percent{of}; beside each the difference from {matrix.start} in points, with {MARK} where it is "
        "more than chance (p < 0.05, Holm-adjusted over all pairs); averages are plain means of the pairs"
    )


def table(matrix: Matrix) -> list[list[str]]:
    """The headings, a line for each language, and the averages."""
    cells, tasks = matrix.cells(), list(matrix.reports)
    lines = [["language", *tasks, AVERAGE]]
    for code in matrix.languages:
        of = [cells.get((task, code)) for task in tasks]
        lines.append([code, *map(cell_text, of), mean_text([cell for cell in of if cell is not None])])
    of_tasks = [[cell for (name, _), cell in cells.items() if name == task] for task in tasks]
    return [*lines, [AVERAGE, *map(mean_text, of_tasks), mean_text(list(cells.values()))]]


def task_table(matrix: Matrix) -> list[list[str]]:
    """The tasks: the headings, and a line for each with its own average, which is tested where it has several languages."""
    lines = [["task", "source", "metric", "items", "score", f"vs {matrix.start}", "p"]]
    for task, report in matrix.reports.items():
        tables = report.tables()
        row = _delivered(tables[-1][1]) if tables else None
        if row is None:
            lines.append([task, report.source or "", "", "", "–", "", ""])
            continue
        difference = "" if row.difference is None else f"{points(row.difference):+.1f}"
        p = "" if row.p_value is None else format_p(row.p_value)
        score = f"{100 * row.score:.1f}"
        lines.append([task, report.source or "", metric_name(row.metric), f"{row.items:,}", score, difference, p])
    return lines


def markdown(matrix: Matrix) -> str:
    """The first page as markdown."""
    head, *tasks = task_table(matrix)
    parts = [f"# {line(matrix.title)}", "", line(summary(matrix)), ""]
    if matrix.rows:
        rows = [[line(cell) for cell in of] for of in table(matrix)]
        parts += ["## Tasks and languages", "", line(f"{legend(matrix)}."), "", *_lines(rows), ""]
    linked = [[f"[{line(task)}]({matrix.pages[task]})", *map(line, rest)] for task, *rest in tasks]
    parts += ["## Tasks", "", *_lines([head, *linked]), ""]
    parts += ["## How these numbers came to be", "", *(f"- {line(fact)}" for fact in matrix.facts), ""]
    return "\n".join(parts)


def _lines(rows: Sequence[Sequence[str]]) -> list[str]:
    """A table of cells in markdown."""
    head, *others = map(table_row, rows)
    return [head, "|---" + "|---:" * (len(rows[0]) - 1) + "|", *others]


def show(console: Console, matrix: Matrix) -> None:
    """Print the table and what came out."""
    if matrix.rows:
        head, *lines = table(matrix)
        drawn = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1))
        for number, heading in enumerate(head):
            drawn.add_column(heading, justify="right" if number else "left", no_wrap=True)
        for cells in lines:
            drawn.add_row(*cells, style="bold" if cells[0] == AVERAGE else "")
        console.print()
        console.print(drawn)
        console.print(f"{legend(matrix)}.")
    console.print(summary(matrix))
