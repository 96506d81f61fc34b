"""The command line. A user's mistake ends with one line for each problem and exit status 2."""

import logging
import os
import signal
import sys
import warnings
from typing import Annotated

import typer

from adamergex import __version__
from adamergex.cli import (
    convert,
    corpus,
    doctor,
    evaluate,
    fuse,
    init,
    merge,
    predict,
    publish,
    recipes,
    run,
    status,
    store,
)
from adamergex.cli.documents import lines
from adamergex.errors import AdaMergeXError, IncompleteError
from adamergex.storage.files import cache_folder, full
from adamergex.terminal import say, standard_streams

app = typer.Typer(
    name="adamergex",
    help="Labels in one language, plain text in another: an adapter for the task in the other.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(recipes.recipes_app, name="recipes")
app.add_typer(store.store_app, name="store")


def _version(requested: bool) -> None:
    if requested:
        say(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


app.command()(init.init)
app.command()(run.run)
app.command()(run.plan)
app.command()(run.validate)
app.command()(status.status)
app.command()(recipes.schema)
app.command()(corpus.corpus)
app.command()(evaluate.evaluate)
app.command()(predict.predict)
app.command()(publish.publish)
app.command()(merge.merge)
app.command()(merge.inspect)
app.command()(convert.convert)
app.command()(fuse.fuse)
app.command()(doctor.doctor)


def _at_home(argument: str) -> str:
    """An argument with the user's folder in place of `~`, where the shell left it: in quotes, and behind `--output=`."""
    option, equals, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
    return option + equals + os.path.expanduser(value) if value[:2] in ("~", "~/", "~\\") else argument


def main() -> None:
    """Run the command line; the exit status is 2 for a user's mistake."""
    # Notices of the libraries' own future changes are not the user's business.
    warnings.filterwarnings("ignore", category=FutureWarning)
    # It keeps a list of fonts, and the user's home is no place for it.
    os.environ.setdefault("MPLCONFIGDIR", str(cache_folder() / "matplotlib"))
    sys.argv[1:] = map(_at_home, sys.argv[1:])
    # Where that cannot be written, it makes do with a temporary folder.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    with standard_streams():
        try:
            app()
        except AdaMergeXError as error:
            for line in lines(error):
                say(f"error: {line}", error=True)
            sys.exit(1 if isinstance(error, IncompleteError) else 2)
        except OSError as error:
            if (said := full(error)) is None:
                if error.filename is None:
                    raise
                said = f"{os.fsdecode(error.filename)}: {error.strerror or error}"
            say(f"error: {said}", error=True)
            sys.exit(2)
        except KeyboardInterrupt:
            # Outside of a command.
            sys.exit(128 + signal.SIGINT)
        except MemoryError:
            say("error: there is not enough memory for this", error=True)
            sys.exit(2)


if __name__ == "__main__":
    main()
