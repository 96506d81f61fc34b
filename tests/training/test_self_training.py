"""What is learned from a model's own answers, and when nothing is."""

import numpy as np
import pytest

from adamergex.training.self_training import objection, surest


def test_the_surest_half_of_each_label_is_kept() -> None:
    """Three inputs have the first label, two the second: two and one are kept, whatever the other label's are worth."""
    scores = np.array([[0.9, 0.0], [0.5, 0.0], [0.1, 0.0], [0.0, 9.0], [0.0, 8.0]])
    assert surest(scores, 0.5) == [(0, 0), (1, 0), (3, 1)]
    assert surest(scores, 1.0) == [(0, 0), (1, 0), (2, 0), (3, 1), (4, 1)]
    assert surest(np.zeros((0, 2)), 0.5) == []


def test_sureness_is_of_the_whole_distribution() -> None:
    """With two rivals of 3, a score of 4 is less sure than one of 3 with rivals of 0."""
    scores = np.array([[4.0, 3.0, 3.0], [3.0, 0.0, 0.0]])
    assert surest(scores, 0.5) == [(1, 0)]


@pytest.mark.parametrize(
    ("labels", "expected", "message"),
    [
        ([0, 1] * 30, [0.5, 0.5], None),
        ([0, 1] * 24, [0.5, 0.5], "48 inputs are too few"),
        ([0] * 60, [0.5, 0.5], "no input was given the label 'b'"),
        # About three of sixty would be expected: their absence says little.
        ([0] * 60, [0.95, 0.05], None),
    ],
)
def test_lost_labels_and_too_few_inputs_are_said(labels: list[int], expected: list[float], message: str | None) -> None:
    found = objection(labels, expected, ["a", "b"])
    assert found is None if message is None else message in str(found)
