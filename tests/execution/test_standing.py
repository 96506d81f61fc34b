"""What a run tells of itself, how that is folded, and what is left by it: numbers by hand."""

import json
import os
import socket
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from adamergex.errors import DataError, StorageError
from adamergex.execution import events
from adamergex.execution.account import Account, Took
from adamergex.execution.durations import Durations, Expected, together
from adamergex.execution.events import Events, Noting
from adamergex.execution.executor import execute
from adamergex.execution.jobs import Outcome
from adamergex.execution.run_folder import RunFolder
from adamergex.execution.stage import Inputs, Kind, Needs, Params, Plan, Stage
from adamergex.execution.standing import AtWork, Reader, Standing
from adamergex.progress import Silent, span
from tests.execution.test_execution import KINDS, Hand, Text, join, plan, run, write

BEGAN = {
    "event": "run",
    "at": 1000,
    "stages": ["a", "b", "c", "d"],
    "before": [[], [], [1], []],
    "host": "gpu7",
    "pid": 4711,
    "executor": "local:2",
}
TOLD: list[Mapping[str, Any]] = [
    BEGAN,
    {"event": "joined", "at": 1001, "worker": "GPU 0", "computes": True},
    {"event": "joined", "at": 1001, "worker": "GPU 1", "computes": True},
    {"event": "joined", "at": 1001, "worker": "CPU", "computes": False},
    {"event": "expected", "at": 1001, "seconds": [9, 100, 40, 30], "measured": 7},
    {"event": "begun", "at": 1000, "stage": "b", "worker": "GPU 0"},
    {"event": "begun", "at": 1002, "stage": "a", "worker": "GPU 1"},
    {"event": "step", "at": 1020, "stage": "b", "done": 25, "total": 100},
    {"event": "done", "at": 1012, "stage": "a", "how": "made", "seconds": 10},
    {"event": "alive", "at": 1029},
]


def told(*more: Mapping[str, Any]) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in (*TOLD, *more))


def folded(path: Path, content: bytes) -> Standing:
    path.write_bytes(content)
    found = Reader(path).look()
    assert found is not None
    return found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def test_a_file_is_folded_as_by_hand(file: Path) -> None:
    found = folded(file, told())
    assert found.done == {"a"}
    assert found.running == {"b": AtWork("GPU 0", 1000, 25, 100, 1020)}
    assert (found.failed, found.blocked, found.last, found.ended) == ({}, [], 1029, "")
    assert (found.began.host, found.began.pid, found.began.executor) == ("gpu7", 4711, "local:2")
    assert (found.workers, found.measured) == ({"GPU 0": True, "GPU 1": True, "CPU": False}, 7)


def test_time_left_is_shared_by_the_workers_and_never_shorter_than_what_waits_for_each_other(file: Path) -> None:
    found = folded(file, told())
    # b: 0.8 s a step, 75 steps, 10 s ago; then c behind it. The sum is (50 + 40 + 30) / 2.
    assert found.seconds_left(1030) == 50 + 40
    longer = {"event": "expected", "at": 1029, "seconds": [60, 100, 40, 80], "measured": 7}
    again = {"event": "waits", "at": 1029, "stage": "a"}
    assert folded(file, told(longer, again)).seconds_left(1030) == (60 + 50 + 40 + 80) / 2
    one_died = {"event": "died", "at": 1029, "worker": "GPU 1", "why": "is gone"}
    assert folded(file, told(one_died)).seconds_left(1030) == 50 + 40 + 30
    unknown = {"event": "expected", "at": 1029, "seconds": [9, None, 40, None], "measured": 7}
    assert folded(file, told(unknown)).seconds_left(1030) is None
    # Its steps tell where nothing was measured; what failed takes nothing, nor what waits for it.
    failed = {"event": "failed", "at": 1029, "stage": "d", "why": "no"}
    assert folded(file, told(unknown, failed)).seconds_left(1030) == 50 + 40
    failed["stage"] = "b"
    assert folded(file, told(failed)).seconds_left(1030) == 30


def test_before_its_first_steps_a_stage_takes_what_those_before_took(file: Path) -> None:
    again = {"event": "begun", "at": 1010, "stage": "b", "worker": "GPU 1"}
    found = folded(file, told(again))
    assert found.running == {"b": AtWork("GPU 1", 1010)}
    assert found.seconds_left(1030) == (100 - 20) + 40
    assert found.seconds_left(1200) == 40
    first = {"event": "step", "at": 1020, "stage": "b", "done": 1, "total": 100}
    assert folded(file, told(again, first)).seconds_left(1030) == (100 - 20) + 40


