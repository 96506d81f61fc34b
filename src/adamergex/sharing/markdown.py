"""Pieces of a card: texts that may hold anything, as markdown shows them."""

import re
from collections.abc import Sequence

import langcodes


def language_name(code: str) -> str:
    """A language's name in English."""
    return langcodes.Language.get(code).display_name("en")


def fenced(text: str, language: str = "") -> str:
    """A text as it is, in a fence that it does not end."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def cell(text: str) -> str:
    """A text that may hold anything, in one cell of a table."""
    plain = " ".join(text.split())
    return re.sub(r"([\\`*_\[\]<>|#~])", r"\\\1", plain)


def listed(words: Sequence[str]) -> str:
    """Words as in a sentence: a, b and c."""
    return " and ".join([", ".join(words[:-1])] * (len(words) > 1) + [words[-1]])
