"""YAML 1.2 files checked against a typed model, with every problem reported at once, by file, line and key.

In YAML 1.2 the language code `no` is a string and `1e-4` a number.
"""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedKeyMap, CommentedKeySeq, CommentedMap, CommentedSet, TaggedScalar
from ruamel.yaml.constructor import RoundTripConstructor

from adamergex.errors import RecipeError
from adamergex.storage.files import small

_MOST_VALUES, _MOST_CHARACTERS = 100_000, 200_000
# What JSON does not have.
_CALLED: dict[type, str] = {
    bytes: "binary data",
    tuple: "a pair",
    CommentedSet: "a set",
    CommentedKeySeq: "a list",
    CommentedKeyMap: "a mapping",
}
Model = TypeVar("Model", bound=BaseModel)


class _Constructor(RoundTripConstructor):
    """Without dates, which YAML 1.2 does not have: a revision may be called like one."""


_Constructor.add_constructor("tag:yaml.org,2002:timestamp", lambda loader, node: loader.construct_scalar(node))


def read(path: Path) -> str:
    """The text of a file. Raises RecipeError where it cannot be read."""
    try:
        return small(path).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise RecipeError([f"{path}: cannot be read: {reason}"]) from error


def check(
    kind: type[Model], text: str, name: str, overrides: Sequence[str] = (), given: Mapping[str, Any] | None = None
) -> Model:
    """Read, override and check a file's text.

    Args:
        kind: what it must be.
        text: the YAML.
        name: of the file, for messages.
        overrides: `section.key=value`, the value in YAML.
        given: values that replace the file's; None removes a key, a function is called with the file's value.

    Raises:
        RecipeError: with one line for every problem.
    """
    document, plain = _parse(text, name)
    if not isinstance(plain, dict):
        raise RecipeError([f"{name}: expected keys and values, got {type(plain).__name__}"])
    problems = [problem for override in overrides if (problem := _override(plain, override))]
    _replace(plain, given or {})
    try:
        checked = kind.model_validate(plain)
    except ValidationError as error:
        problems += _describe(kind, name, document, error)
    if problems:
        raise RecipeError(problems)
    return checked


def dump(value: dict[str, Any]) -> str:
    """Plain values as YAML, in their order."""
    text = StringIO()
    YAML(typ="rt", pure=True).dump(value, text)
    return text.getvalue()


def _parse(text: str, name: str) -> tuple[Any, Any]:
    """What a text says as ruamel's types, which know their lines, and as plain ones. Raises RecipeError where it is malformed."""
    if len(text) > _MOST_CHARACTERS:
        raise RecipeError([f"{name}: {len(text):,} characters; expected at most {_MOST_CHARACTERS:,}"])
    yaml = YAML(typ="rt", pure=True)
    yaml.Constructor = _Constructor
    try:
        document = yaml.load(StringIO(text))
    except RecursionError as error:
        raise RecipeError([f"{name}: nested too deeply"]) from error
    except Exception as error:  # of tags and of numbers ruamel passes on whatever Python raises
        mark = getattr(error, "problem_mark", None)
        where = f"{name}:{mark.line + 1}" if mark else name
        reason = " ".join(str(getattr(error, "problem", None) or error).split())
        raise RecipeError([f"{where}: not valid YAML: {reason[:200]}"]) from error
    try:
        return document, _plain(document)
    except RecursionError as error:
        raise RecipeError(
            [f"{name}: its aliases go round in a circle, or grow without end; write the values out"]
        ) from error
    except TypeError as error:
        raise RecipeError([f"{name}: {error}; expected text, numbers, lists, and keys with values"]) from error


def _plain(value: Any, budget: list[int] | None = None) -> Any:
    """Convert the commented types of ruamel to plain ones.

    Raises:
        RecursionError: aliases expand to too many values.
        TypeError: a value, or a key, is of a kind that JSON does not have.
    """
    budget = [_MOST_VALUES] if budget is None else budget
    budget[0] -= 1
    if budget[0] < 0:
        raise RecursionError
    if isinstance(value, dict):
        if odd := next((key for key in value if not isinstance(key, str | int | float | None)), None):
            raise TypeError(f"{_called(odd)} as a key")
        return {_plain(key, budget): _plain(item, budget) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, budget) for item in value]
    if isinstance(value, TaggedScalar) and str(value.tag).endswith(":str"):
        return _text(value.value)
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return _text(value) if kind is str else kind(value)
    if value is not None:
        raise TypeError(_called(value))
    return None


def _text(value: Any) -> str:
    """A text. Raises TypeError where a character of it cannot be written."""
    text = str(value)
    if half := re.search("[\ud800-\udfff]", text):
        raise TypeError(f"half a character, {half[0]!r}")
    return text


