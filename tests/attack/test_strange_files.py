"""Every command × every kind of strange file in the place of each input: one line, status 2, soon, and nothing left.

`make slow` runs it.
"""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.attack import forked

pytestmark = pytest.mark.attack
# Of a command that only reads what is given to it.
SECONDS = 60


def _unlike_text(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00\x80" * 50)


def _zeros(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(10**9)


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _nested(path: Path) -> None:
    path.write_text("[" * 200_000)


STRANGE: dict[str, Callable[[Path], Any]] = {
    "fifo": os.mkfifo,
    "folder": Path.mkdir,
    "empty": Path.touch,
    "zeros": _zeros,
    "not-utf-8": _unlike_text,
    "loop": _loop,
    "dangling": lambda path: path.symlink_to("nowhere"),
    "device": lambda path: path.symlink_to("/dev/zero"),
    "nested": _nested,
}


# Plain text may hold anything that can be read.
TEXT = {("validate text", "nested")}


# The file that is strange, and the command that reads it.
CASES: dict[str, tuple[str, str]] = {
    "validate": ("recipe.yaml", "validate recipe.yaml"),
    "run recipe": ("recipe.yaml", "run recipe.yaml --output out"),
    "run train": ("data/train.en.jsonl", "run recipe.yaml --output out"),
    "validate train": ("data/train.en.jsonl", "validate recipe.yaml"),
    "validate text": ("data/text.es.txt", "validate recipe.yaml"),
    "plan": ("data/test.es.jsonl", "plan recipe.yaml --output out"),
    "init": ("rows.csv", "init rows.csv --target es --text data --yes"),
    "inspect config": ("TASK/adapter_config.json", "inspect TASK"),
    "inspect weights": ("TASK/adapter_model.safetensors", "inspect TASK"),
    "merge": (
        "TASK/adapter_model.safetensors",
        "merge --task TASK --reference-target TARGET --reference-source SOURCE --scale 1 --output out",
    ),
    "merge plan": ("merge.yaml", "merge --plan merge.yaml --output out"),
    "evaluate": (
        "TASK/adapter_model.safetensors",
        "evaluate --adapter a=TASK --task recipe.yaml --language es --output out",
    ),
    "corpus": (
        "data/text.es.txt",
        "corpus data/text.es.txt --language es --tokenizer MODEL --tokens 500 --window 16 --output out",
    ),
    "predict adapter": ("TASK/adapter_config.json", "predict TASK rows.csv"),
    "predict usage": ("TASK/adamergex.json", "predict TASK rows.csv"),
    "fuse": ("TASK/adapter_config.json", "fuse TASK --output out"),
    "convert": ("TASK/adapter_model.bin", "convert TASK --output out"),
    "publish": ("out/recipe.yaml", "publish out --to me/it --dry-run"),
}


@pytest.mark.parametrize("kind", STRANGE)
@pytest.mark.parametrize("case", CASES)
def test_a_strange_file_is_one_line(
    kept: Path, warm: None, tmp_path: Path, tiny_model: Path, case: str, kind: str
) -> None:
    folder = Path(shutil.copytree(kept, tmp_path / "work"))
    roles = dict(zip(("TASK", "TARGET", "SOURCE"), sorted((folder / "adapters").iterdir()), strict=True))
    names = {role: str(path.relative_to(folder)) for role, path in roles.items()} | {"MODEL": str(tiny_model)}
    file, command = CASES[case]
    for role, name in names.items():
        file, command = file.replace(role, name), command.replace(role, name)
    path = folder / file
    path.parent.mkdir(exist_ok=True)
    if case == "convert":
        (path.parent / "adapter_model.safetensors").unlink()
    path.unlink(missing_ok=True)
    STRANGE[kind](path)
    before = {found for found in folder.rglob("*") if ".lock" not in found.name}
    status, _ = forked.run(command.split(), folder, tmp_path / "shown", SECONDS)
    shown = (tmp_path / "shown").read_text()
    assert "Traceback" not in shown, shown[-2000:]
    if (case, kind) in TEXT:
        assert status in (0, 2), shown[-500:]
        return
    assert status == 2, shown[-500:]
    errors = [line for line in shown.splitlines() if line.startswith("error: ")]
    assert errors
    assert all(len(line) < 600 for line in errors), errors
    left = {str(found.relative_to(folder)) for found in folder.rglob("*") if ".lock" not in found.name}
    left -= {str(found.relative_to(folder)) for found in before}
    # A run that began may leave its folder, and what it had finished.
    assert {name for name in left if not re.fullmatch(r"out(/(\.work|recipe\.yaml|checks.*|data.*))?", name)} == set()
