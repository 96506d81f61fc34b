"""The tutorial, docs/start.md, command by command, on files such as it describes."""

import csv
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from .test_init import GOOD, SWAHILI, prose

PAGE = (Path(__file__).parents[2] / "docs" / "start.md").read_text("utf-8")
COMMANDS = [
    line for block in re.findall(r"^```\n(adamergex .*?)^```", PAGE, re.M | re.S) for line in block.splitlines()
]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A sheet as the page shows its beginning: semicolons, a byte order mark, line breaks within quotes."""
    shown = re.search(r"^```\n(Review text;.*?)^```", PAGE, re.M | re.S)
    assert shown is not None
    more = [f'"{GOOD}, visit {n}";{("positive", "positive", "negative")[n % 3]};{n}' for n in range(3, 61)]
    (tmp_path / "reviews.csv").write_text(shown[1] + "\n".join(more) + "\n", "utf-8-sig", newline="\r\n")
    inputs = "".join(f"{SWAHILI[n % 2]} {n}\n" for n in range(120))
    (tmp_path / "unlabelled-sw.csv").write_text(f"maoni\n{inputs}", "utf-8")
    for folder, words in (("texts", SWAHILI[0]), ("english", GOOD)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.txt").write_text(prose(words), "utf-8")
    return tmp_path


def test_every_command_of_the_tutorial_does_what_the_page_says(files: Path, tiny_model: Path) -> None:
    assert [shlex.split(command)[1] for command in COMMANDS] == ["doctor", "init", "run", "predict"]
    for command in COMMANDS:
        name, *arguments = shlex.split(command)[1:]
        # Not what a reader has: a model of a few kilobytes, and English text that comes from no hub.
        arguments += ["--model", str(tiny_model), "--source-text", "english", "--yes"] if name == "init" else []
        call = [sys.executable, "-m", "adamergex", name, *arguments]
        done = subprocess.run(call, cwd=files, capture_output=True, text=True, encoding="utf-8", check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    assert (files / "runs/reviews-sw/delivered/sw/adapter_model.safetensors").is_file()
    assert (files / "runs/reviews-sw/report.html").is_file()
    with (files / "answers.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 120
    assert list(rows[0]) == ["maoni", "prediction", "probability", "p(positive)", "p(negative)"]
    for row in rows:
        shares = [float(row[f"p({label})"]) for label in ("positive", "negative")]
        assert sum(shares) == pytest.approx(1, abs=1e-3)
        assert float(row["probability"]) == max(shares)
        assert row["prediction"] == ("positive", "negative")[shares.index(max(shares))]
