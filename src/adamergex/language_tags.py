"""Language tags: which of several codes, such as `zho`, `zh-Hans` and `zh`, name the same written language."""

from collections.abc import Iterable
from functools import cache

import langcodes


@cache
def standard(tag: str) -> str:
    """A BCP 47 tag in its canonical form, under its macrolanguage where it is that one's main language.

    `spa` and `spa_Latn` are `es`, `zho` and `cmn` are `zh`, `arb` is `ar`; `arz` stays `arz`.

    Raises:
        ValueError: `tag` is no well-formed tag.
    """
    return langcodes.standardize_tag(tag, macro=True)


def same(one: str, other: str) -> bool:
    """Whether two tags name one language, script and region, said or implied: `zh` and `zh-Hans`, not `es` and `es-419`.

    Raises:
        ValueError: one of them is no well-formed tag.
    """
    return _full(one) == _full(other)


def match(tag: str, known: Iterable[str]) -> str | None:
    """The one of the known tags that a language is found under; by this all that goes by languages is looked up.

    The tag itself goes first; then the nearest region of the same language in the same script, said or implied. So
    `es-419` is found under `es`, and `zh-Hans` and `zho` under `zh`, but `zh-Hant` and `sr-Latn` not under `zh` and `sr`.

    Args:
        tag: a language; nothing is found for what is no well-formed tag.
        known: BCP 47 tags.

    Returns:
        One of the known tags, as it is written there, or None.
    """
    listed = list(known)
    if tag in listed:
        return tag
    try:
        wanted = _written(tag)
    except ValueError:
        return None
    found = [one for one in listed if _written(one) == wanted]
    return min(found, key=lambda one: langcodes.tag_distance(tag, one), default=None)


def distinct(tags: Iterable[str], where: str) -> None:
    """Raises ValueError where two of the tags name the same language, so that it would have to be guessed which counts."""
    seen: dict[langcodes.Language, str] = {}
    for tag in tags:
        full = _full(tag)
        if full in seen:
            raise ValueError(f"{where} lists {seen[full]} and {tag}, which are the same language; remove one")
        seen[full] = tag


@cache
def _full(tag: str) -> langcodes.Language:
    return langcodes.Language.get(standard(tag)).maximize()


def _written(tag: str) -> tuple[str | None, str | None]:
    full = _full(tag)
    return full.language, full.script
