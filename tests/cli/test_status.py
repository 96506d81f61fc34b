"""`adamergex status`: runs at work, cut off, failed and done, by their folders alone."""

import json
import os
import shutil
import socket
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from adamergex.cli import status as command
from adamergex.errors import DataError
from adamergex.execution.durations import Durations
from adamergex.execution.run_folder import RunFolder
from adamergex.pipeline import plan_table, run
from adamergex.pipeline.kinds import KINDS
from adamergex.pipeline.worker import Worker
from adamergex.progress import Silent
from adamergex.recipes import loading
from adamergex.terminal import Terminal
from tests.cli.test_documents import Call, Document, call, document, named
from tests.conftest import data_in

__all__ = ["call", "document"]


class Interrupts(Silent):
    """Ctrl-C at the third step of a stage."""

    def __init__(self, within: str):
        self._within, self._name = within, ""

    def stage(self, name: str) -> None:
        self._name = name

    def step(self, done: int, total: int, tokens: int = 0, loss: float | None = None) -> None:
        if self._within in self._name and done == 3:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def interrupted(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a recipe, with that of its run, which was interrupted in its first training."""
    path = data_in(tmp_path_factory.mktemp("interrupted"), tiny_model)(evaluate={"methods": ["source-adapter"]})
    with pytest.raises(KeyboardInterrupt):
        run.run(path, output=path.parent / "run", display=Interrupts("adapters/task-en"))
    return path.parent


@pytest.fixture
def cut_off(interrupted: Path, tmp_path: Path) -> Path:
    """The folder of a run that was interrupted in its first training."""
    return Path(shutil.copytree(interrupted, tmp_path / "copy")) / "run"


def events(folder: Path) -> Path:
    return RunFolder(folder, make=False).events


def rewritten(folder: Path, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    """The events of a run as another one would have told them."""
    lines = [json.loads(line) for line in events(folder).read_text().splitlines()]
    events(folder).write_text("".join(json.dumps(line) + "\n" for line in change(lines)))


def test_a_run_that_was_cut_off_is_looked_at_and_goes_on(cut_off: Path, call: Call, document: Document) -> None:
    status, out, _ = call("status", cut_off)
    lines = out.splitlines()
    who = f"(local, {socket.gethostname()}, pid {os.getpid()})"
    assert (status, len(lines)) == (0, 2)
    assert lines[0].startswith(f"{cut_off}: cut off after ")
    assert who in lines[0]
    found = document("status", cut_off)
    assert found.keys() <= named("status") | {"problems"}
    assert found["state"] == "interrupted"
    done = found["done"]
    # Data and checks come before the training.
    assert 3 <= done < found["stages"] == done + found["waiting"]
    assert lines[1] == f"{done} of {found['stages']} stages are done, {found['waiting']} to do"
    assert (found["running"], found["failed"], found["seconds_left"]) == ([], [], None)

    # As a kill leaves it: nobody said that it ended.
    rewritten(cut_off, lambda lines: [line for line in lines if line["event"] != "ended"])
    assert document("status", cut_off)["state"] == "interrupted"
    with FileLock(cut_off / ".lock"):
        found = document("status", cut_off)
    (training,) = found["running"]
    assert (found["state"], training["id"]) == ("running", "adapters/task-en")
    assert (training["worker"], training["step"]) == (f"pid {os.getpid()}", 1)
    assert set(training) <= named("status")

    run.run(cut_off)
    count = found["stages"]
    assert call("status", cut_off) == (0, f"{cut_off}: done\n{count} of {count} stages are done\n", "")
    assert not (cut_off / ".work").exists()
    (cut_off / "delivered/es/README.md").write_text("changed")
    found = document("status", cut_off)
    assert (found["state"], found["done"], found["waiting"], found["host"]) == ("unfinished", count - 1, 1, None)


def test_a_run_on_another_machine_is_alive_by_its_last_sign_of_life(
    cut_off: Path, call: Call, document: Document
) -> None:
    def moved(seconds: float) -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
        def change(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
            later = time.time() - seconds - lines[-1]["at"]
            return [{**line, "at": line["at"] + later, "host": "gpu7"} for line in lines if line["event"] != "ended"]

        return change

    rewritten(cut_off, moved(100))
    assert document("status", cut_off)["state"] == "running"
    # Its clock is ahead of this one's.
    rewritten(cut_off, moved(-3600))
    assert call("status", cut_off)[1].startswith(f"{cut_off}: at work for 0 s (local, gpu7, ")
    rewritten(cut_off, moved(130))
    assert document("status", cut_off)["state"] == "interrupted"


def test_what_failed_is_said_with_its_line(
    own_data: Callable[..., Path], call: Call, document: Document, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = own_data(evaluate={"methods": ["source-adapter"]})
    made = KINDS["corpus"].make

    def make(params: Any, *more: Any) -> None:
        if params.language == "es":
            raise DataError("corpus of es: too short")
        made(params, *more)

    monkeypatch.setitem(KINDS, "corpus", replace(KINDS["corpus"], make=make))
    folder = path.parent / "run"
    assert call("run", path, "--output", folder)[0] == 2
    found = document("status", folder)
    assert found["state"] == "failed"
    assert found["failed"] == [{"id": "data/corpus-es", "why": "corpus of es: too short"}]
    assert "adapters/reference-es" in found["blocked"]
    lines = call("status", folder)[1].splitlines()
    assert lines[0].startswith(f"{folder}: failed after ")
    assert lines[1] == (
        f"{found['done']} of {found['stages']} stages are done, 1 failed, {len(found['blocked'])} cannot be made without it, "
        f"{found['waiting']} to do"
    )
    assert lines[2:] == ["data/corpus-es failed: corpus of es: too short"]


def test_what_is_no_run_is_one_line(tmp_path: Path, cut_off: Path, call: Call, document: Document) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other/.lock").touch()
    (tmp_path / "file").touch()
    expected = "expected that of a run, such as runs/NAME"
    for name, says in {
        "absent": f"no such folder; {expected}",
        "empty": f"no run in this folder; {expected}",
        "file": f"no such folder; {expected}",
        "other": "nothing is at work in it, and it has no recipe.yaml that says what belongs there",
    }.items():
        assert call("status", tmp_path / name) == (2, "", f"error: {tmp_path / name}: {says}\n")
    assert document("status", tmp_path / "absent", status=2).keys() == {"problems"}
    events(cut_off).write_text("\x1b]0;x\x07\n")
    says = "line 1 is no event of a run; remove it: the next run writes another"
    assert call("status", cut_off) == (2, "", f"error: {events(cut_off)}: {says}\n")
    assert call("status", cut_off, "--watch", "--json")[0] == 2


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read anything")
def test_events_that_may_not_be_read_are_one_line(cut_off: Path, call: Call) -> None:
    events(cut_off).chmod(0)
    assert call("status", cut_off) == (2, "", f"error: {events(cut_off)}: cannot be read: Permission denied\n")


def test_control_characters_of_others_are_written_out(cut_off: Path, call: Call) -> None:
    rewritten(cut_off, lambda lines: [{**lines[0], "host": "a\x1b[2Jb"}, *lines[1:]])
    assert "(local, a\\x1b[2Jb, pid" in call("status", cut_off)[1]


@pytest.mark.parametrize(("ended", "status"), [("well", 0), ("interrupted", 1)])
@pytest.mark.parametrize("is_terminal", [False, True])
def test_watch_looks_until_the_run_ends(
    cut_off: Path, call: Call, monkeypatch: pytest.MonkeyPatch, ended: str, status: int, *, is_terminal: bool
) -> None:
    last = json.loads(events(cut_off).read_text().splitlines()[-1])
    rewritten(cut_off, lambda lines: lines[:-1])
    lock = FileLock(cut_off / ".lock")
    lock.acquire()
    looks = 0

    def sleep(seconds: float) -> None:
        nonlocal looks
        looks += 1
        assert seconds == 1
        with events(cut_off).open("a") as file:
            step = {"event": "step", "at": time.time(), "stage": "adapters/task-en", "done": looks, "total": 9}
            told = {1: step, 2: step, 3: {"event": "done", "at": time.time(), "stage": "adapters/task-en"}, 4: last}
            file.write(json.dumps(told[looks]) + "\n")
        if looks == 4:
            lock.release()
            if ended == "well":
                events(cut_off).unlink()

    monkeypatch.setattr(command.time, "sleep", sleep)
    monkeypatch.setattr(Terminal, "is_terminal", is_terminal)
    found, out, _ = call("status", cut_off, "--watch")
    assert (found, looks) == (status, 4)
    if is_terminal:
        assert "step 2 of 9" in out
        return
    lines = out.splitlines()
    # A line where a stage begins or ends, none for its steps.
    assert [line.partition(",")[0].split()[0] for line in lines[:2]] == [lines[0].split()[0], str(int(lines[0][0]) + 1)]
    assert lines[0].endswith(": adapters/task-en")
    assert lines[2].startswith(f"{cut_off}: {'not at work' if ended == 'well' else 'cut off after'}")


def test_a_plan_ends_with_the_time_that_is_left(own_data: Callable[..., Path], call: Call, document: Document) -> None:
    path = own_data(evaluate={"methods": ["source-adapter"]})
    folder = path.parent / "run"
    assert document("plan", path, "--output", folder)["seconds_left"] is None
    seconds = {"train": 300.0, "predict": 60.0, "corpus": 7.0}
    stages = [stage for stage, _ in plan_table.look(loading.load(str(path)), path.parent, folder).stages]
    for stage in stages:
        Durations().add(stage, KINDS, Worker({}).device, seconds.get(stage.kind, 0.0))
    counts = Counter(stage.kind for stage in stages)
    assert (counts["train"], counts["corpus"]) == (3, 2)
    # Three trainings, of which two are alike.
    minutes = 15 + counts["predict"]
    measured = sum(counts[kind] for kind in seconds)
    out = call("plan", path, "--output", folder)[1]
    assert out.endswith(f"\nabout {minutes} min are left, by {measured} stages of before on this device\n")
    # Trainings of another length were never made.
    assert call("plan", path, "--set", "train.task.epochs=9")[1].endswith(" stages are done\n")
    out = call("run", path, "--output", folder)[1].splitlines()[-1]
    assert out.startswith("made in ")
    assert out.endswith(f", {minutes} min 14 s had been expected")
    assert document("plan", path, "--output", folder)["seconds_left"] == 0
    assert "had been expected" not in call("run", path, "--output", folder)[1]
