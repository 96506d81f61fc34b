"""Prior matching: identities, a known bias that is found again, and what it does to accuracy."""

import numpy as np
import pytest
from scipy.special import softmax

from adamergex.scoring import calibration


def log_scores(inputs: int, labels: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(inputs, labels)) * 2


def test_the_mean_predicted_distribution_is_the_prior() -> None:
    prior = np.array([0.4, 0.3, 0.2, 0.1])
    scores = log_scores(200)
    bias = calibration.prior_bias(scores, prior)
    assert softmax(scores + bias, axis=1).mean(axis=0) == pytest.approx(prior, abs=1e-7)
    assert bias.sum() == pytest.approx(0)


def test_the_bias_is_zero_where_the_shares_are_right_and_undoes_one_that_is_added() -> None:
    scores = log_scores(300)
    prior = softmax(scores, axis=1).mean(axis=0)
    assert calibration.prior_bias(scores, prior) == pytest.approx(np.zeros(4), abs=1e-6)
    added = np.array([3.0, -1.0, -1.0, -1.0])
    assert calibration.prior_bias(scores + added, prior) == pytest.approx(-added, abs=1e-6)


def test_with_two_labels_it_is_the_root_of_one_equation() -> None:
    # One input, log-odds 2: the bias that makes its distribution (1/2, 1/2) takes the odds back.
    assert calibration.prior_bias(np.array([[2.0, 0.0]]), np.array([0.5, 0.5])) == pytest.approx([-1, 1], abs=1e-7)


def test_a_label_bias_that_hides_what_is_known_is_removed_without_labels() -> None:
    rng = np.random.default_rng(1)
    right = rng.integers(0, 4, 400)
    scores = rng.normal(size=(400, 4)) + 3 * np.eye(4)[right] + np.array([4.0, 0, 0, 0])
    calibrated = calibration.cross_fitted(scores, np.full(4, 0.25))
    assert calibrated is not None
    raw, after = ((s.argmax(axis=1) == right).mean() for s in (scores, calibrated))
    assert raw < 0.6
    assert after > 0.85


def test_no_inputs_own_scores_decide_its_bias() -> None:
    scores, prior = log_scores(120), np.full(4, 0.25)
    before = calibration.cross_fitted(scores, prior)
    scores[0] += [50, 0, 0, 0]
    after = calibration.cross_fitted(scores, prior)
    assert before is not None
    assert after is not None
    assert after[2::2] == pytest.approx(before[2::2])
    assert after[0] == pytest.approx(before[0] + [50, 0, 0, 0])
    assert not np.allclose(after[1::2], before[1::2])


def test_few_inputs_are_not_calibrated() -> None:
    assert calibration.cross_fitted(log_scores(99), np.full(4, 0.25)) is None
    assert calibration.cross_fitted(log_scores(100), np.full(4, 0.25)) is not None


def test_shares_have_half_an_item_more_for_each_label() -> None:
    assert calibration.shares([0, 0, 1], 3) == pytest.approx([2.5 / 4.5, 1.5 / 4.5, 0.5 / 4.5])
