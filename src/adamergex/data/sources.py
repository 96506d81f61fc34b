"""Rows of data from files, from the Hugging Face hub, or from a package: dictionaries, each with its place."""

import csv
import glob
import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from io import BufferedReader
from itertools import islice
from pathlib import Path
from typing import Any

from adamergex.data import packaged
from adamergex.data.settings import Source
from adamergex.errors import DataError

Row = tuple[str, dict[str, Any]]


def rows(source: Source, folder: Path, language: str) -> Iterator[Row]:
    """The rows of a source: pairs of a place, such as `train.jsonl:7`, and the row.

    Args:
        source: with `{language}` filled in.
        folder: what relative paths are relative to.
        language: which language of a package is wanted.

    Raises:
        DataError: a file is missing or malformed, or a data set does not load.
    """
    return islice(_all_rows(source, folder, language), source.limit)


def texts(source: Source, folder: Path, language: str, column: str) -> Iterator[str]:
    """The documents of a corpus: one column of its rows. Raises DataError as `rows`, and where a row has none."""
    for place, row in rows(source, folder, language):
        if not isinstance(row.get(column), str):
            raise DataError(
                f"{place}: no text in column {column!r}; the row has {', '.join(map(str, row))}; set reference.text"
            )
        yield row[column]


def _all_rows(source: Source, folder: Path, language: str) -> Iterator[Row]:
    if source.files is not None:
        for path in paths(source, folder):
            yield from _READERS[_ending(path)](path)
    elif source.package is not None:
        split = source.split or "train"
        for number, row in enumerate(packaged.rows(source.package, language, split)):
            yield f"{source.package}/{language}:{split}[{number}]", row
    else:
        yield from _hub(source)


def fingerprint(source: Source, folder: Path, language: str) -> dict[str, Any]:
    """What determines the rows of a source: hashes of files, or the name and version of what holds them.

    Raises:
        DataError: a file or package is missing.
    """
    described = source.model_dump(exclude_none=True)
    if source.files is not None:
        # Contents, not names: moving a data folder retrains nothing.
        described["files"] = [[_ending(path), _sha256(path)] for path in paths(source, folder)]
    elif source.dataset is not None:
        described["content"] = _dataset_version(source.dataset) if source.revision is None else None
    elif source.package is not None:
        described |= {"language": language, "version": packaged.version(source.package)}
    return described


@cache
def _dataset_version(dataset: str) -> str | None:
    """The commit of a data set on the hub, or a hash of a local folder; None where the hub does not answer.

    A run that was begun offline and is resumed online, or the reverse, reads such a data set anew.
    """
    if Path(dataset).is_dir():
        total = hashlib.sha256()
        for path in sorted(path for path in Path(dataset).rglob("*") if path.is_file()):
            total.update(f"{path.relative_to(dataset)} {_sha256(path)}\n".encode())
        return total.hexdigest()
    import huggingface_hub

    try:
        return huggingface_hub.HfApi().dataset_info(dataset, timeout=10).sha
    except Exception:  # offline, or a data set that the loader will name when it is read
        return None


def _sha256(path: Path) -> str:
    with _opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def licence(source: Source) -> str | None:
    """Under which licence a source says that its data is: the card of a data set, or the metadata of a package."""
    if source.package is not None:
        try:
            about = metadata.metadata(source.package)
        except metadata.PackageNotFoundError:
            return None
        classifiers = [name.rpartition(" :: ")[2] for name in about.get_all("Classifier", []) if "License ::" in name]
        named = [*about.get_all("License-Expression", []), *about.get_all("License", []), *classifiers]
        return named[0].strip().splitlines()[0] if named else None
    if source.dataset is not None and not Path(source.dataset).is_dir():
        found = _hub_card(source.dataset, source.revision).get("license")
        return ", ".join(found) if isinstance(found, list) else found
    return None


@cache
def _hub_card(dataset: str, revision: str | None) -> dict[str, Any]:
    """What the card of a data set declares; nothing where the hub does not answer."""
    import huggingface_hub

    try:
        card = huggingface_hub.HfApi().dataset_info(dataset, revision=revision, timeout=10).card_data
    except Exception:  # offline, or a data set that the loader will name when it is read
        return {}
    return card.to_dict() if card else {}


def paths(source: Source, folder: Path) -> list[Path]:
    """The files of a source: those that match a pattern, and of a folder all whose format is known, in sorted order.

    A file that several patterns match is there once.

    Raises:
        DataError: nothing matches, or a file's format is not known by its ending.
    """
    found = []
    for pattern in source.files or []:
        if (folder / pattern).is_dir():
            matches = [path for path in (folder / pattern).rglob("*") if path.is_file() and _ending(path) in _READERS]
            missing = f"holds no file of a known format; expected {', '.join(_READERS)}"
        else:
            here = (folder / match for match in glob.glob(pattern, root_dir=folder, recursive=True))
            matches = [path for path in here if path.is_file()]
            missing = "no such file; paths are relative to the recipe's folder, or to the current one"
        if not matches:
            raise DataError(f"{folder / pattern}: {missing}")
        found += sorted(matches)
    once: dict[str, Path] = {}
    for path in found:
        once.setdefault(os.path.abspath(path), path)
    for path in once.values():
        if _ending(path) not in _READERS:
            raise DataError(f"{path}: unknown format {path.suffix or 'without ending'}; expected {', '.join(_READERS)}")
    return list(once.values())


