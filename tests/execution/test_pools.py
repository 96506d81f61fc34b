"""Plans that several workers make: what they make, what the death of one costs, and what fails without the others."""

import os
import queue
import signal
import socket
import subprocess
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from adamergex.cli import main
from adamergex.distributed import Processes
from adamergex.errors import DataError, ExecutorError, IncompleteError, NetworkError, StorageError
from adamergex.execution import executor, local_pool, ray_pool, scheduler
from adamergex.execution.account import Account
from adamergex.execution.jobs import Job, Maker, News, Outcome, Place, Warned
from adamergex.execution.local_pool import LocalPool
from adamergex.execution.pool import Died, Ended, Event, Pool, Ready, Seat, Told
from adamergex.execution.ready import Ready as ReadyStages
from adamergex.execution.run_folder import RunFolder
from adamergex.execution.shared import Shared
from adamergex.execution.stage import Stage, version
from adamergex.execution.standing import Reader, Standing
from adamergex.execution.store import Store
from adamergex.models import device
from adamergex.pipeline import executors
from adamergex.pipeline.planned import Cell, Planned, lacking
from adamergex.progress import Silent
from tests.execution.toy import KINDS, Hand, setup, stage

ROOT = Path(__file__).parents[2]
# Two languages, and what is made of both.
PLAN = [stage("a"), stage("b"), stage("a/c", "", "a"), stage("d", "", "a/c", "b")]


class Bench:
    """A pool in this process, whose workers make their stages while the scheduler waits.

    Args:
        place: where things are.
        seats: its workers.
        own: a folder for those that do not see the run's.
    """

    def __init__(self, place: Place, seats: Iterable[Seat] = (Seat("one"), Seat("two")), own: Path | None = None):
        self.news: list[News] = []
        self.makers: dict[str, Maker] = {}
        self.waiting: deque[Event] = deque()
        self.given: list[tuple[str, str]] = []
        for seat in seats:
            at = place if seat.sees_folder else replace(place, token="of another machine")
            maker = Maker(at, setup, self.news.append, None if seat.sees_folder else own)
            self.makers[seat.name] = maker
            self.waiting.append(Ready(replace(seat, sees_folder=maker.hello.sees_folder), maker.hello))

    def submit(self, worker: str, job: Job) -> None:
        self.given.append((worker, job.stage.id))
        outcome = self.makers[worker].make(job)
        self.waiting += [*(Told(worker, one) for one in self.news), Ended(worker, outcome)]
        self.news.clear()

    def events(self, seconds: float) -> list[Event]:
        found = list(self.waiting)
        self.waiting.clear()
        return found

    def close(self) -> None:
        pass


class Shown(Silent):
    """What was said, by whichever worker."""

    def __init__(self, said: list[str] | None = None):
        self.said: list[str] = [] if said is None else said

    def lane(self) -> "Shown":
        return Shown(self.said)

    def stage(self, name: str) -> None:
        self.said.append(name)

    def skip(self, name: str) -> None:
        self.said.append(f"skip {name}")

    def warn(self, text: str) -> None:
        self.said.append(f"warn {text}")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    found = Place(tmp_path / "run", "token", ROOT, packages=("numpy",))
    found.probe.parent.mkdir(parents=True)
    found.probe.touch()
    return found


def run(place: Place, stages: Iterable[Stage], pool: Pool, **options: Any) -> list[str]:
    shown = Shown()
    try:
        scheduler.execute(
            {one.id: one for one in stages}, KINDS, RunFolder(place.folder), pool, shown, executor="local:2", **options
        )
    finally:
        pool.close()
    return [said for said in shown.said if said != "warn half done"]


def processes(place: Place, count: int = 2, **variables: str) -> LocalPool:
    names = [f"process {number}" for number in range(1, count + 1)]
    environment = {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]), **variables}
    return LocalPool(place, setup, dict.fromkeys(names, environment))


def text(place: Place, id: str) -> str:
    return (place.folder / id / "text").read_text()


