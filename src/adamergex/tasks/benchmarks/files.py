"""Reads the authors' own files, by their published names and in their format."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from adamergex.data import readers
from adamergex.data.formats import Format, Row
from adamergex.errors import DataError


def found(folder: Path, *names: str) -> Path:
    """The first of these names that is a file in the folder.

    Raises:
        DataError: none is.
    """
    for name in names:
        if (folder / name).is_file():
            return folder / name
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected one that holds {names[0]}")
    raise DataError(f"{folder}: holds no {' and no '.join(names)}; put the authors' file there")


def table(folder: Path, *names: str) -> Iterator[Row]:
    """The rows of a file whose ending says its format and whose columns have names. Raises DataError as `found`."""
    path = found(folder, *names)
    return readers.rows(path)


def tsv(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """Lines of fields between tabs, without a header and without quotes.

    Raises:
        DataError: a line has more or fewer fields, or the file cannot be read.
    """
    return readers.rows(path, Format(header=False, names=tuple(columns), quotes=False))
