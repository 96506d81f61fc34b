import pytest
from hypothesis import given
from hypothesis import strategies as st

from adamergex.scoring.extraction import exact_match, f1

# Exact match and F1 as the published mlqa_evaluation_v1.py gives them.
PUBLISHED = [
    ("en", "the Denver Broncos.", ["Broncos", "Denver Broncos"], 1, 1.0),
    ("en", "A man, an apple and the sea", ["man apple"], 0, 0.666667),
    ("en", "$5 million", ["5 million", "about 5 million dollars"], 1, 1.0),
    ("en", "The", ["a"], 1, 0.0),
    ("en", "Theatre", ["theatre a"], 1, 1.0),
    ("en", "", ["Broncos"], 0, 0.0),
    ("es", "La casa de los espíritus", ["casa de espíritus"], 1, 1.0),
    ("es", "¿Una vez?", ["unas veces", "vez"], 1, 1.0),
    ("de", "Der Herr der Ringe", ["Herr der Ringe", "Ringe"], 1, 1.0),
    ("de", "einen Teil des Reiches", ["Teil eines großen Reiches"], 0, 0.8),
    ("vi", "những con mèo của tôi", ["con mèo tôi"], 1, 1.0),
    ("vi", "Hà Nội là thủ đô", ["Hà Nội"], 0, 0.666667),
    ("hi", "नई दिल्ली।", ["नई दिल्ली"], 1, 1.0),
    ("hi", "दिल्ली में 1947", ["1947 में"], 0, 0.8),
    ("ar", "الجزائر العاصمة", ["جزائر عاصمة"], 1, 1.0),
    ("ar", "مدينة القاهرة", ["القاهرة", "مدينة الاسكندرية"], 0, 0.666667),
    ("ar", "حال البلاد", ["حا بلاد"], 0, 0.5),
    ("zh", "北京大学（PKU）。", ["北京大学"], 0, 0.888889),
    ("zh", "在1949年10月", ["1949年"], 0, 0.571429),
    ("zh", "iPhone手机 和平板", ["iphone 手机"], 0, 0.666667),
]


@pytest.mark.parametrize(("language", "prediction", "golds", "match", "overlap"), PUBLISHED)
def test_the_figures_of_the_published_scorer(
    language: str, prediction: str, golds: list[str], match: int, overlap: float
) -> None:
    assert exact_match(prediction, golds, language) == match
    assert f1(prediction, golds, language) == pytest.approx(overlap, abs=1e-6)


def test_the_articles_are_those_of_the_answers_language() -> None:
    # Compared as they stand, or by English rules, neither is equal.
    assert exact_match("El río Ebro", ["río Ebro"], "es") == 1
    assert exact_match("El río Ebro", ["río Ebro"], "en") == 0
    assert exact_match("die Donau", ["Donau"], "de-AT") == 1
    assert exact_match("die Donau", ["Donau"], "fr") == 0
    assert exact_match("the Donau", ["Donau"], "und") == 0


def test_scripts_without_spaces_are_not_all_or_nothing() -> None:
    # กรุงเทพ is ก รุ ง เ ท พ, six clusters, and ใน two more.
    assert f1("กรุงเทพ", ["ใน กรุงเทพ"], "th") == pytest.approx(2 * 6 / (6 + 8))
    assert f1("東京都", ["東京"], "ja") == pytest.approx(2 * 2 / 5)
    assert f1("東京 2020年", ["東京2020年"], "ja") == 1
    assert exact_match("「東京」。", ["東京"], "ja") == 1
    # A vowel sign is part of its consonant: these two share nothing.
    assert f1("มิ", ["มี"], "th") == 0


def test_syllables_of_tibetan_and_words_of_ethiopic_are_tokens() -> None:
    # བོད་ལྗོངས has two syllables, one of them བོད; a tsheg ends them or not.
    assert f1("བོད་", ["བོད་ལྗོངས"], "bo") == pytest.approx(2 / 3)
    assert exact_match("བོད་ལྗོངས་", ["བོད་ལྗོངས།"], "bo") == 1
    assert f1("አዲስ፡አበባ", ["አዲስ"], "am") == pytest.approx(2 / 3)


def test_other_languages_go_by_words() -> None:
    assert f1("Владимир Путин", ["Путин"], "ru") == pytest.approx(2 / 3)
    assert f1("서울 시", ["서울"], "ko") == pytest.approx(2 / 3)
    assert exact_match("Αθήνα!", ["αθήνα"], "el") == 1


def test_every_language_needs_a_gold_answer() -> None:
    for score in (exact_match, f1):
        with pytest.raises(ValueError, match="without gold"):
            score("x", [], "en")


@given(
    words=st.lists(
        st.sampled_from(["Broncos", "東京", "กรุงเทพ", "दिल्ली", "القاهرة", "1949", "río"]), min_size=1, max_size=6
    ),
    language=st.sampled_from(["ar", "de", "en", "es", "hi", "ja", "ru", "th", "vi", "zh"]),
)
def test_gold_is_1_nothing_is_0_and_order_is_f1s_to_forget(words: list[str], language: str) -> None:
    gold = " ".join(words)
    assert f1(gold, [gold], language) == exact_match(gold, [gold], language) == 1
    assert f1("", [gold], language) == exact_match("", [gold], language) == 0
    assert f1(" ".join(reversed(words)), [gold], language) == 1
    assert f1(gold, ["Atlantis", gold], language) == 1
    assert 0 < f1(gold + " Atlantis", [gold], language) < 1
