import re
import unicodedata
from decimal import Decimal

import pytest
from babel.numbers import format_decimal
from hypothesis import given, settings
from hypothesis import strategies as st

from adamergex.errors import DataError
from adamergex.scoring.numbers import ANYWHERE, MARKERS, Notation, read_gold, read_number
from adamergex.tasks import benchmarks


def naive(completion: str) -> str | None:
    """What many public scorers do: the last run of ASCII digits."""
    found = re.findall(r"[0-9]+", completion)
    return found[-1] if found else None


@pytest.mark.parametrize(
    ("completion", "language", "number"),
    [
        ("উত্তর হল ১২।", "bn", "12"),
        ("คำตอบคือ ๑๘", "th", "18"),
        ("答えは１８です。", "ja", "18"),
        ("الإجابة هي ١٬٢٣٤٫٥", "ar", "1234.5"),
        ("The answer is -5.", "en", "-5"),
        ("The answer is \u22125.", "en", "-5"),
        ("答えは－５です", "ja", "-5"),
        ("気温は-5度", "ja", "-5"),
        ("The answer is 1,000.50.", "en", "1000.5"),
        ("La respuesta es 1.000.", "es", "1000"),
        ("The answer is 18 (of 20).", "en", "18"),
    ],
)
def test_what_other_scorers_get_wrong(completion: str, language: str, number: str) -> None:
    read = naive(completion)
    assert read is None or Decimal(read) != Decimal(number)
    assert read_number(completion, language) == Decimal(number)


@pytest.mark.parametrize(
    ("written", "language", "number"),
    [
        ("1,000", "en", "1000"),
        ("1.000", "de", "1000"),
        ("1 000", "fr", "1000"),
        ("1\u00a0000\u00a0000", "ru", "1000000"),
        ("1\u202f000,50", "fr", "1000.5"),
        ("1’000.50", "de-CH", "1000.5"),
        ("1'000", "it", "1000"),
        ("1.000,50", "es", "1000.5"),
        ("1.234,567", "de", "1234.567"),
        ("1,234.567", "en", "1234.567"),
        ("1,00,000", "hi", "100000"),
        ("১,২৩,৪৫৬.৭৮", "bn", "123456.78"),
        ("१२,३४,५६७", "hi", "1234567"),
        ("１，０００", "zh", "1000"),
        ("1.000.000", "en", "1000000"),
        ("1.000,50", "en", "1000.5"),
        # One separator and anything but three digits: decimal, whichever it is.
        ("3,5", "en", "3.5"),
        ("3.14", "de", "3.14"),
        ("1,2345", "en", "1.2345"),
        # No thousands begin with 0 or have four digits before them.
        ("0,125", "en", "0.125"),
        ("0.125", "de", "0.125"),
        ("1234,567", "de", "1234.567"),
        (".5", "en", "0.5"),
        # In doubt: the comma groups everywhere, the point where it is not the language's decimal sign.
        ("1,125", "de", "1125"),
        ("1.125", "de", "1125"),
        ("1.125", "fr", "1125"),
        ("1.125", "en", "1.125"),
        ("1.125", "th", "1.125"),
        ("1.125", "es-MX", "1.125"),
        # The 30th digit counts, too.
        ("100000000000000000000000000001", "en", "100000000000000000000000000001"),
    ],
)
def test_notation(written: str, language: str, number: str) -> None:
    assert read_number(written, language) == Decimal(number)
    assert read_number(f"#### {written}.", language) == Decimal(number)
    assert read_number(f"({written}%)", language) == Decimal(number)
    assert read_number(f"-${written} 7 apples", language, marker="-$") == Decimal(number)


