"""Commands in processes that are forked from one which has imported everything: each costs what it does, and no start."""

import gc
import importlib
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from adamergex.cli import main

# Of memory, whatever is read.
MOST_MEMORY = 8 * 2**30
IMPORTED = (
    *(f"adamergex.{name}" for name in ("pipeline.run", "pipeline.evaluation", "recipes.preflight", "merging.folder")),
    *(f"adamergex.{name}" for name in ("inference.predictor", "reporting.html", "data.corpus", "models.resident")),
    *(f"adamergex.{name}" for name in ("models.expected", "merging.inspection", "sharing.fuse")),
    *("datasets", "peft", "accelerate"),
)


@cache
def warm() -> None:
    """Import what commands import."""
    for name in IMPORTED:
        importlib.import_module(name)
    # A child that collects garbage would copy all of it.
    gc.freeze()


def started(
    arguments: Sequence[str], folder: Path, shown: Path, before: Callable[[], object] = lambda: None, stdin: bytes = b""
) -> int:
    """Begin a command in a process of its own, and return its number.

    Args:
        arguments: of the command line.
        folder: to call it in.
        shown: the file for what it says.
        before: called in the process before.
        stdin: its standard input.
    """
    return beside(lambda: called(arguments, folder, shown, before, stdin))


def beside(work: Callable[[], int | None]) -> int:
    """Begin what a process of its own does, and return its number; it ends with what `work` returns."""
    warm()
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        status = work() or 0
    except KeyboardInterrupt:
        # As the interpreter ends where one comes after all else.
        status = 128 + signal.SIGINT
    except BaseException:
        # A signal that comes late must not end in a second pytest.
        traceback.print_exc()
    finally:
        os._exit(status)


def called(
    arguments: Sequence[str], folder: Path, shown: Path, before: Callable[[], object] = lambda: None, stdin: bytes = b""
) -> int:
    """The exit status of a command in this process, whose streams are no longer pytest's; see `started`."""
    status = 1
    try:
        os.chdir(folder)
        output = os.open(shown, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for number in (1, 2):
            os.dup2(output, number)
        read, write = os.pipe()
        os.write(write, stdin)
        os.dup2(read, 0)
        for number in (output, read, write):
            os.close(number)
        # Not pytest's.
        sys.stdin = os.fdopen(0, "r", closefd=False)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
        # As in a process of its own, so that they are what `standard_streams` looks after.
        vars(sys).update(__stdout__=sys.stdout, __stderr__=sys.stderr)
        sys.argv = ["adamergex", *arguments]
        before()
        main.main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except KeyboardInterrupt:
        raise
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    return status


def ended(process: int) -> int:
    """Wait for the end of a process, and return its exit status; negative where a signal ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def forked(command: str, folder: Path, shown: Path, before: Callable[[], object] = lambda: None) -> int:
    """The exit status of a command in a process of its own; see `started`."""
    return ended(started(command.split(), folder, shown, before))


def run(
    arguments: Sequence[str],
    folder: Path,
    shown: Path,
    seconds: int,
    stdin: bytes = b"",
    before: Callable[[], object] = lambda: None,
) -> tuple[int, float]:
    """The exit status of a command, or minus the signal that ended it; and the seconds that it computed.

    Args:
        arguments: of the command line.
        folder: that it runs in.
        shown: where its output and its errors are written.
        seconds: after which it is killed, with status -14.
        stdin: its standard input.
        before: called in the process before.
    """

    def limits() -> None:
        signal.alarm(seconds)
        # A file of any size is read in parts, or not at all.
        resource.setrlimit(resource.RLIMIT_DATA, (MOST_MEMORY, MOST_MEMORY))
        before()

    shown.unlink(missing_ok=True)
    _, status, used = os.wait4(started(arguments, folder, shown, limits, stdin), 0)
    return os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime
