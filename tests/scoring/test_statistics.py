from collections.abc import Sequence

import numpy as np
import pytest
from scipy.stats import beta, binomtest, norm, permutation_test, ttest_1samp

from adamergex.reporting import report
from adamergex.scoring import statistics
from adamergex.scoring.results import AVERAGE, Role, Row, Scores, shared_label
from adamergex.scoring.results import rows as table

ROLES: dict[str, Role] = {"base": "base", "adamergex": "merged", "ceiling": "ceiling"}


def test_the_sign_flip_of_right_and_wrong_is_the_exact_mcnemar_test_by_hand() -> None:
    # 1 gained, 5 lost: 2 · (C(6,0) + C(6,1)) / 2⁶ = 14/64
    correct = np.array([True] + [False] * 5 + [True] * 3)
    baseline = np.array([False] + [True] * 5 + [True] * 3)
    differences = np.stack([1.0 * correct - baseline, 1.0 * baseline - correct, 1.0 * correct - correct])
    assert statistics.sign_flip(differences) == pytest.approx([14 / 64, 14 / 64, 1.0])
    many = np.random.default_rng(0).choice([-1.0, 0.0, 1.0], (5, 3_000), p=(0.2, 0.55, 0.25))
    expected = [binomtest(int((row > 0).sum()), int((row != 0).sum())).pvalue for row in many]
    assert statistics.sign_flip(many) == pytest.approx(expected, rel=1e-9)


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
    return table("accuracy", {"es": labels}, {"es": scores}, roles=ROLES)


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


def test_a_gap_that_may_be_none_has_no_share_that_is_closed() -> None:
    right = {"source-adapter": [1.0] * 50 + [0.0] * 50, "adamergex": [1.0] * 51 + [0.0] * 49}
    labels = {name: name for name in (*right, "ceiling")}

    def closed(ceiling: int) -> float | None:
        scores = {name: Scores(of) for name, of in right.items()} | {
            "ceiling": Scores([1.0] * ceiling + [0.0] * (100 - ceiling))
        }
        return table("accuracy", {"es": labels}, {"es": scores}, roles=ROLES)[1].gap_closed

    # Five of five differing items are p = 0.0625, six of six 0.03125.
    assert closed(55) is None
    assert closed(56) == pytest.approx(1 / 6)


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
    found = {(row.language, row.method): row for row in table("accuracy", labels, scores, roles=ROLES)}
    assert found["es", "adamergex"].p_value == 0.5
    assert found["sw", "adamergex"].p_value == 1.0
    assert (found["es", "adamergex"].p_holm, found["sw", "adamergex"].p_holm) == (1.0, 1.0)
    average = found[AVERAGE, "adamergex"]
    assert (average.score, average.difference, average.unreadable, average.items) == (0.625, 0.375, 2, 8)
    assert average.p_holm is None
    # An item of both languages flips in both: 0, 0, 1, 2 have four signs, of which ++ and -- are as far.
    assert average.p_value == 0.5
    # Items of their own: three differences of 1, of whose eight signs two are as far.
    apart = {"es": ["a", "b", "c", "d"], "sw": ["e", "f", "g", "h"]}
    average = table("accuracy", labels, scores, items=apart)[-1]
    assert average.p_value == pytest.approx(2 / 8)
    # The fourth of one is the first of the other, wherever they stand: 1, 2.
    crossed = {"es": ["a", "b", "c", "d"], "sw": ["b", "a", "e", "d"]}
    assert table("accuracy", labels, scores, items=crossed)[-1].p_value == 0.5
    assert "sign-flip permutation test p = 0.500" in (
        report.verdict([found[AVERAGE, "source-adapter"], found[AVERAGE, "adamergex"]]) or ""
    )


def test_a_few_items_that_are_all_right_prove_little() -> None:
    """Two languages of four items: all wrong before, all right now."""
    labels = {code: {"source-adapter": "t = 0", "adamergex": "merged"} for code in ("es", "sw")}
    scores = {code: {"source-adapter": Scores([0.0] * 4), "adamergex": Scores([1.0] * 4)} for code in labels}
    start, merged = table("accuracy", labels, scores)[-2:]
    # All of four clusters are better: 2 / 2⁴.
    assert merged.p_value == pytest.approx(1 / 8)
    assert merged.high == 1.0
    assert start.low == 0.0
    # As for four right of four in one language: Jeffreys' interval begins at the 2.5 % of Beta(4½, ½).
    assert merged.low == pytest.approx(beta.ppf(0.025, 4.5, 0.5), abs=0.03)
    assert start.high == pytest.approx(1 - beta.ppf(0.025, 4.5, 0.5), abs=0.03)


@pytest.mark.parametrize("metric", ["accuracy", "f1"])
def test_a_language_that_says_the_same_again_adds_no_evidence(metric: str) -> None:
    random = np.random.default_rng(0)
    start, merged = (random.random((2, 60)) < [[0.5], [0.65]]) * (1 if metric == "accuracy" else random.random(60))
    labels = {code: {"source-adapter": "t = 0", "adamergex": "merged"} for code in ("es", "pt", "gl", "ca")}
    scores = {code: {"source-adapter": Scores(start), "adamergex": Scores(merged)} for code in labels}
    found = table(metric, labels, scores)
    assert found[-1].average
    assert found[-1].p_value == pytest.approx(found[1].p_value, rel=1e-9)
    assert (found[-1].low, found[-1].high) == pytest.approx((found[1].low, found[1].high), abs=0.01)


def test_what_a_method_is_follows_from_its_role_not_from_its_name() -> None:
    values = {"base": [0.0, 1.0], "ceiling": [1.0, 1.0], "few-shot": [0.0, 0.0], "adamergex": [1.0, 0.0]}
    values = {name: of * 20 for name, of in values.items()}
    scores = {name: Scores(of) for name, of in values.items()}
    labels = {"average": {name: name for name in values}}
    found = table("accuracy", labels, {"average": scores}, start="few-shot", roles={"base": "base"})
    assert [row.role for row in found] == ["base", "adapter", "adapter", "adapter"]
    assert [row.gap_closed for row in found] == [None] * 4
    assert not any(row.average for row in found)
    assert report.verdict(found) is None
    assert report.Report("r", "en", "few-shot", found).tables()[0][0] == "en → average"
    other = table(
        "accuracy", labels, {"average": scores}, start="few-shot", roles={"few-shot": "base", "base": "ceiling"}
    )
    assert [row.gap_closed for row in other] == [None, 2.0, None, 1.0]


def test_graded_scores_are_compared_by_sign_flips_and_have_bootstrap_intervals() -> None:
    start = [0.1, 0.5, 0.4, 0.9] * 20
    scores = {"source-adapter": Scores(start), "adamergex": Scores([value + 0.05 for value in start], 0, {"chrf": 0.5})}
    labels = {"es": {"source-adapter": "t = 0", "adamergex": "merged"}}
    start_row, merged = table("rougeL", labels, {"es": scores}, roles=ROLES)
    assert merged.difference == pytest.approx(0.05)
    # All of 80 differences are one size and of one sign.
    assert merged.p_value == pytest.approx(2.0**-79)
    values = [np.array([scores["source-adapter"].values, scores["adamergex"].values])]
    assert (merged.low, merged.high) == tuple(statistics.cluster_bootstrap(values, [np.arange(80)])[1])
    assert "| merged | 52.5 |" in report.markdown(report.Report("r", "en", "t = 0", [start_row, merged]), None)
    assert "sign-flip permutation test" in (report.verdict([start_row, merged]) or "")
    with pytest.raises(ValueError, match="inhomogeneous"):
        table("rougeL", labels, {"es": scores | {"adamergex": Scores([0.5])}})
    with pytest.raises(ValueError, match="80 items, 79 clusters"):
        table("rougeL", labels, {"es": scores}, items={"es": ["a"] * 79})


def test_sign_flips_by_hand() -> None:
    # Sums of ±1 ±2 ±4: 7 is reached by two of eight, 5 by four.
    assert statistics.sign_flip(np.array([[1.0, 2.0, 4.0], [-1.0, 2.0, 4.0], [0.0, 0.0, 0.0]])) == pytest.approx(
        [2 / 8, 4 / 8, 1.0]
    )
    # 0.1 + 0.2 is as far as 0.3, whatever rounding makes of it.
    assert statistics.sign_flip(np.array([[0.1, 0.2, 0.3, -0.3]])) == pytest.approx(
        statistics.sign_flip(np.array([[1.0, 2.0, 3.0, -3.0]]))
    )
    assert statistics.sign_flip(np.zeros((2, 0))) == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize("items", [2, 5, 13, 40])
