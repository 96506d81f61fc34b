"""Outputs: put in their place in one step; what is somebody else's stays, what a killed command left is put back or removed."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from adamergex.errors import StorageError
from adamergex.storage import outputs
from adamergex.storage.outputs import put_back, refuse_link, replaceable, replacing


@pytest.fixture(params=[True, False], ids=["exchange", "two renames"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the system can exchange two folders; where it can, and as if it could not."""
    if not request.param:
        monkeypatch.setattr(outputs, "exchanged", lambda one, other: False)
    return bool(request.param)


def put(output: Path, text: str, overwrite: bool = True) -> None:
    with replacing(output, overwrite) as folder:
        (folder / "file").write_text(text)


def killed(work: Callable[[], None]) -> None:
    """Do something in a process that is killed in it."""
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def kill(*given: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_takes_the_place_of_another_and_nothing_else_is_left(way: bool, tmp_path: Path) -> None:
    for text in ("one", "two"):
        put(tmp_path / "a/out", text)
        assert (tmp_path / "a/out/file").read_text() == text
    assert names(tmp_path / "a") == ["out"]


def test_there_is_no_moment_without_a_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "out", "one")
    renames = []
    monkeypatch.setattr(Path, "rename", lambda self, to: renames.append(to))
    put(tmp_path / "out", "two")
    assert (renames, (tmp_path / "out/file").read_text()) == ([], "two")


def test_killed_before_the_last_step_the_old_result_is_there_and_the_next_command_tidies_up(
    way: bool, tmp_path: Path
) -> None:
    put(tmp_path / "out", "one")

    def half() -> None:
        with replacing(tmp_path / "out", True) as folder:
            (folder / "file").write_text("two")
            kill()

    killed(half)
    assert (tmp_path / "out/file").read_text() == "one"
    assert len(names(tmp_path)) == 2
    put(tmp_path / "out", "three")
    assert (names(tmp_path), (tmp_path / "out/file").read_text()) == (["out"], "three")


def test_killed_between_two_renames_the_old_result_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "out", "precious")

    def one_rename(new: Path, final: Path, old: Path) -> None:
        final.rename(old)
        kill()

    with monkeypatch.context() as patch:
        patch.setattr(outputs, "_exchange", one_rename)
        killed(lambda: put(tmp_path / "out", "two"))
    assert not (tmp_path / "out").exists()
    with pytest.raises(StorageError, match="exists already"):
        replaceable({}, tmp_path / "out", overwrite=False)
    assert (names(tmp_path), (tmp_path / "out/file").read_text()) == (["out"], "precious")
    said = f"{tmp_path}/out: was put back, as it was before a command that replaced it was killed\n"
    assert capsys.readouterr().err == said


def test_killed_after_the_last_step_the_new_result_is_there_and_the_rest_goes(
    way: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "out", "one")
    with monkeypatch.context() as patch:
        patch.setattr(outputs, "remove", kill)
        killed(lambda: put(tmp_path / "out", "two"))
    assert (tmp_path / "out/file").read_text() == "two"
    put_back(tmp_path / "out")
    assert (names(tmp_path), (tmp_path / "out/file").read_text()) == (["out"], "two")


def test_what_a_command_at_work_makes_is_left_alone(tmp_path: Path) -> None:
    with replacing(tmp_path / "out", True) as folder:
        (folder / "file").write_text("alive")
        put(tmp_path / "out", "other")
        assert (folder / "file").read_text() == "alive"
    assert (names(tmp_path), (tmp_path / "out/file").read_text()) == (["out"], "alive")


def test_what_only_has_such_a_name_is_left_alone(tmp_path: Path) -> None:
    mark = "0123456789abcdef"
    others = [f".partial-out-{mark}0", ".partial-out-old", f".partial-other-{mark}", f".old-out-{mark}"]
    for name in others:
        (tmp_path / name).mkdir()
    mine = tmp_path / f".partial-out-{mark}"
    mine.mkdir()
    (mine / "thesis.tex").write_text("all of it")
    (mine / "lock").touch()
    link = tmp_path / f".partial-out-{mark[::-1]}"
    link.symlink_to(mine)
    put_back(tmp_path / "out")
    assert names(tmp_path) == sorted([*others, mine.name, link.name])
    assert (mine / "thesis.tex").exists()


def test_killed_before_or_after_there_was_a_lock_nothing_stays(tmp_path: Path) -> None:
    (tmp_path / ".partial-out-0123456789abcdef").mkdir()
    put_back(tmp_path / "out")
    assert names(tmp_path) == []


def test_of_two_that_may_not_replace_the_second_is_refused(tmp_path: Path) -> None:
    def second() -> None:
        with replacing(tmp_path / "out", False):
            put(tmp_path / "out", "first", overwrite=False)

    with pytest.raises(StorageError, match="out was made by somebody else meanwhile"):
        second()
    assert (names(tmp_path), (tmp_path / "out/file").read_text()) == (["out"], "first")


def test_an_interrupt_leaves_the_old_result_and_nothing_else(way: bool, tmp_path: Path) -> None:
    put(tmp_path / "out", "one")
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "out", True):
        raise KeyboardInterrupt
    assert (names(tmp_path), (tmp_path / "out/file").read_text()) == (["out"], "one")


@pytest.mark.parametrize("target", ["there", "nowhere"])
def test_nothing_is_written_through_a_link(target: str, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "out").symlink_to(target)
    said = (
        f"{tmp_path}/out is a symbolic link to {target}, and nothing is written through one; "
        "give what it leads to as --output, or another one"
    )
    for look in (refuse_link, lambda path: replaceable({}, path, overwrite=True)):
        with pytest.raises(StorageError) as caught:
            look(tmp_path / "out")
        assert str(caught.value) == said
    # Parents may be links.
    (tmp_path / "far").symlink_to("there")
    put(tmp_path / "far/out", "text")
    assert (tmp_path / "there/out/file").read_text() == "text"