def test_two_processes_make_what_one_makes(place: Place, tmp_path: Path) -> None:
    run(place, PLAN, processes(place))
    folder = RunFolder(tmp_path / "alone")
    worker: Any = Hand(Silent())
    executor.execute({one.id: one for one in PLAN}, KINDS, folder, worker)
    assert text(place, "d") == "acbd"
    for one in PLAN:
        assert (made := RunFolder(place.folder).record(one.id)) is not None
        assert (alone := folder.record(one.id)) is not None
        assert (made.digest, made.description) == (alone.digest, alone.description)
    assert int((place.folder / "d/pid").read_text()) != os.getpid()
    assert run(place, PLAN, Bench(place)) == [
        "skip [1/4] a",
        "skip [3/4] a/c",
        "skip [2/4] b",
        "skip [4/4] d",
    ]


def test_a_process_that_dies_loses_its_stage_alone_and_that_goes_on_where_it_was(place: Place) -> None:
    said = run(place, [stage("a", "dies once"), stage("b", "", "a"), stage("c")], processes(place))
    # Its scratch folder was what the first attempt had left.
    assert (text(place, "a"), text(place, "b"), text(place, "c")) == ("a+", "a+b", "c")
    (died,) = {line.removeprefix("warn ") for line in said if "was ended" in line and "made again" in line}
    assert died[:8] == "process "
    assert died[9:] == ": was ended by SIGKILL; a is made again"
    assert not [path for path in (place.folder / ".work/scratch").rglob("*") if path.is_file()]


def test_a_stage_that_kills_three_workers_fails_and_no_other_branch(place: Place) -> None:
    plan = [stage("a", "dies"), stage("a/c", "", "a"), stage("b"), stage("d", "", "b"), stage("e", "", "a/c", "d")]
    with pytest.raises(IncompleteError) as caught:
        run(place, plan, processes(place))
    (line,) = caught.value.problems
    assert line[:37] == "a failed (3 times): process 1 was end"[:37] or line[:30] == "a failed (3 times): process 2 "
    assert line.endswith("was ended by SIGKILL")
    assert text(place, "d") == "bd"
    assert not (place.folder / "e").exists()
    assert not (place.folder / "a/c").exists()


def test_a_users_mistake_is_tried_once_and_a_defect_three_times(place: Place) -> None:
    pool = Bench(place)
    with pytest.raises(IncompleteError) as caught:
        run(place, [stage("a", "wrong"), stage("b", "defect"), stage("c", "", "b"), stage("d")], pool)
    details = place.folder / ".work/failed/b.txt"
    assert caught.value.problems == [
        "a failed: rows.csv:3: no label",
        f"b failed (3 times): ValueError: of nothing ({details} says where)",
    ]
    assert 'raise ValueError("of nothing")' in details.read_text()
    assert sorted(id for _, id in pool.given) == ["a", "b", "b", "b", "d"]
    with RunFolder(place.folder).held():
        assert not details.exists()


def test_a_damaged_input_is_made_again_before_it_is_read(place: Place) -> None:
    run(place, PLAN[:3], Bench(place))
    (place.folder / "a/c/text").write_text("??")
    assert run(place, PLAN, Bench(place)) == [
        "skip [1/4] a",
        "skip [3/4] a/c",
        "skip [2/4] b",
        "[4/4] d · one",
        "warn a/c: damaged, made again: text is not what was written",
        "[3/4] a/c · one",
        "[4/4] d · one",
    ]
    assert text(place, "d") == "acbd"


def test_two_readers_of_a_damaged_input_wait_for_it(place: Place) -> None:
    plan = [stage("a"), stage("b", "", "a"), stage("c", "", "a")]
    run(place, plan[:1], Bench(place))
    (place.folder / "a/text").write_text("?")
    pool = Bench(place)
    run(place, plan, pool)
    assert (text(place, "b"), text(place, "c")) == ("ab", "ac")
    assert [id for _, id in pool.given] == ["b", "c", "a", "b", "c"]


def test_nobody_for_what_is_left_ends_the_run(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "IDLE", 0.0)
    with pytest.raises(
        ExecutorError, match="^none of CPU can make what is left: .* start a worker on this machine, too$"
    ):
        run(place, [stage("a", model="m")], Bench(place, [Seat("CPU", computes=False)]))


