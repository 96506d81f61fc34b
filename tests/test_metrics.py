import numpy as np
import pytest
from scipy.stats import norm, ttest_rel

from adamergex.reporting import report
from adamergex.scoring import statistics
from adamergex.scoring.results import AVERAGE, Row, Scores
from adamergex.scoring.results import rows as table


def test_mcnemar_by_hand() -> None:
    # 1 gained, 5 lost: 2 · (C(6,0) + C(6,1)) / 2⁶ = 14/64
    correct = [True] + [False] * 5 + [True] * 3
    baseline = [False] + [True] * 5 + [True] * 3
    assert statistics.mcnemar_exact(correct, baseline) == pytest.approx(14 / 64)
    assert statistics.mcnemar_exact(baseline, correct) == pytest.approx(14 / 64)
    assert statistics.mcnemar_exact(correct, correct) == 1.0
    with pytest.raises(ValueError, match="zip"):
        statistics.mcnemar_exact([True], [True, False])


def test_wilson_by_hand() -> None:
    # (p + z²/2n ± z·√(p(1−p)/n + z²/4n²)) / (1 + z²/n) with p = 0.8, n = 10, z = 1.959964
    low, high = statistics.wilson_interval([True] * 8 + [False] * 2)
    assert (low, high) == pytest.approx((0.490162, 0.943318), abs=1e-5)


def test_gap_closed() -> None:
    assert statistics.gap_closed(0.6, 0.5, 0.9) == pytest.approx(0.25)
    assert statistics.gap_closed(0.6, 0.5, 0.5) is None


def rows(merged: list[bool]) -> list[Row]:
    right = {
        "base": [False] * 100,
        "source-adapter": [True] * 50 + [False] * 50,
        "adamergex": merged,
        "ceiling": [True] * 90 + [False] * 10,
    }
    labels = {"base": "base", "source-adapter": "t = 0", "adamergex": "merged", "ceiling": "ceiling"}
    scores = {method: Scores([float(value) for value in values]) for method, values in right.items()}
    return table("accuracy", {"es": labels}, {"es": scores})


@pytest.mark.parametrize(
    ("merged", "says"),
    [
        ([True] * 60 + [False] * 40, "+10.0 points .* p = 0.002.*: merging helped"),
        ([True] * 40 + [False] * 60, "-10.0 points .* p = 0.002.*: merging hurt; use the source-language adapter"),
        ([True] * 53 + [False] * 47, "[+]3.0 points .* p = 0.250.*: no difference that this test can show"),
    ],
)
def test_the_verdict_follows_the_test(merged: list[bool], says: str) -> None:
    import re

    assert re.search(says.replace("+10", "[+]10"), report.verdict(rows(merged)) or "")


def test_rows_are_measured_against_t_zero() -> None:
    base, start, merged, ceiling = rows([True] * 60 + [False] * 40)
    assert start.difference is start.p_value is None
    assert base.difference == -0.5
    assert merged.difference == pytest.approx(0.1)
    assert merged.gap_closed == pytest.approx(0.25)
    assert ceiling.gap_closed is None
    text = report.markdown(report.Report("run", "en", "t = 0", [base, start, merged, ceiling], facts=["fact"]), None)
    assert "## en → es" in text
    assert "| merged | 60.0 | 50.2 – 69.1 | +10.0 | 0.002 | 25 % |" in text


def test_averages_and_holm_by_hand() -> None:
    """Two languages of four items: differences (0, 0, 1, 1) and (0, 0, 0, 1)."""
    start = {"es": [1.0, 0.0, 0.0, 0.0], "sw": [0.0, 0.0, 1.0, 0.0]}
    merged = {"es": [1.0, 0.0, 1.0, 1.0], "sw": [0.0, 0.0, 1.0, 1.0]}
    labels = {code: {"source-adapter": "t = 0", "adamergex": "merged"} for code in start}
    scores = {code: {"source-adapter": Scores(start[code]), "adamergex": Scores(merged[code], 1)} for code in start}
    found = {(row.language, row.method): row for row in table("accuracy", labels, scores)}
    assert found["es", "adamergex"].p_value == 0.5
    assert found["sw", "adamergex"].p_value == 1.0
    assert (found["es", "adamergex"].p_holm, found["sw", "adamergex"].p_holm) == (1.0, 1.0)
    average = found[AVERAGE, "adamergex"]
    assert (average.score, average.difference, average.unreadable, average.items) == (0.625, 0.375, 2, 8)
    # Variances of the differences 1/3 and 1/4, of four items each: z = 0.375 / (√(1/12 + 1/16) / 2)
    error = (1 / 12 + 1 / 16) ** 0.5 / 2
    assert average.p_value == pytest.approx(2 * norm.sf(0.375 / error))
    assert average.p_holm is None
    assert (average.high - average.low) / 2 == pytest.approx(1.959964 * (1 / 16 + 1 / 12) ** 0.5 / 2)


