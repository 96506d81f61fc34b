"""What `run` and `evaluate` return: rows as before, and the same numbers as data frames and in a notebook."""

from pathlib import Path

import pytest

from adamergex.reporting.report import Report
from adamergex.reporting.results import Results
from adamergex.scoring.results import Row

T0 = Row("sw", "source-adapter", "en <adapter> & t = 0", "accuracy", 200, 0.5, 0.43, 0.57, others={"macro_f1": 0.4})
MERGED = Row(
    "sw",
    "adamergex",
    "AdaMergeX",
    "accuracy",
    200,
    0.55,
    0.48,
    0.62,
    0.05,
    0.0301,
    others={"macro_f1": 0.45, "ece": 0.1},
)
SEED = Row("sw", "adamergex", "AdaMergeX", "accuracy", 200, 0.5, 0.4, 0.6, seed=1)
REPORT = Report("a run", "en", "t = 0", [T0, MERGED], by_seed=[SEED])
FOUND = Results.of(REPORT, Path("runs/<b>"), "report.html", {"sw": Path("runs/<b>/delivered/sw")})


def test_it_is_a_sequence_of_rows() -> None:
    assert list(FOUND) == [T0, MERGED]
    assert FOUND == [T0, MERGED]
    assert FOUND != [MERGED]
    assert Results.of(REPORT, Path("elsewhere"), "report.html") == FOUND
    assert (FOUND[1], FOUND[-2:], len(FOUND), MERGED in FOUND) == (MERGED, [T0, MERGED], 2, True)
    assert not Results.of(Report("a run", "en", "t = 0", []), Path(), "report.html")


def test_the_table_has_the_numbers_of_the_report() -> None:
    table = FOUND.table
    assert list(table.columns) == ["accuracy", "low", "high", "vs t = 0", "p", "macro-F1"]
    row = table.loc[("sw", "AdaMergeX")]
    assert row.tolist() == pytest.approx([55, 48, 62, 5, 0.0301, 45])
    assert table["vs t = 0"].isna().tolist() == [True, False]
    scores = FOUND.scores
    assert scores["score"].tolist() == [0.5, 0.55, 0.5]
    assert scores["seed"].tolist()[2] == 1
    assert scores["others"][1] == {"macro_f1": 0.45, "ece": 0.1}


def test_the_files_are_named() -> None:
    assert (FOUND.folder, FOUND.report) == (Path("runs/<b>"), Path("runs/<b>/report.html"))
    assert FOUND.delivered == {"sw": Path("runs/<b>/delivered/sw")}
    assert repr(FOUND) == "<Results: 2 rows, delivered for sw; runs/<b>/report.html>"


def test_a_notebook_shows_the_table_with_all_text_escaped() -> None:
    shown = FOUND._repr_html_()
    assert "en &lt;adapter&gt; &amp; t = 0" in shown
    assert "<adapter>" not in shown
    assert "runs/&lt;b&gt;/report.html" in shown
    assert "<td>55.0</td>" in shown
    assert "<td>0.030</td>" in shown
    assert "NaN" not in shown
    empty = Results.of(Report("a run", "en", "t = 0", []), Path("x"), "report.html")
    assert (len(empty.table), len(empty.scores), empty._repr_html_()) == (0, 0, "<p>x/report.html</p>")