def test_what_is_read_at_the_end_is_verified(place: Place) -> None:
    run(place, PLAN, Bench(place))
    (place.folder / "d/text").write_text("????")
    assert run(place, PLAN, Bench(place), read=["d"])[-2:] == [
        "warn d: damaged, made again: text is not what was written",
        "[4/4] d · one",
    ]
    assert text(place, "d") == "acbd"


def test_news_of_a_worker_are_shown(place: Place) -> None:
    shown = Shown()
    scheduler.execute({"a": stage("a")}, KINDS, RunFolder(place.folder), Bench(place), shown, executor="local:2")
    assert shown.said == ["[1/1] a · one", "warn half done"]


def test_workers_that_differ_are_refused(place: Place) -> None:
    pool = Bench(place)
    hello = pool.makers["one"].hello
    pool.waiting[0] = Ready(Seat("one"), replace(hello, versions={**hello.versions, "numpy": "1.0"}))
    with pytest.raises(ExecutorError) as caught:
        run(place, PLAN, pool)
    assert str(caught.value) == (
        f"one has numpy 1.0, this process {version('numpy')}; results depend on it: install the same versions everywhere"
    )
    assert not (place.folder / "a").exists()


def test_a_worker_elsewhere_takes_and_brings_everything_through_the_store(place: Place, tmp_path: Path) -> None:
    at = replace(place, store=str(tmp_path / "store"))
    # `a` was made before there was a store; its reader's worker sees the store alone.
    run(place, [stage("a")], Bench(place))
    seats = [Seat("here", computes=False), Seat("there", sees_folder=False)]
    plan = [stage("a"), stage("b"), stage("a/c", "", "a", model="m"), stage("d", "", "a/c", "b", model="m")]
    pool = Bench(at, seats, tmp_path / "own")
    run(at, plan, pool, store=Store(str(tmp_path / "store")))
    assert pool.given == [("here", "b"), ("there", "a/c"), ("there", "d")]
    assert text(place, "d") == "acbd"
    assert sorted(path.name for path in (tmp_path / "own").iterdir() if path.name[0] != ".") == ["a", "b", "d"]


def test_a_worker_elsewhere_whose_input_is_broken_waits_until_it_is_made_again(place: Place, tmp_path: Path) -> None:
    class Breaks(Shown):
        """Breaks the record of the first stage once it is made."""

        def lane(self) -> "Breaks":
            return self

        def end(self) -> None:
            if not (place.folder / "b").exists() and not self.said.count("broken"):
                self.said.append("broken")
                (place.folder / "a/stage.json").write_text("{")

    at, shown = replace(place, store=str(tmp_path / "store")), Breaks()
    pool = Bench(at, [Seat("here", computes=False), Seat("there", sees_folder=False)], tmp_path / "own")
    plan = {one.id: one for one in (stage("a"), stage("b", "", "a", model="m"))}
    store = Store(str(tmp_path / "store"))
    scheduler.execute(plan, KINDS, RunFolder(at.folder), pool, shown, executor="ray", store=store)
    assert text(place, "b") == "ab"
    assert [worker for worker, id in pool.given if id == "a"] == ["here", "here"]
    assert "warn a: damaged, made again: stage.json cannot be read" in shown.said


def test_what_is_made_is_not_remembered(place: Place) -> None:
    plan, folder, pool = {one.id: one for one in PLAN}, RunFolder(place.folder), Bench(place)
    account = Account(plan, KINDS, None, "local:2")
    made = scheduler.Scheduler(plan, KINDS, folder, pool, Shown(), Shared(None, folder, Silent()), account)
    with account.open():
        made.run()
    assert (sorted(made.digests), made.descriptions) == (["a", "a/c", "b", "d"], {})


