import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from adamergex.scoring.rouge import chrf, rouge


def test_rouge_by_hand() -> None:
    # 3 of 4 words and 6 words shared: 2·3/(4+6); bigrams: "the cat" of 3 and 5; longest: the cat sat.
    scores = rouge("the cat quickly sat", "The cat, my cat, sat here.", "en")
    assert scores["rouge1"] == pytest.approx(6 / 10)
    assert scores["rouge2"] == pytest.approx(2 / 8)
    assert scores["rougeL"] == pytest.approx(6 / 10)
    # The same words in another order: only the longest common subsequence is shorter.
    scores = rouge("c b a", "a b c", "en")
    assert scores == pytest.approx({"rouge1": 1, "rouge2": 0, "rougeL": 1 / 3})


@pytest.mark.parametrize(
    ("language", "prediction", "reference", "rouge1", "rouge_l"),
    [
        ("am", "ሰላም ለዓለም ሁሉ", "ሰላም ለዓለም።", 4 / 5, 4 / 5),
        ("ar", "القاهرة عاصمة مصر", "عاصمة مصر القاهرة", 1, 2 / 3),
        ("hi", "नई दिल्ली में", "नई दिल्ली", 4 / 5, 4 / 5),
        ("ru", "Москва зимой", "зимой", 2 / 3, 2 / 3),
        ("ko", "서울 날씨", "서울", 2 / 3, 2 / 3),
        ("yo", "ọjọ́ àná", "Ọjọ́ òní", 1 / 2, 1 / 2),
        # Clusters: สวัสดี is ส วั ส ดี.
        ("th", "สวัสดี", "สวัส", 2 * 3 / 7, 2 * 3 / 7),
        ("zh", "北京大学", "大学", 2 * 2 / 6, 2 * 2 / 6),
        ("ja", "東京で18個", "東京18", 2 * 3 / 8, 2 * 3 / 8),
        ("km", "ភាសា", "ភា", 2 * 1 / 3, 2 * 1 / 3),
    ],
)
def test_every_script_counts(language: str, prediction: str, reference: str, rouge1: float, rouge_l: float) -> None:
    theirs = RougeScorer(["rouge1"]).score(reference, prediction)["rouge1"].fmeasure
    ours = rouge(prediction, reference, language)
    # The tokens of the package know a-z and 0-9 alone.
    assert theirs != pytest.approx(rouge1)
    assert ours["rouge1"] == pytest.approx(rouge1)
    assert ours["rougeL"] == pytest.approx(rouge_l)


@given(st.text(alphabet="abc XY.,-'_19\n", max_size=60), st.text(alphabet="abc XY.,-'_19\n", max_size=60))
def test_on_ascii_it_is_the_published_rouge(prediction: str, reference: str) -> None:
    theirs = RougeScorer(["rouge1", "rouge2", "rougeL"]).score(reference, prediction)
    assert rouge(prediction, reference, "en") == pytest.approx({name: theirs[name].fmeasure for name in theirs})


def test_rouge_l_is_a_share_of_words_not_of_characters() -> None:
    long, short = "internationalisation " * 10, "of it " * 5
    assert rouge(long, long, "en")["rougeL"] == rouge(short, short, "en")["rougeL"] == 1


def test_spelling_that_means_the_same() -> None:
    assert rouge("cafe\u0301", "CAFÉ", "fr")["rouge1"] == 1
    assert rouge("می\u200cروم", "میروم", "fa")["rouge1"] == 1
    assert rouge("İSTANBUL ILIK", "istanbul ılık", "tr")["rouge1"] == 1
    assert rouge("ILIK", "ılık", "en")["rouge1"] == 0


def test_chrf_by_hand() -> None:
    # "ab" and "ac": of the unigrams 1 of 2 is shared, of the bigrams none; F2 of each order is averaged.
    assert chrf("ab", "ac") == pytest.approx((0.5 + 0) / 2)
    assert chrf("Ab", "ab") < 1
    assert chrf("a b", "ab") == 1
    # β = 2: recall counts four times as much; one order, P = 1/2, R = 1, 5·PR/(4P + R), and of the bigrams none.
    assert chrf("ba", "b") > chrf("b", "ba")


@given(st.lists(st.sampled_from(["ሰላም", "สวัสดี", "नई", "القاهرة", "word", "東京"]), min_size=2, max_size=8))
def test_gold_is_1_and_nothing_is_0(words: list[str]) -> None:
    gold = " ".join(words)
    assert rouge(gold, gold, "und") == {"rouge1": 1, "rouge2": 1, "rougeL": 1}
    assert rouge("", gold, "und") == rouge("—…!", gold, "und") == {"rouge1": 0, "rouge2": 0, "rougeL": 0}
    assert chrf(gold, gold) == pytest.approx(1)
    assert chrf("", gold) == 0
    assert rouge("zzz", gold, "und")["rouge1"] == 0
