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


def same(first: str, second: str) -> bool:
    """Whether two tags name the same language, script and region, explicit or implied: `zh` and `zh-Hans`, not `es` and `es-419`.

    Raises:
        ValueError: one of them is no well-formed tag.
    """
    return _full(first) == _full(second)


def match(tag: str, known: Iterable[str]) -> str | None:
    """The known tag that matches a language; the rule for every lookup by language.

    An equal tag comes first, then the nearest region of the same language in the same script, explicit or implied. So
    `es-419` matches `es`, and `zh-Hans` and `zho` match `zh`, but `zh-Hant` and `sr-Latn` do not match `zh` and `sr`.

    Args:
        tag: a language; a malformed tag matches nothing.
        known: BCP 47 tags.

    Returns:
        One of the known tags, as it is written there, or None.
    """
    listed = list(known)
    if tag in listed:
        return tag
    try:
        written = _written(tag)
    except ValueError:
        return None
    candidates = [candidate for candidate in listed if _written(candidate) == written]
    return min(candidates, key=lambda candidate: langcodes.tag_distance(tag, candidate), default=None)


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
