"""Reads the authors' own files, by their published names and in their format."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from adamergex.data import readers
from adamergex.data.readers import Row
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
    for count, line in readers.lines(path):
        fields = line.rstrip("\r\n").split("\t")
        if fields == [""]:
            continue
        if len(fields) != len(columns):
            raise DataError(
                f"{path}:{count}: expected {len(columns)} fields between tabs ({', '.join(columns)}), got {len(fields)}"
            )
        yield f"{path}:{count}", dict(zip(columns, fields, strict=True))


def json_object(path: Path) -> dict[str, Any]:
    """A file that is one JSON object. Raises DataError where it is not."""
    try:
        whole = json.loads("".join(line for _, line in readers.lines(path)))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: not JSON: {error.msg}") from error
    if not isinstance(whole, dict):
        raise DataError(f"{path}: expected a JSON object, got {type(whole).__name__}")
    return whole
