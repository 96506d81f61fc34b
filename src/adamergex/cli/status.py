"""`adamergex status`: how a run stands that another process makes, here or elsewhere."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adamergex.cli import documents
from adamergex.cli.run import AsJson
from adamergex.terminal import Terminal, interruptible, say

if TYPE_CHECKING:
    from adamergex.pipeline.status import Status, Watch

# Seconds between two looks.
_LOOK = 1.0


def status(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.", show_default=False)],
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Look every second until the run ends; exit status 1 where it does not end well."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say how a run stands that is at work in another terminal, or on another machine: it reads the run's folder alone."""
    from adamergex.pipeline import status as standing

    if watch and as_json:
        raise typer.BadParameter("one of --watch and --json; for programs, call it again with --json")
    with documents.problems_shown(as_json), interruptible():
        watched = standing.Watch(run)
        found = watched.look()
        if watch and found.state == "running":
            found = _watched(watched, found)
    if as_json:
        documents.show(standing.document(found) | {"problems": []})
    else:
        say(standing.text(found))
    if watch and found.state in ("interrupted", "failed"):
        raise typer.Exit(1)


def _watched(watched: "Watch", found: "Status") -> "Status":
    """How a run stands when it has ended; until then that is shown: on a terminal always, elsewhere when it changes."""
    from rich.live import Live
    from rich.text import Text

    from adamergex.pipeline import status as standing

    console = Terminal()
    if console.is_terminal:
        with Live(Text(standing.text(found)), console=console, transient=True, auto_refresh=False) as live:
            while found.state == "running":
                time.sleep(_LOOK)
                found = watched.look()
                live.update(Text(standing.text(found)), refresh=True)
        return found
    before = ""
    while found.state == "running":
        told = found.standing
        making = f": {', '.join(told.running)}" if told is not None and told.running else ""
        line = f"{standing.counts(found)}{making}" if found.stages is not None else standing.text(found)
        if line != before:
            before = line
            console.print(line, soft_wrap=True)
        time.sleep(_LOOK)
        found = watched.look()
    return found
