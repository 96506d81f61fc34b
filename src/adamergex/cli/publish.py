"""`adamergex publish`: a run's adapters on the Hugging Face hub."""

from pathlib import Path
from typing import Annotated

import typer

from adamergex.terminal import say


def publish(
    run: Annotated[
        Path, typer.Argument(readable=False, metavar="RUN", help="The folder of a finished run.", show_default=False)
    ],
    to: Annotated[str, typer.Option("--to", metavar="USER/NAME", help="The repository.", show_default=False)],
    language: Annotated[
        str | None,
        typer.Option(
            metavar="CODE", help="The one to publish. By default all of the run, each in a subfolder if several."
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The one to publish, of a run that has several. By default all of them."),
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make the repository a private one.")] = False,
    revision: Annotated[
        str | None, typer.Option(metavar="BRANCH", help="A branch, made if there is none. By default the main one.")
    ] = None,
    base_model: Annotated[
        str | None,
        typer.Option(metavar="USER/NAME", help="The base model on the hub, where the run had it in a folder."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the files and the card, and upload nothing; needs no token.")
    ] = False,
) -> None:
    """Upload a run's adapters with a model card to the Hugging Face hub.

    adamergex publish runs/quickstart --to me/commands-sl --dry-run
    """
    from adamergex.sharing.publication import prepared
    from adamergex.sharing.upload import upload

    publication = prepared(run, to, language, base_model, task)
    for note in publication.notes:
        say(f"note: {note}", error=True)
    if dry_run:
        width = max(map(len, publication.files))
        for path in sorted(publication.files):
            say(f"{path:{width}}  {publication.size(path):>13,} bytes")
        say(f"\n{publication.card}".removesuffix("\n"))
        return
    say(f"published: {upload(publication, private=private, revision=revision)}")
    place = to + (f"@{revision}" if revision else "")
    needed = {"task": len(publication.tasks) > 1, "language": len(publication.languages) > 1}
    named = "".join(f', {key}="…"' for key, is_needed in needed.items() if is_needed)
    options = "".join(f" --{key} …" for key, is_needed in needed.items() if is_needed)
    say(f'use it: adamergex.predictor("{place}"{named}), adamergex predict {place} FILE{options}')
