"""The pages in docs/ name what there is."""

import re
from pathlib import Path

import typer.main

from adamergex.adapters.schema import STRUCTURES
from adamergex.cli import main
from adamergex.merging.methods import METHODS
from adamergex.models.adapter_settings import LEARNING_RATES
from adamergex.recipes.recipe import Recipe

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "merging.md").read_text()


def options(*names: str) -> set[str]:
    command = typer.main.get_command(main.app)
    return {option for name in names for p in command.commands[name].params for option in p.opts}  # type: ignore[attr-defined]


def test_every_option_it_names_exists() -> None:
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", PAGE))
    assert named
    assert named - {"--help"} <= options("merge", "inspect")


def test_every_method_setting_and_structure_is_named() -> None:
    assert all(f"`{method}`" in PAGE for method in METHODS)
    assert all(structure in PAGE for structure in STRUCTURES.values())
    for script in re.findall(r"`(?:benchmarks/)?(\w+\.py)`", PAGE):
        assert (ROOT / "benchmarks" / script).is_file() or (ROOT / "src" / "adamergex" / script).is_file()
    assert not re.search("@[A-Z]+@", PAGE)


def test_every_key_of_the_training_page_exists() -> None:
    page = (ROOT / "docs" / "training.md").read_text()
    schema = Recipe.model_json_schema()["$defs"]
    sections = {"train": "Train", "reference": "Reference", "task": "Task"}
    named = re.findall(r"`(train|reference|task)\.([a-z_]+)", page)
    assert len(named) > 8
    assert [(section, key) for section, key in named if key not in schema[sections[section]]["properties"]] == []
    rates = {"lora": "2e-4", "ia3": "3e-3", "prefix": "3e-2"}
    assert all(float(text) == LEARNING_RATES[structure] and text in page for structure, text in rates.items())
