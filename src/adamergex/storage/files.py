"""Files: written and flushed, with one-line errors where the disk fails; read and hashed."""

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import platformdirs

from adamergex.errors import NetworkError, StorageError

_STORAGE = {
    errno.ENOSPC: "no space left on the disk; free some and run the same command again",
    errno.EDQUOT: "the disk quota is used up; free some space and run the same command again",
    errno.EFBIG: "a file may not become that large here (file system, or ulimit -f); choose another folder, or raise the limit",
    errno.EACCES: "no permission to write; choose another folder with --output or change its rights",
    errno.EPERM: "no permission to write; choose another folder with --output or change its rights",
    errno.EROFS: "the file system is read-only; choose another folder with --output",
    errno.ENOTDIR: "a part of the path is a file, not a folder; choose another folder with --output",
    errno.EEXIST: "a file is in the way; move it or choose another folder with --output",
}

# Errors of the disk as a whole, whichever file is named.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
_NETWORK = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN)

# Bytes of a file of settings.
_MOST_SETTINGS = 16 * 2**20


@contextmanager
def storage(folder: Path) -> Iterator[None]:
    """Turn an operating-system error while working below `folder` into an AdaMergeXError of one line.

    Raises:
        NetworkError: a server did not answer; nothing is wrong with the disk.
        StorageError: no space, no permission, read-only file system, a file in the way, or whatever else.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, ConnectionError | TimeoutError) or error.errno in _NETWORK:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise NetworkError(
                f"a server did not answer: {reason[:200]}; run the same command again to go on"
            ) from error
        if error.filename is not None and not _below(folder, error.filename) and error.errno not in _FULL:
            raise StorageError(f"{error.filename}: cannot be read: {error.strerror or error}") from error
        reason = _STORAGE.get(error.errno or 0) or f"cannot be written: {error.strerror or error}"
        raise StorageError(f"{error.filename or folder}: {reason}") from error


def full(error: OSError) -> str | None:
    """What to say of an error that no place of ours has foreseen, if the disk is to blame: full, read-only, or without a folder for
    temporary files; None of others.

    Libraries write in the temporary folder, and name no file then.
    """
    if "No usable temporary directory" in str(error):
        return "no folder can be written for temporary files; set TMPDIR to one that can"
    reason = _STORAGE.get(error.errno or 0)
    return f"{error.filename or tempfile.gettempdir()}: {reason}" if reason and error.errno in _FULL else None


def _below(folder: Path, name: Any) -> bool:
    """Whether a file is inside a folder, next to it or above it: where a result is written."""
    path, parent = Path(os.path.abspath(os.fsdecode(name))), Path(os.path.abspath(folder)).parent
    return path.is_relative_to(parent) or parent.is_relative_to(path)


def is_locked(path: Path) -> bool | None:
    """Whether a process has locked a file (`filelock`), as far as this machine sees; None where that cannot be known.

    Raises:
        OSError: there is no such file.
    """
    try:
        import fcntl
    except ImportError:
        return None
    try:
        with path.open("rb") as file:
            # Shared, and for no longer than it takes to close it: whoever wants the lock tries more than once.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError:
        return None
    return False


def write_synced(path: Path, content: bytes | memoryview) -> None:
    """Write a file and flush it to the disk, so that a later rename never leaves an empty one."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync(path: Path) -> None:
    """Flush a file's content, or a folder's entries, to the disk (fsync); where it may not be read, it is left to the system."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with its contents, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        # Where a file is in the place of a folder above, there is nothing below it.
        with suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal. Raises OSError where it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def jsonl(rows: Iterable[dict[str, Any]]) -> str:
    """One JSON object a line."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write one JSON object a line."""
    path.write_text(jsonl(rows), "utf-8")


def small(path: Path) -> bytes:
    """The content of a file of settings that somebody else may have written.

    Raises:
        OSError: it cannot be read, would never end, such as a pipe, or is too large for settings.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    if path.stat().st_size > _MOST_SETTINGS:
        raise OSError(errno.EINVAL, f"{path.stat().st_size:,} bytes are too many for settings", str(path))
    return path.read_bytes()


def from_json(content: str | bytes) -> Any:
    """What JSON that somebody else may have written says. Raises ValueError where it is malformed or nested too deeply."""
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object that was written whole."""
    content: dict[str, Any] = json.loads(path.read_bytes())
    return content


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read what `write_jsonl` wrote. Lines end at line feeds alone: text may hold Unicode's other separators."""
    return [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]


def expanded(name: str | Path) -> Path:
    """A path with the folder of the user in place of `~`; of a user that is not known, the name itself."""
    return Path(os.path.expanduser(name))


def relative(path: Path, folder: Path) -> str:
    """A path as it is written in a folder: relative to it, or absolute where no way leads there, as between drives."""
    try:
        # Where the folder is reached by a link, `..` leads on from where it lies.
        return Path(os.path.relpath(os.path.realpath(path), os.path.realpath(folder))).as_posix()
    except ValueError:
        return str(path.absolute())


def cache_folder() -> Path:
    """Where converted models, the seconds of stages and matplotlib's list of fonts are kept; it may not exist yet."""
    return Path(os.environ.get("ADAMERGEX_CACHE") or platformdirs.user_cache_path("adamergex"))
