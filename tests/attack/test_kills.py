"""Commands that are killed, interrupted, out of space, damaged or not alone: the next one ends with the same bytes and nothing else.

`make slow` runs it. ADAMERGEX_ATTACKS=10 has ten times as many kills, interrupts, sizes and damages.
"""

import ctypes
import os
import random
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests import conftest, zoo
from tests.attack.forked import ended, forked, started
from tests.pipeline.test_run import contents

pytestmark = pytest.mark.attack

TIMES = float(os.environ.get("ADAMERGEX_ATTACKS", "1"))
COMMANDS = {
    "merge": "merge --task TASK --reference-target TARGET --reference-source SOURCE --scale 1 --overwrite --output out",
    "corpus": "corpus text.txt --language es --tokenizer MODEL --tokens 500 --window 16 --keep-duplicates --overwrite --output out",
    "evaluate": "evaluate --adapter a=TASK --task recipe.yaml --language es --base-model MODEL --output out",
    "run": "run recipe.yaml --output out",
}
# How often each is killed: the quick ones more often.
KILLS = {"merge": 16, "corpus": 12, "evaluate": 8, "run": 10}
# Events of Python's that come before what changes a file system.
CHANGES = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "shutil.rmtree", "os.link", "os.symlink"}


def count(of: int) -> int:
    return max(1, round(of * TIMES))


@dataclass(frozen=True)
class Case:
    """A command, where it is called, and what is there when it was never disturbed."""

    command: str
    folder: Path
    expected: dict[str, bytes]
    names: set[str]
    events: int
    seconds: float

    def in_copy(self, place: Path) -> Path:
        """A folder in which it was not called yet; with an older result, where the command replaces one."""
        return Path(shutil.copytree(self.folder, place, symlinks=True))

    def check(self, folder: Path, shown: Path) -> None:
        """Call it again undisturbed: the same bytes, and nothing else in the whole folder."""
        assert forked(self.command, folder, shown) == 0, shown.read_text()[-3000:]
        assert "Traceback" not in shown.read_text(), shown.read_text()[-3000:]
        assert contents(folder / "out") == self.expected
        assert everything(folder) == self.names


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


