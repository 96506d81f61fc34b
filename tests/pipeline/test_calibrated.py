"""Calibration in a report: beside the raw scores, never by labels, only where there are inputs enough."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import adamergex
from adamergex.pipeline.run import finish
from adamergex.recipes import loading


@pytest.fixture
def many(own_data: Callable[..., Path]) -> Path:
    """A recipe with 120 scored items, of which a quarter has the second label."""
    path = own_data(evaluate={"methods": ["base", "source-adapter", "adamergex"]})
    rows = [{"text": f"test {i}", "label": "neg" if i % 4 == 3 else "pos"} for i in range(120)]
    (path.parent / "data/test.es.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_every_row_has_its_calibrated_scores(many: Path) -> None:
    report = finish(loading.load(str(many)), many.parent, many.parent / "run").report
    assert [(row.language, row.method) for row in report.calibrated] == [
        (row.language, row.method) for row in report.rows
    ]
    for row, calibrated in zip(report.rows, report.calibrated, strict=True):
        raw = {"macro_f1", "balanced_accuracy", "log_likelihood", "ece"}
        assert row.others.keys() == raw | {f"calibrated_{name}" for name in (*raw, "accuracy")}
        assert row.intervals.keys() == row.others.keys()
        assert row.right_shares == {"yes": 0.75, "no": 0.25}
        assert row.shares.keys() == row.right_shares.keys()
        assert row.others["calibrated_accuracy"] == calibrated.score
    text = (many.parent / "run/report.md").read_text()
    assert "After calibration without labels: es: merging changed accuracy by" in text
    assert "- calibrated (es): a bias per label is added" in text
    assert "| macro-F1 | calibrated | calibrated F1 |" in text


def test_labels_of_scored_items_change_no_calibrated_prediction(many: Path) -> None:
    """With all labels the other way round, what was right is wrong: the same labels were predicted."""
    reports = []
    for run in ("one", "other"):
        reports.append(finish(loading.load(str(many)), many.parent, many.parent / run).report)
        test = many.parent / "data/test.es.jsonl"
        rows = [json.loads(line) for line in test.read_text().splitlines()]
        turned = [row | {"label": {"pos": "neg", "neg": "pos"}[row["label"]]} for row in rows]
        test.write_text("".join(json.dumps(row) + "\n" for row in turned))
    one, other = ([row.score for row in report.calibrated] for report in reports)
    assert [a + b for a, b in zip(one, other, strict=True)] == pytest.approx([1, 1, 1])


def test_the_metric_of_a_recipe_is_what_rows_are_compared_by(many: Path) -> None:
    plain = finish(loading.load(str(many)), many.parent, many.parent / "run").report
    predictions = {path: path.stat().st_mtime_ns for path in many.parent.glob("run/predictions/*/*/*")}
    recipe = loading.load(str(many), ["evaluate.metric=macro_f1"])
    report = finish(recipe, many.parent, many.parent / "run").report
    for first, row, after in zip(plain.rows, report.rows, report.calibrated, strict=True):
        assert (row.metric, row.score) == ("macro_f1", first.others["macro_f1"])
        assert (row.low, row.high) == first.intervals["macro_f1"]
        assert row.others["accuracy"] == first.score
        assert (after.metric, after.score) == ("macro_f1", first.others["calibrated_macro_f1"])
    text = (many.parent / "run/report.md").read_text()
    assert "|  | macro-F1 | 95 % interval | vs t = 0 | p | accuracy | calibrated | calibrated F1 |" in text
    assert "es: merging changed macro-F1 by" in text
    assert "permutation test of swapped answers p" in text
    # Nothing is answered again for it.
    assert predictions == {path: path.stat().st_mtime_ns for path in predictions}


@pytest.mark.parametrize("calibration", ["batch", {"shares": {"pos": 0.9, "neg": 0.1}}])
def test_evaluate_calibrates_as_the_recipe_says(many: Path, calibration: object) -> None:
    """The same adapter is scored alike by its run and by a comparison; where the source's shares are taken, otherwise."""
    recipe = json.loads(many.read_text())
    recipe["evaluate"]["calibration"] = calibration
    many.write_text(json.dumps(recipe))
    run = many.parent / "run"
    (own,) = [
        row for row in finish(loading.load(str(many)), many.parent, run).report.rows if row.method == "source-adapter"
    ]
    given = {"t0": run / "adapters/task-en"}
    (found,) = [row for row in adamergex.evaluate(given, [str(many)], ["es"], run.parent / "e") if row.method == "t0"]
    assert found.others == own.others
    stated = [json.loads(path.read_text()) for path in (run.parent / "e").glob("calibration/*/es/t0/calibration.json")]
    assert [one["strength"] for one in stated] == [1.0]
    recipe["evaluate"]["calibration"] = "none"
    many.write_text(json.dumps(recipe))
    rows = adamergex.evaluate(given, [str(many)], ["es"], run.parent / "none")
    assert not any(name.startswith("calibrated") for row in rows for name in row.others)


def test_few_items_are_left_as_they_are(own_data: Callable[..., Path]) -> None:
    path = own_data()
    report = finish(loading.load(str(path)), path.parent, path.parent / "run").report
    assert report.calibrated == []
    assert all("macro_f1" in row.others for row in report.rows)
    assert not any(name.startswith("calibrated") for row in report.rows for name in row.others)


def test_inputs_too_few_to_calibrate_on_are_said(many: Path) -> None:
    """Inputs were named to calibrate on, and nothing is calibrated: a reader is told why."""
    rows = [{"text": f"input {i}"} for i in range(20)]
    (many.parent / "data/inputs.es.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    few = ["task.unlabelled=data/inputs.{language}.jsonl", "task.test={files: data/test.es.jsonl, limit: 30}"]
    report = finish(loading.load(str(many), few), many.parent, many.parent / "run").report
    assert report.calibrated == []
    text = (many.parent / "run/report.md").read_text()
    assert "- not calibrated (es): 20 inputs without labels are too few; it takes 50" in text


def test_written_answers_have_no_labels(own_data: Callable[..., Path]) -> None:
    path = own_data()
    recipe = loading.load(str(path), ["task.choices=null", "evaluate.max_new_tokens=4"])
    report = finish(recipe, path.parent, path.parent / "run").report
    assert report.calibrated == []
    assert all(row.others == {} for row in report.rows)
