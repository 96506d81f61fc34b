"""Every command × every kind of strange file in the place of each input: one line, status 2, soon, and nothing left.

`make slow` runs it.
"""

import json
import os
import re
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import zoo
from tests.attack.forked import forked

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
TEXT = {("validate text", "zeros"), ("validate text", "nested")}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """Three adapters, a recipe with its data, a corpus and rows to answer."""
    folder = tmp_path_factory.mktemp("attack")
    zoo.three(zoo.llama, zoo.lora, folder / "adapters")
    data = folder / "data"
    data.mkdir()
    for code in ("en", "es"):
        rows = [{"text": f"{code} {i}", "label": ("pos", "neg")[i % 2]} for i in range(8)]
        for split in ("train", "test"):
            named = [row | {"text": f"{split} {row['text']}"} for row in rows]
            (data / f"{split}.{code}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in named))
        (data / f"text.{code}.txt").write_text("\n\n".join(f"good bad paragraph {n} of {code}" for n in range(60)))
    recipe = {
        "name": "attacked", "base_model": str(tiny_model), "targets": ["es"],
        "task": {"prompt": "{text}:", "answer": "label", "choices": ["pos", "neg"]}
        | {split: f"data/{split}.{{language}}.jsonl" for split in ("train", "test")},
        "reference": {"corpus": "data/text.{language}.txt", "characters": 800, "window": 16},
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    (folder / "rows.csv").write_text("text,label\n" + "".join(f"word {i},{'ab'[i % 2]}\n" for i in range(20)))
    return folder


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


def _limits() -> None:
    signal.alarm(SECONDS)
    # A file of any size is read in parts, or not at all.
    resource.setrlimit(resource.RLIMIT_DATA, (8 * 2**30, 8 * 2**30))


@pytest.mark.parametrize("kind", STRANGE)
@pytest.mark.parametrize("case", CASES)
def test_a_strange_file_is_one_line(kept: Path, tmp_path: Path, tiny_model: Path, case: str, kind: str) -> None:
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
    status = forked(command, folder, tmp_path / "shown", _limits)
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
