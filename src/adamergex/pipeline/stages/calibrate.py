"""Kind `calibrate`: the bias per label of one system in one language, estimated without labels."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from adamergex.execution.stage import Inputs, Kind, Params
from adamergex.inference.settings import Calibration
from adamergex.pipeline.stages import items, predict
from adamergex.scoring.calibration import FEWEST, bias_of, expected, shares
from adamergex.storage.files import read_json
from adamergex.training import self_training

if TYPE_CHECKING:
    from adamergex.pipeline.worker import Worker

FILE = "calibration.json"


class CalibrateParams(Params):
    """How a bias is estimated. Inputs: `answers`, to inputs none of which is scored; `learned`, items whose shares are
    expected; `refined`, the adapter that gave the answers, where it may have learned from calibrated ones.

    Attributes:
        method: prior matching, or batch calibration.
        shares: of the labels, which are expected: those of `learned`, equal ones, or as stated.
        labels: of the task, in the order of the choices.
        strength: the share of the bias that is added.
        unrefined: the same where `refined` learned nothing, and is the merged adapter.
    """

    optional = ("unrefined",)

    method: Literal["prior", "batch", "none"]
    shares: Literal["source", "uniform"] | dict[str, float]
    labels: tuple[str, ...]
    strength: float = 1.0
    unrefined: float | None = None

    @classmethod
    def of(cls, settings: Calibration, labels: Iterable[str], *, refined: bool = False) -> Self:
        """As settings say, for a task with these labels.

        Args:
            settings: of the recipe.
            labels: of the task.
            refined: whether the answers are those of an adapter that may have learned from calibrated ones.
        """
        return cls(
            method=settings.method,
            shares=settings.shares,
            labels=tuple(labels),
            strength=settings.added(refined),
            unrefined=settings.added() if refined else None,
        )


def make(params: CalibrateParams, inputs: Inputs, output: Path, scratch: Path, worker: "Worker") -> None:
    """Write `calibration.json`: the labels, the bias of each in nats, how many inputs, and shares before and after."""
    log_scores = np.array([row["choices"] for folder in inputs["answers"] for row in predict.read(folder)], float)
    shares_expected = expected_shares(params, inputs)
    stated = "stated" if isinstance(params.shares, dict) else params.shares
    found: dict[str, Any] = {"method": params.method, "shares": stated, "labels": params.labels}
    strength = params.strength
    if params.unrefined is not None and self_training.facts(inputs["refined"][0])["refused"] is not None:
        strength = params.unrefined
    found |= {"strength": strength, "inputs": len(log_scores)}
    predicted = [] if not len(log_scores) else shares(log_scores.argmax(axis=1).tolist(), len(params.labels)).tolist()
    found |= {"predicted": predicted, "expected": None if shares_expected is None else shares_expected.tolist()}
    if len(log_scores) < FEWEST:
        found |= {"bias": None, "why": f"{len(log_scores)} inputs without labels are too few; it takes {FEWEST}"}
    else:
        whole = bias_of(log_scores, shares_expected)
        found["bias"] = [round(value, 6) for value in (strength * whole).tolist()]
    (output / FILE).write_text(json.dumps(found, ensure_ascii=False, indent=2) + "\n", "utf-8")


def expected_shares(params: CalibrateParams, inputs: Inputs) -> np.ndarray | None:
    """The label shares that predictions are to have, float64 (labels,); None for batch calibration."""
    count = len(params.labels)
    if params.method != "prior":
        return None
    if isinstance(params.shares, dict):
        return expected(params.shares, params.labels)
    if params.shares == "uniform":
        return np.full(count, 1 / count)
    learned = items.read_all(inputs["learned"])
    return shares([item.choices.index(item.answer) for item in learned], count)


def read(folder: Path) -> dict[str, Any]:
    """The calibration of a stage of this kind."""
    return read_json(folder / FILE)


_SHARES = {
    "source": "the label shares of the training items in the source language",
    "uniform": "equal label shares",
    "stated": "the label shares that the recipe states",
}


def sentence(found: Mapping[str, Any], apart: bool) -> str:
    """What was done, for a report.

    Args:
        found: of `read`.
        apart: whether the inputs are others than the items that are scored.
    """
    how = "batch calibration, arXiv 2309.17249" if found["method"] == "batch" else "prior matching, arXiv 2309.04992"
    goal = "" if found["method"] == "batch" else f", such that answers have {_SHARES[found['shares']]}"
    on = f"on {found['inputs']:,} inputs, none of which is scored"
    if not apart or found["bias"] is None:
        on = "for each half of the scored items on the other half"
    part = f" {found['strength']:.0%} of it is added;" if found["strength"] < 1 else ""
    return f"a bias per label is added ({how}){goal};{part} estimated without labels, {on}"


def bias(found: Mapping[str, Any]) -> np.ndarray | None:
    """The bias per label, float64 (labels,), in nats; None where there were too few inputs."""
    value: Sequence[float] | None = found["bias"]
    return None if value is None else np.array(value)


def prior(found: Mapping[str, Any]) -> np.ndarray | None:
    """The label shares that predictions are calibrated to, float64 (labels,); None for batch calibration."""
    return None if found["expected"] is None else np.array(found["expected"])


KIND = Kind(CalibrateParams, make, revision=1, packages=lambda params: ("numpy", "scipy"))
