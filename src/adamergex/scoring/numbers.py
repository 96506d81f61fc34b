"""The number that a completion gives as its answer, in any digits and notation."""

import unicodedata
from collections.abc import Iterator
from decimal import Decimal
from functools import cache
from itertools import pairwise
from typing import Literal, NamedTuple

import regex
from babel import Locale, UnknownLocaleError
from babel.numbers import list_currencies

from adamergex.errors import DataError
from adamergex.language_tags import standard
from adamergex.scoring.languages import UNSPACED, primary_language

# How numbers are written: as JSON and English have them, or as the language has them.
Notation = Literal["canonical", "language"]
# What introduces the final number: in any language GSM8K (Cobbe et al. 2021), LaTeX and English; regular expressions, case aside.
ANYWHERE = ("####", r"\\boxed\{", r"(?<!Step-by-Step )Answer(?: is|:)")
# The words of MGSM's exemplars (Shi et al. 2022), which have two of them in German, and others for the same. Words before them
# (step-by-step answer:) open the explanation.
MARKERS = {
    "bn": r"(?<!ধাপে ধাপে )উত্তর ?(?:হল|:)",
    "de": r"(?<!Schritt-)Antwort(?: ist| lautet| beträgt|:)",
    "es": r"respuesta(?: final| correcta)?(?: es|:)",
    "fr": r"réponse(?: finale| correcte)?(?: est| ?:)",
    "ja": r"(?<!ステップごとの)答え(?:は|:|：)",
    "ru": r"(?<!Пошаговый )Ответ",
    "sw": r"Jibu(?: la mwisho| sahihi)?(?: ni|:)",
    "te": r"(?<!దశలవారీగా )సమాధానం",
    "th": r"คำตอบ(?:สุดท้าย)?(?:คือ| ?:)",
    "zh": r"答案(?:是|为|為|:|：)",
}
_SPACE = " \u00a0\u2007\u2009\u202f"
_MINUS = "-\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d"
# Two or more points that do not group thousands are a date, a version or an address.
_NOT_NUMBERS = regex.compile(
    r"""(?<!\d)(?:
        \d{4}([-/.])\d{1,2}\1\d{1,2}
      | \d{1,2}([-/.])\d{1,2}\2\d{4}
      | \d{1,2}:\d{2}(?::\d{2})?
      | (?!\d{1,3}(?:\.\d{3})+(?!\.?\d))\d+(?:\.\d+){2,}
    )(?!\d)""",
    regex.VERBOSE,
)
_NUMBER = regex.compile(
    rf"""(?<!\d)(?:
        (?P<whole>[1-9]\d{{0,2}}(?P<group>[.,٬،'’{_SPACE}])\d{{3}}(?:(?P=group)\d{{3}})*)(?!\d)
        (?:(?!(?P=group))[.,٫](?P<part>\d+))?
      | (?P<whole>[1-9]\d?(?:,\d\d)+,\d{{3}})(?!\d)(?:\.(?P<part>\d+))?
      | (?<!\d,)(?P<whole>\d++),(?P<part>\d++)(?!,\d)
      | (?P<whole>\d++)(?:[.٫](?P<part>\d+))?
    ) | (?<![\w.,])[.٫](?P<part>\d+)""",
    regex.VERBOSE,
)
_BEFORE = regex.compile(
    rf"""(?V1)
        (?P<glued>[\p{{L}}\p{{M}}]+)?(?P<space>[{_SPACE}]*)
        (?P<sign>[+＋\{_MINUS}])?(?P<currency>\p{{Sc}}[{_SPACE}]?)?(?P<inner>[\{_MINUS}])?\Z""",
    regex.VERBOSE,
)
_OPERATION = regex.compile(rf"[\s$€£¥%]*[+*/×÷·=xX\{_MINUS}][\s$€£¥]*")


