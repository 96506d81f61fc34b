"""`adamergex.json`: what it takes to use an adapter, beside its weights. Imports no torch."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adamergex.inference.settings import Evaluate
from adamergex.tasks.task import Task

FILE = "adamergex.json"
# Raised when a reader of the older form would misread it.
FORMAT = 1


def described(
    task: Task,
    evaluate: Evaluate,
    language: str,
    *,
    base_model: str,
    weights: str,
    dtype: str,
    calibration: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What it takes to use an adapter, as plain JSON.

    Args:
        task: how it is asked.
        evaluate: how answers are computed.
        language: that it answers in, a BCP 47 code.
        base_model: a Hugging Face id or a folder.
        weights: a hash of the base model's weights, or the commit that they were downloaded from.
        dtype: of the base model's weights.
        calibration: `labels` and the `bias` of each, in nats, which is added to their log-likelihoods; and how it was
            estimated.
    """
    wording = task.wording(language)
    asked: dict[str, Any] = {"kind": task.answer_kind, "prompt": wording.prompt, "separator": wording.separator}
    asked |= {"choices": wording.choices, "marker": wording.marker}
    if task.choices:
        asked["length_normalization"] = evaluate.length_normalization
    else:
        asked["max_new_tokens"] = evaluate.max_new_tokens
    return {
        "format": FORMAT,
        "base_model": base_model,
        "weights": weights,
        "dtype": dtype,
        "language": language,
        "task": {key: value for key, value in asked.items() if value is not None},
        "calibration": dict(calibration) if calibration is not None else None,
    }


def write(folder: Path, usage: Mapping[str, Any]) -> None:
    """Write `adamergex.json` into an adapter's folder."""
    (folder / FILE).write_text(json.dumps(usage, ensure_ascii=False, indent=2) + "\n", "utf-8")
