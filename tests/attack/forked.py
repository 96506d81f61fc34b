"""A command in a process of its own, forked from one that has imported everything: a case takes tenths of a second."""

import gc
import importlib
import os
import resource
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from adamergex.cli import main

# Of memory, whatever is read.
MOST_MEMORY = 8 * 2**30


def imported() -> None:
    """Import what commands import, so that a forked process has it."""
    for name in ("pipeline.run", "pipeline.evaluation", "recipes.preflight", "merging.folder", "inference.predictor"):
        importlib.import_module(f"adamergex.{name}")
    for name in (
        "adamergex.models.expected",
        "adamergex.merging.inspection",
        "adamergex.sharing.fuse",
        "datasets",
        "peft",
    ):
        importlib.import_module(name)
    # A child that collects garbage would copy all of it.
    gc.freeze()


def run(arguments: Sequence[str], folder: Path, shown: Path, seconds: int, stdin: bytes = b"") -> tuple[int, float]:
    """The exit status of a command, or minus the signal that ended it; and the seconds that it computed.

    Args:
        arguments: of the command line.
        folder: that it runs in.
        shown: where its output and its errors are written.
        seconds: after which it is killed, with status -14.
        stdin: its standard input.
    """
    child = os.fork()
    if child:
        _, status, used = os.wait4(child, 0)
        return os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime
    signal.alarm(seconds)
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_MEMORY, MOST_MEMORY))
    os.chdir(folder)
    output, status = os.open(shown, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1
    for number in (1, 2):
        os.dup2(output, number)
    read, write = os.pipe()
    os.write(write, stdin)
    os.close(write)
    os.dup2(read, 0)
    # Not pytest's.
    sys.stdin = os.fdopen(0, "r", closefd=False)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
    sys.argv = ["adamergex", *arguments]
    try:
        main.main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
