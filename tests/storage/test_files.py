"""What a failing disk and a failing network are called, and errors that go from one process to another."""

import errno
import pickle
from pathlib import Path

import pytest

from adamergex import errors
from adamergex.errors import NetworkError, StorageError
from adamergex.storage.files import relative, storage
from adamergex.storage.outputs import beside


def _failing(folder: Path, error: Exception) -> None:
    with storage(folder):
        raise error


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError("the read operation timed out"),
        ConnectionResetError("reset by peer"),
        OSError(errno.ENETUNREACH, "unreachable"),
    ],
)
def test_a_server_that_does_not_answer_is_no_disk_that_cannot_be_written(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match="a server did not answer"):
        _failing(tmp_path, error)
    with pytest.raises(NetworkError), beside(tmp_path / "final", tmp_path / "work"):
        raise error
    assert [path.name for path in tmp_path.rglob("*")] == ["work"]


def test_a_file_elsewhere_that_cannot_be_read_is_called_so(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"^/data/train.csv: cannot be read: Permission denied"):
        _failing(tmp_path / "run", PermissionError(errno.EACCES, "Permission denied", "/data/train.csv"))


def test_a_full_disk_is_called_so_wherever_the_file_lies(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no space left"):
        _failing(tmp_path / "run", OSError(errno.ENOSPC, "No space left on device", "/cache/x"))


def test_errors_survive_pickling() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(kinds) > 5
    for kind in kinds:
        error = kind(["one", "two"]) if kind is errors.RecipeError else kind("what, where, how")
        back = pickle.loads(pickle.dumps(error))
        assert (type(back), str(back), vars(back)) == (kind, str(error), vars(error))


def test_a_way_back_from_a_folder_behind_a_link_leads_back(tmp_path: Path) -> None:
    """`runs` is often a link to a larger disk."""
    (tmp_path / "disk/far").mkdir(parents=True)
    (tmp_path / "home/data").mkdir(parents=True)
    runs = tmp_path / "home/runs"
    runs.symlink_to(tmp_path / "disk/far")
    (runs / "lab").mkdir()
    assert (runs / "lab" / relative(tmp_path / "home", runs / "lab") / "data").is_dir()
    assert relative(tmp_path / "home", tmp_path / "home/data") == ".."
