"""Rows of JSON files: a list, JSON lines, or one object that holds the list. What a file is, its first line says."""

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from adamergex.data import nested
from adamergex.data.bounds import LONGEST_LINE
from adamergex.data.files import lines
from adamergex.data.formats import Format, Row, kind
from adamergex.data.wrong_rows import each
from adamergex.errors import DataError
from adamergex.storage.files import from_json

_Numbered = Iterable[tuple[int, str]]


def rows(path: Path, form: Format) -> Iterator[Row]:
    """The rows of a JSON file, whichever of its endings it has. Raises DataError where one is malformed."""
    is_lines = kind(path) == ".jsonl"
    numbered = ((number, line) for number, line in lines(path, form.encoding) if line.strip())
    head = list(_first(numbered))
    begun = head[0][1].strip() if head else ""
    # Files of JSON lines may be too large to be read at once for a first line that is malformed.
    if begun.startswith("[") or (begun.startswith("{") and not _is_json(begun) and (begun == "{" or not is_lines)):
        text = _whole(path, chain(head, numbered))
        try:
            yield from _listed(path, from_json(text), form)
            return
        except ValueError as error:
            if not is_lines:
                # Empty lines were left out.
                numbers = [number for number, line in lines(path, form.encoding) if line.strip()]
                place = min(getattr(error, "lineno", 1), len(numbers)) - 1
                raise DataError(f"{path}:{numbers[place]}: {_not_json(error)}") from error
            numbered = ((number, line) for number, line in lines(path, form.encoding) if line.strip())
            head = []
    elif not is_lines:
        head += _first(numbered)
        if len(head) == 1:
            (number, line) = head[0]
            yield from _listed(path, _parsed(path, number, line), form)
            return
    yield from each(str(path), (partial(_object, path, *line) for line in chain(head, numbered)))


def objects(numbered: _Numbered, path: Path) -> Iterator[Row]:
    """The rows of JSON lines as they come. Raises DataError where one is malformed."""
    yield from (_object(path, number, line) for number, line in numbered if line.strip())


def _object(path: Path, number: int, line: str) -> Row:
    row = _parsed(path, number, line)
    if "\\ud" in line.lower() and _has_half_character(row):
        raise DataError(f"{path}:{number}: {_HALF}")
    if not isinstance(row, dict):
        raise DataError(f"{path}:{number}: expected an object with keys, got {type(row).__name__}")
    return f"{path}:{number}", row


def _whole(path: Path, numbered: _Numbered) -> str:
    """The text of JSON that is read at once."""
    kept, size = [], 0
    for _, line in numbered:
        kept.append(line)
        size += len(line)
        if size > LONGEST_LINE:
            raise DataError(
                f"{path}: more than {LONGEST_LINE:,} characters of JSON, which is read at once; write it as JSON lines (.jsonl)"
            )
    return "".join(kept)


_HALF = "half of a surrogate pair, which is no character; remove it"


def _first(numbered: Iterator[tuple[int, str]]) -> list[tuple[int, str]]:
    one = next(numbered, None)
    return [] if one is None else [one]


def _parsed(path: Path, number: int, line: str) -> Any:
    try:
        return from_json(line.rstrip())
    except ValueError as error:
        raise DataError(f"{path}:{number}: {_not_json(error)}") from error


def _not_json(error: ValueError) -> str:
    """What the parser says, but for the line, which it counts from the beginning of what it is given."""
    return f"not JSON: {f'{error.msg}, column {error.colno}' if isinstance(error, json.JSONDecodeError) else error}"


def _is_json(line: str) -> bool:
    try:
        from_json(line)
    except ValueError:
        return False
    return True


def _listed(path: Path, whole: Any, form: Format) -> Iterator[Row]:
    """The rows of a list, or of the list that an object holds."""
    found = whole if isinstance(whole, list) else _within(path, whole, form)
    yield from each(str(path), (partial(_element, path, *row) for row in enumerate(found)))


def _element(path: Path, number: int, row: Any) -> Row:
    if not isinstance(row, dict):
        raise DataError(f"{path}[{number}]: expected an object with keys, got {type(row).__name__}")
    if _has_half_character(row):
        raise DataError(f"{path}[{number}]: {_HALF}")
    return f"{path}[{number}]", row


def _within(path: Path, whole: Any, form: Format) -> Iterable[Any]:
    """The list of rows that an object holds: `data`, or the only one; questions where it is in SQuAD's layout."""
    if not isinstance(whole, dict):
        raise DataError(f"{path}: expected a list of objects, got {type(whole).__name__}")
    if form.field is not None:
        found = nested.value(whole, form.field)
        if not isinstance(found, list):
            raise DataError(f"{path}: no list at field {form.field!r}; the object has {', '.join(whole) or 'nothing'}")
    else:
        lists = {key: held for key, held in whole.items() if _is_rows(held)}
        if "data" not in lists and len(lists) != 1:
            got = f"lists at {', '.join(lists)}; say which one with field: NAME" if lists else "none"
            if not lists and all(isinstance(held, dict | list) for held in whole.values()):
                got = "columns or rows by name; write it as a list of rows (pandas: to_json(path, orient='records'))"
            raise DataError(f"{path}: an object; expected that it holds a list of objects, got {got}")
        found = lists.get("data") or next(iter(lists.values()))
    return _questions(path, found) if found and isinstance(found[0], dict) and "paragraphs" in found[0] else found


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


def _questions(path: Path, articles: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The questions of articles as SQuAD 1.1 has them (Rajpurkar et al. 2016, https://arxiv.org/abs/1606.05250), each with its
    paragraph, as the hub has them.
    """
    found: list[dict[str, Any]] = []
    try:
        for article in articles:
            for paragraph in article["paragraphs"]:
                for asked in paragraph["qas"]:
                    answers = {"text": [answer["text"] for answer in asked["answers"]]}
                    row = {"context": paragraph["context"], "question": asked["question"], "answers": answers}
                    found.append({"id": asked["id"], **row})
    except (KeyError, TypeError) as error:
        raise DataError(
            f"{path}: after {len(found)} questions: {type(error).__name__}: {error}; expected data, paragraphs, qas and "
            "answers as SQuAD 1.1 has them"
        ) from error
    return found


def _has_half_character(value: Any) -> bool:
    """Whether text in a JSON value has a lone surrogate, which cannot be written as UTF-8."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    except RecursionError:
        # Whoever takes the row refuses it for its depth.
        return False
    return False
