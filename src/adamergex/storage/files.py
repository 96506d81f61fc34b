"""Files: written atomically, with one-line errors where the disk fails; read and hashed."""

import errno
import glob
import hashlib
import json
import os
import platform
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adamergex.errors import NetworkError, StorageError

_STORAGE = {
    errno.ENOSPC: "no space left on the disk; free some and run the same command again",
    errno.EDQUOT: "the disk quota is used up; free some space and run the same command again",
    errno.EACCES: "no permission to write; choose another folder with --output or change its rights",
    errno.EPERM: "no permission to write; choose another folder with --output or change its rights",
    errno.EROFS: "the file system is read-only; choose another folder with --output",
    errno.ENOTDIR: "a part of the path is a file, not a folder; choose another folder with --output",
    errno.EEXIST: "a file is in the way; move it or choose another folder with --output",
}

# Errors of the disk as a whole, whichever file is named.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
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


def _below(folder: Path, name: Any) -> bool:
    """Whether a file is inside a folder, next to it or above it: where a result is written."""
    path, parent = Path(os.path.abspath(os.fsdecode(name))), Path(os.path.abspath(folder)).parent
    return path.is_relative_to(parent) or parent.is_relative_to(path)


def write_synced(path: Path, content: bytes) -> None:
    """Write a file and flush it to the disk, so that a later rename never leaves an empty one."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync(path: Path) -> None:
    """Flush a file's content, or a folder's entries, to the disk (fsync)."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def beside(final: Path, partial: Path, old: Path) -> Iterator[Path]:
    """Replace a folder atomically: it is written in `partial` within this context, and renamed to `final` at its end.

    Args:
        final: the folder to replace or create.
        partial: a path that does not exist yet, on the same file system.
        old: a path that does not exist yet; what was at `final` is moved there, and removed afterwards.

    Raises:
        StorageError: no space, no permission, or whatever else; `final` is unchanged, and nothing of what was written
            is left but empty parent folders.
    """
    with storage(final):
        try:
            partial.mkdir(parents=True)
            yield partial
            for path in sorted(partial.rglob("*")):
                sync(path)
            sync(partial)
            final.parent.mkdir(parents=True, exist_ok=True)
            if final.exists():
                final.rename(old)
            partial.rename(final)
            sync(final.parent)
        except BaseException:
            if old.exists() and not final.exists():
                old.rename(final)
            raise
        finally:
            remove(partial)
            remove(old)


def remove(path: Path) -> None:
    """Remove a file or a folder with its contents, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def running(process: int) -> bool:
    """Whether a process with this id exists on this machine; True where that cannot be determined."""
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except OSError as error:
        return error.errno != errno.ESRCH
    except OverflowError:
        return False
    return True


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
        raise OSError(errno.EFBIG, f"{path.stat().st_size:,} bytes are too many for settings", str(path))
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


def relative(path: Path, folder: Path) -> str:
    """A path as it is written in a folder: relative to it, or absolute where no way leads there, as between drives."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:
        return str(path.absolute())


def resolved(path: Path) -> Path:
    """The path without links and `..`, as the system would follow it. Raises StorageError where it cannot be one."""
    try:
        real = os.path.realpath(path)
        real.encode("utf-8")
    except (OSError, ValueError) as error:
        shown = str(path).encode("utf-8", "backslashreplace").decode()
        raise StorageError(f"{shown!r} is no path that can be written down: {error}") from error
    return Path(real)


def clear(output: Path) -> None:
    """Clean up what killed commands with the same output left behind on this machine."""
    for kind in (".old", ".partial"):
        for leftover in output.parent.glob(f"{kind}-{glob.escape(f'{output.name}.{platform.node()}')}.*"):
            owner = leftover.name.rpartition(".")[2]
            if not owner.isdecimal() or running(int(owner)):
                continue
            if kind == ".old" and not output.exists():
                # Killed between two renames: this is the only copy.
                leftover.rename(output)
            else:
                remove(leftover)


def replaceable(inputs: Mapping[str, Path], output: Path, overwrite: bool) -> list[str]:
    """The names in a folder that is to be written, sorted; none where it does not exist yet, or is empty.

    Args:
        inputs: what it is made from, by what each is; resolved.
        output: the folder to write.
        overwrite: whether one that is there may be replaced.

    Raises:
        StorageError: it would replace what must stay, whatever it holds.
    """
    target = resolved(output)
    for what, folder in inputs.items():
        if target == folder or target in folder.parents:
            raise StorageError(f"{output} would replace the {what} {folder}; choose another --output")
    if target in (current := Path.cwd(), *current.parents):
        raise StorageError(f"{output} is the current folder, or above it; choose another --output")
    try:
        if target.is_symlink() or (target.exists() and not target.is_dir()):
            raise StorageError(f"{output} is not a folder; choose another --output")
        present = sorted(path.name for path in target.iterdir()) if target.is_dir() else []
    except OSError as error:
        raise StorageError(f"{output}: {error.strerror or error}; choose another --output") from error
    if present and not overwrite:
        raise StorageError(f"{output} exists already; choose another --output, or add --overwrite")
    return present