def test_scores_that_are_not_right_or_wrong_are_compared_by_the_bootstrap() -> None:
    start = [0.1, 0.5, 0.4, 0.9] * 20
    scores = {"source-adapter": Scores(start), "adamergex": Scores([value + 0.05 for value in start], 0, {"chrf": 0.5})}
    start_row, merged = table("rougeL", {"es": {"source-adapter": "t = 0", "adamergex": "merged"}}, {"es": scores})
    assert merged.difference == pytest.approx(0.05)
    assert merged.p_value is not None
    assert merged.p_value < 0.001
    assert (merged.low, merged.high) == statistics.bootstrap_interval([value + 0.05 for value in start])
    assert "| merged | 52.5 |" in report.markdown(report.Report("r", "en", "t = 0", [start_row, merged]), None)
    assert "paired bootstrap" in (report.verdict([start_row, merged]) or "")


def test_the_bootstrap_interval_is_the_normal_one_where_there_are_many_items() -> None:
    scores = np.random.default_rng(1).random(2_000)
    half = 1.959964 * scores.std() / len(scores) ** 0.5
    low, high = statistics.bootstrap_interval(scores.tolist())
    assert (low, high) == pytest.approx((scores.mean() - half, scores.mean() + half), abs=0.05 * half)
    narrow = statistics.bootstrap_interval(scores.tolist(), confidence=0.5)
    assert narrow[1] - narrow[0] == pytest.approx((high - low) * 0.67449 / 1.959964, rel=0.05)


def test_the_bootstrap_interval_of_two_items_by_hand() -> None:
    # Means of two draws from 0 and 1: 0, ½, ½, 1; a quarter lies at each end.
    assert statistics.bootstrap_interval([0, 1]) == (0, 1)
    assert statistics.bootstrap_interval([0, 1], confidence=0.4) == (0.5, 0.5)
    assert statistics.bootstrap_interval([0.3] * 7) == pytest.approx((0.3, 0.3))


def test_the_same_seed_makes_the_same_interval_and_p_value() -> None:
    scores = np.random.default_rng(1).random(50).tolist()
    zeros = [0.45] * 50
    assert statistics.bootstrap_interval(scores) == statistics.bootstrap_interval(scores)
    assert statistics.bootstrap_interval(scores) != statistics.bootstrap_interval(scores, seed=1)
    assert statistics.paired_bootstrap(scores, zeros) == statistics.paired_bootstrap(scores, zeros)
    assert statistics.paired_bootstrap(scores, zeros) != statistics.paired_bootstrap(scores, zeros, seed=1)


def test_the_paired_bootstrap_by_hand() -> None:
    # Differences −1 and 3, shifted by their mean 1: −2 and 2. Means of two draws: −2, 0, 0, 2; half are as far as 1.
    assert statistics.paired_bootstrap([0, 3], [1, 0]) == pytest.approx(0.5, abs=0.02)
    assert statistics.paired_bootstrap([1, 0], [0, 3]) == pytest.approx(0.5, abs=0.02)
    # One difference of four: j of four draws hit it, and the mean is (j − 1)·x/4, as far as x/4 unless j = 1.
    for x in (0.3, 0.6, 0.7):
        assert statistics.paired_bootstrap([0, 0, 0, x], [0] * 4) == pytest.approx(37 / 64, abs=0.02)
    assert statistics.paired_bootstrap([0.1, 0.2], [0.2, 0.1]) == 1
    assert statistics.paired_bootstrap([0.1, 0.7], [0.1, 0.7]) == 1
    assert statistics.paired_bootstrap([1.0] * 5, [0.9] * 5, resamples=99) == pytest.approx(1 / 100)


def test_the_paired_bootstrap_follows_the_t_test_where_there_are_many_items() -> None:
    random = np.random.default_rng(2)
    baseline = random.random(1_000)
    for shift in (0.0, 0.005, 0.01, 0.02):
        scores = baseline + random.normal(shift, 0.1, 1_000)
        expected = float(ttest_rel(scores, baseline).pvalue)
        assert statistics.paired_bootstrap(scores.tolist(), baseline.tolist()) == pytest.approx(expected, abs=0.02)


def test_the_paired_bootstrap_rejects_a_true_null_as_often_as_it_says() -> None:
    random = np.random.default_rng(3)
    p_values = [
        statistics.paired_bootstrap(random.random(60).tolist(), random.random(60).tolist(), resamples=400)
        for _ in range(400)
    ]
    # 5 % of 400 are 20, with a standard error of 4.4.
    assert 8 <= sum(p <= 0.05 for p in p_values) <= 34


def test_no_items_have_no_mean() -> None:
    with pytest.raises(ValueError, match="no items"):
        statistics.bootstrap_interval([])
    with pytest.raises(ValueError, match="at least one"):
        statistics.paired_bootstrap([], [])
    with pytest.raises(ValueError, match="zip"):
        statistics.paired_bootstrap([1.0], [1.0, 0.0])


def test_holm_by_hand() -> None:
    # 4·0.005, 3·0.01, 2·0.03; then 1·0.04, which may not be less than 0.06.
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([0.5, 0.6]) == [1.0, 1.0]
    assert statistics.holm([0.02]) == [0.02]
    assert statistics.holm([0.01, 0.01]) == [0.02, 0.02]
    assert statistics.holm([]) == []
    with pytest.raises(ValueError, match="outside"):
        statistics.holm([0.5, 1.2])
    with pytest.raises(ValueError, match="outside"):
        statistics.holm([float("nan")])