def test_what_fails_blocks_what_waits_for_it_until_it_is_tried_again(file: Path) -> None:
    failed = {"event": "failed", "at": 1030, "stage": "b", "why": "rows.csv:3:\n no label"}
    found = folded(file, told(failed, {"event": "ended", "at": 1031, "why": "failed"}))
    assert (found.failed, found.blocked, found.running) == ({"b": "rows.csv:3: no label"}, ["c"], {})
    assert (found.ended, found.last) == ("failed", 1031)
    found = folded(file, told(failed, {"event": "waits", "at": 1031, "stage": "b"}))
    assert (found.failed, found.blocked, found.done) == ({}, [], {"a"})
    assert folded(file, told({"event": "waits", "at": 1031, "stage": "a"})).done == set()


def test_a_last_line_that_was_cut_off_is_left_out(file: Path) -> None:
    assert folded(file, told() + b'{"event": "done", "at": 1030, "st').done == {"a"}
    file.write_bytes(b'{"event": "run", "at"')
    assert Reader(file).look() is None
    assert Reader(file / "below").look() is None
    assert Reader(file.parent / "absent").look() is None


@pytest.mark.parametrize(
    "line",
    [
        b"\x00\xff",
        b"5",
        b"[]",
        b"[" * 100_000,
        b'{"event": "alive"}',
        b'{"event": "done", "at": 1, "stage": "other"}',
        b'{"event": "begun", "at": 1e300, "stage": "b"}',
        b'{"event": "begun", "at": NaN, "stage": "b"}',
        b'{"event": "step", "at": 1, "stage": "b", "done": -1, "total": 5}',
        b'{"event": "expected", "at": 1, "seconds": [1]}',
        b'{"event": "expected", "at": 1, "seconds": 5}',
        json.dumps(BEGAN).encode(),
    ],
)
def test_a_line_that_no_run_wrote_is_said(file: Path, line: bytes) -> None:
    file.write_bytes(told() + line + b"\n")
    with pytest.raises(StorageError) as caught:
        Reader(file).look()
    assert str(caught.value) == f"{file}: line 11 is no event of a run; remove it: the next run writes another"


@pytest.mark.parametrize(
    "changes",
    [{"stages": ["a", "a", "c", "d"]}, {"before": [[]]}, {"before": [[1], [], [], []]}, {"event": "alive"}],
)
def test_a_first_line_that_no_run_wrote_is_said(file: Path, changes: Mapping[str, Any]) -> None:
    file.write_text(json.dumps({**BEGAN, **changes}) + "\n")
    with pytest.raises(StorageError, match="line 1 is no event of a run"):
        Reader(file).look()


