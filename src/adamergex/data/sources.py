"""Rows of data from files, from the Hugging Face hub, or from a package: dictionaries, each with its location."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Any

from adamergex.data import nested, packaged, readers
from adamergex.data.bounds import LONGEST_DOCUMENT, LONGEST_ROW, bounded
from adamergex.data.files import opened, paths
from adamergex.data.formats import Row, ending
from adamergex.data.settings import Source
from adamergex.errors import DataError

# Values of a column that a message lists.
_SHOWN = 12
# Rows of a plain text on the hub that are at hand to draw the next one from; so many are fetched before the first.
_NEIGHBOURS = 1000


def rows(source: Source, folder: Path, language: str, corpus: bool = False) -> Iterator[Row]:
    """The rows of a source: pairs of a location, such as `train.jsonl:7`, and the row.

    Args:
        source: with `{language}` filled in.
        folder: what relative paths are relative to.
        language: of a package's data.
        corpus: whether rows are documents of a corpus, which plain text is looked at for.

    Raises:
        DataError: a file is missing or malformed, or a data set does not load.
    """
    found = _all_rows(source, folder, language, corpus)
    if isinstance(source.columns, dict):
        renamed = source.columns
        found = (_renamed(*row, renamed) for row in found)
    if source.where:
        found = _wanted(found, source.where)
    return islice(found, source.limit)


def texts(source: Source, folder: Path, language: str, column: str) -> Iterator[str]:
    """The documents of a corpus: one column of its rows, empty where it is null.

    Raises:
        DataError: as `rows`; or a row has no such column, or no text in it.
    """
    for location, row in rows(source, folder, language, corpus=True):
        text = "" if column in row and row[column] is None else nested.value(row, column)
        if text is None:
            raise DataError(
                f"{location}: no text in column {column!r}; the row has {', '.join(map(str, row))}; set reference.text"
            )
        if not isinstance(text, str):
            raise DataError(f"{location}: column {column!r} holds a {type(text).__name__}; expected text, or null")
        yield text


def _renamed(location: str, row: dict[str, Any], columns: dict[str, str]) -> Row:
    """A row with its columns under the names that a recipe has for them, too."""
    values = nested.resolved(row, columns.values())
    if missing := [column for column in columns.values() if column not in values]:
        raise DataError(
            f"{location}: no column {missing[0]!r}, which columns names; the row has {', '.join(map(str, row))}"
        )
    return location, row | {name: values[column] for name, column in columns.items()}


def _wanted(found: Iterator[Row], where: Mapping[str, Any]) -> Iterator[Row]:
    """The rows that have these values. Raises DataError where a row lacks a column, or none has them."""
    wanted = {
        column: {_as_text(value) for value in (values if isinstance(values, list) else [values])}
        for column, values in where.items()
    }
    seen: dict[str, dict[str, None]] = {column: {} for column in wanted}
    location, has_rows = "", False
    for location, row in found:
        values = {column: nested.value(row, column) for column in wanted}
        if missing := [column for column, value in values.items() if value is None]:
            raise DataError(
                f"{location}: no column {missing[0]!r}, which where names; the row has {', '.join(map(str, row))}"
            )
        if all(_as_text(values[column]) in ones for column, ones in wanted.items()):
            has_rows = True
            yield location, row
        elif not has_rows:
            for column, value in values.items():
                if len(seen[column]) < _SHOWN:
                    seen[column][_as_text(value)] = None
    if not has_rows and location:
        column = next((one for one, ones in wanted.items() if not ones & seen[one].keys()), next(iter(wanted)))
        raise DataError(
            f"{location}: the last row, and none had {column!r} as where wants it: {' or '.join(sorted(wanted[column]))}; "
            f"there are {', '.join(seen[column])}"
        )


def _as_text(value: Any) -> str:
    """A value as it is compared: numbers and truth values of JSON as tables and YAML write them."""
    return str(value).lower() if isinstance(value, bool) else str(value).strip()


def _all_rows(source: Source, folder: Path, language: str, corpus: bool) -> Iterator[Row]:
    longest = LONGEST_DOCUMENT if corpus else LONGEST_ROW
    if source.files is not None:
        for path in paths(source, folder):
            form = readers.corpus_format(source, path) if corpus else readers.format_of(source)
            yield from readers.rows(path, form, longest)
    elif source.package is not None:
        split = source.split or "train"
        for number, row in enumerate(packaged.rows(source.package, language, split)):
            yield f"{source.package}/{language}:{split}[{number}]", row
    else:
        yield from bounded(_hub(source, shuffled=corpus), longest)


def fingerprint(source: Source, folder: Path, language: str) -> dict[str, Any]:
    """What determines the rows of a source: hashes of files, or the name and version of a data set or package.

    Raises:
        DataError: a file or package is missing.
    """
    described = source.model_dump(exclude_none=True)
    if source.files is not None:
        # Contents, not names, so that moving a data folder retrains nothing.
        described["files"] = [[ending(path), _sha256(path)] for path in paths(source, folder)]
    elif source.dataset is not None:
        described["content"] = _dataset_version(source.dataset, source.revision)
    elif source.package is not None:
        described |= {"language": language, "version": packaged.version(source.package)}
    return described


def is_known(content: Mapping[str, Any]) -> bool:
    """Whether what `fingerprint` returned determines the rows: not of a data set whose version the hub did not say."""
    return content.get("content", "") is not None


@cache
def _dataset_version(dataset: str, revision: str | None) -> str | None:
    """The commit of a data set on the hub (of its main branch, or of a branch or tag), or a hash of a local folder.

    None where the hub does not answer.

    A run that was begun offline and is resumed online, or the reverse, reads such a data set again.
    """
    if Path(dataset).is_dir():
        total = hashlib.sha256()
        for path in sorted(path for path in Path(dataset).rglob("*") if path.is_file()):
            total.update(f"{path.relative_to(dataset)} {_sha256(path)}\n".encode())
        return total.hexdigest()
    if revision is not None and re.fullmatch("[0-9a-f]{40}", revision):
        return revision
    import huggingface_hub

    try:
        return huggingface_hub.HfApi().dataset_info(dataset, revision=revision, timeout=10).sha
    except Exception:  # offline, or a data set that the loader will name when it is read
        return None


def _sha256(path: Path) -> str:
    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def licence(source: Source) -> str | None:
    """The licence that a source declares, in the card of a data set or the metadata of a package."""
    if source.package is not None:
        try:
            about = metadata.metadata(source.package)
        except metadata.PackageNotFoundError:
            return None
        classifiers = [name.rpartition(" :: ")[2] for name in about.get_all("Classifier", []) if "License ::" in name]
        names = [*about.get_all("License-Expression", []), *about.get_all("License", []), *classifiers]
        return names[0].strip().splitlines()[0] if names else None
    if source.dataset is not None and not Path(source.dataset).is_dir():
        licences = _hub_card(source.dataset, source.revision).get("license")
        return ", ".join(licences) if isinstance(licences, list) else licences
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


def _hub(source: Source, shuffled: bool) -> Iterator[Row]:
    """Stream a Hugging Face data set, so that a large one is read only as far as it is needed.

    Args:
        source: names it.
        shuffled: its files in a drawn order, the same in every run, and rows among their neighbours: those that come first are
            often of one kind, such as the oldest articles of a Wikipedia.
    """
    import datasets

    name = f"{source.dataset}{f'/{source.config}' if source.config else ''}:{source.split}"
    try:
        options = {"split": source.split, "revision": source.revision, "streaming": True}
        stream = datasets.load_dataset(source.dataset, source.config, **options, trust_remote_code=False)
        if shuffled:
            stream = stream.shuffle(seed=0, buffer_size=_NEIGHBOURS)
        for number, row in enumerate(stream):
            yield f"{name}[{number}]", dict(row)
    except Exception as error:  # the library raises whatever its readers and its network raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{name}: does not load: {reason}") from error
