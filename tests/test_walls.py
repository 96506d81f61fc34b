"""Who may import whom: ARCHITECTURE.md's table, held by walking the imports."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "adamergex"
# A room may import the rooms of the lines above its own.
_PICTURE = (Path(__file__).parent.parent / "ARCHITECTURE.md").read_text("utf-8").split("## Who may import whom")[1]
FLOORS = [set(line.split()) for line in _PICTURE.split("```")[1].strip().splitlines()]
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
FORBIDDEN = {room: {"transformers", "peft", "pydantic"} for room in LIGHT} | {
    "report": {"torch", "transformers", "peft"},
    "metrics": {"torch", "transformers", "peft"},
}


# A room of a sub-package is named after both; the sub-package itself is the room of its __init__.
FILES = {
    ".".join(part for part in path.relative_to(SOURCE).with_suffix("").parts if part != "__init__"): path
    for path in SOURCE.rglob("*.py")
    if path != SOURCE / "__init__.py"
}
ROOMS = sorted(FILES)


def imports(room: str) -> set[str]:
    """Every module that a room imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(FILES[room].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if name.removeprefix("adamergex.") in FILES else node.module for name in names}
    return found


def test_every_room_has_a_floor() -> None:
    assert set(ROOMS) == set().union(*FLOORS)


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_only_the_floors_below(room: str) -> None:
    floor = next(number for number, rooms in enumerate(FLOORS) if room in rooms)
    below = set().union(*FLOORS[:floor])
    used = {name.removeprefix("adamergex.") for name in imports(room) if name.startswith("adamergex.")}
    assert used <= below


@pytest.mark.parametrize("room", FORBIDDEN)
def test_light_rooms_stay_light(room: str) -> None:
    assert not {name.split(".")[0] for name in imports(room)} & FORBIDDEN[room]


def test_the_architecture_page_names_every_room() -> None:
    page = (SOURCE.parent.parent / "ARCHITECTURE.md").read_text()
    assert not [room for room in ROOMS if room != "__main__" and f"`{room}`" not in page]
