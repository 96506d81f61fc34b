"""Languages and scripts, as far as scorers depend on them."""

import unicodedata
from functools import cache

import langcodes

from adamergex.language_tags import standard

# A set for the `regex` package: letters and marks of scripts that put no space between words.
UNSPACED = (
    r"[[\p{scx=Han}\p{scx=Hiragana}\p{scx=Katakana}\p{scx=Bopomofo}\p{scx=Thai}\p{scx=Lao}\p{scx=Khmer}\p{scx=Myanmar}]"
    r"&&[\p{L}\p{M}]]"
)


@cache
def primary_language(tag: str) -> str:
    """The language of a BCP 47 tag, without script and region, in its shortest form: `zho-Hans` and `cmn` → `zh`.

    Raises:
        ValueError: `tag` is no well-formed tag.
    """
    return langcodes.get(standard(tag)).language or "und"


def folded(text: str) -> str:
    """Text without differences in case, white space and Unicode's compatible forms (NFKC)."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
