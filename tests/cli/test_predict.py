"""`adamergex predict` as it is called: files and pipes, what it says, and what it refuses."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from adamergex.cli import main
from adamergex.inference import usage
from adamergex.inference.settings import Evaluate
from adamergex.models.resident import ResidentModel
from adamergex.storage.checkpoints import Checkpoint, resolve
from adamergex.tasks.task import Task
from tests.conftest import SETTINGS

ROWS = "".join(json.dumps({"text": f"row {number}"}) + "\n" for number in range(120))


@pytest.fixture(scope="module")
def run(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with what a finished run delivers."""
    folder = tmp_path_factory.mktemp("run")
    resident = ResidentModel(Checkpoint(str(tiny_model), tiny_model, ""), "float32", SETTINGS)
    resident.start(0)
    resident.adapter().save(folder / "delivered/es")
    task = {"prompt": "{text}:", "answer": "label", "choices": {"pos": "yes", "neg": "no"}, "train": "x.jsonl"}
    described = usage.described(
        Task.model_validate(task),
        Evaluate(),
        "es",
        base_model=str(tiny_model),
        weights=resolve(str(tiny_model)).fingerprint,
        dtype="float32",
        calibration={
            "labels": ["pos", "neg"],
            "bias": [1.5, -1.5],
            "expected": [0.8, 0.2],
            "inputs": 60,
            "strength": 0.5,
        },
    )
    usage.write(folder / "delivered/es", described)
    (folder / "recipe.yaml").write_text("")
    (folder / "scores.jsonl").touch()
    return folder


def call(*arguments: object, cwd: Path, given: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "adamergex", "predict", *map(str, arguments)]
    return subprocess.run(
        command, input=given, capture_output=True, text=True, cwd=cwd, env=environment, check=False, encoding="utf-8"
    )


def rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_files_are_answered_beside_themselves(run: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(ROWS)
    (tmp_path / "b.csv").write_text("text\none\ntwo\n")
    done = call(run, "a.jsonl", "b.csv", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert len(rows((tmp_path / "a.predictions.jsonl").read_text())) == 120
    assert (tmp_path / "b.predictions.csv").read_text().startswith("text,prediction,probability,p(pos),p(neg)\none,")
    # One model for all files, and a line for each about its bias.
    assert done.stderr.count("base model") == 2
    assert "a.predictions.jsonl: 120 rows; a bias per label was estimated on these rows" in done.stderr
    assert "the label shares saved with the adapter: pos 80%, neg 20%; 50% of it was added\n" in done.stderr
    assert "b.predictions.csv: 2 rows; the bias saved with the adapter was added (of 60 other inputs)" in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "a.jsonl",
        "a.predictions.jsonl",
        "b.csv",
        "b.predictions.csv",
    ]


def test_standard_input_and_output_are_json_lines(run: Path, tmp_path: Path) -> None:
    piped = call(run / "delivered/es", "-", cwd=tmp_path, given=ROWS)
    assert piped.returncode == 0, piped.stderr
    (tmp_path / "a.jsonl").write_text(ROWS)
    printed = call(run, "a.jsonl", "--no-calibrate", "--output", "-", cwd=tmp_path)
    # What cannot be read twice has the saved bias.
    assert piped.stdout == printed.stdout
    assert len(rows(piped.stdout)) == 120
    kept = call(run, "-", "--output", "b.jsonl", cwd=tmp_path, given=ROWS)
    assert (kept.returncode, kept.stdout) == (0, "")
    assert (tmp_path / "b.jsonl").read_text() == piped.stdout
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.jsonl", "b.jsonl"]


def test_a_reader_who_has_seen_enough_is_no_error(run: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(ROWS * 60)
    command = f"{sys.executable} -m adamergex predict {run} a.jsonl --raw --output - | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert len(rows(done.stdout)) == 1
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
    # It stops there: what it would say at the end is not said.
    assert "7,200 rows" not in done.stderr
    full = f"{sys.executable} -m adamergex predict {run} a.jsonl --raw --output - >/dev/full"
    done = subprocess.run(full, shell=True, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "error: standard output: No space left on device"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["absent.jsonl"], r"absent\.jsonl: no such file"),
        (["a.jsonl", "--language", "sw"], r"has no adapter for 'sw'; it has es"),
        (["a.jsonl", "--shares", "good=1"], r"unknown label 'good'"),
        (["a.jsonl", "--raw", "--calibrate"], r"no effect with --raw"),
        (["a.jsonl", "--output", "a.xlsx"], r"--output a\.xlsx: unknown format"),
        (["a.jsonl", "--output", "a.jsonl"], r"is the file of the rows"),
        (["-", "--calibrate"], r"standard input cannot be read twice"),
        (["-", "--output", "a.csv"], r"expected \.jsonl"),
        (["-", "a.jsonl"], r"are for one file"),
        (["few.jsonl", "--calibrate"], r"1 rows are too few to calibrate on; it takes 50"),
        (["taken.jsonl"], r"taken\.jsonl:1: has a column 'prediction' already"),
        (["a.jsonl", "--base-model", "./absent"], r"base_model \./absent: no such folder"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(
    run: Path,
    tmp_path: Path,
    arguments: list[str],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "a.jsonl").write_text(ROWS)
    (tmp_path / "few.jsonl").write_text('{"text": "a"}\n')
    (tmp_path / "taken.jsonl").write_text('{"text": "a", "prediction": "b"}\n')
    before = sorted(tmp_path.iterdir())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["adamergex", "predict", str(run), *arguments])
    with pytest.raises(SystemExit) as ended:
        main.main()
    shown = capsys.readouterr()
    assert (ended.value.code, shown.out) == (2, "")
    *lines, last = shown.err.splitlines()
    assert last.startswith("error: ")
    assert re.search(says, last), last
    assert all(line.endswith(": begins") for line in lines)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (b"not JSON\n", "standard input:1: not JSON"),
        (b'{"text": "a"}\n{"txt": 1}\n', "standard input:2: no column 'text'"),
    ],
)
def test_a_row_of_standard_input_that_is_wrong_is_one_line(
    run: Path,
    tmp_path: Path,
    given: bytes,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["adamergex", "predict", str(run), "-", "--output", str(tmp_path / "out.jsonl")])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {says}")
    assert list(tmp_path.iterdir()) == []
