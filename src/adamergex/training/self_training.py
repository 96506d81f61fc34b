"""Self-training: a model's surest answers to inputs without labels, as items to learn from.

Yarowsky: "Unsupervised Word Sense Disambiguation Rivaling Supervised Methods", ACL 1995; Lee: "Pseudo-Label: The Simple and
Efficient Semi-Supervised Learning Method for Deep Neural Networks", ICML workshop 2013. The surest of each label are taken,
not the surest of all, which would be those of a few easy labels. No torch.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field
from scipy.special import log_softmax

from adamergex.data.settings import Source
from adamergex.storage.files import read_json
from adamergex.storage.yaml_model import Section

# Beside the adapter that learned: what it learned, or why it did not.
FACTS = "refine.json"
# Fewer inputs than this teach nothing.
FEWEST = 50
# A label that this many answers are expected to have, and none has, is lost.
_EXPECTED = 5


class Refine(Section):
    """The merged adapter answers inputs without labels; one more is trained on its surest answers and the source's items."""

    inputs: Source | None = Field(
        None, description="inputs without labels in every target language; those of task.unlabelled if left out"
    )
    share: float = Field(0.5, gt=0, le=1, description="of the inputs that are given a label, the surest ones")
    labelled: Source | None = Field(
        None, description="a few labelled items of the target languages, to learn from as well; none of them is scored"
    )
    transductive: bool = Field(
        False, strict=True, description="learn from the scored inputs, too, without their labels; every table says so"
    )


def surest(log_scores: np.ndarray, share: float) -> list[tuple[int, int]]:
    """The inputs whose answers are surest among those with the same label, with these labels, in the order of the inputs.

    Args:
        log_scores: (inputs, labels), float; calibrated log-likelihoods or logits of each label.
        share: of the inputs with each label, rounded up.

    Returns:
        Pairs of an input's and a label's number.
    """
    if not len(log_scores):
        return []
    label = log_scores.argmax(axis=1)
    sureness = log_softmax(log_scores, axis=1).max(axis=1)
    kept: list[tuple[int, int]] = []
    for number in range(log_scores.shape[1]):
        of_label = np.flatnonzero(label == number)
        # Of equally sure ones the first.
        best = of_label[np.argsort(-sureness[of_label], kind="stable")][: math.ceil(share * len(of_label))]
        kept += [(int(input_number), number) for input_number in best]
    return sorted(kept)


def objection(labels: Sequence[int], expected: Sequence[float], names: Sequence[str]) -> str | None:
    """Why nothing should be learned from these answers; None where nothing speaks against it.

    Args:
        labels: the label that each input was given, by number.
        expected: the share of each label that is expected.
        names: of the labels.
    """
    if len(labels) < FEWEST:
        return f"{len(labels)} inputs are too few to learn from; it takes {FEWEST}"
    counts = np.bincount(labels, minlength=len(names))
    lost = [
        name
        for name, count, share in zip(names, counts, expected, strict=True)
        if not count and share * len(labels) >= _EXPECTED
    ]
    if lost:
        return f"no input was given the label {lost[0]!r}, which about {_EXPECTED} or more should have"
    return None


def facts(folder: Path) -> dict[str, Any]:
    """How many inputs there were, how many were learned, with which labels; or why none was."""
    return read_json(folder / FACTS)


def sentence(facts: dict[str, Any]) -> str:
    """What was learned, or why nothing was, for reports and cards."""
    if facts["refused"] is not None:
        return f"{facts['refused']}; the merged adapter was kept"
    return (
        f"self-training (Yarowsky 1995; Lee 2013): of {facts['inputs']:,} inputs without labels the merged adapter's "
        f"{facts['kept']:,} surest answers were learned, beside the training items in the source language"
    )
