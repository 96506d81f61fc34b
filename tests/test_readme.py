"""What the README tells its reader to do works as it stands."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from adamergex.recipes import loading

README = (Path(__file__).parent.parent / "README.md").read_text()


def block(kind: str, containing: str) -> str:
    return next(text for text in re.findall(rf"```{kind}\n(.*?)```", README, re.DOTALL) if containing in text)


def test_own_data_runs_on_the_files_the_readme_writes(tmp_path: Path, tiny_model: Path) -> None:
    subprocess.run(["sh", "-eu"], input=block("sh", "data/train.en.jsonl"), cwd=tmp_path, text=True, check=True)
    loading.copy("own-data", tmp_path)
    command = [sys.executable, "-m", "adamergex", "run", "own-data.yaml", "--set", f"base_model={tiny_model}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=os.environ, check=False)
    assert done.returncode == 0, done.stderr
    assert "es: merging changed accuracy by" in done.stdout
    assert (tmp_path / "runs/own-data/merged/es/adamergex/adapter_model.safetensors").is_file()


def test_the_python_example_merges(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from adamergex.adapters import adapter
    from adamergex.models.adapter_settings import Lora
    from adamergex.models.resident import ResidentModel
    from adamergex.storage.checkpoints import Checkpoint

    resident = ResidentModel(Checkpoint("tiny", tiny_model, ""), "float32", Lora())
    for seed, name in enumerate(("task-en", "reference-sl", "reference-en")):
        folder = tmp_path / "runs/quickstart/adapters" / name
        folder.mkdir(parents=True)
        resident.start(seed)
        resident.adapter().save(folder)
    monkeypatch.chdir(tmp_path)
    exec(block("python", "import adamergex"), {})
    assert adapter.load(tmp_path / "merged-sl").config["r"] == 8


def test_the_readme_shows_what_a_run_printed() -> None:
    assert re.search(r"AdaMergeX \(t = [\d.]+, chosen\) +\d+\.\d +\d+\.\d – \d+\.\d +[+-]\d+\.\d", README)
    assert not re.search(r"^[A-Z]{5,}$", README, re.MULTILINE)


def test_the_commands_it_names_exist() -> None:
    makefile = (Path(__file__).parent.parent / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
