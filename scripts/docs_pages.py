"""Pages of the documentation that follow from the code: commands, recipes, Python; and those that lie beside the README.

A hook of mkdocs (`make docs`). Links to files that are no pages become plain names.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer.main
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from typer.cli import get_docs_for_click

import adamergex
from adamergex.cli.main import app
from adamergex.recipes.recipe import Recipe

ROOT = Path(__file__).parent.parent
COPIED = {"architecture.md": "ARCHITECTURE.md", "contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    pages = {page: (ROOT / name).read_text("utf-8") for page, name in COPIED.items()}
    pages |= {"reference/commands.md": commands(), "reference/recipe.md": recipe(), "reference/python.md": python()}
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links between pages; what is no page is named only."""
    here = page.file.src_uri
    moved = {name: path for path, name in COPIED.items()} | {"README.md": "index.md"}

    def link(found: re.Match[str]) -> str:
        text, target, anchor = found["text"], found["target"], found["anchor"] or ""
        plain = target.removeprefix("../").removeprefix("docs/")
        plain = moved.get(plain, plain)
        if (ROOT / "docs" / plain).is_file() or plain in COPIED:
            return f"[{text}]({'../' * here.count('/')}{plain}{anchor})"
        return text

    return re.sub(r"(?<!!)\[(?P<text>[^]]*)\]\((?!https?:|#)(?P<target>[^)#]+)(?P<anchor>#[^)]*)?\)", link, markdown)


def commands() -> str:
    """Every command and its options, as `--help` has them."""
    command = typer.main.get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name="adamergex")
    text = text.replace("# `adamergex`", "# Commands", 1)
    # What a reader would type, not what a program computes with.
    return text.replace("<str>", "").replace(" : ", ": ").replace("` `", "`")


def python() -> str:
    """All that `adamergex` offers."""
    head = "# Python\n\nAll that there is to import is in `adamergex`; its modules are its own affair.\n"
    return head + "".join(f"\n::: adamergex.{name}\n" for name in sorted(adamergex.__all__) if name[0] != "_")


def recipe() -> str:
    """Every key of a recipe, from its schema."""
    schema = Recipe.model_json_schema()
    lines = [
        "# Recipes",
        "",
        "Every key that a recipe can have. `adamergex schema` prints the same as a JSON schema, for editors; `adamergex",
        "validate RECIPE` names every problem of a recipe at once.",
        "",
        *_section("The recipe", schema, schema["$defs"]),
    ]
    for name, section in sorted(schema["$defs"].items()):
        if section.get("properties"):
            lines += ["", *_section(name, section, schema["$defs"])]
    return "\n".join(lines) + "\n"


def _section(name: str, section: Mapping[str, Any], sections: Mapping[str, Any]) -> Iterator[str]:
    yield f"## {name}"
    yield ""
    if description := section.get("description"):
        yield description
        yield ""
    yield "| key | | is | if left out |"
    yield "|---|---|---|---|"
    required = section.get("required", ())
    for key, value in section["properties"].items():
        default = "*required*" if key in required else _shown(value.get("default"))
        about = value.get("description", "").replace("|", "\\|")
        yield f"| `{key}` | {about} | {_kind(value, sections)} | {default} |"


def _shown(default: Any) -> str:
    # Sections have a table of their own.
    if default is None or isinstance(default, dict):
        return ""
    return "`" + (str(default).lower() if isinstance(default, bool) else str(default)).replace("|", "\\|") + "`"


def _kind(value: Mapping[str, Any], sections: Mapping[str, Any]) -> str:
    """What a value is, with links to the sections that it may be."""
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})" if sections[name].get("properties") else _kind(sections[name], sections)
    if union := value.get("anyOf") or value.get("oneOf"):
        return " or ".join(dict.fromkeys(_kind(one, sections) for one in union if one.get("type") != "null"))
    if "enum" in value or "const" in value:
        return ", ".join(f"`{one}`" for one in value.get("enum", [value.get("const")]))
    if value.get("type") == "array":
        return f"list of {_kind(value['items'], sections)}" if value.get("items") else "list"
    if value.get("type") == "object":
        values = value.get("additionalProperties")
        return f"name → {_kind(values, sections)}" if isinstance(values, dict) and values else "mapping"
    return {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}.get(
        value.get("type", ""), "any"
    )