@pytest.mark.parametrize(
    ("completion", "number"),
    [
        ("$-5", "-5"),
        ("-$5", "-5"),
        ("−€1,000", "-1000"),
        ("US$5", "5"),
        ("USD18", "18"),
        ("+5", "5"),
        ("18%", "18"),
        ("5kg", "5"),
        # An operator or a range is no sign.
        ("10-12", "12"),
        ("10 – 12", "12"),
        ("20 -12", "12"),
        ("(5)-3", "3"),
        ("10%-12%", "12"),
        ("5\n-3", "-3"),
        # Marks of direction between sign and digits.
        ("\u200e-\u200e5", "-5"),
        ("-\u061c٥", "-5"),
        # Parts of words, dates, times, versions and addresses.
        ("GPT4 says 7, not GPT-4", "7"),
        ("7 on COVID-19", "7"),
        ("7 on 2024-01-15", "7"),
        ("7 on 15.01.2024", "7"),
        ("7 on 1/15/2024", "7"),
        ("7 at 10:30", "7"),
        ("7 with version 1.2.3", "7"),
        ("7 at 192.168.0.1", "7"),
        ("5², as said", "5"),
        ("so...5", "5"),
        # Lists are not decimals.
        ("3,45,6", "6"),
        ("5, 10, 15", "15"),
        ("born in 2019 300 people", "300"),
        ("<<5+6=11>>11", "11"),
        (r"so \boxed{18}.", "18"),
    ],
)
def test_the_last_number_of_english(completion: str, number: str) -> None:
    assert read_number(completion, "en") == Decimal(number)


@pytest.mark.parametrize("completion", ["", " \n", "no idea", "GPT-4", "eighteen", "2024-01-15", "কোভিড-১৯", "..."])
def test_no_number_is_none(completion: str) -> None:
    assert read_number(completion, "en") is None


@pytest.mark.parametrize(
    ("completion", "language", "number"),
    [
        ("বল। 5 + 6 = 11। উত্তর হল 11। ধরুন 3টি।", "bn", "11"),
        ("5 + 6 = 11. Die Antwort ist 11. Von 20.", "de", "11"),
        ("5 + 6 = 11. The answer is 11. Of 20.", "en", "11"),
        ("5 + 6 = 11. La respuesta es 11. De 20.", "es", "11"),
        ("5 + 6 = 11. La réponse est 11. Sur 20.", "fr", "11"),
        ("5+6=11。答えは11です。20個のうち。", "ja", "11"),
        ("5 + 6 = 11. Ответ — 11. Из 20.", "ru", "11"),
        ("5 + 6 = 11. Jibu ni 11. Kati ya 20.", "sw", "11"),
        ("దశలవారీగా సమాధానం: 5+6=11. సమాధానం 11. 20.", "te", "11"),
        # The opening of an explanation is no marker; the first number behind it is not the answer.
        ("దశలవారీగా సమాధానం: రోజర్ వద్ద 5 బంతులు. 5+6 మొత్తం 11.", "te", "11"),
        ("5 + 6 = 11 คำตอบคือ 11 จาก 20", "th", "11"),
        ("5 + 6 = 11。答案是 11。共 20。", "zh", "11"),
        ("5 + 6 = 11\n#### 11\n20", "sw", "11"),
        # English reasoning on a question in another language.
        ("5 + 6 = 11. The answer is 11. Of 20.", "bn", "11"),
        ("the ANSWER is 11 of 20", "en", "11"),
        # The last marker that a number follows.
        ("The answer is 7. No: the answer is 11 of 20. The answer is", "en", "11"),
        ("11. The answer is", "en", "11"),
        # The end of a calculation is the answer, but not what comes after.
        ("The answer is 5 + 6 = 11 of 20 = all.", "en", "11"),
        ("The answer is $5 * 3 = $15, 20 = all.", "en", "15"),
        ("The answer is 3 of 4: 5 + 6 = 11.", "en", "3"),
        ("The answer is 10-12.", "en", "10"),
        ("The answer is 3,45,6.", "en", "3"),
        # A marker ends with its word.
        ("The answer isn't 7 but 11", "en", "11"),
        ("Он ответил 7 и 11", "ru", "11"),
    ],
)
def test_the_number_after_the_marker(completion: str, language: str, number: str) -> None:
    assert read_number(completion, language) == Decimal(number)


