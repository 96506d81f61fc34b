"""Where label shares are other than expected, and which adapter to choose: what can be told without labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp, softmax, xlogy
from scipy.stats import rankdata
from study_cells import Cell, bias

from adamergex.scoring.calibration import batch_bias, prior_bias, shares

# Total variation between the source's label shares and those of a resample.
DISTANCES = (0.0, 0.1, 0.2, 0.33)
DRAWS = 60
_EM_STEPS = 1000


def candidates(inputs: np.ndarray, prior: np.ndarray) -> dict[str, np.ndarray]:
    """Ways to a bias per label, by name, each (labels,), in nats.

    Args:
        inputs: (inputs, labels), log-likelihoods for unlabelled inputs.
        prior: (labels,), the source's label shares.
    """
    whole = prior_bias(inputs, prior)
    predicted = softmax(inputs, axis=1).mean(axis=0)
    answered = shares((inputs + whole).argmax(axis=1).tolist(), len(prior))
    return {
        "source shares": whole,
        "equal shares": prior_bias(inputs, np.full(len(prior), 1 / len(prior))),
        "batch calibration": batch_bias(inputs),
        "three quarters of the bias": 0.75 * whole,
        "half of the bias": 0.5 * whole,
        "source shares and equal ones, half and half": prior_bias(inputs, (prior + 1 / len(prior)) / 2),
        "source shares and raw predicted ones, half and half": prior_bias(inputs, (prior + predicted) / 2),
        "source shares and those of the calibrated answers, half and half": prior_bias(inputs, (prior + answered) / 2),
        "EM from raw answers": np.log(em(inputs, prior) / prior),
    }


def em(inputs: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Label shares by expectation maximisation (Saerens, Latinne & Decaestecker 2002, eq. 2.9), in (0, 1), (labels,).

    It takes raw predictions as calibrated for the source's shares. After prior matching to these it has nothing to add:
    mean predictions equal the prior then, which is its fixed point.

    Args:
        inputs: (inputs, labels), log-likelihoods for unlabelled inputs.
        prior: (labels,), the source's label shares.
    """
    found = prior
    for _ in range(_EM_STEPS):
        before, found = found, softmax(inputs + np.log(found / prior), axis=1).mean(axis=0)
        # A share of 0 would have no finite logarithm.
        found = np.maximum(found, 1e-6) / np.maximum(found, 1e-6).sum()
        if np.abs(found - before).sum() < 1e-6:
            break
    return found


def warnings(inputs: np.ndarray, other: np.ndarray, prior: np.ndarray) -> dict[str, float]:
    """What may tell, without labels, that calibrating to the source's shares gains, or that these are wrong.

    Args:
        inputs: (inputs, labels), log-likelihoods by a system.
        other: the same by another system.
        prior: (labels,), the source's label shares.
    """
    matched = prior_bias(inputs, prior)
    calibrated = softmax(inputs + matched, axis=1)
    others = softmax(other + prior_bias(other, prior), axis=1)
    return {
        "calibrated answers' shares are far from the source's": distance(hard(calibrated), prior),
        "raw answers' shares are far from the source's": distance(hard(inputs), prior),
        "EM's shares are far from the source's": distance(em(inputs, prior), prior),
        "the bias is large": float(matched.std()),
        "calibrated answers are unsure": -float(calibrated.max(axis=1).mean()),
        "calibration makes answers less sure": float((softmax(inputs, axis=1).max(1) - calibrated.max(1)).mean()),
        "T and the merge answer differently": float((calibrated.argmax(axis=1) != others.argmax(axis=1)).mean()),
    }


def hard(scores: np.ndarray) -> np.ndarray:
    """The shares of answers, (labels,)."""
    return np.bincount(scores.argmax(axis=1), minlength=scores.shape[1]) / len(scores)


def distance(some: np.ndarray, others: np.ndarray) -> float:
    """The total variation between two distributions, in 0..1."""
    return float(np.abs(some - others).sum() / 2)


@dataclass(frozen=True)
class Draw:
    """A resample of the dev inputs and of the scored items to the same label shares.

    Attributes:
        asked: the total variation that was asked for.
        gains: of each of the candidates, and of the shares drawn ("true shares"): accuracy over raw, of T alone.
        warnings: what was seen without labels.
    """

    asked: float
    gains: dict[str, float]
    warnings: dict[str, float]


