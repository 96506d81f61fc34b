"""docs/merging.md names what there is."""

import re
from pathlib import Path

import typer.main

from adamergex import cli, merge_plan
from adamergex.layout import STRUCTURES

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "merging.md").read_text()


def test_every_option_it_names_exists() -> None:
    command = typer.main.get_command(cli.app)
    known = {option for name in ("merge", "inspect") for p in command.commands[name].params for option in p.opts}  # type: ignore[attr-defined]
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", PAGE))
    assert named
    assert named - {"--help"} <= known


def test_every_method_setting_and_structure_is_named() -> None:
    methods = merge_plan.Plan.model_fields["method"].annotation.__args__  # type: ignore[union-attr]
    assert all(f"`{method}`" in PAGE for method in methods if method != "adamergex")
    assert all(structure in PAGE for structure in STRUCTURES.values())
    for script in re.findall(r"`(?:benchmarks/)?(\w+\.py)`", PAGE):
        assert (ROOT / "benchmarks" / script).is_file() or (ROOT / "src" / "adamergex" / script).is_file()
    assert not re.search("@[A-Z]+@", PAGE)
