"""What a run shows while it works: a live display on a terminal, a line now and then elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from adamergex.terminal import Terminal, say

# Where the output is a file, seconds between two lines of one stage.
_QUIET_SECONDS = 30.0


class Display(Protocol):
    """Where a run reports to."""

    def stage(self, name: str) -> None:
        """A stage begins; its name says which of how many it is."""
        ...

    def skip(self, name: str) -> None:
        """A stage was done before."""
        ...

    def step(self, done: int, total: int, tokens: int = 0, loss: float | None = None) -> None:
        """The stage has done `done` of `total` steps; `tokens` and the loss are those of the last one."""
        ...

    def warn(self, text: str) -> None:
        """Something about the stage that the user should know."""
        ...

    def end(self) -> None:
        """The stage is done."""
        ...

    def lane(self) -> "Display":
        """A display beside this one, for a stage that is made at the same time."""
        ...


def span(seconds: float, *, roughly: bool = False) -> str:
    """A time in words, such as `45 s`, `11 min 30 s` or `2 h 5 min`; roughly, from two minutes on without seconds."""
    whole = round(seconds / 60) * 60 if roughly and seconds >= 120 else round(seconds)
    minutes, left = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "min"), (0 if hours else left, "s"))
    return " ".join(f"{number} {unit}" for number, unit in parts if number) or "0 s"


def _of_stage(name: str, text: str) -> str:
    """A warning behind the name of its stage; as it is before the first one."""
    return f"{name}: {text}" if name else text


class _Clock:
    """Tokens per second of one stage, and a loss that jumps less."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.tokens = 0
        self.loss: float | None = None

    def count(self, tokens: int, loss: float | None) -> str:
        self.tokens += tokens
        if loss is not None:
            self.loss = loss if self.loss is None else 0.9 * self.loss + 0.1 * loss
        parts = [f"loss {self.loss:.3f}"] if self.loss is not None else []
        elapsed = time.monotonic() - self.began
        if self.tokens and elapsed > 0:
            parts.append(f"{self.tokens / elapsed:,.0f} tokens/s")
        return " · ".join(parts)


class Live:
    """A rich display: stage, bar, step, loss, tokens per second, time left."""

    def __init__(self, progress: Progress):
        self._progress = progress
        self._clock = _Clock()
        self._task = progress.add_task("", total=None, facts="", visible=False)
        self._name = ""

    def stage(self, name: str) -> None:
        """See Display."""
        self._clock, self._name = _Clock(), name
        self._progress.reset(self._task, total=None, visible=True, description=f"[bold]{escape(name)}", facts="")

    def skip(self, name: str) -> None:
        """See Display."""
        self._progress.console.print(Text(f"✓ {name} (done before)", "dim"))

    def step(self, done: int, total: int, tokens: int = 0, loss: float | None = None) -> None:
        """See Display."""
        facts = f"step {done}/{total} · {self._clock.count(tokens, loss)}".rstrip(" ·")
        self._progress.update(self._task, completed=done, total=total, facts=facts)

    def warn(self, text: str) -> None:
        """See Display."""
        self._progress.console.print(Text(f"! {_of_stage(self._name, text)}", "yellow"))

    def end(self) -> None:
        """See Display."""
        seconds = time.monotonic() - self._clock.began
        loss = f", loss {self._clock.loss:.3f}" if self._clock.loss is not None else ""
        self._progress.update(self._task, visible=False)
        self._progress.console.print(
            Text.assemble(("✓", "green"), f" {self._name} ", (f"({seconds:.0f} s{loss})", "dim"))
        )
        self._name = ""

    def lane(self) -> "Live":
        """See Display."""
        return Live(self._progress)


class Lines:
    """For logs: one line when a stage begins and ends, and every half minute in between; warnings go to standard error."""

    def __init__(self, console: Terminal):
        self._console = console
        self._clock = _Clock()
        self._last = 0.0
        self._name = ""

    def stage(self, name: str) -> None:
        """See Display."""
        self._clock, self._name, self._last = _Clock(), name, time.monotonic()
        self._print(f"{self._name}: begins")

    def skip(self, name: str) -> None:
        """See Display."""
        self._print(f"{name}: done before")

    def step(self, done: int, total: int, tokens: int = 0, loss: float | None = None) -> None:
        """See Display."""
        facts = self._clock.count(tokens, loss)
        if time.monotonic() - self._last >= _QUIET_SECONDS:
            self._last = time.monotonic()
            left = (time.monotonic() - self._clock.began) / done * (total - done)
            self._print(" · ".join(filter(None, (f"{self._name}: step {done}/{total}", facts, f"{left:.0f} s left"))))

    def warn(self, text: str) -> None:
        """See Display."""
        # Whoever keeps standard output alone is told all the same.
        say(f"warning: {_of_stage(self._name, text)}", error=True)

    def end(self) -> None:
        """See Display."""
        loss = f", loss {self._clock.loss:.3f}" if self._clock.loss is not None else ""
        self._print(f"{self._name}: done in {time.monotonic() - self._clock.began:.0f} s{loss}")
        self._name = ""

    def lane(self) -> "Lines":
        """See Display."""
        return Lines(self._console)

    def _print(self, text: str) -> None:
        self._console.print(text, soft_wrap=True)


class Silent:
    """Shows nothing: for use from Python."""

    def stage(self, name: str) -> None:
        """See Display."""

    def skip(self, name: str) -> None:
        """See Display."""

    def step(self, done: int, total: int, tokens: int = 0, loss: float | None = None) -> None:
        """See Display."""

    def warn(self, text: str) -> None:
        """See Display."""

    def end(self) -> None:
        """See Display."""

    def lane(self) -> "Silent":
        """See Display."""
        return self


@contextmanager
def display(console: Terminal) -> Iterator[Display]:
    """The display that fits the console: live on a terminal, lines elsewhere."""
    if not console.is_terminal:
        yield Lines(console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[facts]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield Live(progress)
