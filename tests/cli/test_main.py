"""A user's mistake: one line, exit status 2, nothing half-written."""

import errno
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from adamergex.cli import main
from adamergex.recipes import loading


def call(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "adamergex", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, check=False)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("task.train=data/absent.{language}.jsonl", r"data/absent\.en\.jsonl: no such file"),
        ("reference.corpora={es: data/empty.txt}", r"corpus of es: holds no text"),
        ("task.choices={pos: yes}", r"task\.choices: expected at least two labels"),
        ("task.choices={pos: yes, negative: no}", r"train\.en\.jsonl:2: unknown label 'neg'"),
        (
            "task={prompt: '{text}', answer: label, kind: number, train: 'data/train.{language}.jsonl', test: "
            "'data/test.{language}.jsonl'}",
            r"test\.es\.jsonl:1: the answer in column 'label': 'pos' is not one number alone",
        ),
        ("targets=[spanish]", r"'spanish' is not a language code"),
        ("adapter.target_modules=[qkv]", r"qkv matches no module"),
        ("base_model=./absent", r"base_model \./absent: no such folder"),
        ("base_model=nobody/nothing", r"base_model nobody/nothing: cannot be had"),
        ("base_model=data", r"base_model /\S+/data: the folder has no config\.json"),
        ("task.train={package: nothing}", r"nothing: no such packaged source"),
    ],
)
def test_bad_input_is_one_line_and_status_2(own_data: Callable[..., Path], override: str, says: str) -> None:
    path = own_data()
    (path.parent / "data/empty.txt").write_text("")
    done = call("run", str(path), "--set", override, "--output", "run", cwd=path.parent)
    assert done.returncode == 2, done.stderr
    lines = done.stderr.strip().splitlines()
    assert all(line.startswith("error: ") for line in lines), done.stderr
    assert any(re.search(says, line) for line in lines), done.stderr
    assert not [p for p in (path.parent / "run").rglob("*") if "adapters" in p.parts or "partial" in p.name]


def test_a_folder_that_cannot_be_made_is_one_line(own_data: Callable[..., Path]) -> None:
    path = own_data()
    (path.parent / "file").write_text("")
    for output in ("file/run", "file"):
        done = call("run", str(path), "--output", str(path.parent / output))
        assert done.returncode == 2
        assert re.fullmatch(r"error: .*choose another folder with --output\n", done.stderr)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_without_permission_is_one_line(own_data: Callable[..., Path]) -> None:
    path = own_data()
    (path.parent / "locked").mkdir(mode=0o500)
    done = call("run", str(path), "--output", str(path.parent / "locked/run"))
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "no permission to write" in done.stderr


def test_a_full_temporary_folder_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(number: int) -> Callable[[], None]:
        def app() -> None:
            raise OSError(number, os.strerror(number))

        return app

    monkeypatch.setattr(main, "app", failing(errno.ENOSPC))
    with pytest.raises(SystemExit) as ended:
        main.main()
    free = "no space left on the disk; free some and run the same command again"
    assert (ended.value.code, capsys.readouterr().err) == (2, f"error: {tempfile.gettempdir()}: {free}\n")
    monkeypatch.setattr(main, "app", failing(errno.EINVAL))
    with pytest.raises(OSError, match="Invalid argument"):
        main.main()


def test_no_temporary_folder_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/nowhere"])
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(main, "app", tempfile.mkdtemp)
    with pytest.raises(SystemExit) as ended:
        main.main()
    said = "error: no folder can be written for temporary files; set TMPDIR to one that can\n"
    assert (ended.value.code, capsys.readouterr().err) == (2, said)


def test_validate_reports_every_problem(own_data: Callable[..., Path]) -> None:
    path = own_data()
    assert "valid; en → es" in call("validate", str(path)).stdout
    done = call("validate", str(path), "--set", "seed=x", "--set", "merg.scale=1")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 2
    assert "did you mean merge?" in done.stderr


def test_recipes_are_listed_and_copied(tmp_path: Path) -> None:
    listed = call("recipes").stdout
    assert all(name in listed for name in loading.shipped())
    assert call("recipes", "copy", "own-data", cwd=tmp_path).stdout.strip() == "own-data.yaml"
    assert (tmp_path / "own-data.yaml").read_text() == loading.read("own-data")
    assert call("recipes", "copy", "own-data", cwd=tmp_path).returncode == 2


def test_schema_is_json() -> None:
    import json

    assert json.loads(call("schema").stdout)["title"] == "Recipe"


def test_a_run_prints_the_table_and_says_whether_merging_helped(own_data: Callable[..., Path]) -> None:
    path = own_data()
    done = call("run", str(path), "--output", "run", cwd=path.parent)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert re.search(r"merged \(t = 0\.5\) +\d", done.stdout)
    assert "es: merging changed accuracy by" in done.stdout
    assert all(heading in done.stdout for heading in ("accuracy", "95 % interval", "vs t = 0"))
    assert max(len(line) for line in done.stdout.splitlines() if "–" in line) <= 80


def test_the_command_line_answers_without_torch() -> None:
    code = "import sys, adamergex.cli.main; print([m for m in ('torch', 'transformers', 'scipy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
