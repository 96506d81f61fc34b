"""The first page of a run of several tasks, whose cells lead to the pages of the tasks. Imports no torch."""

from adamergex.reporting import matrix as texts
from adamergex.reporting.html_parts import bullets, document, text
from adamergex.reporting.matrix import AVERAGE, MARK, Cell, Matrix

# Points of difference from which a cell has the next deeper colour.
_STEPS = (0.5, 2.0, 5.0, 10.0)


def page(matrix: Matrix) -> str:
    """The page; equal data give equal text."""
    bodies = {
        "matrix": ("Tasks and languages", _matrix(matrix) if matrix.rows else ""),
        "tasks": ("Tasks", _tasks(matrix)),
        "facts": ("How these numbers came to be", bullets(matrix.facts) if matrix.facts else ""),
    }
    lead = f'<p class="lead" dir="auto">{text(texts.summary(matrix))}</p>'
    return document(matrix.title, lead, bodies)


def _matrix(matrix: Matrix) -> str:
    cells, tasks = matrix.cells(), list(matrix.reports)
    head = "".join(f'<th scope="col"><a href="{text(matrix.pages[task])}">{text(task)}</a></th>' for task in tasks)
    lines = []
    for code in matrix.languages:
        of = [(task, cells.get((task, code))) for task in tasks]
        body = "".join(_cell(cell, f"{matrix.pages[task]}#results-{cell.table}" if cell else "") for task, cell in of)
        body += _mean([cell for _, cell in of if cell is not None])
        lines.append(f'<tr><th scope="row">{text(code)}</th>{body}</tr>')
    means = "".join(_mean([cell for (name, _), cell in cells.items() if name == task]) for task in tasks)
    lines.append(f'<tr class="merged"><th scope="row">{AVERAGE}</th>{means}{_mean(list(cells.values()))}</tr>')
    caption = text(texts.legend(matrix))
    rows = "\n".join(lines)
    return (
        f'<div class="scroll" role="group" aria-label="{caption}" tabindex="0">\n<table class="matrix">\n'
        f"<caption><span>{caption}</span></caption>\n"
        f'<thead><tr><th scope="col">language</th>{head}<th scope="col">{AVERAGE}</th></tr></thead>\n<tbody>\n{rows}\n</tbody>\n'
        f"</table>\n</div>\n{_key(matrix)}"
    )


def _cell(cell: Cell | None, address: str) -> str:
    if cell is None:
        return "<td>–</td>"
    change = _change(cell.row.difference, cell.is_significant)
    return f'<td{_shade(cell.row.difference)}><a href="{text(address)}">{100 * cell.row.score:.1f}</a>{change}</td>'


def _mean(cells: list[Cell]) -> str:
    found = texts.mean(cells)
    if found is None:
        return "<td>–</td>"
    score, difference = found
    return f"<td{_shade(difference)}>{100 * score:.1f}{_change(difference, False)}</td>"


def _change(difference: float | None, is_significant: bool) -> str:
    if difference is None:
        return ""
    mark = f"<b>{MARK}</b>" if is_significant else ""
    return f" <small>{texts.points(difference):+.1f}{mark}</small>"


def _shade(difference: float | None) -> str:
    """The class of a cell, by how far it is from the start."""
    change = texts.points(difference or 0)
    depth = sum(abs(change) >= step for step in _STEPS)
    return f' class="{"up" if change > 0 else "down"}-{depth}"' if depth else ""


def _key(matrix: Matrix) -> str:
    """What the colours are."""
    steps = [f"{step:g}" for step in _STEPS]
    down = "".join(f'<span class="down-{len(steps) - n}">−{step}</span>' for n, step in enumerate(reversed(steps)))
    up = "".join(f'<span class="up-{n}">+{step}</span>' for n, step in enumerate(steps, 1))
    return f'<p class="key">Points from {text(matrix.start)}, from there on: {down}{up}</p>'


def _tasks(matrix: Matrix) -> str:
    """A line for each task, with its own average and a link to its page."""
    columns, *rows = texts.task_table(matrix)
    head = "".join(f'<th scope="col"{_words(number)}>{text(name)}</th>' for number, name in enumerate(columns))
    lines = []
    for task, *others in rows:
        body = "".join(f"<td{_words(number)}>{text(value)}</td>" for number, value in enumerate(others, 1))
        link = f'<a href="{text(matrix.pages[task])}">{text(task)}</a>'
        lines.append(f'<tr><th scope="row">{link}</th>{body}</tr>')
    caption = (
        "What is delivered, on average over the languages; p is of the task's own test. Each task has a page of its own"
    )
    body = "\n".join(lines)
    return (
        f'<div class="scroll" role="group" aria-label="{text(caption)}" tabindex="0">\n<table>\n'
        f"<caption><span>{text(caption)}</span></caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>\n</div>"
    )


def _words(column: int) -> str:
    """Columns of words, not numbers."""
    return ' class="words"' if column in (1, 2) else ""
