"""What a user can get wrong, as a tree of exceptions.

AdaMergeXError          anything below; the command line prints it as one line and exits with status 2
├── RecipeError         the recipe, with every problem found in it
├── DataError           a task file, a data set or a corpus: missing, empty, or with a wrong row
├── ModelError          a base model that does not load, or that the adapter does not fit
├── AdapterError        an adapter folder that cannot be read or written as it stands
├── MergeError          adapters that cannot be merged with each other
└── StorageError        the run folder: no space, no permission, or in use by another run

Any other exception is a defect of this package.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class AdaMergeXError(Exception):
    """A problem that the user can mend; its text says what, where and how."""


class RecipeError(AdaMergeXError):
    """One or more problems in a recipe, all of them found before anything ran.

    Attributes:
        problems: one line for each problem.
    """

    def __init__(self, problems: list[str]):
        self.problems = problems
        super().__init__("\n".join(problems))


class DataError(AdaMergeXError):
    """Task data or a corpus is missing, empty or malformed."""


class ModelError(AdaMergeXError):
    """The base model does not load, or has no module that the adapter names."""


class AdapterError(AdaMergeXError):
    """An adapter folder is missing, damaged or of a kind that is not supported."""


class MergeError(AdaMergeXError):
    """Adapters differ in what they were trained on or in shape."""


class StorageError(AdaMergeXError):
    """The run folder cannot be written."""


_STORAGE = {
    errno.ENOSPC: "no space left on the disk; free some and run again: finished stages are kept",
    errno.EDQUOT: "the disk quota is used up; free some space and run again: finished stages are kept",
    errno.EACCES: "no permission to write; choose another folder with --output or change its rights",
    errno.EPERM: "no permission to write; choose another folder with --output or change its rights",
    errno.EROFS: "the file system is read-only; choose another folder with --output",
    errno.ENOTDIR: "a part of the path is a file, not a folder; choose another folder with --output",
    errno.EEXIST: "a file is in the way; move it or choose another folder with --output",
}


@contextmanager
def storage(folder: Path) -> Iterator[None]:
    """Turn an operating-system error while writing below `folder` into a StorageError.

    Raises:
        StorageError: no space, no permission, read-only file system, a file in the way, or whatever else.
    """
    try:
        yield
    except OSError as error:
        reason = _STORAGE.get(error.errno or 0) or f"cannot be written: {error.strerror or error}"
        raise StorageError(f"{error.filename or folder}: {reason}") from error


def write_synced(path: Path, content: bytes) -> None:
    """Write a file and wait until the disk has it, so that a later rename never shows an empty one."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
