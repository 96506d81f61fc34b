"""The pages in docs/ name what there is."""

import ast
import json
import re
from pathlib import Path

import pytest
import typer.main

import adamergex
from adamergex.adapters.schema import STRUCTURES
from adamergex.cli import main
from adamergex.merging.methods import METHODS
from adamergex.models.adapter_settings import LEARNING_RATES
from adamergex.recipes.recipe import Recipe

ROOT = Path(__file__).parent.parent
PAGES = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md")),
]
PAGE = (ROOT / "docs" / "merging.md").read_text()


def options(*names: str) -> set[str]:
    found = [typer.main.get_command(main.app).commands[name] for name in names]  # type: ignore[attr-defined]
    found += [one for command in found for one in getattr(command, "commands", {}).values()]
    return {option for command in found for p in command.params for option in p.opts}


def test_every_option_it_names_exists() -> None:
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", PAGE))
    assert named
    assert named - {"--help"} <= options("merge", "inspect")


@pytest.mark.parametrize("name", PAGES)
def test_every_command_and_its_options_exist(name: str) -> None:
    commands = typer.main.get_command(main.app).commands  # type: ignore[attr-defined]
    text = (ROOT / name).read_text("utf-8").replace("\\\n", " ")
    fences = re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    blocks = "\n".join(block for language, block in fences if language in ("", "sh"))
    called = re.findall(r"^(?:.* -m | *)adamergex ([a-z]+)(.*)", blocks, re.MULTILINE)
    called += re.findall(r"`(?:[^`\n]* -m )?adamergex ([a-z]+)([^`]*)`", text)
    for command, rest in called:
        assert command in commands, command
        assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", rest)) - {"--help"} <= options(command), (command, rest)


@pytest.mark.parametrize("name", PAGES)
def test_python_in_the_pages_needs_adamergex_alone(name: str) -> None:
    text = (ROOT / name).read_text("utf-8")
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("adamergex"):
                assert node.module == "adamergex"
                assert {alias.name for alias in node.names} <= set(adamergex.__all__)
            elif isinstance(node, ast.Import):
                assert not any(alias.name.startswith("adamergex.") for alias in node.names)


def test_the_notebook_was_run_through_and_needs_adamergex_alone() -> None:
    cells = json.loads((ROOT / "notebooks/quickstart.ipynb").read_text("utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert all(cell["outputs"] for cell in code)
    for node in ast.walk(ast.parse("\n".join("".join(cell["source"]) for cell in code))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "adamergex":
            assert node.attr in adamergex.__all__


@pytest.mark.parametrize("name", PAGES)
def test_links_between_the_pages_lead_somewhere(name: str) -> None:
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", (ROOT / name).read_text("utf-8")):
        path = (ROOT / name).parent / target if target else ROOT / name
        assert path.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.*)", path.read_text("utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}, anchor


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
    rates = {"lora": "2e-4", "ia3": "3e-2", "prefix": "3e-1"}
    assert all(float(text) == LEARNING_RATES[structure] and text in page for structure, text in rates.items())