def read_number(
    completion: str, language: str, marker: str | None = None, notation: Notation | None = None
) -> Decimal | None:
    """Read the final answer of a completion.

    After the last marker that a number follows, the first number counts ("18 (of 20)" is 18), or the result that it is
    equated to ("5 + 6 = 11" is 11). Without a marker, the last number counts.

    All decimal digits of Unicode are read, and every minus sign and hyphen right before a number, unless a digit or a
    bracket stands before it ("10-12", "20 -12") or a letter is joined by it ("GPT-4"). Signs of currency and percent
    do not change the number. Dates, times, versions, and digits that a letter with a case is glued to ("GPT4") are no
    numbers. Number words and what multiplies ("3万", "2 million") are not read: the digits alone count.

    Thousands may be grouped by point, comma, apostrophe, the Arabic separators or any space, in threes or, with
    commas, the Indian way ("1,00,000"). Two different separators, or one twice, are never in doubt. One alone is
    decimal, unless exactly three digits follow it and one to three stand before it, the first not 0. Then the notation decides:

    - `canonical`: the comma groups, the point is decimal;
    - `language`: what CLDR names the decimal sign of the language is decimal, the other one groups;
    - none: a comma groups in every language. Models fall back to English notation, MGSM's published scorers drop commas, and
      an answer with three decimals is rarer than one over a thousand. A point groups ("1.000" is 1000 in German, Spanish,
      French), except where CLDR names it the decimal sign of the language ("1.000" is 1 in English, Thai, Swahili).

    Args:
        completion: what the model wrote, without its prompt.
        language: a BCP 47 code; CLDR's root where CLDR does not know it.
        marker: plain text that stands before the answer, case aside; where no number follows it, `ANYWHERE` and `MARKERS` are
            looked for.
        notation: how numbers are written, where that is known.

    Returns:
        The exact number, or None if there is none.

    Raises:
        ValueError: `language` is no well-formed code.
    """
    text = _plain(completion)
    marked = _after_marker(text, language, marker, notation)
    if marked is not None:
        return marked
    numbers = list(_numbers(text, language, notation))
    return numbers[-1].value if numbers else None


def read_gold(text: str, language: str, marker: str | None = None, notation: Notation | None = None) -> Decimal:
    """Read a right answer, for sure: a number alone, with a sign of currency or percent at most, or one behind a marker.

    Args:
        text: the answer.
        language: a BCP 47 code.
        marker: as in `read_number`.
        notation: how numbers are written; without, those that `canonical` and `language` read otherwise are refused.

    Raises:
        DataError: there is no number, there is more than it, or it may be one of two.
        ValueError: `language` is no well-formed code.
    """
    plain = _plain(text)
    both: tuple[Notation, ...] = ("canonical", "language")
    readings = {kind: _gold(plain, language, marker, kind) for kind in ([notation] if notation else both)}
    found = list(dict.fromkeys(readings.values()))
    if None in found:
        raise DataError(
            f"{text!r} is not one number alone; expected one such as 18 or 2125, or one behind a marker such as ####; what else is "
            "to be learned belongs in the column that task.learned names"
        )
    if len(found) > 1:
        raise DataError(
            f"{text!r} is {written(found[0])} with a decimal point, and {written(found[1])} as numbers are written in "
            f"{language}; say which with task.answer_format: canonical, or language"
        )
    assert found[0] is not None  # Refused above.
    return found[0]


def written(number: Decimal | None) -> str:
    """A number in canonical form: a point before decimals, without grouping, exponent and zeros behind; empty for none."""
    if number is None:
        return ""
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _gold(text: str, language: str, marker: str | None, notation: Notation) -> Decimal | None:
    marked = _after_marker(text, language, marker, notation)
    if marked is not None:
        return marked
    numbers = list(_numbers(text, language, notation))
    if len(numbers) != 1:
        return None
    around = regex.findall(r"[\p{L}\p{M}\p{N}]+", f"{text[: numbers[0].start]} {text[numbers[0].end :]}")
    return numbers[0].value if all(word in _currencies(language) for word in around) else None