def draws(cell: Cell) -> list[Draw]:
    """DRAWS resamples at each of DISTANCES; the same ones in every run."""
    random = np.random.default_rng(cell.seed)
    counts = [np.bincount(cell.gold[where], minlength=cell.labels) for where in (cell.dev, cell.scored)]
    present = (counts[0] > 0) & (counts[1] > 0)
    found = []
    for asked in DISTANCES:
        for _ in range(DRAWS):
            wanted = shifted(cell.prior, present, asked, random)
            # Inputs come in the same shares as what is scored, as they would in use.
            dev, scored = (
                random.choice(np.flatnonzero(where), where.sum(), p=(wanted / np.maximum(count, 1))[cell.gold[where]])
                for where, count in zip((cell.dev, cell.scored), counts, strict=True)
            )
            inputs, merged = (cell.scores[system][dev] for system in ("t0", "adamergex-0.5"))
            true = prior_bias(inputs, shares(cell.gold[dev].tolist(), cell.labels))
            biases = candidates(inputs, cell.prior) | {"true shares": true}
            found.append(Draw(asked, gains(cell, biases, scored), warnings(inputs, merged, cell.prior)))
    return found


def shifted(prior: np.ndarray, present: np.ndarray, asked: float, random: np.random.Generator) -> np.ndarray:
    """Label shares at a total variation from the prior, in a random direction, (labels,).

    Args:
        prior: (labels,).
        present: which labels there are items of; the prior is cut to them first.
        asked: the total variation.
        random: where the direction is drawn.
    """
    start = np.where(present, prior, 0) / prior[present].sum()
    while True:
        other = np.zeros(len(prior))
        other[present] = random.dirichlet(np.full(present.sum(), 0.5))
        if (away := distance(other, start)) >= asked:
            return start + asked / away * (other - start)


def gains(cell: Cell, biases: Mapping[str, np.ndarray], items: np.ndarray) -> dict[str, float]:
    """The accuracy of T alone with each bias, less that of raw answers, on items given by their indices."""
    scores, gold = cell.scores["t0"][items], cell.gold[items]
    raw = (scores.argmax(axis=1) == gold).mean()
    return {name: float(((scores + added).argmax(axis=1) == gold).mean() - raw) for name, added in biases.items()}


def unshifted(cell: Cell) -> dict[str, float]:
    """The gains of the candidates on the cell as it is."""
    inputs = cell.scores["t0"][cell.dev]
    found = candidates(inputs, cell.prior) | {"true shares": bias(cell, "t0", "true")}
    return gains(cell, found, np.flatnonzero(cell.scored))


def area(positive: Sequence[float], negative: Sequence[float]) -> float:
    """The area under the ROC curve: how often a positive is above a negative, in 0..1."""
    ranks = rankdata([*positive, *negative])[: len(positive)]
    return float((ranks.sum() - len(positive) * (len(positive) + 1) / 2) / (len(positive) * len(negative)))


def signs(cell: Cell, systems: Sequence[str]) -> dict[str, list[float]]:
    """What may tell, without labels, which system is best: sign → its value for each system; the larger, the better.

    All inputs of the cell are read, calibrated with the bias that its dev inputs call for.
    """
    calibrated = {system: cell.scores[system] + bias(cell, system, "source") for system in systems}
    found: dict[str, list[float]] = {}
    for system, scores in calibrated.items():
        predicted = softmax(scores, axis=1)
        agreeing = [
            (scores.argmax(axis=1) == calibrated[other].argmax(axis=1)).mean() for other in systems if other != system
        ]
        values = {
            "agreement with the others": np.mean(agreeing),
            "confidence": predicted.max(axis=1).mean(),
            "log-likelihood of the answer": np.log(predicted.max(axis=1)).mean(),
            "low entropy": xlogy(predicted, predicted).sum(axis=1).mean(),
            "nuclear norm of predictions": np.linalg.norm(predicted, "nuc"),
            "log-likelihood of all labels, raw": logsumexp(cell.scores[system], axis=1).mean(),
            "small bias": -bias(cell, system, "source").std(),
            "answers' shares are near the source's": -distance(hard(predicted), cell.prior),
        }
        for name, value in values.items():
            found.setdefault(name, []).append(float(value))
    return found


def rank_correlation(some: Sequence[float], others: Sequence[float]) -> float:
    """Spearman's; 0 where one of them is constant."""
    ranks = [rankdata(values) for values in (some, others)]
    if any(rank.std() == 0 for rank in ranks):
        return 0.0
    return float(np.corrcoef(*ranks)[0, 1])