def test_a_marker_of_ones_own_goes_before_those_that_are_known() -> None:
    text = "#### 5. Result (final): 11 of 20"
    assert read_number(text, "en") == 5
    assert read_number(text, "en", marker="result (final):") == 11
    # What is known is looked for where it is not there, or where no number follows it.
    assert read_number(text, "en", marker="[not there]") == 5
    assert read_number("#### 5, of 20. Result:", "en", marker="Result:") == 5


# How each closing sentence of the 88 exemplars of MGSM ends, and others for the same: `20` is not the answer.
CLOSINGS = {
    "bn": ["উত্তর হল 11।", "উত্তর: 11।"],
    "de": ["Die Antwort ist 11.", "Die Antwort lautet 11.", "Antwort: 11.", "Die Antwort ist also 11."],
    "en": ["The answer is 11.", "The final answer is: 11.", "Answer: 11.", r"\boxed{11}."],
    "es": ["La respuesta es 11.", "La respuesta final es 11.", "Respuesta: 11."],
    "fr": ["La réponse est 11.", "La réponse finale est 11.", "Réponse : 11."],
    "ja": ["答えは11です。", "答えは11個。", "答え：11。"],
    "ru": ["Ответ — 11.", "Ответ: 11.", "Ответ 11."],
    "sw": ["Jibu ni 11.", "Jibu la mwisho ni 11.", "Jibu: 11."],
    "te": ["సమాధానం 11.", "సమాధానం: 11."],
    "th": ["คำตอบคือ 11", "คำตอบ: 11", "คำตอบสุดท้ายคือ 11"],
    "zh": ["答案是 11。", "答案：11。", "最终答案为 11。"],
}


@pytest.mark.parametrize(
    ("language", "closing"), [(language, closing) for language in CLOSINGS for closing in CLOSINGS[language]]
)
def test_the_known_wordings_of_a_language_are_read_whatever_marker_is_asked_for(language: str, closing: str) -> None:
    for marker in (None, "The answer is", "#### "):
        assert read_number(f"5 + 6 = 11. {closing} (20)", language, marker) == 11


@pytest.mark.parametrize("language", MARKERS)
def test_what_opens_an_explanation_is_no_marker(language: str) -> None:
    opening = benchmarks.find("mgsm").prompts[language].prompt.splitlines()[-1]
    assert read_number(f"{opening} 3 + 4 (20)", language) == 20
    assert read_number("Step-by-Step Answer: 3 + 4 (20)", "en") == 20


def test_a_notation_decides_what_a_single_separator_is() -> None:
    read = {
        (text, language, notation): read_number(text, language, notation=notation)
        for text in ("1.234", "1,234")
        for language in ("en", "es")
        for notation in ("canonical", "language", None)
    }
    thousand, one = Decimal(1234), Decimal("1.234")
    assert [read["1.234", "es", notation] for notation in ("canonical", "language", None)] == [one, thousand, thousand]
    assert [read["1,234", "es", notation] for notation in ("canonical", "language", None)] == [thousand, one, thousand]
    assert {read["1.234", "en", notation] for notation in ("canonical", "language", None)} == {one}
    assert {read["1,234", "en", notation] for notation in ("canonical", "language", None)} == {thousand}
    # Nothing else depends on it.
    assert read_number("1.234,5", "es", notation="canonical") == Decimal("1234.5")


