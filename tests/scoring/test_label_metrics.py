"""Metrics of fixed labels: by hand, by identities, and their intervals by the distributions that they are of."""

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from scipy.stats import beta

from adamergex.scoring import statistics
from adamergex.scoring.label_metrics import LabelScores, metrics, swapped_difference
from adamergex.scoring.results import AVERAGE, Role, Row, Scores, rows

ROLES: dict[str, Role] = {"adamergex": "merged", "ceiling": "ceiling"}


def of_items(log_scores: np.ndarray, right: list[int]) -> dict[str, float]:
    found = metrics(log_scores, np.array(right), np.ones((1, len(right))))
    return {name: values.item() for name, values in found.items()}


def test_four_items_by_hand() -> None:
    p = np.array([[0.9, 0.1], [0.62, 0.38], [0.19, 0.81], [0.7, 0.3]])
    found = of_items(np.log(p), [0, 1, 1, 0])
    assert found == pytest.approx(
        {
            "accuracy": 3 / 4,
            # Label 0 is right twice and predicted three times, label 1 the other way round without one: 4/5 and 2/3.
            "macro_f1": (4 / 5 + 2 / 3) / 2,
            "balanced_accuracy": (2 / 2 + 1 / 2) / 2,
            "log_likelihood": math.log(0.9 * 0.38 * 0.81 * 0.7) / 4,
            # Each is in a bin of its own.
            "ece": (0.1 + 0.62 + 0.19 + 0.3) / 4,
        }
    )


def test_in_one_bin_too_much_and_too_little_confidence_cancel() -> None:
    # 0.70 and 0.72 are in (10/15, 11/15], 0.74 is not: |0.30 − 0.72| / 3 + |0.26| / 3.
    p = np.array([[0.70, 0.30], [0.72, 0.28], [0.74, 0.26]])
    assert of_items(np.log(p), [0, 1, 0])["ece"] == pytest.approx((0.42 + 0.26) / 3)


def test_labels_that_do_not_occur_count_nowhere_and_those_only_predicted_count_in_f1() -> None:
    scores = np.array([[5.0, 0, 0, 0], [0, 0, 5.0, 0]])
    found = of_items(scores, [0, 0])
    assert found["balanced_accuracy"] == pytest.approx(1 / 2)
    # Label 0: 2·1/(2 + 1); label 2: 0; labels 1 and 3 are nowhere.
    assert found["macro_f1"] == pytest.approx((2 / 3 + 0) / 2)


def test_only_differences_between_labels_matter_and_certainty_is_no_error() -> None:
    rng = np.random.default_rng(0)
    scores, right = rng.normal(size=(50, 3)), rng.integers(0, 3, 50).tolist()
    assert of_items(scores + rng.normal(size=(50, 1)) * 100, right) == pytest.approx(of_items(scores, right))
    sure = np.eye(3)[right] * 1000
    assert of_items(sure, right) == {
        "accuracy": 1, "macro_f1": 1, "balanced_accuracy": 1, "log_likelihood": 0, "ece": 0
    }  # fmt: skip
    assert of_items(np.zeros((50, 3)), right)["log_likelihood"] == pytest.approx(-math.log(3))


def test_an_item_of_weight_two_is_two_items() -> None:
    rng = np.random.default_rng(1)
    scores, right = rng.normal(size=(30, 4)), rng.integers(0, 4, 30)
    weights = rng.integers(0, 4, (5, 30)).astype(float)
    weighted = metrics(scores, right, weights)
    for number, row in enumerate(weights.astype(int)):
        repeated = of_items(np.repeat(scores, row, axis=0), np.repeat(right, row).tolist())
        assert {name: values[number] for name, values in weighted.items()} == pytest.approx(repeated)


def labelled(items: int, knows: float, seed: int = 0, calibrated: bool = False) -> Scores:
    rng = np.random.default_rng(seed)
    right = np.random.default_rng(7).integers(0, 3, items)
    raw = rng.normal(size=(items, 3)) + knows * np.eye(3)[right]
    answers = LabelScores(("a", "b", "c"), right, raw, raw + np.array([0.5, 0, 0]) if calibrated else None)
    return Scores((raw.argmax(axis=1) == right).astype(float).tolist(), labels=answers)


def by_method(found: list[Row], language: str = "es") -> dict[str, Row]:
    return {row.method: row for row in found if row.language == language}


