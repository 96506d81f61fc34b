import random
import unicodedata
from statistics import fmean
from typing import Literal

import pytest

from adamergex.errors import DataError
from adamergex.scoring.scorers import PRIMARY, AnswerKind, Score, score_completion

GOLDS: dict[AnswerKind, tuple[str, list[str]]] = {
    "text": ("en", ["entailment", "neutral", "contradiction", "Ａ"]),
    "number": ("de", ["18", "1,234", "#### 5", "-7", "0"]),
    "extraction": ("es", ["La casa verde", "río Ebro", "1949", "Cien años"]),
    "generation": ("th", ["กรุงเทพมหานคร", "ฝนตกหนัก", "๑๘ คน", "เด็กไปโรงเรียน"]),
}
NAMES = {
    "text": {"exact"},
    "number": {"accuracy"},
    "extraction": {"f1", "exact_match"},
    "generation": {"rougeL", "rouge1", "rouge2", "chrf"},
}


@pytest.mark.parametrize("kind", GOLDS)
def test_gold_scores_1_empty_0_and_strangers_less(kind: AnswerKind) -> None:
    language, golds = GOLDS[kind]
    for gold in golds:
        right = score_completion(kind, gold, [gold], language)
        assert right.readable
        assert set(right.scores) == NAMES[kind]
        assert right.scores[PRIMARY[kind]] == 1
        for empty in ("", " \n\t"):
            assert score_completion(kind, empty, [gold], language) == Score("", dict.fromkeys(right.scores, 0.0), False)
    for gold, other in zip(golds, golds[1:] + golds[:1], strict=True):
        assert score_completion(kind, other, [gold], language).scores[PRIMARY[kind]] < 0.5


@pytest.mark.parametrize("kind", ["text", "number"])
def test_shuffled_golds_score_chance(kind: AnswerKind) -> None:
    choices = GOLDS[kind][1]
    golds = choices * 250
    shuffled = random.Random(0).sample(golds, len(golds))
    scores = [score_completion(kind, a, [b], "en").scores[PRIMARY[kind]] for a, b in zip(shuffled, golds, strict=True)]
    # Four standard errors around 1/k.
    chance = 1 / len(choices)
    assert abs(fmean(scores) - chance) < 4 * (chance * (1 - chance) / len(golds)) ** 0.5


def test_a_completion_that_starts_with_a_new_line_is_not_right_by_itself() -> None:
    for completion in ("\nneutral", "\n\n", "\n"):
        assert score_completion("text", completion, ["entailment"], "en").scores == {"exact": 0.0}
    assert score_completion("text", "\n Entailment\n", ["entailment"], "en") == Score(
        "Entailment", {"exact": 1.0}, True
    )


def test_what_cannot_be_read_counts_as_no_choice() -> None:
    # Not as the first one.
    assert score_completion("text", "", ["A"], "en") == Score("", {"exact": 0.0}, False)
    assert score_completion("text", "I do not know", ["A"], "en").scores == {"exact": 0.0}
    assert score_completion("number", "I do not know", ["0"], "en") == Score("", {"accuracy": 0.0}, False)


def test_numbers_are_shown_plainly() -> None:
    assert score_completion("number", "The answer is 1,000.50!", ["1000.5"], "en") == Score(
        "1000.5", {"accuracy": 1.0}, True
    )
    assert score_completion("number", "#### ১২", ["12"], "bn").prediction == "12"
    assert score_completion("number", "1.000", ["1,000"], "es") == Score("1000", {"accuracy": 1.0}, True)
    assert score_completion("number", "0.0000001", ["1"], "en").prediction == "0.0000001"
    assert score_completion("number", "100", ["1"], "en") == Score("100", {"accuracy": 0.0}, True)
    assert score_completion("number", "Result: 3 of 4", ["3"], "en", marker="Result:").scores == {"accuracy": 1.0}


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD"])
@pytest.mark.parametrize(
    ("language", "written"),
    [("fr", "café où l’œuvre"), ("tr", "İstanbul'da ılık"), ("bo", "བོད་ཀྱི་རྒྱལ་ས།"), ("th", "น้ำใจ"), ("ko", "서울 시")],
)
def test_forms_of_unicode_are_no_difference_for_any_score(
    form: Literal["NFC", "NFD", "NFKC", "NFKD"], language: str, written: str
) -> None:
    answer = unicodedata.normalize(form, written)
    kinds: list[AnswerKind] = ["text", "extraction", "generation"]
    for kind in kinds:
        for one, other in ((answer, written), (written, answer)):
            assert set(score_completion(kind, one, [other], language).scores.values()) == {1.0}


@pytest.mark.parametrize(
    ("language", "one", "other", "equal"),
    [
        ("tr", "İSTANBUL", "istanbul", 1),
        ("tr", "IĞDIR", "Iğdır", 1),
        ("az", "QIZIL İL", "qızıl il", 1),
        # Two letters there, one elsewhere.
        ("tr", "ISTANBUL", "istanbul", 0),
        ("en", "ISTANBUL", "istanbul", 1),
        ("en", "IĞDIR", "ığdır", 0),
        ("de", "STRASSE", "Straße", 1),
        ("el", "ΛΌΓΟΣ", "λόγος", 1),
        ("fa", "می\u200cروم", "میروم", 1),
    ],
)
def test_case_is_the_languages(language: str, one: str, other: str, equal: int) -> None:
    for answer, gold in ((one, other), (other, one)):
        assert score_completion("text", answer, [gold], language).scores == {"exact": equal}
        assert score_completion("extraction", answer, [gold], language).scores == {"f1": equal, "exact_match": equal}
        assert score_completion("generation", answer, [gold], language).scores["rougeL"] == equal


def test_gold_numbers_are_in_english_notation_in_every_language() -> None:
    assert score_completion("number", "2125", ["2,125"], "de").scores == {"accuracy": 1.0}
    assert score_completion("number", "1,5", ["1.500"], "de").scores == {"accuracy": 1.0}
    # GSM8K's gold: an explanation, then the number.
    assert score_completion("number", "18", ["16 - 3 = <<16-3=13>>13 eggs.\n#### 18"], "en").scores == {"accuracy": 1.0}
    with pytest.raises(DataError, match="'many' is not one number alone"):
        score_completion("number", "18", ["many"], "en")


def test_the_best_gold_counts_for_each_score() -> None:
    both = score_completion("extraction", "verde", ["La casa verde", "verde mar azul claro"], "es").scores
    assert both == pytest.approx({"f1": 2 / 3, "exact_match": 0})
    assert score_completion("text", "Ａ  b", ["a\u3000B"], "ja").scores == {"exact": 1.0}
    assert score_completion("text", "ja", ["no", "JA"], "de").scores == {"exact": 1.0}
    one, two = (score_completion("generation", "a b c d", [gold], "en").scores for gold in ("a b x y", "d c b a"))
    assert one["rouge2"] > two["rouge2"]
    assert one["rouge1"] < two["rouge1"]
    best = score_completion("generation", "a b c d", ["a b x y", "d c b a"], "en").scores
    assert best == {name: max(one[name], two[name]) for name in best}


def test_an_empty_answer_is_wrong_even_where_normalisation_leaves_nothing_of_gold() -> None:
    assert score_completion("extraction", "", ["The"], "en") == Score("", {"f1": 0.0, "exact_match": 0.0}, False)


def test_an_item_has_gold_answers() -> None:
    with pytest.raises(ValueError, match="without gold"):
        score_completion("text", "x", [], "en")
    with pytest.raises(DataError, match="empty"):
        score_completion("generation", "x", ["x", " "], "en")