def test_sign_flips_are_those_of_scipy(items: int) -> None:
    differences = np.random.default_rng(items).normal(0.3, 1, (3, items))
    for measured, of in zip(statistics.sign_flip(differences), differences, strict=True):
        expected = permutation_test(
            (of,), lambda drawn, axis: drawn.mean(axis=axis), permutation_type="samples", vectorized=True, rng=0
        )
        # Both are exact below 14 items, and draw above.
        assert measured == pytest.approx(expected.pvalue, abs=1e-9 if items < 14 else 0.02)


def test_the_same_seed_makes_the_same_p_value_and_interval_whatever_stands_beside() -> None:
    scores = np.random.default_rng(1).random((4, 50))
    one = statistics.sign_flip(scores - 0.45)
    assert (statistics.sign_flip(scores - 0.45) == one).all()
    assert statistics.sign_flip(scores[2:3] - 0.45) == pytest.approx(one[2:3])
    assert (statistics.sign_flip(scores - 0.45, seed=1) != one).any()
    intervals = statistics.cluster_bootstrap([scores], [np.arange(50)])
    assert (statistics.cluster_bootstrap([scores], [np.arange(50)]) == intervals).all()
    assert statistics.cluster_bootstrap([scores[1:2]], [np.arange(50)]) == pytest.approx(intervals[1:2])
    assert (statistics.cluster_bootstrap([scores], [np.arange(50)], seed=1) != intervals).any()


