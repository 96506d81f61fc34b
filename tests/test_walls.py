"""Who may import whom: ARCHITECTURE.md's table, held by walking the imports."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "adamergex"
# A room may import the rooms of the lines above its own.
FLOORS = [
    {
        "baselines",
        "card",
        "cleaning",
        "errors",
        "examples",
        "lowrank",
        "metrics",
        "paper_files",
        "plots",
        "pool",
        "progress",
    }
    | {"recipe_data", "scoring.texts", "window_file"},
    {"coefficients", "demo", "disk", "equations", "processes", "recipe_training", "report", "tensorfile"}
    | {"scoring.extraction", "scoring.numbers", "scoring.summaries", "yaml_file"},
    {"checkpoints", "peft_config", "recipe", "settings", "sources", "stages", "tensorboard", "training_state"}
    | {"scoring.marks"},
    {"families", "items", "layout", "merge_plan", "recipe_file", "summary"},
    {"adapter", "corpus", "encode", "forward", "objectives", "preflight", "structures"},
    {"compare", "lora", "model"},
    {"combine", "evaluate", "inspection", "run_context", "train"},
    {"adapter_stages", "data_stages", "merge"},
    {"merge_folder"},
    {"corpus_command", "merge_commands", "result_stages"},
    {"pipeline"},
    {"cli"},
    {"__main__"},
]
# What merging in memory takes: files, torch and arithmetic.
LIGHT = [
    "adapter",
    "baselines",
    "coefficients",
    "combine",
    "compare",
    "equations",
    "layout",
    "lora",
    "lowrank",
    "merge",
    "peft_config",
    "settings",
    "tensorfile",
]
# A room in a folder is named `FOLDER.ROOM`.
ROOMS = sorted(
    ".".join(path.relative_to(SOURCE).with_suffix("").parts) for path in SOURCE.rglob("*.py") if path.stem != "__init__"
)
FORBIDDEN = {room: {"transformers", "peft", "pydantic"} for room in LIGHT} | {
    room: {"torch", "transformers", "peft"}
    for room in ROOMS
    if room in {"report", "metrics"} or room.startswith("scoring.")
}


def imports(path: Path) -> set[str]:
    """Every module that a file imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            # What comes from a package is a room, or one of its names.
            package = (SOURCE.parent / module.replace(".", "/") / "__init__.py").exists()
            names = {alias.name for alias in node.names} - {"__version__"}
            found |= {f"{module}.{name}" for name in names} if package else {module}
    return found


def file_of(room: str) -> Path:
    return SOURCE / f"{room.replace('.', '/')}.py"


def test_every_room_has_a_floor() -> None:
    assert set(ROOMS) == set().union(*FLOORS)


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_only_the_floors_below(room: str) -> None:
    floor = next(number for number, rooms in enumerate(FLOORS) if room in rooms)
    below = set().union(*FLOORS[:floor])
    used = {name.removeprefix("adamergex.") for name in imports(file_of(room)) if name.startswith(("adamergex.", "."))}
    assert used <= below


def test_folders_of_rooms_import_nothing_themselves() -> None:
    folders = [path for path in SOURCE.rglob("__init__.py") if path.parent != SOURCE]
    assert folders
    assert not [path for path in folders if imports(path)]


@pytest.mark.parametrize("room", FORBIDDEN)
def test_light_rooms_stay_light(room: str) -> None:
    assert not {name.split(".")[0] for name in imports(file_of(room))} & FORBIDDEN[room]


def test_the_architecture_page_names_every_room() -> None:
    page = (SOURCE.parent.parent / "ARCHITECTURE.md").read_text()
    assert not [room for room in ROOMS if room != "__main__" and f"`{room}`" not in page]


def test_the_architecture_page_has_the_same_floors() -> None:
    page = (SOURCE.parent.parent / "ARCHITECTURE.md").read_text()
    block = page.partition("## Who may import whom")[2].split("```")[1]
    assert [set(line.split()) for line in block.strip().splitlines()] == FLOORS[:-1]
