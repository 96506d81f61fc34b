"""Folders with everything that commands read."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests import zoo
from tests.attack import forked


@pytest.fixture(scope="session")
def warm() -> None:
    forked.warm()


def _data(folder: Path, model: str, **more: Any) -> None:
    """A recipe with its data."""
    data = folder / "data"
    data.mkdir(parents=True)
    for code in ("en", "es"):
        rows = [{"text": f"{code} {i}", "label": ("pos", "neg")[i % 2]} for i in range(8)]
        for split in ("train", "test"):
            named = [row | {"text": f"{split} {row['text']}"} for row in rows]
            (data / f"{split}.{code}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in named))
        (data / f"text.{code}.txt").write_text("\n\n".join(f"good bad paragraph {n} of {code}" for n in range(60)))
    recipe = {
        "name": "attacked", "base_model": model, "targets": ["es"],
        "task": {"prompt": "{text}:", "answer": "label", "choices": ["pos", "neg"]}
        | {split: f"data/{split}.{{language}}.jsonl" for split in ("train", "test")},
        "reference": {"corpus": "data/text.{language}.txt", "characters": 800, "window": 16},
    } | more  # fmt: skip
    (folder / "recipe.yaml").write_text(json.dumps(recipe))


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """Three adapters, a recipe with its data, a corpus and rows to answer."""
    folder = tmp_path_factory.mktemp("attack")
    zoo.three(zoo.llama, zoo.lora, folder / "adapters")
    _data(folder, str(tiny_model))
    (folder / "rows.csv").write_text("text,label\n" + "".join(f"word {i},{'ab'[i % 2]}\n" for i in range(20)))
    return folder


@pytest.fixture(scope="session")
def kept_run(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, warm: None) -> Path:
    """A base model, a recipe that names it, and its finished run, in a folder that works wherever it is copied to."""
    folder = tmp_path_factory.mktemp("fuzz") / "kept"
    shutil.copytree(tiny_model, folder / "model")
    once = {"epochs": 1, "batch_size": 8}
    _data(
        folder,
        "model",
        seeds=[1],
        adapter={"r": 2, "alpha": 4, "target_modules": ["q_proj", "v_proj"]},
        reference={"corpus": "data/text.{language}.txt", "tokens": 128, "window": 16, "positions": 5},
        train={"learning_rate": 1e-2, "task": once, "reference": once},
        merge={"scale": 0.5},
        evaluate={"methods": ["base", "source-adapter", "adamergex"]},
    )
    shown = folder.with_name("shown")
    status, _ = forked.run(["run", "recipe.yaml", "--output", "run"], folder, shown, 300)
    assert status == 0, shown.read_text()[-2000:]
    return folder