def languages_of(
    random: np.random.Generator, kind: str, rate: float, repeats: int, items: int, count: int, parallel: bool
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Scores of `count` languages, (repeats, items) each, of mean `rate`; translations are alike where parallel."""
    shape = (count, repeats, items)
    hard = random.normal(size=(1, *shape[1:])) if parallel else random.normal(size=shape)
    drawn = norm.cdf(np.sqrt(0.6) * hard + np.sqrt(0.4) * random.normal(size=shape))
    scores = (drawn < rate).astype(float) if kind == "binary" else drawn ** (1 / rate - 1)
    clusters = [np.arange(items) + (0 if parallel else items * number) for number in range(count)]
    return list(scores), clusters


CASES = [(count, parallel) for count, parallel in ((1, True), (2, True), (2, False), (6, True), (6, False))]


@pytest.mark.parametrize("kind", ["binary", "graded"])
@pytest.mark.parametrize("items", [2, 3, 5, 8, 20, 60, 500])
def test_a_true_null_is_rejected_in_one_of_twenty_at_most(kind: str, items: int) -> None:
    repeats = 1000 if items < 500 else 500
    for count, parallel in CASES:
        random = np.random.default_rng(items)
        # Two methods as good as each other, which agree on what is hard.
        pairs, clusters = languages_of(random, kind, 0.7, 2 * repeats, items, count, parallel)
        both = [of[:repeats] - of[repeats:] for of in pairs]
        p_values = statistics.sign_flip(statistics.cluster_means(both, clusters), resamples=999)
        for level in (0.05, 0.2):
            allowed = 3 * (level * (1 - level) / repeats) ** 0.5
            rejected = np.mean(p_values <= level)
            assert rejected <= level + allowed, (count, parallel, level)
            # Nor is the level given away, where there are enough differences to tell.
            assert items * count < 120 or rejected >= 0.7 * level - allowed, (count, parallel, level)


def test_sign_flips_find_what_the_t_test_on_the_same_clusters_finds() -> None:
    """A shift by three standard errors: a t test on the items' means over languages is the yardstick."""
    for kind, items, count in (
        ("graded", 12, 1),
        ("graded", 40, 5),
        ("graded", 300, 1),
        ("binary", 300, 1),
        ("binary", 60, 5),
    ):
        random = np.random.default_rng(items)
        repeats = 400
        first, clusters = languages_of(random, kind, 0.5, repeats, items, count, True)
        second, _ = languages_of(random, kind, 0.5, repeats, items, count, True)
        differences = statistics.cluster_means([a - b for a, b in zip(first, second, strict=True)], clusters) * items
        better = differences + 3 * differences.std() / items**0.5 if kind == "graded" else differences
        if kind == "binary":
            second, _ = languages_of(random, kind, 0.5 - 1.6 / items**0.5, repeats, items, count, True)
            better = statistics.cluster_means([a - b for a, b in zip(first, second, strict=True)], clusters)
        flipped = np.mean(statistics.sign_flip(better, resamples=999) <= 0.05)
        by_t = np.mean(ttest_1samp(better, 0, axis=1).pvalue <= 0.05)
        assert by_t > 0.5
        # The exact test of few right and wrong ones can only take levels below 0.05.
        assert flipped >= by_t - (0.03 if kind == "graded" else 0.08), (kind, items, count)


def test_translations_kept_together_cost_no_power_where_items_are_independent() -> None:
    random = np.random.default_rng(5)
    values, apart = languages_of(random, "graded", 0.5, 400, 40, 3, False)
    better = [of - 0.5 + 0.065 for of in values]
    alone = np.mean(statistics.sign_flip(statistics.cluster_means(better, apart), resamples=999) <= 0.05)
    together = np.mean(
        statistics.sign_flip(statistics.cluster_means(better, [np.arange(40)] * 3), resamples=999) <= 0.05
    )
    assert 0.5 < alone < 0.95
    assert together == pytest.approx(alone, abs=0.04)


@pytest.mark.parametrize("kind", ["binary", "graded"])
@pytest.mark.parametrize("items", [2, 4, 15, 100])
def test_intervals_hold_the_true_mean_as_often_as_they_say(kind: str, items: int) -> None:
    repeats = 300
    for rate in (0.5, 0.9):
        # Right or wrong in one language has Wilson's interval.
        for count, parallel in CASES[kind == "binary" :]:
            random = np.random.default_rng(items)
            values, clusters = languages_of(random, kind, rate, repeats, items, count, parallel)
            found = statistics.cluster_bootstrap(values, clusters, resamples=1_000)
            held = np.mean((found[:, 0] <= rate) & (rate <= found[:, 1]))
            assert held >= 0.91, (rate, count, parallel)
            assert (found >= 0).all()
            assert (found <= 1).all()
            assert (found[:, 0] < found[:, 1]).all()


def test_the_interval_of_right_and_wrong_is_jeffreys() -> None:
    for right, items in ((0, 3), (3, 3), (2, 5), (40, 50)):
        values = np.array([[1.0] * right + [0.0] * (items - right)])
        expected = beta.ppf([0.025, 0.975], right + 0.5, items - right + 0.5)
        expected = (0.0 if not right else expected[0], 1.0 if right == items else expected[1])
        found = statistics.cluster_bootstrap([values], [np.arange(items)], resamples=100_000)[0]
        assert found == pytest.approx(expected, abs=0.01)


def test_the_bootstrap_interval_is_the_normal_one_where_there_are_many_items() -> None:
    scores = np.random.default_rng(1).random((1, 2_000))
    half = 1.959964 * scores.std() / scores.size**0.5

    def interval(confidence: float) -> Sequence[float]:
        found: list[float] = statistics.cluster_bootstrap([scores], [np.arange(2_000)], confidence)[0].tolist()
        return found

    low, high = interval(0.95)
    assert (low, high) == pytest.approx((scores.mean() - half, scores.mean() + half), abs=0.05 * half)
    narrow = interval(0.5)
    assert narrow[1] - narrow[0] == pytest.approx((high - low) * 0.67449 / 1.959964, rel=0.05)


def test_several_items_of_a_language_may_be_one_cluster() -> None:
    scores = [np.array([[1.0, 2.0, 4.0, 5.0]]), np.array([[3.0, 5.0]])]
    clusters = [np.array([0, 0, 1, 1]), np.array([1, 2])]
    # (1 + 2) / 8; (4 + 5) / 8 + 3 / 4; 5 / 4
    assert statistics.cluster_means(scores, clusters)[0] == pytest.approx([3 / 8, 15 / 8, 5 / 4])
    with pytest.raises(ValueError, match="0 items"):
        statistics.cluster_bootstrap([np.zeros((1, 0))], [np.zeros(0, int)])


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


def test_over_languages_a_system_is_called_what_its_names_have_in_common() -> None:
    assert shared_label("adamergex", ["AdaMergeX (t = 0, chosen)", "AdaMergeX (t = 0.5, chosen)"]) == "AdaMergeX"
    assert shared_label("adamergex", ["AdaMergeX (t = 0.5, chosen)"] * 2) == "AdaMergeX (t = 0.5, chosen)"
    # Two methods were chosen, or the name is the language's.
    assert shared_label("adamergex", ["AdaMergeX (t = 0, chosen)", "T + t·R (t = 0.5, chosen)"]) == "adamergex"
    assert shared_label("ceiling", ["sl adapter (ceiling)", "hu adapter (ceiling)"]) == "ceiling"