def _after_marker(text: str, language: str, marker: str | None, notation: Notation | None) -> Decimal | None:
    """The number behind the last marker that one follows: a marker of one's own goes before those that are known."""
    own = [] if marker is None else [regex.escape(_plain(marker))]
    known = MARKERS.get(primary_language(language))
    for markers in (own, [*ANYWHERE, *([known] if known else [])]):
        # "The answer isn't": the marker has to end with its word. Other scripts may write on without a space.
        pattern = rf"(?:{'|'.join(markers)})(?![\p{{Ll}}\p{{Lu}}])"
        ends = [match.end() for match in regex.finditer(pattern, text, regex.IGNORECASE)] if markers else []
        for end in reversed(ends):
            after = list(_numbers(text[end:], language, notation))
            if after:
                return _result(text[end:], after)
    return None


class _Number(NamedTuple):
    start: int
    end: int
    value: Decimal


def _plain(text: str) -> str:
    """ASCII digits, composed letters, no marks of direction; full-width separators where they stand between digits."""
    text = regex.sub(r"[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]", "", unicodedata.normalize("NFC", text))
    text = regex.sub(r"(?<=[０-９])([，．])(?=[０-９])", lambda match: {"，": ",", "．": "."}[match[1]], text)
    return regex.sub(r"\p{Nd}", lambda match: str(unicodedata.decimal(match[0])), text)


def _numbers(text: str, language: str, notation: Notation | None) -> Iterator[_Number]:
    """All numbers, in order."""
    blank = _NOT_NUMBERS.sub(lambda match: "\n" * len(match[0]), text)
    for match in _NUMBER.finditer(blank):
        sign = _sign(text, match.start(), language)
        if sign is None:
            continue
        whole, part = match["whole"] or "0", match["part"]
        mark = match["group"]
        if mark and part is None and whole.count(mark) == 1 and mark == _decimal_mark(language, notation):
            whole, part = whole.split(mark)
        digits = regex.sub(r"\D", "", whole)
        yield _Number(match.start(), match.end(), Decimal(f"{sign}{digits}.{part or ''}"))


def _sign(text: str, start: int, language: str) -> str | None:
    """`-` or nothing, from the text before a number; None where it is part of a word."""
    before = _BEFORE.search(text, max(0, start - 64), start)
    glued, sign = before["glued"], before["sign"] or before["inner"]
    minus = bool(sign) and sign in _MINUS
    if glued and not before["space"] and not before["currency"]:
        unspaced = regex.fullmatch(rf"(?V1){UNSPACED}", glued[-1]) is not None
        cased = regex.search(r"[\p{Ll}\p{Lu}]", glued[-1]) is not None
        if (minus and not unspaced) or (cased and glued not in _currencies(language)):
            return None
    left = text[: before.start("sign")].rstrip(_SPACE) if before["sign"] else ""
    return "-" if minus and not regex.search(r"[\d)\]%]\Z", left) else ""


def _result(text: str, numbers: list[_Number]) -> Decimal:
    """The first number, or the last one that it is equated to."""
    result = numbers[0].value
    for earlier, later in pairwise(numbers):
        between = text[earlier.end : later.start]
        if not _OPERATION.fullmatch(between):
            break
        if "=" in between:
            result = later.value
    return result


@cache
def _locale(language: str) -> Locale:
    """CLDR's data for a language, or its root locale if there is none."""
    for tag in (standard(language), primary_language(language)):
        try:
            return Locale.parse(tag, sep="-")
        except (UnknownLocaleError, ValueError):
            continue
    return Locale("root")


@cache
def _decimal_mark(language: str, notation: Notation | None) -> str:
    """What is decimal where one mark may be, or may group thousands; without a notation a comma is not."""
    mark = str(_locale(language).number_symbols["latn"]["decimal"])
    if notation == "canonical":
        return "."
    return mark if notation == "language" or mark == "." else ""


@cache
def _currencies(language: str) -> frozenset[str]:
    return frozenset(list_currencies()) | frozenset(_locale(language).currency_symbols.values())
