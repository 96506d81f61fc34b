"""Who may import whom, as ARCHITECTURE.md says it, and how large a piece of code may be: held by walking the source."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "adamergex"
PAGE = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
TABLE = [line.split("`")[1] for line in PAGE.split("## Packages")[1].split("## ")[0].splitlines() if line[:3] == "| `"]
MODULES = {
    ".".join(part for part in path.relative_to(SOURCE).with_suffix("").parts if part != "__init__"): path
    for path in SOURCE.rglob("*.py")
}
FORBIDDEN = {"reporting": {"torch", "transformers", "peft"}, "scoring": {"torch", "transformers", "peft"}}
FORBIDDEN |= {package: {"transformers", "peft"} for package in ("adapters", "merging")}


def package(module: str) -> str:
    return module.split(".", maxsplit=1)[0]


def imports(module: str) -> set[str]:
    """Every module that a module imports, also inside functions; those of adamergex without that name."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if name.removeprefix("adamergex.") in MODULES else node.module for name in names}
    return {name.removeprefix("adamergex.") for name in found}


USED = {module: imports(module) for module in MODULES}
OWN = {module: {name for name in used if name in MODULES and name} for module, used in USED.items()}


def test_the_table_names_every_package_once() -> None:
    assert sorted(TABLE) == sorted({package(module) for module in MODULES if module})


@pytest.mark.parametrize("module", sorted(filter(None, MODULES)))
def test_packages_import_only_those_above_them(module: str) -> None:
    above = TABLE[: TABLE.index(package(module))]
    assert {package(name) for name in OWN[module]} - {package(module)} <= set(above)


def test_modules_are_in_no_circle() -> None:
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " → ".join((*path, module))
        if module in done:
            return
        for name in OWN[module] - {module}:
            visit(name, (*path, module))
        done.add(module)

    for module in MODULES:
        visit(module, ())


def test_packages_lie_in_ten_floors_at_most() -> None:
    floors: dict[str, int] = {}
    for name in TABLE:
        used = {package(used) for module in MODULES if package(module) == name for used in OWN[module]} - {name}
        floors[name] = 1 + max((floors[one] for one in used), default=0)
    assert max(floors.values()) <= 10


@pytest.mark.parametrize("name", FORBIDDEN)
def test_light_packages_stay_light(name: str) -> None:
    used = {one.split(".")[0] for module in MODULES if package(module) == name for one in USED[module]}
    assert not used & FORBIDDEN[name]


def test_merging_loads_neither_transformers_nor_peft() -> None:
    code = "import sys, adamergex.merging.merge; print(*{'transformers', 'peft'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_help_loads_no_heavy_library() -> None:
    code = (
        "import sys, typer.testing; from adamergex.cli.main import app; "
        "typer.testing.CliRunner().invoke(app, ['--help']); "
        "print(*{'torch', 'transformers', 'peft', 'datasets', 'numpy', 'matplotlib'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_module_is_longer_than_300_lines(module: str) -> None:
    assert len(MODULES[module].read_text("utf-8").splitlines()) <= 300


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_function_is_longer_than_60_lines(module: str) -> None:
    """But for declared command lines, whose options take their room."""
    for node in ast.walk(ast.parse(MODULES[module].read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef) and not _is_command(module, node):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= 60, f"{node.name} has {length} lines"


def _is_command(module: str, node: ast.FunctionDef) -> bool:
    arguments = [*node.args.args, *node.args.kwonlyargs]
    return package(module) == "cli" and any("Annotated" in ast.unparse(a.annotation) for a in arguments if a.annotation)
