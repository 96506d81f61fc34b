"""Adapters that are one merge at several t are recognised by what a merge writes beside its weights."""

import json
from pathlib import Path

from typer.testing import CliRunner

from adamergex.cli.main import app
from adamergex.selection.scale_curve import tried
from tests.inference.test_vllm import SETTINGS, made


def merge(folders: dict[str, Path], t: str, output: Path, *more: str) -> Path:
    arguments = ["--task", str(folders["a"]), "--reference-target", str(folders["b"])]
    arguments += ["--reference-source", str(folders["c"]), "--scale", t, "--output", str(output), *more]
    done = CliRunner().invoke(app, ["merge", *arguments])
    assert done.exit_code == 0, done.exception or done.output
    return output


def test_the_points_of_a_curve(tiny_model: Path, tmp_path: Path) -> None:
    # The start follows from the length of the name.
    folders = {name[0]: made(tiny_model, SETTINGS["a"], tmp_path / name) for name in ("a", "bb", "ccc")}
    merges = {f"m{t}": merge(folders, t, tmp_path / f"m{t}") for t in ("0.5", "1")}
    others = {
        "layers": merge(folders, "0.1,0.2", tmp_path / "layers"),
        "factors": merge(folders, "0.25", tmp_path / "factors", "--method", "factor-space"),
        "b": folders["b"],
    }
    assert tried(merges | others) == {}
    assert tried({"start": folders["a"]} | others | merges) == {"m0.5": 0.5, "m1": 1.0, "start": 0.0}
    third = {"m0.75": merge(folders, "0.75", tmp_path / "m0.75")}
    assert tried(merges | third | others) == {"m0.5": 0.5, "m0.75": 0.75, "m1": 1.0}
    assert tried({}) == {}


def test_t_is_kept_as_the_number_that_it_is(tiny_model: Path, tmp_path: Path) -> None:
    folders = {name[0]: made(tiny_model, SETTINGS["a"], tmp_path / name) for name in ("a", "bb", "ccc")}
    scales = (0.1234567891, 0.1234567892, 1.0)
    merges = {str(t): merge(folders, str(t), tmp_path / str(t)) for t in scales}
    assert tried(merges) == {str(t): t for t in scales}
    figures = json.loads((merges["0.1234567891"] / "merge.json").read_bytes())
    assert figures["scale"] == 0.1234567891
    # What is read by people has as many digits as they need.
    assert "| t | 0.123457 |" in (merges["0.1234567891"] / "README.md").read_text()
    curve = json.loads((merge(folders, "0.1,0.2", tmp_path / "curve") / "merge.json").read_bytes())
    assert curve["scale"] == [0.1, 0.2]
    patterns = merge(folders, "0.5", tmp_path / "patterns", "--scale-for", "q_proj=0.25")
    assert json.loads((patterns / "merge.json").read_bytes())["scale"]["modules"] == {"q_proj": 0.25}
    assert tried({"1.0": merges["1.0"], str(scales[0]): merges[str(scales[0])], "patterns": patterns}) == {}
