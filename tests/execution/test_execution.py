"""Plans of toy stages: what is made, what is not made again, what is damaged, and what a kill leaves."""

import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from adamergex.distributed import Processes
from adamergex.errors import DataError, NetworkError, StorageError
from adamergex.execution.executor import execute, states
from adamergex.execution.run_folder import MARK, RunFolder, State
from adamergex.execution.stage import Inputs, Kind, Params, Place, Plan, Stage, described, key, ordered
from adamergex.execution.store import Store
from adamergex.progress import Silent
from tests.execution.toy import Hand


class Text(Params):
    text: str = ""
    folder: Place = Path()


class Recorder(Silent):
    """What was made, skipped and warned of, in order."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self._name = ""

    def stage(self, name: str) -> None:
        self._name = name.rsplit(maxsplit=1)[-1]
        self.said.append(f"make {self._name}")

    def skip(self, name: str) -> None:
        self.said.append("skip " + name.rsplit("] ", maxsplit=1)[-1])

    def warn(self, text: str) -> None:
        self.said.append(f"warn {self._name}: {text}")


class OneOfTwo(Processes):
    """One of two processes that are threads here; what does not come to the same place within seconds never does."""

    def __init__(self, rank: int, meeting: Barrier, first: list[Any]):
        super().__init__()
        self.count, self.rank = 2, rank
        self._meeting, self._first = meeting, first

    def wait(self) -> None:
        self._meeting.wait(timeout=5)

    def agreed(self, value: Any) -> Any:
        if self.is_first:
            self._first[:] = [value]
        self.wait()
        (found,) = self._first
        self.wait()
        return found


def write(params: Text, inputs: Inputs, output: Path, scratch: Path, worker: Any) -> None:
    (output / "text").write_text(params.text)
    (output / "seconds").write_text(str(time.monotonic_ns()))


def join(params: Text, inputs: Inputs, output: Path, scratch: Path, worker: Any) -> None:
    parts = [(folder / "text").read_text() for folders in inputs.values() for folder in folders]
    (output / "text").write_text(params.text.join(parts))


KINDS = {
    "write": Kind(Text, write, revision=1, notes=("seconds",)),
    "early": Kind(Text, write, revision=1, notes=("seconds",), ahead=True),
    "join": Kind(Text, join, revision=1, packages=lambda params: ("numpy",)),
}


def plan(a: str = "a", b: str = "b", by: str = "+") -> dict[str, Stage]:
    stages = [
        Stage("data/a", "write", Text(text=a)),
        Stage("data/b", "early", Text(text=b)),
        Stage("both", "join", Text(text=by), {"left": ("data/a",), "right": ("data/b",)}),
        Stage("last", "join", Text(text="!"), {"all": ("both", "both")}, after=("data/b",)),
    ]
    return {stage.id: stage for stage in stages}


def run(folder: Path, stages: Plan, kinds: Any = KINDS, **options: Any) -> list[str]:
    display = Recorder()
    run_folder = RunFolder(folder)
    with run_folder.held():
        execute(stages, kinds, run_folder, Hand(display), **options)
    return display.said


def test_a_plan_is_made_once(tmp_path: Path) -> None:
    assert run(tmp_path, plan()) == ["make data/a", "make data/b", "make both", "make last"]
    assert (tmp_path / "last/text").read_text() == "a+b!a+b"
    assert run(tmp_path, plan()) == ["skip data/a", "skip data/b", "skip both", "skip last"]


def test_what_changes_is_made_again_and_says_why(tmp_path: Path) -> None:
    run(tmp_path, plan())
    assert run(tmp_path, plan(by="-")) == [
        "skip data/a",
        "skip data/b",
        "make both",
        'warn both: made again: text was "+", is "-"',
        "make last",
        "warn last: made again: its all changed",
    ]
    assert (tmp_path / "last/text").read_text() == "a-b!a-b"


def test_an_input_that_is_made_again_with_the_same_contents_makes_nothing_else_again(tmp_path: Path) -> None:
    run(tmp_path, plan())
    seconds = (tmp_path / "data/a/seconds").read_text()
    raised = KINDS | {"write": Kind(Text, write, revision=2, notes=("seconds",))}
    assert run(tmp_path, plan(), raised) == [
        "make data/a",
        "warn data/a: made again: revision was 1, is 2",
        "skip data/b",
        "skip both",
        "skip last",
    ]
    # A note differs, and is no part of what later stages were made of.
    assert seconds != (tmp_path / "data/a/seconds").read_text()


def test_what_a_kill_right_after_a_stage_left_of_it_is_removed(tmp_path: Path) -> None:
    run(tmp_path, plan())
    folder = RunFolder(tmp_path)
    description = folder.record("data/a").description  # type: ignore[union-attr]
    assert description is not None
    (folder.scratch("data/a", description) / "journal").write_text("x")
    # Of other parameters, with which it may go on.
    (other := folder.scratch("data/a", {}) / "journal").write_text("x")
    run(tmp_path, plan())
    assert [path for path in (tmp_path / ".work").rglob("*") if path.is_file()] == [other]


def test_what_no_run_wrote_into_a_result_is_kept_when_that_is_made_again(tmp_path: Path) -> None:
    run(tmp_path, plan())
    (tmp_path / "both/mine").mkdir()
    (tmp_path / "both/mine/model.gguf").write_text("x")
    run(tmp_path, plan(by="-"))
    assert sorted(path.name for path in (tmp_path / "both").iterdir()) == ["stage.json", "text"]
    assert (tmp_path / "set-aside/both/mine/model.gguf").read_text() == "x"


def test_equal_contents_under_another_id_are_the_same_input(tmp_path: Path) -> None:
    run(tmp_path, plan())
    moved = plan()
    moved["data/c"] = Stage("data/c", "write", Text(text="a"))
    moved["both"] = Stage("both", "join", Text(text="+"), {"left": ("data/c",), "right": ("data/b",)})
    assert [said for said in run(tmp_path, moved) if said.startswith("make")] == ["make data/c"]


def test_what_comes_before_without_being_read_makes_nothing_again(tmp_path: Path) -> None:
    run(tmp_path, plan())
    more = plan()
    more["check"] = Stage("check", "write", Text(text="new"))
    more["both"] = Stage("both", "join", Text(text="+"), more["both"].inputs, after=("check",))
    assert run(tmp_path, more)[:4] == ["skip data/a", "skip data/b", "make check", "skip both"]


def test_a_place_is_no_part_of_a_key() -> None:
    here, there = (Stage("a", "write", Text(text="a", folder=Path(at))) for at in ("here", "there"))
    assert key(described(here, KINDS["write"], {})) == key(described(there, KINDS["write"], {}))
    assert here.as_json()["params"]["folder"] == "here"


def test_versions_of_named_packages_alone_are_part_of_a_key() -> None:
    assert list(described(plan()["both"], KINDS["join"], {"data/a": "1", "data/b": "2"})["versions"]) == ["numpy"]
    assert described(plan()["data/a"], KINDS["write"], {})["versions"] == {}


def test_stages_are_equal_by_value_and_survive_json() -> None:
    for stage in plan().values():
        assert Stage.from_json(json.loads(json.dumps(stage.as_json())), KINDS) == stage


def test_stages_are_ordered_by_what_they_wait_for() -> None:
    assert [stage.id for stage in ordered(dict(reversed(plan().items())))] == ["data/a", "data/b", "both", "last"]
    with pytest.raises(ValueError, match="no stage"):
        ordered({"x": Stage("x", "write", Text(), after=("y",))})
    with pytest.raises(ValueError, match="waiting for it"):
        ordered({n: Stage(n, "write", Text(), after=(o,)) for n, o in (("x", "y"), ("y", "x"))})


def edit(folder: Path, **changes: Any) -> None:
    mark = json.loads((folder / MARK).read_bytes())
    (folder / MARK).write_text(json.dumps(mark | changes))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "text").unlink(), "text: No such file or directory"),
        (lambda folder: (folder / "text").write_text("longer"), "text has 6 bytes, 1 were written"),
        (lambda folder: (folder / MARK).write_text("{"), "stage.json cannot be read"),
        (lambda folder: (folder / MARK).write_text("[]"), "stage.json cannot be read"),
        (lambda folder: (folder / MARK).write_text("5"), "stage.json cannot be read"),
        (lambda folder: (folder / MARK).write_text("[" * 100_000), "stage.json cannot be read"),
        (lambda folder: edit(folder, files={}), "stage.json cannot be read"),
        (lambda folder: edit(folder, files={"../b/text": [1, "0"]}), "stage.json cannot be read"),
        (lambda folder: edit(folder, files={"a\0b": [1, "0"]}), "stage.json cannot be read"),
        (lambda folder: edit(folder, digest="0" * 64), "stage.json cannot be read"),
    ],
)
def test_damage_is_found_by_size_and_made_again(damage: Callable[[Path], Any], said: str, tmp_path: Path) -> None:
    run(tmp_path, plan())
    damage(tmp_path / "data/a")
    assert run(tmp_path, plan()) == [
        "make data/a",
        f"warn data/a: damaged, made again: {said}",
        "skip data/b",
        "skip both",
        "skip last",
    ]


def test_a_result_of_an_earlier_version_is_made_again_and_called_so(tmp_path: Path) -> None:
    run(tmp_path, plan())
    (tmp_path / "data/a" / MARK).write_text('{"name": "data/a", "fingerprint": "1", "settings": {}}')
    assert run(tmp_path, plan())[1] == "warn data/a: made again: another version of adamergex made it"


def test_damage_of_equal_size_is_found_when_it_is_read(tmp_path: Path) -> None:
    run(tmp_path, plan())
    (tmp_path / "data/a/text").write_text("x")
    # Nothing reads it: nobody notices, and nothing is made of it.
    assert run(tmp_path, plan()) == ["skip data/a", "skip data/b", "skip both", "skip last"]
    # The stage that reads it is to be made: it is made of what was meant.
    made = run(tmp_path, plan(by="-"))
    assert "warn data/a: damaged, made again: text is not what was written" in made
    assert (tmp_path / "last/text").read_text() == "a-b!a-b"


def test_damage_of_equal_size_is_found_by_whoever_reads_a_result(tmp_path: Path) -> None:
    run(tmp_path, plan())
    (tmp_path / "last/text").write_text("A+b!a+b")
    assert run(tmp_path, plan(), read=["last"])[-1] == "warn last: damaged, made again: text is not what was written"
    assert (tmp_path / "last/text").read_text() == "a+b!a+b"


def test_any_flipped_byte_of_the_list_itself_is_found(tmp_path: Path) -> None:
    run(tmp_path, {"data/a": plan()["data/a"]})
    mark = tmp_path / "data/a" / MARK
    whole = mark.read_bytes()
    note = json.loads(whole)["files"]["seconds"]
    for place in range(len(whole)):
        mark.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        found = RunFolder(tmp_path, make=False).state("data/a", json.loads(whole)["made_of"], verify=True)
        # What is said of a file with measurements differs between two runs, and is held against the file.
        expected = {f"{MARK} cannot be read", "seconds is not what was written"}
        expected |= {f"seconds has {note[0]} bytes, {other} were written" for other in range(100)}
        assert (found.status, found.why in expected) == ("damaged", True), (place, found)


def test_a_list_without_a_checksum_is_that_of_an_earlier_result(tmp_path: Path) -> None:
    run(tmp_path, plan())
    mark = json.loads((tmp_path / "data/a" / MARK).read_bytes())
    del mark["sha256"]
    (tmp_path / "data/a" / MARK).write_text(json.dumps(mark))
    assert run(tmp_path, plan())[0] == "skip data/a"


def test_what_is_no_result_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("data/a", "set-aside/data/a"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "thesis.tex").write_text(name)
    (tmp_path / "both").symlink_to("nowhere")
    (tmp_path / "last").write_text("mine")
    # An empty folder is in nobody's way.
    (tmp_path / "data/b").mkdir()
    assert run(tmp_path, plan())[:3] == [
        "make data/a",
        "warn data/a: damaged, made again: stage.json is missing",
        "make data/b",
    ]
    kept = {"data/a": "set-aside/data/a-2", "both": "set-aside/both", "last": "set-aside/last"}
    said = [
        f"{tmp_path / name}: is not what a run wrote there; it was moved to {tmp_path / to}"
        for name, to in kept.items()
    ]
    assert capsys.readouterr().err.splitlines() == said
    for name in ("data/a", "set-aside/data/a"):
        assert (tmp_path / (kept.get(name) or name) / "thesis.tex").read_text() == name
    assert (os.readlink(tmp_path / "set-aside/both"), (tmp_path / "set-aside/last").read_text()) == ("nowhere", "mine")
    assert (tmp_path / "last/text").read_text() == "a+b!a+b"


def test_a_result_behind_a_link_is_one_and_stays_when_it_is_made_again(tmp_path: Path) -> None:
    run(tmp_path / "run", plan())
    (tmp_path / "run/data/a").rename(tmp_path / "elsewhere")
    (tmp_path / "run/data/a").symlink_to(tmp_path / "elsewhere")
    assert run(tmp_path / "run", plan())[0] == "skip data/a"
    run(tmp_path / "run", plan(a="c"))
    assert not (tmp_path / "run/data/a").is_symlink()
    assert [(tmp_path / name / "text").read_text() for name in ("elsewhere", "run/data/a")] == ["a", "c"]


def test_an_empty_folder_makes_way_for_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = RunFolder(tmp_path)
    for name in ("report.md", ".files.json"):
        (tmp_path / name).mkdir()
    assert folder.write("report.md", b"new")
    assert (tmp_path / "report.md").read_bytes() == b"new"
    assert folder.is_written("report.md")
    assert capsys.readouterr().err == ""


def test_files_that_no_run_wrote_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = RunFolder(tmp_path)
    (tmp_path / "recipe.yaml").write_text("mine")
    assert folder.write("recipe.yaml", b"one")
    assert (tmp_path / "set-aside/recipe.yaml").read_text() == "mine"
    assert not folder.write("recipe.yaml", b"one")
    assert folder.write("recipe.yaml", b"two")
    assert folder.is_written("recipe.yaml")
    (tmp_path / "recipe.yaml").write_text("edited")
    assert not folder.is_written("recipe.yaml")
    folder.remove("recipe.yaml", "report.md")
    assert (tmp_path / "set-aside/recipe.yaml-2").read_text() == "edited"
    assert not (tmp_path / "recipe.yaml").exists()
    assert len(capsys.readouterr().err.splitlines()) == 2


@pytest.mark.parametrize("place", [Path.touch, lambda path: path.symlink_to("nowhere")], ids=["file", "link"])
def test_a_file_in_the_place_of_the_work_is_one_line(place: Callable[[Path], Any], tmp_path: Path) -> None:
    place(tmp_path / ".work")
    with pytest.raises(StorageError, match=r"\.work is not a folder; move it away, or choose another --output$"):
        run(tmp_path, plan())
    assert os.path.lexists(tmp_path / ".work")


def test_verify_looks_at_everything(tmp_path: Path) -> None:
    run(tmp_path, plan())
    (tmp_path / "data/a/text").write_text("x")
    assert run(tmp_path, plan(), verify=True)[:2] == [
        "make data/a",
        "warn data/a: damaged, made again: text is not what was written",
    ]


def test_scratch_outlives_a_failure_and_is_gone_with_success(tmp_path: Path) -> None:
    seen = []

    def make(params: Text, inputs: Any, output: Path, scratch: Path, worker: Any) -> None:
        seen.append(sorted(path.name for path in scratch.iterdir()))
        (scratch / "half").write_text("half")
        if len(seen) == 1:
            raise DataError("no")
        (output / "text").write_text("whole")

    kinds = {"x": Kind(Text, make, revision=1)}
    # One's id begins the other's.
    stages = {id: Stage(id, "x", Text(text=id)) for id in ("reference-zh", "reference-zh-Hant")}
    with pytest.raises(DataError):
        run(tmp_path, stages, kinds)
    run(tmp_path, stages, kinds)
    assert seen == [[], ["half"], []]
    assert not [path for path in (tmp_path / ".work").rglob("*") if path.is_file()]


def test_making_a_stage_keeps_what_others_left_half_done(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    other = folder.scratch("reference-zh-Hant", {"a": 1})
    (other / "checkpoint").write_text("state")
    run(tmp_path, {"reference-zh": Stage("reference-zh", "write", Text())})
    assert (other / "checkpoint").read_text() == "state"


def test_a_stage_that_fails_leaves_the_old_result(tmp_path: Path) -> None:
    run(tmp_path, plan())

    def fail(params: Text, inputs: Any, output: Path, scratch: Path, worker: Any) -> None:
        (output / "text").write_text("half")
        raise DataError("no")

    with pytest.raises(DataError):
        run(tmp_path, plan(), KINDS | {"write": Kind(Text, fail, revision=2)})
    assert (tmp_path / "data/a/text").read_text() == "a"


def test_before_first_is_called_before_anything_is_made_and_only_then(tmp_path: Path) -> None:
    calls = []
    run(tmp_path, plan(), before_first=lambda: calls.append((tmp_path / "data/b").exists()))
    run(tmp_path, plan(), before_first=lambda: calls.append(True))
    assert calls == [False]


def test_states_say_what_each_stage_waits_for(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert states(plan(), KINDS, folder) == {
        "data/a": State("absent"),
        "data/b": State("absent"),
        "both": ("data/a", "data/b"),
        "last": ("both",),
    }
    run(tmp_path, plan())
    assert set(states(plan(), KINDS, folder).values()) == {State("done")}
    assert states(plan(a="c"), KINDS, folder)["data/a"] == State("outdated", 'text was "a", is "c"')


def test_a_network_that_does_not_answer_is_no_disk_that_cannot_be_written(tmp_path: Path) -> None:
    def fail(error: Exception) -> Kind:
        def make(params: Text, inputs: Any, output: Path, scratch: Path, worker: Any) -> None:
            raise error

        return Kind(Text, make, revision=1)

    stages = {"x": Stage("x", "x", Text())}
    with pytest.raises(NetworkError, match="timed out"):
        run(tmp_path, stages, {"x": fail(TimeoutError("timed out"))})
    with pytest.raises(StorageError, match="no space left"):
        run(tmp_path, stages, {"x": fail(OSError(28, "No space left on device"))})


def test_two_runs_do_not_work_in_one_folder(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with folder.held(), pytest.raises(StorageError, match="another run"), RunFolder(tmp_path).held():
        pass


@pytest.mark.parametrize("is_stored", [False, True])
def test_several_processes_take_the_same_way_where_the_first_one_has_looked(tmp_path: Path, is_stored: bool) -> None:
    """What the first one read, or took from a store, the others do not look at alone."""
    store = Store(str(tmp_path / "store")) if is_stored else None
    run(tmp_path / "one", plan(), store=store)
    meeting, first, displays = Barrier(2), list[Any](), (Recorder(), Recorder())

    def work(rank: int) -> None:
        hand = Hand(displays[rank])
        hand.processes = OneOfTwo(rank, meeting, first)
        folder = RunFolder(tmp_path / ("two" if is_stored else "one"))
        try:
            execute(plan(by="-"), KINDS, folder, hand, read=["data/a", "data/b"], store=store)
        except BaseException:
            meeting.abort()
            raise

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(work, (0, 1)))
    ways = [[said.removesuffix(", from the store") for said in of.said if "warn" not in said] for of in displays]
    assert ways[0] == ways[1] == ["skip data/a", "skip data/b", "make both", "make last"]