def _ending(path: Path) -> str:
    """What the format is known by; of a compressed file the ending before `.gz`, too."""
    name = path.name.lower()
    return next((ending for ending in _READERS if name.endswith(ending)), path.suffix.lower())


def _opened(path: Path) -> BufferedReader:
    try:
        return path.open("rb")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines, decoded one by one so that an error has its line."""
    number = 0
    with _opened(path) as stored, _unpacked(stored, path) as file:
        try:
            for number, line in enumerate(file, 1):
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{path}:{number}: not UTF-8 text; convert the file to UTF-8") from error
        except (EOFError, OSError, zlib.error) as error:
            raise DataError(f"{path}: cannot be read after line {number}: {error}") from error


def _unpacked(file: BufferedReader, path: Path) -> BufferedReader | gzip.GzipFile:
    return gzip.open(file) if path.suffix.lower() == ".gz" else file


def _has_half_character(value: Any) -> bool:
    """Whether text in a JSON value has a lone surrogate, which cannot be written as UTF-8."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def _jsonl(path: Path) -> Iterator[Row]:
    for number, line in lines(path):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}:{number}: not JSON: {error}") from error
        if "\\ud" in line.lower() and _has_half_character(row):
            raise DataError(f"{path}:{number}: half of a surrogate pair, which is no character; remove it")
        if not isinstance(row, dict):
            raise DataError(f"{path}:{number}: expected an object with keys, got {type(row).__name__}")
        yield f"{path}:{number}", row


def _json(path: Path) -> Iterator[Row]:
    """A list of objects, such as the reference files of the paper."""
    try:
        with _opened(path) as file:
            listed = json.loads(file.read().decode("utf-8-sig"))
    except ValueError as error:
        raise DataError(f"{path}: not JSON: {error}") from error
    if not isinstance(listed, list):
        raise DataError(f"{path}: expected a list of objects, got {type(listed).__name__}; is it .jsonl?")
    for number, row in enumerate(listed):
        if not isinstance(row, dict):
            raise DataError(f"{path}[{number}]: expected an object with keys, got {type(row).__name__}")
        if _has_half_character(row):
            raise DataError(f"{path}[{number}]: half of a surrogate pair, which is no character; remove it")
        yield f"{path}[{number}]", row


def _csv(path: Path) -> Iterator[Row]:
    csv.field_size_limit(2**31 - 1)  # A document may be longer than the library's 131,072 characters.
    reader = csv.DictReader(
        (line for _, line in lines(path)), delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True
    )
    try:
        for row in reader:
            if None in row or None in row.values():
                raise DataError(
                    f"{path}:{reader.line_num}: expected {len(reader.fieldnames or ())} columns; quote a field that holds the separator"
                )
            yield f"{path}:{reader.line_num}", row
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: {error}") from error


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches():
                for row in batch.to_pylist():
                    yield f"{path}[{number}]", row
                    number += 1
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: cannot be read as Parquet: {error}") from error


def _text(path: Path) -> Iterator[Row]:
    """Paragraphs: runs of lines between empty ones."""
    paragraph: list[str] = []
    start = 1
    for number, line in lines(path):
        if line.strip():
            if not paragraph:
                start = number
            paragraph.append(line.strip())
        elif paragraph:
            yield f"{path}:{start}", {"text": "\n".join(paragraph)}
            paragraph = []
    if paragraph:
        yield f"{path}:{start}", {"text": "\n".join(paragraph)}


_READERS = {
    ".jsonl": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _csv,
    ".parquet": _parquet,
    ".txt": _text,
    ".jsonl.gz": _jsonl,
    ".txt.gz": _text,
}


def _hub(source: Source) -> Iterator[Row]:
    """Stream a Hugging Face data set, so that a large one is read only as far as it is needed."""
    import datasets

    name = f"{source.dataset}{f'/{source.config}' if source.config else ''}:{source.split}"
    try:
        wanted = {"split": source.split, "revision": source.revision, "streaming": True}
        stream = datasets.load_dataset(source.dataset, source.config, **wanted, trust_remote_code=False)
        for number, row in enumerate(stream):
            yield f"{name}[{number}]", dict(row)
    except Exception as error:  # the library raises whatever its readers and its network raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{name}: does not load: {reason}") from error