def test_intervals_are_those_of_a_bayesian_bootstrap() -> None:
    scores = labelled(400, 1.5, calibrated=True)
    assert scores.labels is not None
    assert scores.labels.calibrated is not None
    row = rows("accuracy", {"es": {"base": "base"}}, {"es": {"base": scores}})[0]
    assert row.others.keys() == row.intervals.keys()
    assert all(low <= row.others[name] <= high for name, (low, high) in row.intervals.items())
    # A sum of exponential weights over all of them is beta distributed.
    right = int((scores.labels.calibrated.argmax(axis=1) == scores.labels.right).sum())
    assert row.intervals["calibrated_accuracy"] == pytest.approx(beta.ppf([0.025, 0.975], right, 400 - right), abs=0.01)
    each = log_softmax(scores.labels.raw, axis=1)[np.arange(400), scores.labels.right]
    assert row.others["log_likelihood"] == pytest.approx(each.mean())
    error = 1.96 * each.std() / 20
    assert row.intervals["log_likelihood"] == pytest.approx((each.mean() - error, each.mean() + error), abs=0.02)


def test_the_same_items_have_the_same_intervals_whoever_stands_beside() -> None:
    scores = {"base": labelled(60, 1, 1), "adamergex": labelled(60, 2, 2)}
    labels = {"es": {name: name for name in scores}}
    both = by_method(rows("accuracy", labels, {"es": scores}))
    alone = rows("accuracy", {"es": {"adamergex": "adamergex"}}, {"es": scores})[0]
    assert alone.intervals == both["adamergex"].intervals
    assert rows("accuracy", labels, {"es": scores}) == list(both.values())


def test_an_average_is_of_metrics_and_a_language_that_says_the_same_again_narrows_no_interval() -> None:
    labels = {code: {"base": "base"} for code in ("es", "sw")}
    one, other = labelled(80, 1, 1), labelled(80, 2, 2, calibrated=True)
    es, sw, average = rows("accuracy", labels, {"es": {"base": one}, "sw": {"base": other}})
    assert average.others == pytest.approx({name: (es.others[name] + sw.others[name]) / 2 for name in es.others})
    assert average.shares["a"] == pytest.approx((es.shares["a"] + sw.shares["a"]) / 2)
    first, _, same = rows("accuracy", labels, {"es": {"base": one}, "sw": {"base": one}})
    assert same.language == AVERAGE
    assert {name: pytest.approx(ends) for name, ends in same.intervals.items()} == first.intervals


def test_shares_of_labels_are_counts_and_have_no_average_over_other_labels() -> None:
    raw = np.array([[2.0, 1, 0], [0, 1, 0], [3, 0, 1], [1, 0, 0]])
    answers = LabelScores(("a", "b", "c"), np.array([0, 1, 1, 2]), raw)
    assert answers.shares() == {"a": 0.75, "b": 0.25, "c": 0}
    assert answers.right_shares() == {"a": 0.25, "b": 0.5, "c": 0.25}
    scores = Scores([1.0, 1, 0, 0], labels=answers)
    other = replace(scores, labels=replace(answers, labels=("x", "y", "z")))
    labels = {code: {"base": "base"} for code in ("es", "sw")}
    found = rows("accuracy", labels, {"es": {"base": scores}, "sw": {"base": other}})
    assert [list(row.shares) for row in found] == [["a", "b", "c"], ["x", "y", "z"], []]
    assert found[-1].others["balanced_accuracy"] == pytest.approx((1 + 1 / 2 + 0) / 3)


def test_written_answers_have_means_without_intervals() -> None:
    row = rows("f1", {"es": {"base": "base"}}, {"es": {"base": Scores([0.5, 1.0], 0, {"exact_match": 0.5})}})[0]
    assert (row.others, row.intervals, row.shares) == ({"exact_match": 0.5}, {}, {})


def test_the_share_of_a_gap_has_an_interval_where_there_is_a_gap() -> None:
    rng = np.random.default_rng(3)
    start, ceiling = rng.random(100), rng.random(100) + 0.5
    values = {"source-adapter": start, "adamergex": (start + ceiling) / 2, "ceiling": ceiling}
    labels = {"es": {name: name for name in values}}
    scores = {name: Scores((of / 2).tolist()) for name, of in values.items()}
    merged = by_method(rows("rougeL", labels, {"es": scores}, roles=ROLES))["adamergex"]
    # Item by item it is half way, whatever the items weigh.
    assert (merged.gap_closed, merged.gap_closed_low, merged.gap_closed_high) == pytest.approx((0.5, 0.5, 0.5))
    scores["ceiling"] = scores["source-adapter"]
    same = by_method(rows("rougeL", labels, {"es": scores}, roles=ROLES))["adamergex"]
    assert (same.gap_closed, same.gap_closed_low, same.gap_closed_high) == (None, None, None)