class Counter:
    """Counts what changes the file system in this process from now on, and kills it before one of these events."""

    def __init__(self, at: int | None = None, told: Path | None = None):
        self.count, self.at, self.told = 0, at, told
        sys.addaudithook(self._seen)

    def _seen(self, event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if not writes and event not in CHANGES:
            return
        self.count += 1
        if self.count == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.told is not None:
            handle = os.dup(9)
            os.pwrite(handle, f"{self.count:9}".encode(), 0)
            os.close(handle)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Callable[[str], Case]:
    """A case for each command, made once."""
    base = tmp_path_factory.mktemp("attack")
    made: dict[str, Case] = {}

    def prepare(name: str) -> Case:
        if name in made:
            return made[name]
        folder = base / name
        folder.mkdir()
        conftest.data_in(folder, tiny_model)(evaluate={"methods": ["base", "adamergex"]})
        roles = ("TASK", "TARGET", "SOURCE")
        places = zoo.three(lambda: conftest.tiny_llama(7, 259), zoo.lora, folder / "adapters")
        (folder / "text.txt").write_text("\n\n".join(f"good bad paragraph {n}" for n in range(60)))
        command = COMMANDS[name]
        for role, place in (*zip(roles, places, strict=True), ("MODEL", tiny_model)):
            command = command.replace(role, str(place))
        shown = base / "shown"
        whole = Path(shutil.copytree(folder, base / f"{name} whole"))
        told = base / f"{name} told"
        told.touch()

        def counting() -> None:
            os.dup2(os.open(told, os.O_RDWR), 9)
            Counter(told=told)

        began = time.monotonic()
        assert forked(command, whole, shown, counting) == 0, shown.read_text()[-3000:]
        seconds = time.monotonic() - began
        if "--overwrite" in command:
            # An older result, of another setting.
            older = command.replace("--scale 1", "--scale 0.5").replace("--tokens 500", "--tokens 400")
            assert forked(older, folder, shown) == 0, shown.read_text()[-3000:]
        events = int(told.read_text() or 0)
        made[name] = Case(command, folder, contents(whole / "out"), everything(whole), events, seconds)
        return made[name]

    return prepare


@pytest.mark.parametrize("name", COMMANDS)
def test_killed_before_any_change_of_the_file_system(
    name: str, prepared: Callable[[str], Case], tmp_path: Path
) -> None:
    case = prepared(name)
    assert case.events > 5
    times, order = count(KILLS[name]), random.Random(name)
    if "--overwrite" not in case.command:
        # What goes on where it was is killed again and again, a little further each time.
        folder, killed = case.in_copy(tmp_path / "work"), 0
        for _ in range(times):
            at = order.randint(1, max(2, 2 * case.events // times))
            killed += forked(case.command, folder, tmp_path / "shown", partial(Counter, at)) == -signal.SIGKILL
        assert killed > times // 3
        case.check(folder, tmp_path / "shown")
        return
    for at in sorted(order.sample(range(1, case.events + 1), min(times, case.events))):
        folder = case.in_copy(tmp_path / f"work {at}")
        older = contents(folder / "out")
        status = forked(case.command, folder, tmp_path / "shown", partial(Counter, at))
        assert status == -signal.SIGKILL
        # There is no moment without a result.
        assert contents(folder / "out") in (older, case.expected), at
        case.check(folder, tmp_path / "shown")


@pytest.mark.parametrize("name", COMMANDS)
def test_killed_at_any_moment(name: str, prepared: Callable[[str], Case], tmp_path: Path) -> None:
    case, order = prepared(name), random.Random(name)
    folder = case.in_copy(tmp_path / "work")
    for _ in range(count(KILLS[name] // 2)):
        process = started(case.command.split(), folder, tmp_path / "shown")
        time.sleep(order.random() * case.seconds)
        os.kill(process, signal.SIGKILL)
        ended(process)
    case.check(folder, tmp_path / "shown")


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_told_to_end_twice(name: str, number: signal.Signals, prepared: Callable[[str], Case], tmp_path: Path) -> None:
    case, order = prepared(name), random.Random(f"{name} {number}")
    folder = case.in_copy(tmp_path / "work")
    for _ in range(count(2)):
        process = started(case.command.split(), folder, tmp_path / "shown", _heard)
        time.sleep(order.random() * case.seconds)
        for wait in (order.random() * 0.02, 0):
            os.kill(process, number)
            time.sleep(wait)
        assert ended(process) in (0, 128 + number, -number)
    case.check(folder, tmp_path / "shown")


def _heard() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.parametrize("name", COMMANDS)
def test_two_at_once(name: str, prepared: Callable[[str], Case], tmp_path: Path) -> None:
    case = prepared(name)
    folder = case.in_copy(tmp_path / "work")
    for _ in range(count(2)):
        both = [started(case.command.split(), folder, tmp_path / "shown") for _ in range(2)]
        statuses = [ended(process) for process in both]
        assert 0 in statuses
        assert set(statuses) <= {0, 2}
        said = (tmp_path / "shown").read_text()
        assert statuses.count(2) == 0 or "another run is at work in this folder" in said
    case.check(folder, tmp_path / "shown")


def _mounted(place: Path, size: int, again: bool = False) -> bool:
    """Mount a disk in memory of so many bytes that this process and its children alone see; whether that is permitted."""
    library = ctypes.CDLL(None, use_errno=True)
    new_mounts, private, again_flag = 0x20000, 1 << 18 | 1 << 14, 32
    if not again and (library.unshare(new_mounts) or library.mount(None, b"/", None, private, None)):
        return False
    flags = again_flag if again else 0
    return bool(library.mount(b"tmpfs", bytes(place), b"tmpfs", flags, f"size={size}".encode()) == 0)


def _permitted() -> bool:
    child = os.fork()
    if not child:
        os._exit(0 if sys.platform == "linux" and _mounted(Path("/mnt"), 2**20) else 1)
    return ended(child) == 0


@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk(name: str, prepared: Callable[[str], Case], tmp_path: Path) -> None:
    """Each size in a process that alone sees the disk: full, one line and status 2; then larger, the same command."""
    if not _permitted():
        pytest.skip("no disk may be mounted here")
    case = prepared(name)
    before = sum(-(-path.stat().st_size // 4096) * 4096 for path in case.folder.rglob("*") if path.is_file())
    more = sum(-(-len(content) // 4096) * 4096 for content in case.expected.values())
    times = count(4)
    sizes = [before + round(more * part / times) for part in range(1, times + 1)]
    full = 0
    for size in sizes:
        shown = tmp_path / f"shown {size}"
        child = os.fork()
        if not child:
            os._exit(_on_disk(case, tmp_path / f"disk {size}", size, shown))
        status = ended(child)
        assert status in (0, 3), shown.read_text()[-3000:]
        full += status == 3
    assert full


def _on_disk(case: Case, disk: Path, size: int, shown: Path) -> int:
    """0 where the command had room enough, 3 where it had not and said so; any other status is a fault."""
    try:
        disk.mkdir()
        assert _mounted(disk, size)
        folder = case.in_copy(disk / "work")
        status = forked(case.command, folder, shown)
        said = shown.read_text()
        errors = [line for line in said.splitlines() if line.startswith("error: ")]
        assert "Traceback" not in said
        assert status == 0 or (status, len(errors)) == (2, 1), said
        assert status == 0 or "no space left on the disk; free some" in errors[0], said
        assert _mounted(disk, 2**30, again=True)
        case.check(folder, shown)
    except BaseException as error:
        with shown.open("a") as file:
            file.write(f"\n{type(error).__name__}: {error}"[:3000])
        return 1
    return 0 if status == 0 else 3


@pytest.mark.parametrize("name", COMMANDS)
def test_files_that_may_not_grow(name: str, prepared: Callable[[str], Case], tmp_path: Path) -> None:
    case = prepared(name)
    largest = max(map(len, case.expected.values()))
    for number in range(times := count(2)):
        folder = case.in_copy(tmp_path / f"work {number}")
        # What is said is written to a file, too.
        most, shown = max(4096, round(largest * (number + 1) / (times + 1))), tmp_path / f"shown {number}"
        status = forked(
            case.command,
            folder,
            shown,
            partial(resource.setrlimit, resource.RLIMIT_FSIZE, (most, most)),
        )
        said = shown.read_text()
        errors = [line for line in said.splitlines() if line.startswith("error: ")]
        assert (status, len(errors), "Traceback" in said) == (2, 1, False), said[-3000:]
        case.check(folder, shown)


def _flip(path: Path) -> None:
    content = path.read_bytes()
    place = len(content) // 2
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :] if content else b"x")


def _link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "deleted": Path.unlink,
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "empty": lambda path: os.truncate(path, 0),
    "flipped": _flip,
    "link": _link,
    "folder": _folder,
}


@pytest.fixture(scope="module")
def finished(prepared: Callable[[str], Case], tmp_path_factory: pytest.TempPathFactory) -> tuple[Case, Path]:
    case = prepared("run")
    folder = case.in_copy(tmp_path_factory.mktemp("finished") / "work")
    assert forked(case.command, folder, folder.parent / "shown") == 0
    return case, folder


def test_a_damaged_file_is_made_again_or_said(finished: tuple[Case, Path], tmp_path: Path) -> None:
    case, folder = finished
    order = random.Random(1)
    files = sorted(path for path in (folder / "out").rglob("*") if path.is_file() and path.name != ".lock")
    for file in order.sample(files, min(count(12), len(files))):
        damage = order.choice(list(DAMAGES))
        copy = Path(shutil.copytree(folder, tmp_path / "copy", symlinks=True))
        DAMAGES[damage](copy / file.relative_to(folder))
        shown = tmp_path / "shown"
        shown.unlink(missing_ok=True)
        status = forked(f"{case.command} --verify", copy, shown)
        what, said = f"{file.relative_to(folder)} {damage}", shown.read_text()
        assert (status, "Traceback" in said) == (0, False), what + said[-3000:]
        found = contents(copy / "out")
        assert {name: found[name] for name in found if not name.startswith("set-aside/")} == case.expected, what
        page = (copy / "out/report.html").read_text()
        assert page.rstrip().endswith("</html>"), what
        shutil.rmtree(copy)
