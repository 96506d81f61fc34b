"""Loading recipes: shipped ones by name, the user's from files, those of runs from their folders."""

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from adamergex.errors import RecipeError
from adamergex.recipes.recipe import Recipe
from adamergex.storage import yaml_model
from adamergex.storage.outputs import refuse_link, write
from adamergex.storage.run_names import LOCK, RECIPE
from adamergex.storage.yaml_model import check, did_you_mean

SHIPPED = resources.files("adamergex.recipes") / "shipped"


def shipped() -> dict[str, str]:
    """The recipes that the package carries: name → the first line of its comment."""
    recipes = {}
    for file in sorted(SHIPPED.iterdir(), key=lambda file: file.name):
        if file.name.endswith(".yaml"):
            recipes[file.name.removesuffix(".yaml")] = file.read_text("utf-8").splitlines()[0].lstrip("# ")
    return recipes


def read(name: str) -> str:
    """The text of a recipe: of a file, of a run's folder, or of a shipped one by its name.

    Raises:
        RecipeError: there is no such file and no such shipped recipe.
    """
    if is_file(name):
        return yaml_model.read(Path(name))
    if is_run(name):
        return yaml_model.read(Path(name) / RECIPE)
    if name in shipped():
        return (SHIPPED / f"{name}.yaml").read_text("utf-8")
    raise RecipeError(
        [
            f"{name}: no such recipe; give a .yaml file, the folder of a run, or one of {', '.join(shipped())}"
            + did_you_mean(name, shipped())
        ]
    )


def copy(name: str, destination: Path) -> Path:
    """Write a shipped recipe to a file of your own; an existing file is never overwritten.

    Raises:
        RecipeError: no such shipped recipe, or the file exists.
    """
    if name not in shipped():
        raise RecipeError(
            [f"{name}: no such shipped recipe; there are {', '.join(shipped())}" + did_you_mean(name, shipped())]
        )
    if destination.is_dir():
        destination = destination / f"{name}.yaml"
    refuse_link(destination)
    if destination.exists():
        raise RecipeError([f"{destination}: exists already; give another name"])
    write(destination, read(name).encode())
    return destination


def load(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """Load, override and check a recipe.

    Args:
        name: a file, the folder of a run, or the name of a shipped recipe.
        overrides: `section.key=value`, the value in YAML.

    Raises:
        RecipeError: with one line for every problem.
    """
    return check(Recipe, read(name), name, overrides)


def is_file(name: str) -> bool:
    """Whether a recipe's name is that of a file."""
    return Path(name).suffix in (".yaml", ".yml") and not is_run(name)


def is_run(name: str) -> bool:
    """Whether a recipe's name is the folder of a run, which has its lock."""
    return (Path(name) / RECIPE).is_file() and (Path(name) / LOCK).is_file()


def folder_of(name: str, recipe: Recipe) -> Path:
    """What a recipe's paths are relative to: its own folder, or the current one for a shipped recipe; or what it says.

    Args:
        name: that it was loaded by.
        recipe: that was loaded.
    """
    own = Path(name) if is_run(name) else Path(name).parent if is_file(name) else Path()
    return own / (recipe.folder or "")


def dump(recipe: Recipe) -> str:
    """A recipe as YAML, with every default written out."""
    return yaml_model.dump(recipe.model_dump(mode="json"))