def test_the_interval_of_a_gap_holds_the_true_share_as_often_as_it_says() -> None:
    """Start right in 40 %, ceiling in 80 %, and the merge in 60 % of independent items: a half."""
    held = 0
    labels = {"es": {name: name for name in ("source-adapter", "adamergex", "ceiling")}}
    for seed in range(200):
        right = np.random.default_rng(seed).random((3, 300)) < [[0.4], [0.6], [0.8]]
        scores = {name: Scores(of.astype(float).tolist()) for name, of in zip(labels["es"], right, strict=True)}
        row = by_method(rows("accuracy", labels, {"es": scores}, roles=ROLES))["adamergex"]
        assert row.gap_closed_low is not None
        assert row.gap_closed_high is not None
        held += row.gap_closed_low <= 0.5 <= row.gap_closed_high
    # 190 are expected, with a standard deviation of 3.
    assert 180 <= held <= 198


def test_resamples_without_a_gap_have_no_share() -> None:
    scores, starts = np.array([1.0, 2, 3, 9]), np.zeros(4)
    low, high = statistics.gap_interval(scores, starts, np.array([2.0, 4, 6, -1]), 0.5)
    assert (low, high) == (0.5, 0.5)


def test_a_calibration_error_is_not_taken_for_larger_than_it_is() -> None:
    """Answers that are right as often as they are likely to be: percentiles of resamples never hold so small an error."""
    below = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        raw = rng.normal(size=(300, 3)) * 2
        right = (rng.random((300, 1)) > np.cumsum(softmax(raw, axis=1), axis=1)).sum(axis=1)
        scores = Scores([0.0] * 300, labels=LabelScores(("a", "b", "c"), right, raw))
        row = rows("accuracy", {"es": {"base": "base"}}, {"es": {"base": scores}})[0]
        assert row.intervals["ece"][0] <= row.others["ece"] <= row.intervals["ece"][1]
        below += row.intervals["ece"][0] < 0.01
    # Ends of percentiles are above 0.01 in each of them.
    assert below > 60


def test_the_basic_interval_is_the_percentiles_mirrored_and_stays_in_range() -> None:
    values = np.linspace(0.2, 0.4, 1001)
    assert statistics.basic_interval(values, 0.25) == pytest.approx((0.5 - 0.395, 0.5 - 0.205))
    assert statistics.basic_interval(values, 0.15) == pytest.approx((0, 0.15))
    assert statistics.basic_interval(values + 0.5, 0.93) == pytest.approx((0.93, 1))


def test_percentiles_hold_what_was_measured() -> None:
    values = np.arange(101.0)
    assert statistics.percentile_interval(values, 50) == pytest.approx((2.5, 97.5))
    assert statistics.percentile_interval(values, 1) == pytest.approx((1, 97.5))
    assert statistics.percentile_interval(values, 120) == pytest.approx((2.5, 120))


def predicting(predicted: list[int], right: list[int], labels: int = 3) -> Scores:
    answers = LabelScores(tuple("abc"[:labels]), np.array(right), np.eye(labels)[predicted])
    return Scores([float(p == r) for p, r in zip(predicted, right, strict=True)], labels=answers)


def compared(metric: str, start: list[int], merged: list[int], right: list[int], labels: int = 3) -> tuple[Row, Row]:
    methods = {"source-adapter": predicting(start, right, labels), "adamergex": predicting(merged, right, labels)}
    first, second = rows(metric, {"es": {name: name for name in methods}}, {"es": methods}, roles=ROLES)
    return first, second


def test_swapped_answers_by_hand() -> None:
    """Three items differ: of the first, both methods' answers are wrong."""
    right, start, merged = [0, 0, 1, 1], [1, 0, 0, 0], [2, 0, 1, 1]
    one, other = predicting(merged, right).labels, predicting(start, right).labels
    assert one is not None
    assert other is not None
    swaps = np.array([[0.0, 0, 0, 0], [0, 0, 1, 0], [1, 0, 1, 1], [1, 1, 1, 1]])
    balanced = swapped_difference("balanced_accuracy", one, other, swaps)
    # Recall of label 0 is 1/2 for both; of label 1 it is 1 to 0, then 1/2 to 1/2, then 0 to 1.
    assert balanced == pytest.approx([1 / 2, 0, -1 / 2, -1 / 2])
    f1 = swapped_difference("macro_f1", one, other, swaps[:1])
    # 0: 2/3, 1: 1, 2: 0 beside 0: 2/5, 1: 0.
    assert f1 == pytest.approx([(2 / 3 + 1) / 3 - (2 / 5) / 2])
    # Two of the four patterns of the last two items are as far from 0.
    assert compared("balanced_accuracy", start, merged, right)[1].p_value == pytest.approx(1 / 2)


