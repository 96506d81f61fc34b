"""Texts that may hold anything, as markdown shows them: names of users' files, labels and base models do nothing in it."""

import re
from collections.abc import Sequence

import langcodes

from adamergex.terminal import plain

# What means something wherever it stands; an underscore does at the edge of a word.
_MARKS = re.compile(r"[\\`*\[\]<>|~]|(?<![^\W_])_|_(?![^\W_])|^(?=[#+-]+\s)")


def language_name(code: str) -> str:
    """A language's name in English."""
    return langcodes.Language.get(code).display_name("en")


def line(text: str) -> str:
    """A text as it is, in one line or one cell of a table, with control characters written out."""
    return _MARKS.sub(r"\\\g<0>", plain(" ".join(text.split())))


def code(text: str) -> str:
    """A text as code within a line."""
    found = plain(" ".join(text.split())) or " "
    ticks = "`" * (max(map(len, re.findall("`+", found)), default=0) + 1)
    edge = " " if found[0] == "`" or found[-1] == "`" else ""
    return f"{ticks}{edge}{found}{edge}{ticks}"


def row(cells: Sequence[str]) -> str:
    """A row of a table, of cells in markdown."""
    # A bar ends a cell, within code, too.
    return "| " + " | ".join(re.sub(r"(?<!\\)\|", r"\\|", cell) for cell in cells) + " |"


def fenced(text: str, language: str = "") -> str:
    """A text as it is, in a fence that it does not end."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def listed(words: Sequence[str]) -> str:
    """Words as in a sentence: a, b and c."""
    return " and ".join([", ".join(words[:-1])] * (len(words) > 1) + [words[-1]])
