"""`adamergex init`: a recipe from a person's files, after a look at what they hold."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.prompt import Prompt
from rich.table import Table
from rich.text import Text

from adamergex.errors import RecipeError, StorageError
from adamergex.terminal import Terminal, interruptible, say

if TYPE_CHECKING:
    from adamergex.recipes.interview import Interview

_FLAG = "the command line"
_WIKIPEDIA = "wikipedia"


def init(
    data: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="Labelled rows: .csv, .tsv, .jsonl, .json or .parquet.", show_default=False
        ),
    ],
    target: Annotated[str, typer.Option(metavar="CODE", help="The language that the adapter is for, such as sw.")],
    text: Annotated[
        str,
        typer.Option(metavar="PATH", help="Plain text in the target language: a file, folder or glob; or wikipedia."),
    ] = _WIKIPEDIA,
    source_text: Annotated[
        str, typer.Option(metavar="PATH", help="Plain text in the source language, likewise.")
    ] = _WIKIPEDIA,
    inputs: Annotated[
        Path | None,
        typer.Option(
            readable=False, metavar="FILE", help="Rows in the target language, without labels.", show_default=False
        ),
    ] = None,
    test: Annotated[
        Path | None,
        typer.Option(readable=False, metavar="FILE", help="Labelled rows in the target language.", show_default=False),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(metavar="CODE", help="The language of FILE.  [default: identified]", show_default=False),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="The base model.  [default: one that fits this machine]", show_default=False)
    ] = None,
    text_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="The column with the text.", show_default=False)
    ] = None,
    label_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="The column with the label or the answer.", show_default=False)
    ] = None,
    delimiter: Annotated[
        str | None, typer.Option(metavar="CHAR", help="Of FILE, where it is not found rightly.", show_default=False)
    ] = None,
    encoding: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of FILE, where it is not found rightly.", show_default=False)
    ] = None,
    output: Annotated[Path, typer.Option(readable=False, metavar="FILE", help="The recipe to write.")] = Path(
        "recipe.yaml"
    ),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a recipe that is there.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing; take what is likeliest.")] = False,
) -> None:
    """Look at your files and write a recipe for them.

    adamergex init reviews.csv --target sw --text texts/ --inputs unlabelled-sw.csv
    """
    from adamergex.data import detection
    from adamergex.models.machine import machine
    from adamergex.recipes.drafting import draft
    from adamergex.recipes.interview import Interview, Wanted
    from adamergex.recipes.preflight import check
    from adamergex.recipes.recipe import Recipe
    from adamergex.storage import yaml_model
    from adamergex.storage.files import storage
    from adamergex.storage.outputs import refuse_link, write

    if output.suffix not in (".yaml", ".yml"):
        raise RecipeError([f"{_FLAG}: --output {output}: expected a name that ends in .yaml"])
    refuse_link(output)
    if output.exists() and not overwrite:
        raise StorageError(f"{output} exists already; choose another --output, or add --overwrite")
    for option, code in (("--target", target), ("--source", source)):
        _check_language(option, code)
    detection.check_options(delimiter, encoding)
    wanted = Wanted(
        Path(data),
        target,
        output.parent,
        source,
        text,
        source_text,
        inputs,
        test,
        model,
        text_column,
        label_column,
        delimiter,
        encoding,
    )
    console = Terminal()
    interview = Interview(wanted, _Asking(console, not yes and console.is_terminal and sys.stdin.isatty()), machine())
    with interruptible("nothing was written"):
        recipe = draft(interview.draft())
    _show(interview, console)
    checked = yaml_model.check(Recipe, recipe, str(output))
    with storage(output.parent):
        # Paths that lead out of a folder need it to be there.
        output.parent.mkdir(parents=True, exist_ok=True)
        looked = check(checked, output.parent)
        write(output, recipe.encode())
    for line in looked.warnings:
        say(f"warning: {line}", error=True)
    console.print(f"recipe: {output}", soft_wrap=True)
    console.print(f"next: adamergex run {output}", soft_wrap=True)


@dataclass
class _Asking:
    """Asks on a terminal; elsewhere, and with --yes, the default is taken."""

    console: Terminal
    asks: bool

    def choice(self, question: str, default: str, others: tuple[str, ...]) -> str:
        if not self.asks or not others:
            return default
        return self._asked(question, default, [default, *others])

    def words(self, question: str, default: str) -> str:
        if not self.asks:
            return default
        return self._asked(question, default).strip() or default

    def _asked(self, question: str, default: str, choices: list[str] | None = None) -> str:
        try:
            return Prompt.ask(Text(question), console=self.console, choices=choices, default=default)
        except EOFError:
            raise KeyboardInterrupt from None


def _show(interview: "Interview", console: Terminal) -> None:
    """What was found."""
    listing = Table(box=None, show_header=False, pad_edge=False)
    for name, value in interview.lines:
        listing.add_row(name, value)
    console.print(listing)
    for note in interview.notes:
        console.print(f"note: {note}", soft_wrap=True)


def _check_language(option: str, code: str | None) -> None:
    from adamergex.data.settings import is_language

    try:
        is_language(code or "en")
    except ValueError as error:
        raise RecipeError([f"{_FLAG}: {option}: {error}"]) from None