@pytest.mark.parametrize(("items", "exact"), [(24, True), (400, False)])
def test_with_as_many_items_of_each_label_balanced_accuracy_is_tested_as_accuracy(items: int, exact: bool) -> None:
    rng = np.random.default_rng(items)
    right = [i % 2 for i in range(items)]
    start = [1 - r if rng.random() < 0.4 else r for r in right]
    merged = [1 - r if rng.random() < 0.3 else r for r in right]
    assert (sum(a != b for a, b in zip(start, merged, strict=True)) <= 14) is exact
    mcnemar = compared("accuracy", start, merged, right, 2)[1]
    swapped = compared("balanced_accuracy", start, merged, right, 2)[1]
    assert (swapped.metric, swapped.score) == ("balanced_accuracy", pytest.approx(mcnemar.score))
    assert swapped.difference == pytest.approx(mcnemar.difference)
    assert swapped.p_value == pytest.approx(mcnemar.p_value, abs=1e-12 if exact else 0.02)
    assert swapped.others["accuracy"] == mcnemar.score
    assert mcnemar.others["balanced_accuracy"] == swapped.score
    assert (swapped.low, swapped.high) == mcnemar.intervals["balanced_accuracy"]


def test_methods_that_answer_alike_do_not_differ() -> None:
    same = compared("macro_f1", [0, 1, 2], [0, 1, 2], [0, 1, 1])[1]
    assert (same.difference, same.p_value) == (0, 1)


def test_translations_are_swapped_together_and_the_average_is_of_both_languages() -> None:
    right, start, merged = [0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1]
    methods = {"source-adapter": predicting(start, right), "adamergex": predicting(merged, right)}
    labels = {code: {name: name for name in methods} for code in ("es", "sw")}
    scores = dict.fromkeys(labels, methods)
    together = rows("macro_f1", labels, scores)[-1]
    assert (together.average, together.score, together.difference) == (True, 1, 1)
    # All or none of four clusters are swapped; of eight that are no translations, too.
    assert together.p_value == pytest.approx(2 / 2**4)
    apart = rows("macro_f1", labels, scores, items={"es": list("abcd"), "sw": list("efgh")})[-1]
    assert apart.p_value == pytest.approx(2 / 2**8)


def test_a_gap_of_macro_f1_is_closed_by_macro_f1() -> None:
    rng = np.random.default_rng(4)
    right = rng.integers(0, 3, 120)
    knows = {"source-adapter": 0.4, "adamergex": 0.6, "ceiling": 0.95}
    answers = {name: np.where(rng.random(120) < share, right, 0).tolist() for name, share in knows.items()}
    scores = {"es": {name: predicting(of, right.tolist()) for name, of in answers.items()}}
    found = by_method(rows("macro_f1", {"es": {name: name for name in knows}}, scores, roles=ROLES))
    start, merged, ceiling = found.values()
    assert merged.gap_closed is not None
    assert merged.gap_closed == pytest.approx((merged.score - start.score) / (ceiling.score - start.score))
    assert merged.gap_closed_low is not None
    assert merged.gap_closed_high is not None
    assert merged.gap_closed_low < merged.gap_closed < merged.gap_closed_high


def test_methods_as_good_as_each_other_differ_in_one_of_twenty_at_most() -> None:
    """Labels of unequal shares, and two methods with the same errors in expectation."""
    rejected = 0
    repeats = 400
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        right = rng.choice(3, 60, p=(0.7, 0.2, 0.1))
        pair = [np.where(rng.random(60) < 0.6, right, rng.integers(0, 3, 60)) for _ in range(2)]
        one, other = (predicting(of.tolist(), right.tolist()).labels for of in pair)
        assert one is not None
        assert other is not None
        differs = one.predicted != other.predicted
        p = statistics.swap_test(partial(swapped_difference, "macro_f1", one, other), differs, resamples=199)
        rejected += p <= 0.05
    assert 0.02 < rejected / repeats <= 0.05 + 3 * (0.05 * 0.95 / repeats) ** 0.5


def test_a_metric_of_labels_needs_labels() -> None:
    with pytest.raises(ValueError, match="no scores of labels"):
        rows("macro_f1", {"es": {"base": "base"}}, {"es": {"base": Scores([1.0, 0.0])}})
