"""`adamergex recipes` and `schema`: the shipped recipes, and what a recipe may hold."""

import json
from pathlib import Path
from typing import Annotated

import typer

from adamergex.terminal import say

recipes_app = typer.Typer(help="The recipes that the package carries.", invoke_without_command=True)


def schema() -> None:
    """Print the JSON schema of recipes, for editors."""
    from adamergex.recipes.recipe import Recipe

    say(json.dumps(Recipe.model_json_schema(), indent=2))


@recipes_app.callback()
def recipes(context: typer.Context) -> None:
    """List the recipes that the package carries."""
    if context.invoked_subcommand is None:
        from adamergex.recipes.loading import shipped

        width = max(map(len, shipped()))
        for name, summary in shipped().items():
            say(f"{name:{width}}  {summary}")


@recipes_app.command("copy")
def copy_recipe(
    name: Annotated[str, typer.Argument(help="The shipped recipe.", show_default=False)],
    destination: Annotated[Path, typer.Argument(readable=False, help="A file or a folder.")] = Path(),
) -> None:
    """Write a shipped recipe to a file of your own, to edit it."""
    from adamergex.recipes.loading import copy

    say(str(copy(name, destination)))