def _called(value: Any) -> str:
    """What a value of another kind is called."""
    if isinstance(value, TaggedScalar):
        return f"a value with the tag {value.tag}"
    return _CALLED.get(type(value), f"a value of the kind {type(value).__name__}")


def _replace(plain: dict[str, Any], given: Mapping[str, Any]) -> None:
    """Replace values in place; None removes a key, and a function is called with the file's value."""
    for key, value in given.items():
        if value is None:
            plain.pop(key, None)
        else:
            plain[key] = value(plain.get(key)) if callable(value) else value


def _override(plain: dict[str, Any], override: str) -> str | None:
    """Apply one `a.b=value` in place; a problem is returned as a line."""
    path, equals, text = override.partition("=")
    *sections, key = path.split(".")
    if not equals or not all((*sections, key)):
        return f"--set {override}: expected section.key=value"
    try:
        _, value = _parse(text, f"--set {path}")
    except RecipeError as error:
        return str(error)
    for section in sections:
        below = plain.setdefault(section, {})
        if not isinstance(below, dict):
            return f"--set {override}: {section} has no keys of its own"
        plain = below
    plain[key] = value
    return None


def messages(error: ValidationError) -> list[str]:
    """Pydantic's errors as `setting: what is wrong; got 3`, one line for each setting."""
    return [f"{'.'.join(map(str, at))}: {text}" if at else text for at, text in by_location(error).items()]


def relayed(error: ValidationError) -> list[InitErrorDetails]:
    """Pydantic's errors in the form in which `ValidationError.from_exception_data` takes them, with their messages."""
    return [
        InitErrorDetails(
            type=PydanticCustomError(issue["type"], "{message}", {"message": issue["msg"]}),
            loc=issue["loc"],
            input=issue["input"],
        )
        for issue in error.errors()
    ]


def by_location(error: ValidationError, kind: type[BaseModel] | None = None) -> dict[tuple[int | str, ...], str]:
    """Pydantic's messages by location in the settings; those for the branches of a union are joined into one.

    Args:
        error: with the messages.
        kind: of the settings, for suggestions where a key is unknown.
    """
    texts: dict[tuple[int | str, ...], list[str]] = {}
    got: dict[tuple[int | str, ...], Any] = {}
    for issue in error.errors():
        *above, last = issue["loc"] or ("[]",)
        location = [part for part in above if not _is_union_branch(part)]
        if issue["type"] == "extra_forbidden" or not _is_union_branch(last):
            location.append(last)
        key = tuple(location)
        if issue["type"] == "extra_forbidden":
            siblings = _siblings(kind, location[:-1]) if kind else ()
            message = "unknown key" + (did_you_mean(str(location[-1]), siblings) or "; remove it")
        elif issue["type"] == "missing":
            message = "missing; add it"
        else:
            message = str(issue["msg"]).removeprefix("Value error, ")
            message = message[:1].lower() + message[1:]
            if isinstance(issue.get("input"), str | int | float | None) and key:
                got[key] = issue["input"]
        texts.setdefault(key, []).append(message)
    return {
        key: " or ".join(alternatives) + (f"; got {got[key]!r}" if key in got else "")
        for key, alternatives in texts.items()
    }


def _describe(kind: type[BaseModel], name: str, document: CommentedMap, error: ValidationError) -> list[str]:
    """Pydantic's errors as `file:line: key: what is wrong`, one line for each location in the file."""
    lines = []
    for location, message in by_location(error, kind).items():
        line = _line(document, location)
        where = ".".join(str(part) or "''" for part in location)
        prefix = f"{name}:{line}" if line else name
        lines.append(f"{prefix}: {where}: {message}" if where else f"{prefix}: {message}")
    return lines


def _is_union_branch(part: int | str) -> bool:
    """Whether a part of an error's location is the branch of a union, which pydantic adds, and not a key of the file."""
    return isinstance(part, str) and ("[" in part or part in ("int", "str", "constrained-int", "lora", "ia3", "prefix"))


def _siblings(kind: type[BaseModel], location: Iterable[int | str]) -> Iterable[str]:
    """The keys that are known in the section at `location`."""
    section: Any = kind
    for part in location:
        fields = getattr(section, "model_fields", {})
        if part in fields:
            annotation = fields[part].annotation
            inside = [annotation, *getattr(annotation, "__args__", ())]
            section = next((kind for kind in inside if isinstance(kind, type) and issubclass(kind, BaseModel)), section)
    return section.model_fields


def _line(document: Any, location: Sequence[int | str]) -> int | None:
    """The line of the deepest part of `location` that the file has, from 1."""
    line = None
    for part in location:
        try:
            mark = document.lc.key(part) if isinstance(document, CommentedMap) else document.lc.item(part)
            line, document = mark[0] + 1, document[part]
        except (AttributeError, KeyError, IndexError, TypeError):
            break
    return line


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A suggestion to append to a message, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


class Section(BaseModel):
    """A part of a recipe: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
