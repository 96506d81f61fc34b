"""Language tags: which of several codes, such as `zho`, `zh-Hans` and `zh`, name the same written language."""

from collections.abc import Iterable
from functools import cache

import langcodes
from langcodes.registry_parser import parse_registry


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


def find(tag: str, known: Iterable[str]) -> str | None:
    """The known tag that there is data under for a language: what `match` finds, else the only member of a macrolanguage.

    So `qu` finds `quy` where no other Quechua is known. `no` finds neither `nb` nor `nn` where both are, `ms` never finds `id`, which
    is a language with a two-letter code of its own, nor `ku` `ckb`, which is in another script; and a member never finds its
    macrolanguage, whose data may be in another one: those are `relatives`.

    Returns:
        One of the known tags, or None.
    """
    listed = list(known)
    found = match(tag, listed)
    # `quz` is Quechua's main language for CLDR, and another one than `quy` all the same.
    if found is None and is_well_formed(tag) and tag.lower().split("-")[0] not in _macrolanguages():
        language, _ = _written(tag)
        members = {_written(one)[0] for one in listed if _macrolanguage(one) == language}
        if len(members) == 1 and (only := members.pop()) is not None and not _is_apart(tag, only):
            script = langcodes.Language.get(tag).script
            found = match(only if script is None else f"{only}-{script}", listed)
    return found


def _is_apart(tag: str, member: str) -> bool:
    """Whether a member is not what its macrolanguage's tag says: it has a two-letter code, too, or is in another script.

    `no` and `nb` are one language to CLDR.
    """
    if len(member) == 2:
        return langcodes.tag_distance(tag, member) > 1
    full, unknown = _full(member), _full("und")
    # CLDR does not know every language's script, and then says what it says of any.
    is_known = (full.script, full.territory) != (unknown.script, unknown.territory)
    return is_known and langcodes.Language.get(tag).script is None and full.script != _full(tag).script


def relatives(tag: str, known: Iterable[str]) -> list[str]:
    """The known tags whose language is of the same macrolanguage as another one, by ISO 639-3: `nb` and `nn` for `no`.

    Args:
        tag: a language; a malformed tag has none.
        known: BCP 47 tags.
    """
    if not is_well_formed(tag):
        return []
    of = {_written(tag)[0], _macrolanguage(tag)} - {None}
    return [one for one in known if of & {_written(one)[0], _macrolanguage(one)}]


def missing(tag: str, known: Iterable[str]) -> str:
    """The end of a message that there is nothing in a language, with what there is: the nearest, if any are near."""
    listed = list(known)
    if near := relatives(tag, listed):
        return f"{tag!r}; give one that it has of the same macrolanguage: {', '.join(map(called, near))}"
    return f"{tag!r}; it has {', '.join(listed)}"


def is_well_formed(tag: str) -> bool:
    """Whether a text is a language tag at all."""
    try:
        _written(tag)
    except ValueError:
        return False
    return True


def called(tag: str) -> str:
    """A tag and the English name of its language, such as `quy (Ayacucho Quechua)`."""
    return f"{tag} ({langcodes.Language.get(tag).display_name('en')})"


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


def _macrolanguage(tag: str) -> str | None:
    """The macrolanguage that a tag's language is a member of, if any."""
    return _macrolanguages().get(_full(tag).language or "")


@cache
def _macrolanguages() -> dict[str, str]:
    """Language → its macrolanguage, by IANA's registry of subtags, which has them from ISO 639-3."""
    return {
        entry["Subtag"]: entry["Macrolanguage"]
        for entry in parse_registry()
        if entry.get("Type") == "language" and "Macrolanguage" in entry
    }


def _written(tag: str) -> tuple[str | None, str | None]:
    full = _full(tag)
    return full.language, full.script
