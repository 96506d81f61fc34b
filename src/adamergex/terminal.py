"""What reaches a terminal: text of others shown as text, streams that may be closed, full or narrow, and interruptions."""

import io
import os
import re
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from adamergex.errors import StorageError

# C0 and C1 controls but line ends and tabs, and what turns the direction of text: names of others could set a terminal's
# title with them, move its cursor or hide a line. And the bytes of a file's name that are no text, which no stream takes.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_SIGNALS = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))


def plain(text: str) -> str:
    r"""A text with its control characters written out, as in Python: `\x1b`."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def say(text: str, *, error: bool = False) -> None:
    """Print a text as it is, on standard output or standard error."""
    print(plain(text), file=sys.stderr if error else sys.stdout)


class Terminal(Console):
    """A rich console on which strings are text, never markup, and control characters are written out.

    Args:
        stderr: standard error in place of standard output.
    """

    def __init__(self, *, stderr: bool = False):
        super().__init__(stderr=stderr, markup=False, highlight=False, emoji=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """See Console."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(plain(segment.text), segment.style)


class _Outlet(io.RawIOBase):
    """A file descriptor that takes everything: what cannot be written is dropped, and the first error kept.

    Work that takes hours does not end because the one who looked at its output has gone.
    """

    def __init__(self, descriptor: int):
        self._descriptor = descriptor
        self.error: OSError | None = None

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, content: Any) -> int:
        if self.error is None:
            try:
                return os.write(self._descriptor, content)
            except OSError as error:
                self.error = error
        return len(memoryview(content).cast("B"))


def put(content: bytes) -> None:
    """Write a result on standard output at once.

    Raises:
        BrokenPipeError: its reader has left.
        StorageError: it cannot be written.
    """
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()
    outlet = getattr(sys.stdout.buffer, "raw", None)
    if isinstance(outlet, _Outlet) and (lost := outlet.error) is not None:
        raise lost if isinstance(lost, BrokenPipeError) else StorageError(f"standard output: {lost.strerror}")


@contextmanager
def standard_streams() -> Iterator[None]:
    r"""Within this context both streams can be printed to, whatever they are: closed, full, or without the characters.

    Characters that a stream's encoding lacks are written out, as in Python: `\u2713`.

    Raises:
        SystemExit: at the end, with status 2, where standard output could not be written for another reason than that its
            reader left.
    """
    before = sys.stdout, sys.stderr
    # Who put another stream in the place of Python's own looks after it.
    outlet = _opened(1) if sys.stdout is sys.__stdout__ else None
    if outlet is not None:
        sys.stdout = _text(outlet, sys.stdout)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _text(_opened(2), sys.stderr)
    try:
        yield
    finally:
        sys.stdout.flush()
        lost = None if outlet is None else outlet.error
        if isinstance(lost, BrokenPipeError):
            lost = None
        fails = lost is not None and _is_success(sys.exc_info()[1])
        if lost is not None and fails:
            say(f"error: standard output: {lost.strerror}; what was made is where it belongs", error=True)
        sys.stderr.flush()
        sys.stdout, sys.stderr = before
        if fails:
            sys.exit(2)


def _is_success(error: BaseException | None) -> bool:
    return error is None or (isinstance(error, SystemExit) and error.code in (None, 0))


def _opened(number: int) -> _Outlet:
    """A standard stream. One that is closed is opened on nothing, so that no other file gets its number."""
    try:
        os.fstat(number)
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        if nowhere != number:
            os.dup2(nowhere, number)
            os.close(nowhere)
    return _Outlet(number)


def _text(outlet: _Outlet, before: Any) -> io.TextIOWrapper:
    buffer = io.BufferedWriter(outlet)
    encoding = getattr(before, "encoding", None) or "utf-8"
    # As Python has it: lines are seen at once on a terminal and on standard error.
    by_line = outlet.isatty() or outlet.fileno() == 2
    return io.TextIOWrapper(buffer, encoding, "backslashreplace", line_buffering=by_line)


@contextmanager
def interruptible(then: str = "") -> Iterator[None]:
    """Within this context Ctrl-C and the signals that end a process are said, and end it with 128 and their number.

    Args:
        then: what became of the work; nothing where that is plain.

    Raises:
        SystemExit: it was interrupted.
    """
    before, heard = {}, list[int]()

    def told(number: int, frame: FrameType | None) -> None:
        heard.append(number)
        if len(heard) == 1:
            raise KeyboardInterrupt
        # While the first one is being obeyed; Typer would make its own status of another KeyboardInterrupt.
        raise SystemExit(128 + heard[0])

    for number in _SIGNALS:
        # Whoever has it ignored (nohup) means it; only the main thread may ask for signals.
        with suppress(ValueError):
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                before[number] = signal.signal(number, told)
    try:
        yield
    except BaseException as error:
        # A library through which an interruption passes may make an error of its own of it.
        if not (heard or isinstance(error, KeyboardInterrupt)):
            raise
        say(f"interrupted; {then}" if then else "interrupted", error=True)
        raise SystemExit(128 + (heard[0] if heard else signal.SIGINT)) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
