"""What `import adamergex` offers: that, and nothing else."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import adamergex


def test_the_names_are_those_and_come_when_they_are_asked_for() -> None:
    assert adamergex.__all__ == sorted(adamergex.__all__)
    assert adamergex.__all__ == ["Recipe", "__version__", "evaluate", "load", "merge", "predictor", "resolve", "run"]
    for name in adamergex.__all__:
        assert getattr(adamergex, name) is not None
    code = "import sys, adamergex; print(*{'torch', 'transformers', 'pydantic', 'numpy'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_a_whole_story_from_python(own_data: Callable[..., Path], tmp_path: Path) -> None:
    path = own_data(evaluate={"methods": ["source-adapter", "adamergex"]})
    rows = adamergex.run(path, output=tmp_path / "run")
    assert [row.method for row in rows] == ["source-adapter", "adamergex"]
    assert rows.report.is_file()
    assert rows.folder == tmp_path / "run"
    assert (rows.delivered["es"] / "adamergex.json").is_file()
    lines = [json.loads(line) for line in (tmp_path / "run/scores.jsonl").read_text().splitlines()]
    assert rows.scores["score"].tolist() == [line["score"] for line in lines]
    assert rows.table["accuracy"].tolist() == pytest.approx([100 * line["score"] for line in lines])
    names = ("task-en", "reference-es", "reference-en")
    task, target, source = (adamergex.load(tmp_path / "run/adapters" / name) for name in names)
    adamergex.merge(task, target, source, scale=0.5, rank=2).save(tmp_path / "again")
    merged = tmp_path / "run/merged/es/adamergex"
    weights = "adapter_model.safetensors"
    assert adamergex.load(tmp_path / "again").digest == adamergex.load(merged).digest, weights
    scored = adamergex.evaluate(
        {"t0": tmp_path / "run/adapters/task-en", "merged": merged}, [str(path)], ["es"], tmp_path / "scores"
    )
    assert scored.report == tmp_path / "scores/report.html"
    assert scored.report.is_file()
    # The same adapters on the same items: the same scores.
    assert [row.score for row in scored if row.method != "base"] == [row.score for row in rows]
