"""A store of finished stages: what is shared, what is broken, what goes."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from adamergex.errors import StorageError
from adamergex.execution.executor import execute, states
from adamergex.execution.run_folder import RunFolder, State
from adamergex.execution.stage import Kind, Stage
from adamergex.execution.store import Store
from adamergex.storage.record import MARK
from tests.execution.test_execution import KINDS, Hand, Recorder, Text, plan, write


def run(folder: Path, store: Store | None, stages: Any = None, kinds: Any = KINDS) -> list[str]:
    display = Recorder()
    run_folder = RunFolder(folder)
    with run_folder.held():
        execute(plan() if stages is None else stages, kinds, run_folder, Hand(display), store=store)
    return display.said


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def key_of(folder: Path, id: str) -> str:
    found: str = json.loads((folder / id / MARK).read_text())["key"]
    return found


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of an S3 server: moto's, in a thread."""
    moto = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    running = moto.ThreadedMotoServer(port=0)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture(params=["folder", "memory", "s3"])
def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], Store]]:
    """Opens the same store anew: of a folder, of fsspec's memory, of an S3 server."""
    if request.param == "folder":
        yield lambda: Store(str(tmp_path / "store"))
        return
    if request.param == "memory":
        yield lambda: Store(f"memory://{tmp_path.name}")
        return
    about = {"ACCESS_KEY_ID": "any", "SECRET_ACCESS_KEY": "any", "DEFAULT_REGION": "us-east-1"}
    for name, value in {**about, "ENDPOINT_URL": request.getfixturevalue("server")}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    bucket = tmp_path.name.lower().replace("_", "-")
    s3fs.S3FileSystem().mkdir(bucket)
    yield lambda: Store(f"s3://{bucket}/lab")
    s3fs.S3FileSystem.clear_instance_cache()


def test_what_one_run_made_another_takes(tmp_path: Path, store: Callable[[], Store]) -> None:
    store().check()
    assert run(tmp_path / "one", store()) == ["make data/a", "make data/b", "make both", "make last"]
    assert run(tmp_path / "two", store()) == [
        f"skip {id}, from the store" for id in ("data/a", "data/b", "both", "last")
    ]
    one, two = files(tmp_path / "one"), files(tmp_path / "two")
    assert {name: two[name] for name in two if not name.endswith(MARK)} == {
        name: one[name] for name in one if not name.endswith(MARK)
    }
    # What was taken is looked at as if it had been made here.
    assert run(tmp_path / "two", None) == ["skip data/a", "skip data/b", "skip both", "skip last"]


def test_what_was_made_before_there_was_a_store_is_put_there(tmp_path: Path, store: Callable[[], Store]) -> None:
    run(tmp_path / "one", None)
    assert run(tmp_path / "one", store()) == ["skip data/a", "skip data/b", "skip both", "skip last"]
    assert store().keys() == {key_of(tmp_path / "one", id) for id in plan()}


def test_a_broken_stage_is_made_and_replaced(tmp_path: Path, store: Callable[[], Store]) -> None:
    run(tmp_path / "one", store())
    opened = store()
    key = key_of(tmp_path / "one", "both")
    place = opened._of_file(opened.entry(key).record.files["text"][1])
    opened._put(b"a-b", place)
    assert opened.damage(key) == "text is not what was written"
    said = run(tmp_path / "two", store())
    assert said == [
        "skip data/a, from the store",
        "skip data/b, from the store",
        f"warn : both: not taken from the store: {opened.place}: {key}: text is not what was written",
        "make both",
        "skip last, from the store",
    ]
    assert (tmp_path / "two/both/text").read_text() == "a+b"
    assert store().damage(key) is None


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"key": 1}', b"[" * 100_000, b"\xff"])
def test_a_broken_list_of_files_is_none(tmp_path: Path, content: bytes) -> None:
    opened = Store(str(tmp_path / "store"))
    run(tmp_path / "one", opened)
    key = key_of(tmp_path / "one", "data/a")
    opened._put(content, opened._of_stage(key))
    assert "its list of files is not what was written" in str(opened.damage(key))
    assert "make data/a" in run(tmp_path / "two", opened)
    assert opened.damage(key) is None


def test_a_list_of_files_that_leaves_the_folder_is_none(tmp_path: Path) -> None:
    opened = Store(str(tmp_path / "store"))
    run(tmp_path / "one", opened)
    key = key_of(tmp_path / "one", "data/a")
    mark = json.loads(Path(opened._of_stage(key)).read_text())
    mark["files"]["../../out"] = mark["files"].pop("text")
    opened._put(json.dumps(mark).encode(), opened._of_stage(key))
    with pytest.raises(StorageError, match="its list of files is not what was written"):
        opened.fetch(key, tmp_path)


def test_notes_of_two_runs_that_made_the_same_do_not_mix(tmp_path: Path) -> None:
    """Seconds differ; both lists name files that hold what they say, and the first list stands."""
    opened = Store(str(tmp_path / "store"))
    for name in ("one", "two"):
        run(tmp_path / name, None)
    for name in ("one", "two"):
        opened.publish(tmp_path / name / "data/a")
    assert opened.damage(key_of(tmp_path / "one", "data/a")) is None
    opened.fetch(key_of(tmp_path / "two", "data/a"), tmp_path / "three")
    assert (tmp_path / "three/seconds").read_text() == (tmp_path / "one/data/a/seconds").read_text()


