"""Outputs of commands: made beside their place and put there in one step; what a killed command left is put back or removed.

What is being made lies in `.partial-NAME-RANDOM` beside its place: `new`, or `old` for a moment where the system cannot
exchange two folders; and `lock`, which the command holds as long as it lives, however it ends.
"""

import ctypes
import errno
import os
import re
import secrets
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from adamergex.errors import StorageError
from adamergex.storage.files import remove, storage, sync, write_synced

_NEW, _OLD, _LOCK = "new", "old", "lock"
# `AT_FDCWD` and `RENAME_EXCHANGE` of Linux, `RENAME_SWAP` of macOS.
_HERE, _EXCHANGE = -100, 2


@contextmanager
def replacing(output: Path, overwrite: bool) -> Iterator[Path]:
    """Write a folder within this context: yields an empty one that is put in the place of `output` at the end, in one step.

    Args:
        output: the folder to replace or create; its parents are made.
        overwrite: whether one that is there by then may be replaced.

    Raises:
        StorageError: no space, no permission, or whatever else; `output` is unchanged, and nothing of what was written
            is left but empty parent folders.
    """
    output = resolved(output)
    with storage(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        put_back(output)
        with _workspace(output) as work, beside(output, work, replace=overwrite) as new:
            yield new


def write(output: Path, content: bytes) -> None:
    """Write a file and put it in its place at once, also in that of another. Raises StorageError where it cannot be written."""
    with storage(output):
        put_back(output)
        with _workspace(output) as work:
            write_synced(work / _NEW, content)
            (work / _NEW).replace(output)
            sync(output.parent)


@contextmanager
def beside(final: Path, work: Path, *, replace: bool = True) -> Iterator[Path]:
    """Write a folder within this context: yields `work/new`, which is renamed to `final` at the end, in one step.

    Args:
        final: the folder to replace or create.
        work: a folder on the same file system, which nobody else uses.
        replace: whether what is there by then may be replaced, if it is more than an empty folder.

    Raises:
        StorageError: no space, no permission, or whatever else; `final` is unchanged.
    """
    new, old = work / _NEW, work / _OLD
    with storage(final):
        try:
            new.mkdir(parents=True)
            yield new
            for path in sorted(new.rglob("*")):
                sync(path)
            sync(new)
            final.parent.mkdir(parents=True, exist_ok=True)
            if replace and os.path.lexists(final):
                _exchange(new, final, old)
            else:
                _rename(new, final)
            sync(final.parent)
        except BaseException:
            if os.path.lexists(old) and not os.path.lexists(final):
                old.rename(final)
            raise
        finally:
            remove(new)
            remove(old)


def _rename(new: Path, final: Path) -> None:
    try:
        new.rename(final)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
        raise StorageError(
            f"{final} was made by somebody else meanwhile; choose another --output, or add --overwrite"
        ) from error


def _exchange(new: Path, final: Path, old: Path) -> None:
    """Exchange two paths, in one step where the system and the file system can; what was at `final` is at `new` afterwards."""
    if exchanged(new, final):
        return
    final.rename(old)
    new.rename(final)
    old.rename(new)


def exchanged(one: Path, other: Path) -> bool:
    """Exchange two paths in one step. Returns whether that was possible; nothing has changed where it was not."""
    if sys.platform not in ("linux", "darwin"):
        return False
    library = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(one), os.fsencode(other)
    if sys.platform == "darwin":
        return bool(library.renamex_np(*names, ctypes.c_uint(_EXCHANGE)) == 0)
    # musl has it since 1.2.6 only.
    call = getattr(library, "renameat2", None)
    return call is not None and call(_HERE, names[0], _HERE, names[1], ctypes.c_uint(_EXCHANGE)) == 0


@contextmanager
def _workspace(output: Path) -> Iterator[Path]:
    """A folder of a random name beside an output, locked by this process within this context, and removed at its end."""
    while True:
        # Not the process's number, which is the same in every container.
        work = output.with_name(f".partial-{output.name}-{secrets.token_hex(8)}")
        lock = FileLock(work / _LOCK)
        work.mkdir()
        try:
            lock.acquire()
            break
        except FileNotFoundError:
            # Another command took it for a dead one's in the moment before it was locked.
            continue
    try:
        yield work
    finally:
        _remove(work)
        lock.release()


def _remove(work: Path) -> None:
    """Remove a workspace, its lock last: without that nobody could tell that it is one."""
    for name in (_NEW, _OLD, _LOCK):
        remove(work / name)
    with suppress(OSError):
        work.rmdir()


def put_back(output: Path) -> None:
    """Clean up what killed commands left of the same output; an old result that is the only copy is put back, in a line.

    Of commands that are at work, and of whatever else has such a name, nothing is touched.
    """
    name = re.compile(rf"\.partial-{re.escape(output.name)}-[0-9a-f]{{16}}")
    if not output.parent.is_dir():
        return
    with storage(output):
        for found in sorted(filter(name.fullmatch, os.listdir(output.parent))):
            work = output.parent / found
            # Another user's may not be looked into.
            with suppress(NotADirectoryError, FileNotFoundError, PermissionError):
                if not work.is_symlink() and set(os.listdir(work)) <= {_NEW, _OLD, _LOCK}:
                    _finish(work, output)


def _finish(work: Path, output: Path) -> None:
    """Do to a workspace what its command would have done at its end, unless it is at work."""
    if not (work / _LOCK).is_file():
        # Killed before it was locked, or after everything was removed. Not if somebody has begun to use it.
        if not os.listdir(work):
            with suppress(OSError):
                work.rmdir()
        return
    lock = FileLock(work / _LOCK, timeout=0)
    with suppress(Timeout):
        lock.acquire()
    if not lock.is_locked:
        return
    try:
        if os.path.lexists(work / _OLD) and not os.path.lexists(output):
            (work / _OLD).rename(output)
            line = f"{output}: was put back, as it was before a command that replaced it was killed"
            print(line, file=sys.stderr)
        _remove(work)
    finally:
        lock.release()


def resolved(path: Path) -> Path:
    """The path without links and `..`, as the system would follow it. Raises StorageError where it cannot be one."""
    try:
        real = os.path.realpath(path)
        real.encode("utf-8")
    except (OSError, ValueError) as error:
        shown = str(path).encode("utf-8", "backslashreplace").decode()
        raise StorageError(f"{shown!r} is no path that can be written down: {error}") from error
    return Path(real)


def refuse_link(output: Path) -> None:
    """Refuse an output that is a symbolic link: what it leads to is not replaced unseen. Its parents may be links.

    Raises:
        StorageError: it is one; the message says where it leads.
    """
    if output.is_symlink():
        raise StorageError(
            f"{output} is a symbolic link to {os.readlink(output)}, and nothing is written through one; "
            "give what it leads to as --output, or another one"
        )


def replaceable(inputs: Mapping[str, Path], output: Path, overwrite: bool) -> list[str]:
    """The names in a folder that is to be written, sorted; none where it does not exist yet, or is empty.

    What a killed command left of it is put back or removed before.

    Args:
        inputs: what it is made from, by what each is; resolved.
        output: the folder to write.
        overwrite: whether one that is there may be replaced.

    Raises:
        StorageError: it would replace what must stay, whatever it holds.
    """
    refuse_link(output)
    target = resolved(output)
    for what, folder in inputs.items():
        if target == folder or target in folder.parents:
            raise StorageError(f"{output} would replace the {what} {folder}; choose another --output")
    if target in (current := Path.cwd(), *current.parents):
        raise StorageError(f"{output} is the current folder, or above it; choose another --output")
    put_back(target)
    try:
        if target.is_symlink() or (target.exists() and not target.is_dir()):
            raise StorageError(f"{output} is not a folder; choose another --output")
        present = sorted(path.name for path in target.iterdir()) if target.is_dir() else []
    except OSError as error:
        raise StorageError(f"{output}: {error.strerror or error}; choose another --output") from error
    if present and not overwrite:
        raise StorageError(f"{output} exists already; choose another --output, or add --overwrite")
    return present