@pytest.mark.parametrize("place", [Path.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_what_is_no_file_is_said(file: Path, place: Callable[[Path], None]) -> None:
    place(file)
    with pytest.raises(StorageError, match=r"events\.jsonl: it is no file of events"):
        Reader(file).look()


def test_a_reader_goes_on_where_it_was_and_begins_anew_with_another_run(file: Path) -> None:
    reader = Reader(file)
    whole = told({"event": "done", "at": 1040, "stage": "b", "how": "made", "seconds": 40})
    seen = []
    for end in range(0, len(whole) + 1, 97):
        file.write_bytes(whole[:end])
        found = reader.look()
        seen.append(sorted(found.done) if found else None)
    file.write_bytes(whole)
    found = reader.look()
    assert found is not None
    assert found.done == {"a", "b"}
    assert [one for number, one in enumerate(seen) if not number or one != seen[number - 1]] == [None, [], ["a"]]
    other = json.dumps({**BEGAN, "pid": 4712}).encode() + b"\n"
    file.write_bytes(other + b'{"event": "alive", "at": 2000}\n' * 100)
    found = reader.look()
    assert found is not None
    assert (found.began.pid, found.done, found.last) == (4712, set(), 2000)
    file.unlink()
    assert reader.look() is None


def kept(folder: Path) -> Standing | None:
    return Reader(RunFolder(folder, make=False).events).look()


def test_a_run_that_ended_well_leaves_nothing(tmp_path: Path) -> None:
    seen: list[Standing | None] = []

    def look(params: Text, inputs: Inputs, output: Path, scratch: Path, worker: Any) -> None:
        worker.display.step(3, 8)
        seen.append(kept(tmp_path))
        join(params, inputs, output, scratch, worker)

    run(tmp_path, {"data/a": plan()["data/a"]})
    run(tmp_path, plan(), KINDS | {"join": Kind(Text, look, revision=1)})
    assert not (tmp_path / ".work").exists()
    first = seen[0]
    assert first is not None
    assert first.done == {"data/a", "data/b"}
    assert list(first.running) == ["both"]
    work = first.running["both"]
    assert (work.worker, work.done, work.total) == (f"pid {os.getpid()}", 3, 8)
    assert (first.began.host, first.began.executor) == (socket.gethostname(), "local")
    assert first.before == {
        "data/a": [],
        "data/b": [],
        "both": ["data/a", "data/b"],
        "last": ["both", "data/b"],
    }


@pytest.mark.parametrize(
    ("error", "ended", "failed"),
    [
        (DataError("rows.csv:3:\nno label"), "failed", {"both": "rows.csv:3: no label"}),
        (KeyboardInterrupt(), "interrupted", {}),
    ],
)
def test_a_run_that_did_not_end_well_says_so_until_the_next_one(
    tmp_path: Path, error: BaseException, ended: str, failed: dict[str, str]
) -> None:
    def fail(params: Text, inputs: Inputs, output: Path, scratch: Path, worker: Any) -> None:
        raise error

    with pytest.raises(type(error)):
        run(tmp_path, plan(), KINDS | {"join": Kind(Text, fail, revision=1)})
    found = kept(tmp_path)
    assert found is not None
    assert (found.ended, found.failed, found.done) == (ended, failed, {"data/a", "data/b"})
    run(tmp_path, plan())
    assert kept(tmp_path) is None


def test_events_that_cannot_be_written_are_no_error_of_the_run(tmp_path: Path) -> None:
    (tmp_path / ".work").mkdir()
    told = Events(tmp_path / ".work/file/events.jsonl", "local")
    (tmp_path / ".work/file").touch()
    with told.of(list(plan().values())):
        told.tell("alive")
    assert (tmp_path / ".work/file").read_bytes() == b""


def test_a_step_is_written_every_two_seconds_at_most_and_every_hundredth_of_a_long_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(events.time, "monotonic", lambda: now)
    told = Events(tmp_path / "events.jsonl", "local")
    noting = Noting(Silent(), told)
    noting.id = "both"
    with told.of(list(plan().values())):
        told.begun("both", "one")
        for second in range(7200):
            now = float(second)
            noting.step(second, 7200)
        lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    steps = [line["done"] for line in lines if line["event"] == "step"]
    assert steps[:4] == [0, 2, 4, 6]
    between = [after - before for before, after in pairwise(steps)]
    assert (min(between), max(between)) == (2, 30)
    assert len(steps) < 500


TIMED: dict[str, Kind] = {
    "train": Kind(Text, write, revision=1, needs=lambda params: Needs(True, 0, "llama"), cost=lambda params: "lora"),
    "merge": Kind(Text, write, revision=1),
}


def stages(*ids: str) -> Plan:
    return {id: Stage(id, id.rstrip("0123456789"), Text(text=id)) for id in ids}


def test_what_stages_take_is_the_median_of_those_alike(tmp_path: Path) -> None:
    kept = Durations(tmp_path / "cache/seconds.jsonl")
    made = stages("train1", "train2", "merge1")
    assert kept.expected(made.values(), TIMED, "cpu") == Expected({"train1": None, "train2": None, "merge1": 0.0}, 0)
    for seconds in (10, 30, 11, 500):
        kept.add(made["train1"], TIMED, "cpu", seconds)
    kept.add(made["merge1"], TIMED, "cpu", 7)
    kept.add(made["train1"], TIMED, "gpu", 1)
    again = Durations(tmp_path / "cache/seconds.jsonl")
    assert again.expected(made.values(), TIMED, "cpu") == Expected({"train1": 20.5, "train2": 20.5, "merge1": 0.0}, 4)
    other = TIMED | {"train": Kind(Text, write, revision=1, cost=lambda params: "ia3")}
    assert again.expected(made.values(), other, "cpu").seconds["train1"] is None
    # What was measured long ago counts no more.
    for _ in range(20):
        kept.add(made["train1"], TIMED, "cpu", 3)
    assert again.expected(made.values(), TIMED, "cpu") == Expected({"train1": 3.0, "train2": 3.0, "merge1": 0.0}, 20)


def test_the_cache_of_seconds_is_bounded_and_damage_in_it_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "seconds.jsonl"
    kept, made = Durations(path), stages("train1")
    kept.add(made["train1"], TIMED, "cpu", 5)
    line = path.read_bytes()
    damaged = [
        b"\xff",
        b"[]",
        b"5",
        line[:20],
        line.replace(b"5.0", b"NaN").replace(b": 5}", b": NaN}"),
        b'{"seconds": 1}',
    ]
    path.write_bytes(line + b"\n".join(damaged) + b"\n" + line)
    assert kept.expected(made.values(), TIMED, "cpu") == Expected({"train1": 5.0}, 2)
    path.write_bytes(line * (256 * 2**10 // len(line)))
    kept.add(made["train1"], TIMED, "cpu", 6)
    assert path.stat().st_size <= 128 * 2**10
    lines = path.read_bytes().splitlines(keepends=True)
    assert set(lines[:-1]) == {line}
    assert json.loads(lines[-1])["seconds"] == 6
    assert [one.name for one in tmp_path.iterdir()] == ["seconds.jsonl"]
    path.unlink()
    os.mkfifo(path)
    kept.add(made["train1"], TIMED, "cpu", 5)
    assert kept.expected(made.values(), TIMED, "cpu") == Expected({"train1": None}, 0)
    Durations(path / "below").add(made["train1"], TIMED, "cpu", 5)


def test_stages_together_take_their_longest_chain_at_least() -> None:
    before = {"a": [], "b": [], "c": ["a"], "d": ["c", "gone"]}
    seconds: dict[str, float | None] = {"a": 10.0, "b": 50.0, "c": 20.0, "d": 5.0}
    assert [together(seconds, before, workers) for workers in (1, 2, 3)] == [85, 50, 50]
    assert together(seconds | {"b": 1.0}, before, 4) == 35
    assert together(seconds | {"b": None}, before) is None
    assert together({}, {}) == 0


def test_a_run_says_how_long_it_took_where_one_could_expect_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADAMERGEX_CACHE", str(tmp_path / "cache"))

    def took(name: str, *ids: str) -> Took | None:
        return execute(stages(*ids), TIMED, RunFolder(tmp_path / name), Hand(Silent()))

    assert took("one", "train1", "merge1") is None
    kept = Durations()
    for _ in range(9):
        kept.add(stages("train1")["train1"], TIMED, "toy", 600)
    # One was there already, and stages that take seconds at most count as none.
    found = took("one", "train1", "train2", "train3", "merge1")
    assert found is not None
    assert (found.expected, found.seconds < 60) == (1200, True)
    assert took("one", "train1", "merge1") is None
    assert took("two", "merge1") is None


def test_workers_of_a_pool_share_what_was_expected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAMERGEX_CACHE", str(tmp_path / "cache"))
    made = stages("train1", "train2", "train3", "train4")
    for device, seconds in (("H100", 100), ("CPU", 900)):
        Durations().add(made["train1"], TIMED, device, seconds)
    account = Account(made, TIMED, tmp_path / "events.jsonl", "ray")
    with account.open():
        account.joined("node3, CPU", "CPU", computes=False)
        account.joined("node3, GPU 0", "H100")
        account.joined("node3, GPU 1", "H100")
        account.events.begun("train1", "node3, GPU 0")
        found = Reader(tmp_path / "events.jsonl").look()
        assert found is not None
        assert found.seconds_left(found.last) == 4 * 100 / 2
        for id in made:
            account.ended(Outcome(id, "stored" if id == "train4" else "made", seconds=7), "node3, GPU 0")
        took = account.took()
    assert took is not None
    assert took.expected == 3 * 100 / 2
    assert Durations().expected(made.values(), TIMED, "H100") == Expected(dict.fromkeys(made, 7.0), 4)


def test_what_goes_on_from_where_it_was_cut_off_is_not_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADAMERGEX_CACHE", str(tmp_path / "cache"))

    def make(params: Params, inputs: Inputs, output: Path, scratch: Path, worker: Any) -> None:
        (output / "text").write_text("x")
        if not (scratch / "checkpoint").exists():
            (scratch / "checkpoint").write_text("half")
            raise KeyboardInterrupt

    kinds = {"train": Kind(Text, make, revision=1, cost=lambda params: "lora")}
    made = stages("train1")
    for number in range(2):
        try:
            execute(made, kinds, RunFolder(tmp_path / "run"), Hand(Silent()))
        except KeyboardInterrupt:
            assert number == 0
    assert (tmp_path / "run/train1/text").exists()
    assert Durations().expected(made.values(), kinds, "toy").measured == 0


@pytest.mark.parametrize(
    ("seconds", "exactly", "roughly"),
    [
        (0.2, "0 s", "0 s"),
        (45.4, "45 s", "45 s"),
        (119.4, "1 min 59 s", "1 min 59 s"),
        (120, "2 min", "2 min"),
        (690, "11 min 30 s", "12 min"),
        (3599.9, "1 h", "1 h"),
        (7530, "2 h 5 min", "2 h 6 min"),
    ],
)
def test_spans_of_time_in_words(seconds: float, exactly: str, roughly: str) -> None:
    assert (span(seconds), span(seconds, roughly=True)) == (exactly, roughly)
