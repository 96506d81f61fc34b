"""Overlap between the items of two data sets: what was seen with its answer must not be scored."""

import re
import unicodedata
from collections.abc import Iterable, Sequence

from adamergex.errors import DataError
from adamergex.tasks.items import Item

_SIGNS = "#*&@%/\\"
# Between digits, and as a sign before them, what is otherwise not compared makes another number. It is kept as this mark, which
# is no punctuation, and its code.
_KEPT_AS = "\N{SYMBOL FOR UNIT SEPARATOR}"
_DASH = "[-\u2010-\u2013\u2212]"
_IN_NUMBERS = re.compile(
    rf"(?<=\d)\s*(?P<minus>{_DASH})\s*(?=\d)|(?<=\d)(?P<space>\s+)(?=\d)|(?<=\d)(?P<mark>[^\w\s])(?=\d)|(?<!\w)(?P<sign>{_DASH})(?=\d)"
)


class _Compared(dict[int, int | None]):
    """A table for `str.translate` that removes characters which are not compared."""

    def __missing__(self, code: int) -> int | None:
        char = chr(code)
        # Combining marks are kept: vowels of Hindi and Thai are such. Signs are kept, because they may be all that differs.
        kept = char in _SIGNS or unicodedata.category(char)[0] not in "ZPC"
        self[code] = code if kept else None
        return self[code]


_COMPARED = _Compared()


def normalised(text: str) -> str:
    """A text as it is compared: without case, white space, punctuation and differences in how Unicode writes a character.

    Signs of numbers and what separates their digits are kept, so that `-5` is not `5`, and `1.5` not `15`; and all of a text
    that has nothing else, such as `:)`.
    """
    plain = unicodedata.normalize("NFKC", text).casefold()
    found = _IN_NUMBERS.sub(_mark, plain).translate(_COMPARED)
    return found or " ".join(plain.split())


def _mark(match: re.Match[str]) -> str:
    char = {"minus": "-", "sign": "-", "space": " "}.get(str(match.lastgroup), match[0])
    return f"{_KEPT_AS}{ord(char):x}{_KEPT_AS}"


def pairs(seen: Iterable[Item], scored: Iterable[Item]) -> list[tuple[str, str]]:
    """All pairs of ids, of a seen item and of a scored one, that ask the same (`asked`), in the order of the scored ones.

    Translations are not found.
    """
    ids: dict[str, list[str]] = {}
    for item in seen:
        ids.setdefault(asked(item), []).append(item.id)
    return [(id, item.id) for item in scored for id in ids.get(asked(item), ())]


def without(seen: Iterable[Item], scored: Iterable[Item]) -> list[Item]:
    """The seen items that do not ask what a scored one asks."""
    keys = {asked(item) for item in scored}
    return [item for item in seen if asked(item) not in keys]


def asked(item: Item) -> str:
    """All that is said up to the answer, but for a system message, as it is compared.

    The longest column of the prompt is compared for itself: a text of symbols alone is not lost among the template's words.
    """
    turns = [text for role, text in item.turns if role != "system"]
    start, end = item.longest_column
    parts = (item.prompt[:start], item.prompt[start:end], item.prompt[end:])
    return "\n".join(normalised(part) for part in (*turns, *parts) if part)


def refuse_overlap(seen: Sequence[Item], scored: Sequence[Item], language: str, where: str = "train") -> None:
    """Check that no scored item was seen with its answer, in training or as an example.

    Args:
        seen: items of training, of model selection, or few-shot examples.
        scored: items to be scored.
        language: for the message.
        where: the split of the seen items, for the message.

    Raises:
        DataError: one asks the same as a seen one.
    """
    if shared := pairs(seen, scored):
        items, several = len({id for _, id in shared}), "s" * (len(shared) > 1)
        raise DataError(
            f"task data ({language}): {items:,} of {len(scored):,} scored items stand in {where}, too ({len(shared):,} pair{several}, "
            f"the first {shared[0][0]} and {shared[0][1]}); remove them from one, or set task.overlap: drop takes them out of {where}, "
            "allow goes on and says so"
        )


def refuse_emptied(seen: Sequence[Item], scored: Sequence[Item], language: str, where: str = "train") -> None:
    """Check that something is left where seen items are dropped for being scored; see `refuse_overlap`.

    Raises:
        DataError: all of them are scored, too.
    """
    if seen and not without(seen, scored):
        raise DataError(
            f"task data ({language}): all {len(seen):,} items of {where} are scored, too, and task.overlap drops them; add others"
        )
