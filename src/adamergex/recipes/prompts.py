"""The template of a drafted prompt."""

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

# A prompt that lists its labels in more characters than this costs more than it tells.
_LONGEST_LIST = 800
_GENERIC = {"label", "labels", "class", "y", "gold", "target", "answer"}


def prompt(
    text: str,
    answer: str,
    labels: Sequence[str],
    english: bool = True,
    others: Mapping[str, bool] = MappingProxyType({}),
) -> str:
    """The template of a prompt: the labels, if there are any, the text, and what the answer is called.

    Args:
        text: the text's column.
        answer: the answer's column, which names the answer where it is a plain word.
        labels: to list.
        english: whether that word has an English plural.
        others: columns with texts that belong to it, and whether they may be empty (`task.optional`).
    """
    word = answer.strip().replace("_", " ")
    if not re.fullmatch("[^\\W\\d_]{3,20}", word) or word.lower() in _GENERIC:
        word, english = ("label" if labels else "answer"), True
    word = word[:1].upper() + word[1:]
    words = [" ".join(braced(label).split()) for label in labels]
    listed = ("; " if any("," in label for label in words) else ", ").join(words)
    head = f"{_plural(word) if english else word}: {listed}\n" if words and len(listed) <= _LONGEST_LIST else ""
    begun = called(text) if others else f"Text: {{{text}}}"
    more = "".join(f"{{{other}}}" if may_be_empty else f"\n{called(other)}" for other, may_be_empty in others.items())
    return f"{head}{begun}{more}\n{word}:"


def called(column: str) -> str:
    """A column of a prompt behind its name."""
    return f"{column[:1].upper()}{column[1:]}: {{{column}}}"


def _plural(word: str) -> str:
    if re.search("[^aeiou]y$", word):
        return word[:-1] + "ies"
    return word + ("es" if re.search("(s|x|z|ch|sh)$", word) else "s")


def braced(text: str) -> str:
    """Text in a template, where single braces name columns."""
    return text.replace("{", "{{").replace("}", "}}")