def test_a_worker_elsewhere_waits_for_a_store_that_does_not_answer(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = iter([True, True, False, True, False])
    fetch = Store.fetch

    def unsure(self: Store, key: str, output: Path) -> None:
        if next(failures, False):
            raise NetworkError("no route to the store")
        fetch(self, key, output)

    slept: list[float] = []
    monkeypatch.setattr(Store, "fetch", unsure)
    monkeypatch.setattr(time, "sleep", slept.append)
    at = replace(place, store=str(tmp_path / "store"))
    seats = [Seat("here", computes=False), Seat("there", sees_folder=False)]
    plan = [stage("a"), stage("b", "", "a", model="m")]
    run(at, plan, Bench(at, seats, tmp_path / "own"), store=Store(str(tmp_path / "store")))
    assert text(place, "b") == "ab"
    # Once for the input, and once for what comes back.
    assert slept == [1.0, 2.0, 1.0]


def test_a_worker_elsewhere_begins_once_the_store_answers(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = iter([True, True, True])

    def unsure(self: Store) -> None:
        if next(failures, False):
            raise NetworkError("no route to the store")

    slept: list[float] = []
    monkeypatch.setattr(Store, "check", unsure)
    monkeypatch.setattr(time, "sleep", slept.append)
    maker = Maker(replace(place, token="other", store=str(tmp_path / "store")), setup, print, place.folder / "own")
    assert not maker.hello.sees_folder
    assert slept == [1.0, 2.0, 4.0]


def test_a_worker_elsewhere_is_refused_where_it_cannot_write_the_store(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(self: Store) -> None:
        raise StorageError("the store refuses: no credentials")

    monkeypatch.setattr(Store, "check", refuses)
    with pytest.raises(StorageError, match="^the store refuses: no credentials$"):
        Maker(replace(place, token="other", store=str(tmp_path / "store")), setup, print, place.folder / "own")


def test_a_worker_elsewhere_is_refused_without_a_store(place: Place) -> None:
    with pytest.raises(
        ExecutorError, match="does not see .*/run: give a run folder that all machines share, or a --store"
    ):
        Maker(replace(place, token="other"), setup, print, place.folder / "own")


def test_processes_end_with_the_one_that_started_them(place: Place) -> None:
    pool = processes(place, 1)
    while not isinstance((events := pool.events(10))[0], Ready):
        assert not isinstance(events[0], Died)
    (process,) = pool._processes.values()
    process.is_closing = True
    # As when this process is gone: nobody is at the other end.
    socket.socket(fileno=os.dup(process.connection.fileno())).shutdown(socket.SHUT_RDWR)
    assert process.child.wait(timeout=10) == 1


def test_processes_that_cannot_begin_are_no_endless_loop(place: Place) -> None:
    with pytest.raises(ExecutorError, match=r"^process 1 ended with status 1 before it could begin$"):
        run(place, PLAN, processes(place, 1, PYTHONPATH="/nowhere", PYTHONSAFEPATH="1"))


def test_ctrl_c_leaves_processes_to_the_one_that_started_them(place: Place) -> None:
    pool = processes(place, 1)
    while not isinstance(pool.events(10)[0], Ready):
        pass
    (process,) = pool._processes.values()
    process.child.send_signal(signal.SIGINT)
    run(place, [stage("a")], _Begun(pool))
    assert text(place, "a") == "a"


class _Begun:
    """A pool whose only worker has said already that it is there."""

    def __init__(self, pool: LocalPool):
        self._pool, self._first = pool, True
        self.submit, self.close = pool.submit, pool.close

    def events(self, seconds: float) -> list[Event]:
        if self._first:
            self._first = False
            from adamergex.execution.jobs import Hello, versions

            return [Ready(Seat("process 1"), Hello(True, versions(KINDS, ("numpy",))))]
        return self._pool.events(seconds)


@pytest.mark.parametrize(
    ("seat", "wanted"),
    [
        # First a model, then what shares it, then another one, then what needs none.
        (Seat("GPU 0"), ["t1", "t3", "t2", "light", "late"]),
        (Seat("CPU", computes=False), ["light", "late"]),
    ],
)
def test_a_worker_stays_with_its_model(seat: Seat, wanted: list[str]) -> None:
    plan = [stage("light"), stage("t1", model="m"), stage("t2", model="n"), stage("t3", model="m"), stage("late")]
    ready = ReadyStages({one.id: one for one in plan}, KINDS)
    for id in ready.first():
        ready.offer(id)
    taken = []
    while (one := ready.take(seat)) is not None:
        taken.append(one)
    assert taken == wanted


def test_what_reads_the_users_data_is_made_where_they_are() -> None:
    plan: Mapping[str, Stage] = {one.id: one for one in PLAN}
    ready = ReadyStages(plan, KINDS)
    for id in ready.first():
        ready.offer(id)
    assert ready.take(Seat("there", sees_folder=False)) is None
    ready.offer("a/c")
    assert ready.take(Seat("there", sees_folder=False)) == "a/c"


def test_stages_behind_another() -> None:
    ready = ReadyStages({one.id: one for one in PLAN}, KINDS)
    assert (ready.first(), ready.behind("a"), ready.behind("b")) == (["a", "b"], ["a/c", "d"], ["d"])
    assert (ready.done("b"), ready.done("a"), ready.done("a/c")) == ([], ["a/c"], ["d"])


@pytest.mark.parametrize(
    ("executor", "address", "processes", "message"),
    [
        (
            "slurm",
            None,
            1,
            "--executor slurm: expected local (this process), local:N (N processes of this machine) or ray",
        ),
        (
            "local:0",
            None,
            1,
            "--executor local:0: expected local (this process), local:N (N processes of this machine) or ray",
        ),
        ("local:2", "auto", 1, "--address auto: goes with --executor ray, not with --executor local:2"),
        (
            "ray",
            None,
            2,
            "--executor ray: not under accelerate launch, whose 2 processes train one adapter together; leave one of both away",
        ),
    ],
)
def test_executors_that_there_are_not(executor: str, address: str | None, processes: int, message: str) -> None:
    several = Processes()
    several.count = processes
    with pytest.raises(ExecutorError) as caught:
        executors.check(executor, address, several)
    assert str(caught.value) == message


def test_each_process_has_a_gpu_or_its_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "gpus", lambda: ["2", "5"])
    assert executors.environments(2, "auto") == {
        "GPU 2": {"CUDA_VISIBLE_DEVICES": "2"},
        "GPU 5": {"CUDA_VISIBLE_DEVICES": "5"},
    }
    with pytest.raises(
        ExecutorError, match="^--executor local:3: this machine has 2 GPUs; one process for each at most$"
    ):
        executors.environments(3, "auto")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert executors.environments(3, "cpu") == {f"process {n}": {"OMP_NUM_THREADS": "2"} for n in (1, 2, 3)}
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert executors.environments(1, "cpu") == {"process 1": {"OMP_NUM_THREADS": "7"}}


def test_places_of_a_cluster() -> None:
    def node(id: str, host: str, **resources: float) -> dict[str, Any]:
        return {"NodeID": id, "NodeManagerHostname": host, "Resources": resources}

    nodes = [node("head-1", "head", CPU=4), node("gpu-1", "big", CPU=64, GPU=2), node("cpu-1", "cpu", CPU=8)]
    found = [(place.seat.name, place.seat.computes, place.options) for place in ray_pool._places(nodes, "head-1")]
    assert found == [
        ("head", True, {"num_cpus": 4}),
        ("big, GPU 0", True, {"num_gpus": 1, "num_cpus": 0}),
        ("big, GPU 1", True, {"num_gpus": 1, "num_cpus": 0}),
        ("big, CPU", False, {"num_gpus": 0, "num_cpus": 0}),
        ("cpu", True, {"num_cpus": 8}),
    ]
    # A head that computes nothing still has the user's data; two of one name are told apart.
    nodes = [node("abcdef-1", "vm"), node("bcdefa-2", "vm", CPU=1)]
    found = [(place.seat.name, place.seat.computes, place.options) for place in ray_pool._places(nodes, "abcdef-1")]
    assert found == [("vm abcdef, CPU", False, {"num_gpus": 0, "num_cpus": 0}), ("vm bcdefa", True, {"num_cpus": 1})]


@pytest.mark.parametrize("address", ["nowhere", "host:", ":6379x"])
def test_an_address_that_is_none(address: str) -> None:
    with pytest.raises(ExecutorError, match=f"^--address {address}: expected auto or HOST:PORT$"):
        ray_pool._reach(address)


def test_what_a_run_lacks_is_said_by_task_and_language() -> None:
    def of(task: str) -> Planned:
        cell = Cell(task, "sw", "base", "base", "base", f"{task}/items", f"{task}/base", None)
        return Planned({}, cells=(cell,), delivered={"es": f"{task}/es", "sw": f"{task}/sw"})

    one, several = of("a"), Planned({}, tasks={"a": of("a"), "b": of("b")})
    assert lacking(one, ["a/items"]) == ["sw"]
    assert lacking(several, ["a/es", "b/base", "b/sw", "adapters/reference-sw"]) == ["a/es", "b/sw"]


def test_a_run_that_lacks_something_has_exit_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails() -> None:
        raise IncompleteError("a failed: b", "not made: es; all else is")

    monkeypatch.setattr(main, "app", fails)
    with pytest.raises(SystemExit) as caught:
        main.main()
    assert caught.value.code == 1
    assert capsys.readouterr().err == "error: a failed: b\nerror: not made: es; all else is\n"


def told(place: Place) -> Standing | None:
    return Reader(RunFolder(place.folder, make=False).events).look()


def test_what_processes_make_can_be_seen_from_elsewhere(place: Place) -> None:
    pool = processes(place)
    submit, seen = pool.submit, list[tuple[str, str]]()

    def looked_at(worker: str, job: Job) -> None:
        standing = told(place)
        assert standing is not None
        assert standing.running[job.stage.id].worker == worker
        assert standing.workers[worker]
        assert set(job.stage.reads) <= standing.done
        seen.append((job.stage.id, worker))
        submit(worker, job)

    pool.submit = looked_at  # type: ignore[method-assign]
    run(place, [stage("a", "dies once"), stage("b", "", "a"), stage("c")], pool)
    assert sorted(id for id, _ in seen) == ["a", "a", "b", "c"]
    assert {worker for _, worker in seen} <= {"process 1", "process 2"}
    assert told(place) is None


def test_what_failed_is_told_until_the_next_run(place: Place) -> None:
    with pytest.raises(IncompleteError):
        run(place, [stage("a", "wrong"), stage("b", "", "a"), stage("c"), stage("d", "defect")], Bench(place))
    found = told(place)
    assert found is not None
    assert (found.done, found.running, found.blocked, found.ended) == ({"c"}, {}, ["b"], "failed")
    details = place.folder / ".work/failed/d.txt"
    assert found.failed == {"a": "rows.csv:3: no label", "d": f"ValueError: of nothing ({details} says where)"}
    assert (found.workers, found.began.executor) == ({"one": True, "two": True}, "local:2")
    run(place, [stage("a"), stage("b", "", "a"), stage("c"), stage("d")], Bench(place))
    assert told(place) is None


def test_readers_that_no_worker_has_yet_wait_for_a_damaged_input_too(place: Place) -> None:
    plan = [stage("a"), *(stage(id, "", "a") for id in "bcde")]
    run(place, plan[:1], Bench(place))
    (place.folder / "a/text").write_text("?")
    pool = Bench(place)
    run(place, plan, pool)
    assert [text(place, id) for id in "bcde"] == ["ab", "ac", "ad", "ae"]
    # The first two found it out; the others were ready then, and are given to nobody before it is made again.
    assert [id for _, id in pool.given] == ["b", "c", "a", "b", "c", "d", "e"]


def test_readers_of_what_cannot_be_made_again_are_not_waited_for(place: Place) -> None:
    plan = [stage("a"), stage("b", "", "a"), *(stage(id, "", "b") for id in "cdef")]
    run(place, plan[:2], Bench(place))
    for id in "ab":
        (place.folder / id / "text").write_text("?" * len(text(place, id)))
    pool = Bench(place)
    make = pool.makers["one"].make

    def fails(job: Job) -> Outcome:
        problem = DataError("rows.csv:3: no label")
        return Outcome("a", "failed", problem=problem) if job.stage.id == "a" else make(job)

    for maker in pool.makers.values():
        maker.make = fails  # type: ignore[method-assign]
    with pytest.raises(IncompleteError) as caught:
        run(place, plan, pool)
    assert caught.value.problems == ["a failed: rows.csv:3: no label"]
    assert sorted(caught.value.missing) == list("abcdef")


def test_an_input_that_is_damaged_again_and_again_fails(place: Place) -> None:
    pool = Bench(place)
    for maker in pool.makers.values():
        maker._damage = lambda job, id: "text is not what was written"  # type: ignore[method-assign]
    with pytest.raises(IncompleteError) as caught:
        run(place, [stage("a"), stage("b", "", "a"), stage("c")], pool)
    assert caught.value.problems == ["a failed (3 times): it was made, and text is not what was written"]
    assert [id for _, id in pool.given if id != "c"] == ["a", "b", "a", "b", "a", "b"]
    assert text(place, "c") == "c"


def test_a_worker_that_tells_something_before_it_is_there_is_heard(place: Place) -> None:
    pool = Bench(place)
    pool.waiting.appendleft(Told("one", Warned("no tracker")))
    assert run(place, [stage("a")], pool) == ["warn no tracker", "[1/1] a · one"]


def elsewhere(place: Place, tmp_path: Path) -> tuple[Place, Bench]:
    at = replace(place, store=str(tmp_path / "store"))
    seats = [Seat("here", computes=False), Seat("there", sees_folder=False)]
    return at, Bench(at, seats, tmp_path / "own")


def test_a_worker_elsewhere_takes_what_is_damaged_there_from_the_store_again(place: Place, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    plan = [stage("a"), stage("b", "", "a", model="m"), stage("c", "", "a", model="m")]
    at, pool = elsewhere(place, tmp_path)
    run(at, plan[:2], pool, store=store)
    (tmp_path / "own/a/text").write_text("?")
    at, pool = elsewhere(place, tmp_path)
    run(at, plan, pool, store=store)
    assert (pool.given, text(place, "c")) == ([("there", "c")], "ac")


def test_what_comes_back_through_the_store_is_what_readers_depend_on(place: Place, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    plan = [stage("a"), stage("b", "", "a", model="m"), stage("c", "", "b", model="m")]
    at, pool = elsewhere(place, tmp_path)
    make = pool.makers["there"].make
    # As where another run has put it there first, which a device had computed that differs in the last digits.
    pool.makers["there"].make = lambda job: replace(make(job), digest="0" * 64)  # type: ignore[method-assign]
    run(at, plan, pool, store=store)
    assert [id for _, id in pool.given] == ["a", "b", "c"]
    assert (record := RunFolder(place.folder).record("c")) is not None
    assert (made := RunFolder(place.folder).record("b")) is not None
    assert record.description is not None
    assert made.digest in str(record.description)


def test_a_stage_whose_other_inputs_come_later_waits_for_a_damaged_one_too(place: Place) -> None:
    plan = [stage("a"), stage("b", "", "a"), stage("c"), stage("d", "", "a", "c")]
    run(place, plan[:1], Bench(place))
    (place.folder / "a/text").write_text("?")
    pool = Bench(place)
    run(place, plan, pool)
    assert (text(place, "b"), text(place, "d")) == ("ab", "acd")
    # `c` is done when `a` is known to be damaged.
    assert [id for _, id in pool.given] == ["b", "c", "a", "b", "d"]


def test_processes_say_nothing_of_ctrl_c_while_they_start_nor_of_later_versions(
    place: Place, capfd: pytest.CaptureFixture[str]
) -> None:
    pool = processes(place, 1)
    (process,) = pool._processes.values()
    process.child.send_signal(signal.SIGINT)
    # Nor is what a library says of its later versions.
    run(place, [stage("a", "outlook")], pool)
    assert (text(place, "a"), capfd.readouterr().err) == ("a", "")


def test_a_machine_that_does_not_take_so_many_processes(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def start(*arguments: Any, **options: Any) -> Any:
        if started:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        started.append(popen(*arguments, **options))
        return started[0]

    monkeypatch.setattr(subprocess, "Popen", start)
    with pytest.raises(ExecutorError) as caught:
        processes(place, 3)
    assert str(caught.value) == (
        "--executor local:3: process 2 does not start: Resource temporarily unavailable; take fewer"
    )
    assert started[0].returncode == -signal.SIGTERM


class _Unreadable:
    """What another process cannot read."""

    def __reduce__(self) -> Any:
        return int, ("of no number",)


def test_what_cannot_be_read_is_waited_for_by_nobody(place: Place) -> None:
    pool: Any = object.__new__(LocalPool)
    pool._place, pool._setup, pool._events = place, setup, queue.SimpleQueue()
    ours, theirs = socket.socketpair()
    child = subprocess.Popen(["sleep", "60"])
    other = Connection(theirs.detach())
    other.send(_Unreadable())
    pool._listen("process 1", local_pool._Process(child, Connection(ours.detach())))
    assert pool._events.get_nowait() == Died(
        "process 1",
        "was ended: ValueError: invalid literal for int() with base 10: 'of no number'",
    )
    assert child.wait(10) == -signal.SIGKILL


class _Ray:
    """A cluster whose workers are gone."""

    class exceptions:  # noqa: N801 (as Ray has it)
        RayError = RuntimeError

    def wait(self, refs: list[str], num_returns: int, timeout: float) -> tuple[list[str], list[str]]:
        return refs[:num_returns], refs[num_returns:]

    def get(self, ref: str) -> None:
        raise RuntimeError("The actor died unexpectedly\nbefore finishing this task.")


def _gone(asked: Mapping[str, tuple[str, str]], *, is_ready: bool) -> Any:
    pool: Any = object.__new__(ray_pool.RayPool)
    pool._ray, pool._asked, pool._stillborn, pool._looked = _Ray(), dict(asked), Counter(), time.monotonic()
    pool._places = {"vm": ray_pool._Place(Seat("vm"), "id", {}, is_ready=is_ready)}
    return pool


def test_a_worker_of_a_cluster_that_is_gone_with_two_answers_is_gone_once() -> None:
    pool = _gone({"1": ("vm", "make"), "2": ("vm", "news")}, is_ready=True)
    assert (pool.events(0.0), pool._asked) == ([Died("vm", "is gone")], {})


def test_workers_of_a_cluster_that_never_begin_are_no_endless_loop() -> None:
    pool = _gone({}, is_ready=False)
    found = []
    for _ in range(3):
        pool._places = {"vm": ray_pool._Place(Seat("vm"), "id", {})}
        pool._asked, pool._looked = {"1": ("vm", "begin")}, time.monotonic()
        found += pool.events(0.0)
    assert found[:2] == [Died("vm", "is gone")] * 2
    assert str(found[2].problem) == (
        "vm died 3 times before it could begin; it may lack memory: "
        "The actor died unexpectedly before finishing this task."
    )


def test_a_worker_of_a_cluster_that_does_not_come_is_told_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    pool = _gone({}, is_ready=False)
    assert pool.events(0.0) == []
    pool._places["vm"].since -= 61
    (event,) = pool.events(0.0)
    assert event == Told(
        "vm",
        Warned(
            "vm: no worker there yet: something else may have its GPU or cores (`ray status` says so), or it still gets "
            "the base model, or waits for a store that does not answer"
        ),
    )
    assert pool.events(0.0) == []


def test_an_interrupted_run_ends_at_once_and_what_a_failed_one_made_is_shared(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared: list[list[str]] = []
    monkeypatch.setattr(Shared, "put_all", lambda self, ids: shared.append(list(ids)))

    class Interrupted(Bench):
        def events(self, seconds: float) -> list[Event]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(place, PLAN, Interrupted(place))
    assert shared == []
    with pytest.raises(IncompleteError):
        run(place, [stage("a"), stage("b", "wrong")], Bench(place))
    assert shared == [["a"]]
