"""The command line. A user's mistake ends with one line for each problem and exit status 2."""

import json
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from adamergex import __version__
from adamergex.cli import corpus, evaluate, merge
from adamergex.errors import AdaMergeXError, RecipeError

if TYPE_CHECKING:
    from adamergex.recipes.recipe import Recipe

app = typer.Typer(
    name="adamergex",
    help="Labels in one language, plain text in another: an adapter for the task in the other.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
recipes_app = typer.Typer(help="The recipes that the package carries.", invoke_without_command=True)
app.add_typer(recipes_app, name="recipes")

RecipeName = Annotated[
    str, typer.Argument(metavar="RECIPE", help="A .yaml file, or the name of a shipped recipe.", show_default=False)
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override the recipe, such as train.learning_rate=1e-4."),
]
TrustRemoteCode = Annotated[bool, typer.Option("--trust-remote-code", help="The same as --set trust_remote_code=true.")]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def _load(recipe: str, overrides: list[str] | None, trust_remote_code: bool) -> "Recipe":
    from adamergex.recipes.loading import load

    return load(recipe, [*(overrides or []), *["trust_remote_code=true"] * trust_remote_code])


def _folder(recipe: str) -> Path:
    """What a recipe's paths are relative to: its own folder, or the current one for a shipped recipe."""
    return Path(recipe).parent if recipe.endswith((".yaml", ".yml")) else Path()


@app.command()
def run(
    recipe: RecipeName,
    overrides: Overrides = None,
    output: Annotated[
        Path | None, typer.Option(help="The run folder.  [default: runs/NAME]", show_default=False)
    ] = None,
    trust_remote_code: TrustRemoteCode = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare all results that are there with their hashes.")
    ] = False,
) -> None:
    """Train, merge, evaluate and report; what is done already is not done again."""
    from adamergex.distributed import Processes
    from adamergex.pipeline.run import place, run
    from adamergex.progress import display
    from adamergex.reporting import report

    loaded = _load(recipe, overrides, trust_remote_code)
    console = Console()
    # Notices of the libraries' own future changes are not the user's business.
    warnings.filterwarnings("ignore", category=FutureWarning)
    try:
        with display(console) as shown:
            rows = run(loaded, folder=_folder(recipe), output=output, display=shown, verify=verify)
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on", file=sys.stderr)
        raise typer.Exit(130) from None
    if not Processes().is_first:
        return
    where = output or place(loaded)
    report.show(console, report.Report(loaded.name, loaded.source, "t = 0", rows))
    for language in loaded.targets:
        console.print(
            f"merged adapter: {where / 'merged' / language / loaded.merge.method}",
            highlight=False,
            soft_wrap=True,
            markup=False,
        )
    console.print(f"report:         {where / 'report.html'}", highlight=False, soft_wrap=True, markup=False)


@app.command()
def plan(
    recipe: RecipeName,
    overrides: Overrides = None,
    output: Annotated[
        Path | None, typer.Option(help="The run folder.  [default: runs/NAME]", show_default=False)
    ] = None,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Say what a run consists of, and of each stage whether it is done, why it is not, or what it waits for."""
    from adamergex.pipeline.plan_table import table

    typer.echo(table(_load(recipe, overrides, trust_remote_code), _folder(recipe), output), nl=False)


@app.command()
def validate(recipe: RecipeName, overrides: Overrides = None, trust_remote_code: TrustRemoteCode = False) -> None:
    """Check a recipe and the data it names, and say all that is wrong."""
    from adamergex.recipes.preflight import check

    loaded = _load(recipe, overrides, trust_remote_code)
    check(loaded, _folder(recipe))
    typer.echo(f"{recipe}: valid; {loaded.source} → {', '.join(loaded.targets)} on {loaded.base_model}")


app.command()(corpus.corpus)
app.command()(evaluate.evaluate)
app.command()(merge.merge)
app.command()(merge.inspect)


@app.command()
def schema() -> None:
    """Print the JSON schema of recipes, for editors."""
    from adamergex.recipes.recipe import Recipe

    typer.echo(json.dumps(Recipe.model_json_schema(), indent=2))


@recipes_app.callback()
def recipes(context: typer.Context) -> None:
    """List the recipes that the package carries."""
    if context.invoked_subcommand is None:
        from adamergex.recipes.loading import shipped

        width = max(map(len, shipped()))
        for name, summary in shipped().items():
            typer.echo(f"{name:{width}}  {summary}")


@recipes_app.command("copy")
def copy_recipe(
    name: Annotated[str, typer.Argument(help="The shipped recipe.", show_default=False)],
    destination: Annotated[Path, typer.Argument(help="A file or a folder.")] = Path(),
) -> None:
    """Write a shipped recipe to a file of your own, to edit it."""
    from adamergex.recipes.loading import copy

    typer.echo(copy(name, destination))


def main() -> None:
    """Run the command line; the exit status is 2 for a user's mistake."""
    try:
        app()
    except RecipeError as error:
        for problem in error.problems:
            print(f"error: {problem}", file=sys.stderr)
        sys.exit(2)
    except AdaMergeXError as error:
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
