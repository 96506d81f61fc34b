"""The folder beside an output in which answers are kept while there is work; it goes with the work, also after a kill."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from adamergex.errors import StorageError
from adamergex.storage.files import remove, storage, write_synced

_LOCK, _FINISHED = ".lock", "finished"


def of(output: Path) -> Path:
    """The folder of an output."""
    return output.with_name(f".{output.name}.journal")


def partial(folder: Path) -> Path:
    """The output as it is being written."""
    return folder / "output"


@contextmanager
def held(output: Path) -> Iterator[Path]:
    """Make the folder and lock it for this process within this context; it is removed at the end, unless it holds answers.

    Raises:
        StorageError: another process has it.
    """
    folder = of(output)
    with storage(output):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / _LOCK, timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise StorageError(
                f"{output}: another command is writing it; wait for it, or give another --output"
            ) from error
    try:
        yield folder
    except BaseException:
        if not any(folder.glob("*.json*")):
            _remove(folder)
        raise
    else:
        _remove(folder)
    finally:
        lock.release()


def put(folder: Path, output: Path) -> None:
    """Give a whole output its place. From here on the folder is of no use, which it says, should the command be killed."""
    write_synced(folder / _FINISHED, b"")
    partial(folder).rename(output)


def clear(output: Path) -> None:
    """Remove the folder that a command left which was killed after its output was in its place."""
    folder = of(output)
    with storage(output):
        if not folder.is_dir():
            return
        if not any(folder.iterdir()):
            folder.rmdir()
        elif (folder / _FINISHED).is_file() and not partial(folder).exists():
            lock = FileLock(folder / _LOCK, timeout=0)
            with suppress(Timeout):
                lock.acquire()
                _remove(folder)
            lock.release()


def _remove(folder: Path) -> None:
    """Remove the folder, and what says that it is of no use last."""
    for path in sorted(folder.iterdir(), key=lambda path: (path.name in (_LOCK, _FINISHED), path.name)):
        remove(path)
    with suppress(OSError):
        folder.rmdir()
