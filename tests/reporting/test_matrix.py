"""The table of tasks and languages: its numbers, its marks, and its links."""

import random
import re
from io import StringIO

import pytest
from rich.console import Console

from adamergex.reporting import matrix, matrix_html
from adamergex.reporting.html import page as page_of_task
from adamergex.reporting.matrix import Matrix
from adamergex.reporting.report import Report
from adamergex.scoring.results import Row

# Task → language → score at t = 0, score of what is delivered, p.
SCORES = {
    "topics": {"es": (0.5, 0.6, 0.01), "sw": (0.5, 0.54, 0.02)},
    "qa": {"es": (0.4, 0.3, 0.001), "sw": (0.4, 0.4, 1.0)},
}


def report(task: str, scores: dict[str, tuple[float, float, float]], metric: str = "accuracy") -> Report:
    rows = []
    for code, (start, score, p) in scores.items():
        rows.append(Row(code, "source-adapter", "t = 0", metric, 100, start, start - 0.1, start + 0.1))
        rows.append(
            Row(
                code,
                "adamergex",
                "merged (t = 0.5)",
                metric,
                100,
                score,
                score - 0.1,
                score + 0.1,
                difference=score - start,
                p_value=p,
                role="merged",
            )
        )
    return Report(f"lab: {task}", "en", "t = 0", rows, above="../../report.html")


def made(scores: dict[str, dict[str, tuple[float, float, float]]], languages: list[str]) -> Matrix:
    reports = {task: report(task, of, "f1" if task == "qa" else "accuracy") for task, of in scores.items()}
    return Matrix("lab", reports, languages, {task: f"tasks/{task}/report.html" for task in reports}, ["seed 0"])


def test_marks_are_those_of_holm_over_all_pairs() -> None:
    found = made(SCORES, ["es", "sw"]).cells()
    # Sorted 0.001, 0.01, 0.02, 1.0: times 4, 3, 2, 1.
    assert {where: cell.p_value for where, cell in found.items()} == {
        ("qa", "es"): pytest.approx(0.004),
        ("topics", "es"): pytest.approx(0.03),
        ("topics", "sw"): pytest.approx(0.04),
        ("qa", "sw"): 1.0,
    }
    # Alone, the third would be one in two; over five pairs it is chance.
    more = made(SCORES | {"nli": {"es": (0.5, 0.5, 1.0), "sw": (0.5, 0.5, 0.9)}}, ["es", "sw"]).cells()
    assert [where for where, cell in more.items() if cell.is_significant] == [("qa", "es")]


def test_the_table_has_scores_differences_and_plain_means() -> None:
    assert matrix.table(made(SCORES, ["es", "sw", "yo"])) == [
        ["language", "topics", "qa", "average"],
        ["es", "60.0 (+10.0*)", "30.0 (-10.0*)", "45.0 (+0.0)"],
        ["sw", "54.0 (+4.0*)", "40.0 (+0.0)", "47.0 (+2.0)"],
        ["yo", "–", "–", "–"],
        ["average", "57.0 (+7.0)", "35.0 (-5.0)", "46.0 (+1.0)"],
    ]


def test_markdown_has_the_same_cells() -> None:
    text = matrix.markdown(made(SCORES, ["es", "sw"]))
    assert r"| es | 60.0 (+10.0\*) | 30.0 (-10.0\*) | 45.0 (+0.0) |" in text
    assert "| [qa](tasks/qa/report.html) | en | F1 | 100 | 40.0 | +0.0 | 1.000 |" in text


def test_what_came_out_is_counted() -> None:
    assert matrix.summary(made(SCORES, ["es", "sw"])) == (
        "2 tasks, 2 languages, 4 scored pairs. What is delivered differs from t = 0 by +1.0 points on average: it is better in 2 "
        "pairs and worse in 1 by more than chance, of 4 that were tested (Holm-adjusted over all of them)."
    )
    assert matrix.summary(made({}, ["es"])) == "Nothing was scored."


def test_a_refined_adapter_is_what_is_delivered() -> None:
    rows = [
        Row("es", name, name, "accuracy", 10, score, 0, 1, difference=0.1, p_value=0.5, role=role)  # type: ignore[arg-type]
        for name, score, role in (
            ("adamergex", 0.5, "merged"),
            ("refined", 0.6, "refined"),
            ("ceiling", 0.9, "ceiling"),
        )
    ]
    found = Matrix("lab", {"topics": Report("x", "en", "t = 0", rows)}, ["es"], {"topics": "x.html"}).cells()
    assert found["topics", "es"].row.score == 0.6


def test_each_cell_leads_to_its_table_on_the_page_of_its_task() -> None:
    found = made(SCORES, ["es", "sw"])
    page = matrix_html.page(found)
    assert re.findall(
        r'<td class="(\S+)"><a href="(\S+)">(\S+)</a> <small>(\S+)</small>', page.replace("<b>*</b>", "*")
    ) == [
        ("up-4", "tasks/topics/report.html#results-1", "60.0", "+10.0*"),
        ("down-4", "tasks/qa/report.html#results-1", "30.0", "-10.0*"),
        ("up-2", "tasks/topics/report.html#results-2", "54.0", "+4.0*"),
    ]
    own = page_of_task(found.reports["qa"])
    assert '<a href="../../report.html">All tasks</a>' in own
    assert re.findall(r'<h3 id="results-(\d)" dir="auto">en → (\w+)<', own) == [("1", "es"), ("2", "sw")]
    # Nothing is fetched, nothing runs.
    assert not re.search(r"<(script|img|link|iframe)|https?://|url\(", page)


def test_names_are_text() -> None:
    found = made({"a<b": {"es": (0.5, 0.6, 0.1)}}, ["es"])
    assert "a<b" not in matrix_html.page(found)
    assert "a&lt;b" in matrix_html.page(found)
    assert r"| language | a\<b | average |" in matrix.markdown(found)


def test_forty_languages_and_six_tasks_are_a_small_page() -> None:
    draw = random.Random(0)
    codes = [f"{first}{second}" for first in "abcde" for second in "abcdefgh"]
    tasks = ["topics", "intents", "sentiment", "nli", "qa", "summaries"]
    scores = {task: {code: (0.5, 0.5 + draw.gauss(0.02, 0.05), draw.random() ** 4) for code in codes} for task in tasks}
    found = made(scores, codes)
    page = matrix_html.page(found)
    assert page.count('<a href="tasks/') == 240 + 6 + 6
    assert len(page.encode()) < 100_000
    assert matrix_html.page(found) == page
    assert len(matrix.markdown(found).splitlines()) < 80


def test_a_terminal_shows_the_same_numbers() -> None:
    console = Console(width=100, record=True, file=StringIO())
    matrix.show(console, made(SCORES, ["es", "sw"]))
    shown = console.export_text()
    assert "60.0 (+10.0*)" in shown
    assert "4 scored pairs" in shown
