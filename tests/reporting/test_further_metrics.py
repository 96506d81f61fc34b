"""Metrics that have no room in the main table: which they are, how they are written, and where they are not."""

import io
from dataclasses import replace

from rich.console import Console

from adamergex.reporting import html, report
from adamergex.reporting.metrics import further, label_shares
from adamergex.reporting.report import Report
from adamergex.scoring.results import Row

OTHERS = {"macro_f1": 0.55, "balanced_accuracy": 0.567, "log_likelihood": -0.5231, "ece": 0.1004}
OTHERS |= {f"calibrated_{name}": value for name, value in (OTHERS | {"accuracy": 0.61}).items()}
START = Row(
    "es", "source-adapter", "en adapter", "accuracy", 400, 0.6, 0.55, 0.65, others=OTHERS,
    intervals={name: (value - 0.02, value + 0.03) for name, value in OTHERS.items()},
    shares={"pos": 0.725, "neg": 0.275}, right_shares={"pos": 0.5, "neg": 0.5},
)  # fmt: skip
MERGED = replace(
    START, method="adamergex", label="merged | t", difference=0.02, p_value=0.5, role="merged", gap_closed=0.4,
    gap_closed_low=-0.123, gap_closed_high=0.95,
)  # fmt: skip
WRITTEN = Row("es", "base", "base", "f1", 10, 0.5, 0.4, 0.6, others={"exact_match": 0.3})


def test_the_main_table_is_as_narrow_as_it_was() -> None:
    assert report.headings([START]) == ["", "accuracy", "95 % interval", "macro-F1", "calibrated F1", "calibrated"]
    assert report.headings([WRITTEN]) == ["", "F1", "95 % interval", "exact match"]


def test_further_metrics_are_written_with_their_intervals() -> None:
    assert further([START, MERGED]) == [
        ["method", "balanced accuracy", "log-likelihood (nats)", "ECE", "gap closed"],
        ["en adapter", "56.7 (54.7 to 59.7)", "-0.52 (-0.54 to -0.49)", "10.0 (8.0 to 13.0)", ""],
        ["merged | t", "56.7 (54.7 to 59.7)", "-0.52 (-0.54 to -0.49)", "10.0 (8.0 to 13.0)", "40 % (-12 to 95)"],
    ]
    assert further([START])[0][-1] == "ECE"
    assert further([WRITTEN]) == []


def test_what_rows_are_compared_by_stands_in_the_main_table_and_accuracy_beside_it() -> None:
    others = {"accuracy": 0.6} | {name: value for name, value in OTHERS.items() if name != "balanced_accuracy"}
    row = replace(MERGED, metric="balanced_accuracy", others=others)
    main = ["", "balanced accuracy", "95 % interval", "vs t = 0", "p", "gap closed", "accuracy", "macro-F1"]
    assert report.headings([row]) == [*main, "calibrated F1", "calibrated balanced", "calibrated"]
    assert further([row])[0] == ["method", "log-likelihood (nats)", "ECE", "gap closed"]
    assert report.verdict([row]) == (
        "es: merging changed balanced accuracy by +2.0 points over the source-language adapter alone (400 items, "
        "permutation test of swapped answers p = 0.500): no difference that this test can show."
    )


def test_both_reports_have_them_and_the_terminal_has_not() -> None:
    both = Report("run", "en", "t = 0", [START, MERGED])
    text = report.markdown(both, None)
    at = text.index("## Further metrics")
    assert "### en → es" in text[at:]
    assert (
        "| merged \\| t | 56.7 (54.7 to 59.7) | -0.52 (-0.54 to -0.49) | 10.0 (8.0 to 13.0) | 40 % (-12 to 95) |"
        in text
    )
    assert "balanced" not in text[:at]
    page = html.page(both)
    assert '<h2 id="further">Further metrics</h2>' in page
    assert '<td dir="auto">-0.52 (-0.54 to -0.49)</td>' in page
    shown = io.StringIO()
    report.show(Console(file=shown, width=200), both)
    assert "macro-F1" in shown.getvalue()
    assert not any(word in shown.getvalue() for word in ("balanced", "likelihood", "ECE"))


def test_labels_have_their_right_shares_beside_the_predicted_ones() -> None:
    assert label_shares([START, MERGED]) == [
        ["method", "pos", "neg"],
        ["right answers", "50.0", "50.0"],
        ["en adapter", "72.5", "27.5"],
        ["merged | t", "72.5", "27.5"],
    ]
    assert label_shares([WRITTEN]) == []
    page = html.page(Report("run", "en", "t = 0", [START]))
    assert '<th scope="row" dir="auto">right answers</th><td dir="auto">50.0</td>' in page


def test_reports_without_labels_have_no_such_section() -> None:
    written = Report("run", "en", "t = 0", [WRITTEN])
    assert "Further metrics" not in report.markdown(written, None)
    assert "Further metrics" not in html.page(written)


def test_self_training_has_a_verdict_of_its_own() -> None:
    row = Row("sl", "refined", "refined by self-training", "accuracy", 400, 0.488, 0.439, 0.536, 0.155, 0.0001)
    refined = replace(row, role="refined")
    assert report.verdict([refined]) is None
    assert report.verdict([refined], "refined") == (
        "sl: self-training changed accuracy by +15.5 points over the source-language adapter alone (400 items, exact McNemar "
        "p < 0.001): self-training helped."
    )
    merged = replace(row, role="merged", label="AdaMergeX (t = 0, chosen)", difference=0.0, p_value=1.0)
    assert "t = 0 was chosen; nothing is merged" in str(report.verdict([merged]))
