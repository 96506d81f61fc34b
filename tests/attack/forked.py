"""Commands in processes that are forked from one which has imported everything: each costs what it does, and no start."""

import importlib
import os
import sys
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path

from adamergex.cli import main

IMPORTED = (
    *(f"adamergex.{name}" for name in ("pipeline.run", "pipeline.evaluation", "recipes.preflight", "merging.folder")),
    *(f"adamergex.{name}" for name in ("inference.predictor", "reporting.html", "data.corpus", "models.resident")),
    *("datasets", "peft", "accelerate"),
)


@cache
def warm() -> None:
    """Import what commands import."""
    for name in IMPORTED:
        importlib.import_module(name)


def started(command: str, folder: Path, shown: Path, before: Callable[[], object] = lambda: None) -> int:
    """Begin a command in a process of its own, and return its number.

    Args:
        command: without `adamergex`.
        folder: to call it in.
        shown: the file for what it says.
        before: called in the process before.
    """
    warm()
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        os.chdir(folder)
        output = os.open(shown, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for number in (1, 2):
            os.dup2(output, number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        # Not pytest's.
        sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
        sys.argv = ["adamergex", *command.split()]
        before()
        main.main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def ended(process: int) -> int:
    """Wait for the end of a process, and return its exit status; negative where a signal ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def forked(command: str, folder: Path, shown: Path, before: Callable[[], object] = lambda: None) -> int:
    """The exit status of a command in a process of its own; see `started`."""
    return ended(started(command, folder, shown, before))
