"""Files as a recipe names them, and their lines: found, opened, uncompressed and decoded."""

import bz2
import codecs
import glob
import gzip
import lzma
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from functools import partial
from io import BufferedReader, TextIOWrapper
from itertools import chain
from pathlib import Path
from typing import Any, AnyStr

from adamergex.data.bounds import LONGEST_LINE, Expanded
from adamergex.data.formats import EXPECTED, ending, kind
from adamergex.data.settings import Source
from adamergex.errors import DataError

# What decompression raises where a file is cut or damaged.
DAMAGED = (EOFError, OSError, zlib.error, lzma.LZMAError)
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
_LFS = b"version https://git-lfs.github.com/spec/"
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def paths(source: Source, folder: Path) -> list[Path]:
    """The files of a source: those that match a pattern, and of a folder all whose format is known, in sorted order.

    A pattern that is a file's or a folder's very name is that file or folder, whatever characters it has. A file that several
    patterns match is returned once.

    Raises:
        DataError: nothing matches, or a file's format is not known by its ending.
    """
    listed = []
    for given in source.files or []:
        pattern = os.path.expanduser(given)
        if (folder / pattern).is_dir():
            matches = [path for path in _below(folder / pattern) if kind(path) and os.path.isfile(path)]
            missing = f"holds no file of a known format; expected {EXPECTED}"
        elif (folder / pattern).is_file():
            matches, missing = [folder / pattern], ""
        else:
            files = (folder / match for match in glob.glob(pattern, root_dir=folder, recursive=True))
            matches = [path for path in files if path.is_file()]
            missing = "no such file; paths are relative to the recipe's folder, or to the current one"
        if not matches:
            raise DataError(f"{folder / pattern}: {missing}")
        listed += sorted(matches)
    distinct: dict[str, Path] = {}
    for path in listed:
        distinct.setdefault(os.path.abspath(path), path)
    for path in distinct.values():
        refuse_unknown(path)
    return list(distinct.values())


def _below(folder: Path) -> Iterator[Path]:
    """All files in a folder. Raises DataError where a part of it cannot be read."""

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot be read: {error.strerror}") from error

    for above, _, names in os.walk(folder, onerror=refuse):
        yield from (Path(above, name) for name in names)


def refuse_unknown(path: Path) -> None:
    """Check that a file's format is known. Raises DataError where it is not."""
    if kind(path) is None:
        raise DataError(f"{path}: unknown format {ending(path) or 'without ending'}; expected {EXPECTED}")


def opened(path: Path) -> BufferedReader:
    """Open a file for reading bytes. Raises DataError where that fails, or where Git LFS left a pointer in its place."""
    try:
        file = path.open("rb")
        if file.peek(len(_LFS)).startswith(_LFS):
            file.close()
            raise DataError(
                f"{path}: is a Git LFS pointer and not the file itself; run `git lfs pull` in its repository, or download it again"
            )
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    return file


def unpacked(file: BufferedReader, path: Path) -> BufferedReader:
    """What a file holds, uncompressed where it is compressed. Reading raises one of `DAMAGED` where it is cut or damaged."""
    packed = path.suffix.lower()
    reads: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
    if packed == ".zst":
        import pyarrow as pa

        content = pa.CompressedInputStream(pa.PythonFile(file), "zstd")
    elif packed in reads:
        content = reads[packed](file)
    else:
        return file
    return BufferedReader(Expanded(content, os.fstat(file.fileno()).st_size))


def lines(path: Path, encoding: str = "utf-8") -> Iterator[tuple[int, str]]:
    """Numbered lines with their ends. UTF-8 is decoded line by line, so that an error names its line."""
    with opened(path) as stored, unpacked(stored, path) as file:
        yield from decoded(file, path, encoding)


def decoded(file: BufferedReader, path: Path, encoding: str = "utf-8") -> Iterator[tuple[int, str]]:
    """Numbered lines of an open file, with their ends. Raises DataError as `lines`."""
    number, begun = 0, b""
    try:
        if _is_utf8(encoding):
            for number, line in enumerate(_ended(iter(partial(file.readline, LONGEST_LINE), b"")), 1):
                begun = line[:2]
                yield number, _text(path, number, line.decode("utf-8-sig" if number == 1 else "utf-8"))
        else:
            with TextIOWrapper(file, encoding, newline="\n") as text:
                for number, decoded in enumerate(_ended(iter(partial(text.readline, LONGEST_LINE), "")), 1):
                    yield number, _text(path, number, decoded)
    except UnicodeError as error:
        raise DataError(_undecodable(path, number, encoding, number == 1 and begun in _UTF16)) from error
    except DAMAGED as error:
        raise DataError(f"{path}: cannot be read after line {number}: {error}") from error


def _text(path: Path, number: int, line: str) -> str:
    """A line. Raises DataError where it cannot be one of a text."""
    if "\0" in line:
        raise DataError(f"{path}:{number}: NUL bytes, which no text has; is it of another format, or UTF-16?")
    if len(line) >= LONGEST_LINE:
        raise DataError(f"{path}:{number}: a line of more than {LONGEST_LINE:,} bytes; break it up")
    return line


def _ended(file: Iterable[AnyStr]) -> Iterator[AnyStr]:
    """Lines, which end with a line feed; in files of old Macs, whose first line ends with a carriage return, with either."""
    incoming = iter(file)
    first = next(incoming, None)
    if first is None:
        return
    if len(_cut(first)) == 1:
        yield first
        yield from incoming
        return
    for line in chain([first], incoming):
        yield from _cut(line)


def _cut(line: AnyStr) -> list[AnyStr]:
    return line.splitlines(True) if isinstance(line, bytes) else _LINE.findall(line)


def _is_utf8(encoding: str) -> bool:
    return codecs.lookup(encoding).name in ("utf-8", "utf-8-sig")


def _undecodable(path: Path, number: int, encoding: str, is_utf16: bool) -> str:
    if is_utf16:
        return (
            f"{path}: begins as UTF-16 does, and is read as {encoding}; write encoding: utf-16, or convert it to UTF-8"
        )
    if _is_utf8(encoding):
        return f"{path}:{number}: not UTF-8 text; convert the file to UTF-8, or name its encoding"
    return f"{path}: not {encoding} text after line {number}; convert the file to UTF-8, or name its encoding"
