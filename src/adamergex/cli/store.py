"""`adamergex store`: what is in a store of finished stages, whether it is whole, and what of it goes."""

from pathlib import Path
from typing import Annotated

import typer

from adamergex.errors import StorageError
from adamergex.terminal import Terminal, say

store_app = typer.Typer(help="Finished stages that runs and people share.", no_args_is_help=True)

Place = Annotated[
    str, typer.Argument(metavar="STORE", help="A folder, or a URL such as s3://bucket/path.", show_default=False)
]
# Of a key, enough to tell it from others and to find it.
_SHORT = 12


@store_app.command("ls")
def ls(store: Place) -> None:
    """List the finished stages: key, bytes, kind, and what the run that made them called them."""
    from adamergex.execution.store import Store

    opened = Store(store)
    size = 0
    keys = sorted(opened.keys())
    for key in keys:
        try:
            entry = opened.entry(key)
        except StorageError as error:
            say(f"{key[:_SHORT]}  broken: {error}")
            continue
        size += entry.size
        say(f"{key[:_SHORT]}  {entry.size:>13,}  {entry.kind:<12}  {entry.id}")
    say(f"{len(keys):,} stages, {size:,} bytes before equal files are counted once")


@store_app.command()
def verify(store: Place) -> None:
    """Read all files and compare them with their hashes; exit status 1 where a stage is broken, which no run will use."""
    from adamergex.execution.store import Store
    from adamergex.progress import display

    opened = Store(store)
    keys, broken = sorted(opened.keys()), 0
    with display(Terminal()) as shown:
        shown.stage(f"{len(keys):,} stages")
        for number, key in enumerate(keys, 1):
            if damage := opened.damage(key):
                broken += 1
                shown.warn(f"{key[:_SHORT]}: {damage}")
            shown.step(number, len(keys))
        shown.end()
    say(f"{len(keys) - broken:,} of {len(keys):,} stages are what was written")
    if broken:
        raise typer.Exit(1)


@store_app.command()
def prune(
    store: Place,
    keep_used_by: Annotated[
        list[Path],
        typer.Option(
            readable=False,
            metavar="RUN",
            help="A run's folder, whose stages stay; may be repeated.",
            show_default=False,
        ),
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Remove them; otherwise it is only said what would go.")] = False,
) -> None:
    """Remove what no named run uses. Nothing else ever removes a stage from a store."""
    from adamergex.execution.run_folder import RunFolder
    from adamergex.execution.store import Store

    opened = Store(store)
    kept: set[str] = set()
    for folder in keep_used_by:
        found = RunFolder(folder, make=False).keys()
        if not found:
            raise StorageError(f"{folder}: no run with finished stages; expected a folder such as runs/NAME")
        kept |= found
    gone, size = opened.prune(kept, dry=not yes)
    said = "removed" if yes else "would go (add --yes)"
    say(f"{len(gone):,} stages and {size:,} bytes {said}; {len(kept & opened.keys()):,} stay")