@pytest.mark.parametrize(
    ("gold", "language", "notation", "number"),
    [
        ("18", "es", None, "18"),
        (" -7 ", "es", None, "-7"),
        ("2125.0", "es", None, "2125"),
        ("3,5", "es", None, "3.5"),
        ("1.234.567", "es", None, "1234567"),
        ("1.234,5", "es", None, "1234.5"),
        ("1.234", "en", None, "1.234"),
        ("1,234", "en", None, "1234"),
        ("1.234", "es", "canonical", "1.234"),
        ("1.234", "es", "language", "1234"),
        ("1,234", "es", "canonical", "1234"),
        ("1,234", "es", "language", "1.234"),
        ("১২", "bn", None, "12"),
        ("$18", "en", None, "18"),
        ("18 %.", "en", None, "18"),
        ("USD 18", "en", None, "18"),
        ("5 + 6 = <<5+6=11>>11 eggs.\n#### 11", "en", None, "11"),
        ("So there are 20 - 9 of them. La respuesta es 11.", "es", None, "11"),
    ],
)
def test_right_answers_are_read_for_sure(gold: str, language: str, notation: Notation | None, number: str) -> None:
    assert read_gold(gold, language, notation=notation) == Decimal(number)


@pytest.mark.parametrize(
    ("gold", "language", "says"),
    [
        ("1.234", "es", "'1.234' is 1.234 with a decimal point, and 1234 as numbers are written in es; say which"),
        ("1,234", "de", "'1,234' is 1234 with a decimal point, and 1.234 as numbers are written in de; say which"),
        ("many", "en", "'many' is not one number alone"),
        ("", "en", "not one number alone"),
        ("3 of 7", "en", "not one number alone"),
        ("10-12", "en", "not one number alone"),
        ("2 million", "en", "not one number alone"),
        ("3万", "ja", "not one number alone"),
        ("5½", "en", "not one number alone"),
        ("1e5", "en", "not one number alone"),
        ("2024-01-15", "en", "not one number alone"),
    ],
)
def test_right_answers_that_are_in_doubt_are_refused(gold: str, language: str, says: str) -> None:
    with pytest.raises(DataError, match=re.escape(says)):
        read_gold(gold, language)


def test_markers_are_in_the_form_that_text_is_brought_into() -> None:
    for marker in (*ANYWHERE, *MARKERS.values()):
        assert unicodedata.is_normalized("NFC", marker)
    assert read_number(unicodedata.normalize("NFD", "La réponse est 11. Sur 20."), "fr") == 11


def test_unknown_and_malformed_languages() -> None:
    assert read_number("1,000.5", "tlh") == Decimal("1000.5")
    assert read_number("答案是１８，20", "zho-Hant-TW") == 18
    with pytest.raises(ValueError, match="alphanumeric"):
        read_number("5", "not a tag")


DIGITS = [
    chr(code)
    for code in range(0x110000)
    if unicodedata.category(chr(code)) == "Nd" and unicodedata.decimal(chr(code)) == 0
]
LOCALES = "am ar bg bn cs de de_CH el en es fa fi fr he hi hu id it ja ko my nl pl pt pt_PT ru sv sw ta te th tr uk ur vi yo zh"


@settings(deadline=None, max_examples=300)
@given(
    cents=st.integers(-(10**12), 10**12),
    places=st.sampled_from([0, 1, 2]),
    zero=st.sampled_from(DIGITS),
    locale=st.sampled_from(LOCALES.split()),
)
def test_what_cldr_writes_is_read_back(cents: int, places: int, zero: str, locale: str) -> None:
    number = Decimal(cents).scaleb(-places)
    written = format_decimal(number, locale=locale)
    written = re.sub("[0-9]", lambda digit: chr(ord(zero) + int(digit[0])), written)
    assert read_number(written, locale.replace("_", "-")) == number
    assert read_number(f"x 3 #### {written} 9", locale.replace("_", "-"), "####") == number


@settings(deadline=None, max_examples=200)
@given(
    text=st.text(alphabet="0159.,-−٬٫'’ \u00a0\n=+$%:/aเは১१๑#", max_size=40),
    language=st.sampled_from(["en", "de", "th"]),
)
def test_any_text_is_read_or_refused_quietly(text: str, language: str) -> None:
    number = read_number(text, language)
    assert number is None or number.is_finite()
    if not re.search(r"\d", text):
        assert number is None
