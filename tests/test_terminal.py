"""Standard streams that are closed, full, or narrow; names that hold escape codes; signals."""

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import pytest
import typer
from pydantic import BaseModel, PlainSerializer

from adamergex import terminal
from adamergex.recipes.loading import shipped
from adamergex.terminal import Terminal, interruptible, plain, say

# Sets a terminal's title, moves the cursor up, rings; and turns the direction of text.
HOSTILE = "a\x1b]0;owned\x07\x1b[2Ab\u202ec\x9b1m"
WRITTEN = r"a\x1b]0;owned\x07\x1b[2Ab\u202ec\x9b1m"
COMMAND = [sys.executable, "-m", "adamergex"]


def run(*arguments: str, redirect: str = "", **environment: str) -> subprocess.CompletedProcess[bytes]:
    """A command, with its output redirected by a shell."""
    line = " ".join([*(f"'{part}'" for part in [*COMMAND, *arguments]), redirect])
    return subprocess.run(
        ["/bin/bash", "-c", f"set -o pipefail; {line}"],
        check=False,
        capture_output=True,
        env={**os.environ, **environment},
    )


def test_controls_are_written_out_and_lines_and_tabs_are_not() -> None:
    assert plain(HOSTILE) == WRITTEN
    assert plain("a\tb\nč ✓ 你") == "a\tb\nč ✓ 你"


def test_a_console_shows_text_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    Terminal().print(f"[/v2] [old] :smile: {HOSTILE}", soft_wrap=True)
    say(HOSTILE, error=True)
    found = capsys.readouterr()
    # rich leaves the bell out.
    assert found.out == f"[/v2] [old] :smile: {WRITTEN}\n".replace(r"\x07", "")
    assert found.err == f"{WRITTEN}\n"


def test_a_terminals_own_codes_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Colours are the console's own; on a pseudo terminal they are there, the text's are not."""
    main, other = pty.openpty()
    with os.fdopen(other, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setenv("TERM", "xterm-256color")
        monkeypatch.delenv("NO_COLOR", raising=False)
        Terminal().print("\x1b[2Aa", style="bold")
        stream.flush()
        assert os.read(main, 100) == b"\x1b[1m\\x1b[2Aa\x1b[0m\r\n"
    os.close(main)


def test_a_message_does_not_command_the_terminal(tmp_path: Path) -> None:
    done = run("validate", f"{tmp_path}/\x1b[2J.yaml")
    assert done.returncode == 2
    assert b"\x1b" not in done.stderr
    assert rb"\x1b[2J.yaml: cannot be read" in done.stderr


@pytest.mark.parametrize(
    ("redirect", "status", "says"),
    [
        (">&-", 0, b""),
        ("2>&- >&-", 0, b""),
        # `true` reads nothing; the command's own status counts.
        ("| true", 0, b""),
        (">/dev/full", 2, b"error: standard output: No space left on device; what was made is where it belongs\n"),
    ],
)
def test_a_stream_that_takes_nothing_ends_no_command(redirect: str, status: int, says: bytes) -> None:
    done = run("recipes", redirect=redirect)
    assert (done.returncode, done.stderr) == (status, says)


def test_a_narrow_encoding_writes_characters_out() -> None:
    done = run("validate", "ž✓.yaml", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode == 2
    assert done.stderr.startswith(rb"error: \u017e\u2713.yaml: cannot be read")
    assert len(done.stderr.splitlines()) == 1


def test_output_is_whole_where_it_is_read() -> None:
    done = run("recipes")
    assert [line.split()[0] for line in done.stdout.decode().splitlines()] == list(shipped())


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals_end_a_run_that_goes_on_later(
    own_data: Callable[..., Path], number: signal.Signals, status: int
) -> None:
    """Killed in the middle, it says so in one line, and leaves nothing half-written."""
    path = own_data()
    running = subprocess.Popen(
        [*COMMAND, "run", str(path), "--output", "out"], cwd=path.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out = path.parent / "out"
    while not (out / "adapters").exists() and running.poll() is None:
        time.sleep(0.02)
    running.send_signal(number)
    _, err = running.communicate(timeout=60)
    assert (running.returncode, err.decode()) == (status, "interrupted; run the same command again to go on\n")
    assert not (out / ".work/partial").exists()
    assert not (out / "report.html").exists()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_an_interruption_is_one_where_a_library_makes_an_error_of_it(
    number: signal.Signals, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def serialized(value: int) -> int:
        signal.raise_signal(number)
        return value

    class Held(BaseModel):
        value: Annotated[int, PlainSerializer(serialized)]

    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as ended, interruptible("go on"):
        Held(value=1).model_dump()
    assert ended.value.code == status
    assert capsys.readouterr().err == "interrupted; go on\n"
    assert signal.getsignal(number) == before


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_second_signal_ends_a_command_with_the_status_of_the_first(
    number: signal.Signals, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Typer ends with 130 whatever it was that raised KeyboardInterrupt."""
    app = typer.Typer()

    @app.command()
    def wait() -> None:
        with interruptible():
            signal.raise_signal(number)

    monkeypatch.setattr(terminal, "say", lambda *arguments, **options: signal.raise_signal(number))
    with pytest.raises(SystemExit) as ended:
        app([])
    assert ended.value.code == status


def test_an_error_is_no_interruption() -> None:
    with pytest.raises(ValueError, match="^wrong$"), interruptible():
        raise ValueError("wrong")