def test_what_no_run_uses_goes_when_asked(
    tmp_path: Path, store: Callable[[], Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path / "one", store())
    run(tmp_path / "two", store(), plan(a="other"))
    opened = store()
    kept = RunFolder(tmp_path / "two", make=False).keys()
    gone = {key_of(tmp_path / "one", id) for id in ("data/a", "both", "last")}
    assert set(opened.prune(kept, dry=True)[0]) == gone
    assert opened.keys() == kept | gone
    # Files of today stay, for their list may be on its way.
    assert opened.prune(kept)[1] == 0
    assert opened.keys() == kept
    monkeypatch.setattr("adamergex.execution.store._YOUNG", timedelta(0))
    assert opened.prune(kept)[1] > 0
    assert all(opened.damage(key) is None for key in kept)


def test_what_is_made_of_something_unknown_is_not_taken(tmp_path: Path) -> None:
    """Offline the version of a data set on the hub is unknown, and another machine may have another one at hand."""

    class Unknown(Text):
        @property
        def is_known(self) -> bool:
            return self.text != "a"

    kinds = KINDS | {"write": Kind(Unknown, write, revision=1, notes=("seconds",))}
    stages = plan() | {"data/a": Stage("data/a", "write", Unknown(text="a"))}
    opened = Store(str(tmp_path / "store"))
    run(tmp_path / "one", opened, stages, kinds)
    assert run(tmp_path / "two", opened, stages, kinds) == [
        "make data/a",
        "skip data/b, from the store",
        "skip both, from the store",
        "skip last, from the store",
    ]
    assert states(stages, kinds, RunFolder(tmp_path / "three"), opened)["data/a"] == State("absent")


def test_a_list_of_files_that_cannot_be_read_now_is_not_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be whole, and a run that is named may use it; one that is broken goes, whoever uses it."""
    monkeypatch.setattr("adamergex.execution.store._YOUNG", timedelta(0))
    opened = Store(str(tmp_path / "store"))
    run(tmp_path / "one", opened)
    kept, broken = RunFolder(tmp_path / "one", make=False).keys(), key_of(tmp_path / "one", "both")

    def refuse(path: str, **more: Any) -> bytes:
        raise PermissionError(13, "Permission denied", path)

    with monkeypatch.context() as patch:
        patch.setattr(opened._files, "cat_file", refuse)
        with pytest.raises(StorageError, match="no permission"):
            opened.prune(kept)
    assert all(opened.damage(key) is None for key in kept)
    opened._put(b"{", opened._of_stage(broken))
    assert opened.prune(kept)[0] == [broken]


def test_a_store_that_fails_in_the_middle_costs_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Store(str(tmp_path / "store"))
    asked = []

    def gone(*given: Any, **more: Any) -> None:
        asked.append(given)
        raise ConnectionError("gone for ten seconds")

    with monkeypatch.context() as patch:
        patch.setattr(opened._files, "exists", gone)
        said = run(tmp_path / "one", opened)
    assert [line for line in said if line.startswith("make")] == [
        "make data/a",
        "make data/b",
        "make both",
        "make last",
    ]
    assert [line for line in said if "gone for ten seconds" in line] == [
        f"warn : the store {opened.place} does not answer: gone for ten seconds; try again later; what is missing is made here",
        f"warn last: not everything is in the store: the store {opened.place} does not answer: gone for ten seconds; try again "
        "later; the same command puts it there",
    ]
    assert (tmp_path / "one/last/text").read_text() == "a+b!a+b"


def test_a_full_disk_is_not_taken_for_a_store_that_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Store(str(tmp_path / "store"))
    run(tmp_path / "one", opened)
    key = key_of(tmp_path / "one", "data/a")

    def full(*given: Any, **more: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("adamergex.execution.store.sha256", full)
        with pytest.raises(OSError, match="No space left on device"):
            opened.fetch(key, tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr(opened._files, "put_file", full)
        with pytest.raises(StorageError, match="refuses: .*No space left"):
            opened.publish(tmp_path / "one/data/a", replace=True)
    assert not [path for path in (tmp_path / "store").rglob("*") if "partial" in path.name]


def test_a_place_that_there_is_no_way_to(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="Protocol not known: nope"):
        Store("nope://x")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file"):
        Store(str(tmp_path / "file/store")).check()


@pytest.mark.parametrize("content", ["{", "[]", "{}", None])
def test_a_stage_without_a_whole_record_is_not_put_there(tmp_path: Path, content: str | None) -> None:
    (tmp_path / "a").mkdir()
    if content is not None:
        (tmp_path / "a/stage.json").write_text(content)
    with pytest.raises(StorageError, match="^.*/a: stage.json cannot be read$"):
        Store(str(tmp_path / "store")).publish(tmp_path / "a")
    assert not (tmp_path / "store").exists()
