"""Languages and scripts, as far as scorers depend on them."""

import unicodedata
from functools import cache

import langcodes
import regex

from adamergex.language_tags import standard

# A set for the `regex` package: letters and marks of scripts that put no space between words.
UNSPACED = (
    r"[[\p{scx=Han}\p{scx=Hiragana}\p{scx=Katakana}\p{scx=Bopomofo}\p{scx=Thai}\p{scx=Lao}\p{scx=Khmer}\p{scx=Myanmar}]"
    r"&&[\p{L}\p{M}]]"
)
_UNSEEN = regex.compile(r"\p{Cf}")
# Unicode's SpecialCasing has the same for them.
_DOTLESS = {"az", "tr"}


@cache
def primary_language(tag: str) -> str:
    """The language of a BCP 47 tag, without script and region, in its shortest form: `zho-Hans` and `cmn` → `zh`.

    Raises:
        ValueError: `tag` is no well-formed tag.
    """
    return langcodes.get(standard(tag)).language or "und"


def composed(text: str) -> str:
    """Text in the one form that Unicode has for what a reader takes to be the same: NFKC, without what is not seen.

    What is not seen are joiners, soft hyphens and marks of direction, which change how a word looks, not which word it is. The
    vowel AM of Thai and Lao, which NFKC takes apart, is one character, as it is written.
    """
    plain = _UNSEEN.sub("", unicodedata.normalize("NFKC", text))
    return plain.replace("\u0e4d\u0e32", "\u0e33").replace("\u0ecd\u0eb2", "\u0eb3")


def caseless(text: str, language: str) -> str:
    """Text in Unicode's one form, then without differences in case by the language's rules: what scorers of text compare.

    Turkish and Azerbaijani have two letters i, and each its own capital: ı I and i İ. Elsewhere Unicode's case folding holds.

    Args:
        text: in any form of Unicode.
        language: a BCP 47 code.

    Raises:
        ValueError: `language` is no well-formed code.
    """
    text = composed(text)
    if primary_language(language) in _DOTLESS:
        text = text.replace("I", "ı").replace("İ", "i")
    # Folding takes some letters apart that NFKC has as one.
    return composed(text.casefold())


def folded(text: str, language: str) -> str:
    """Text as `caseless` has it, without differences in white space."""
    return " ".join(caseless(text, language).split())
