"""Finds the adapters that are one merge at several t, from the `merge.json` beside their weights."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adamergex.adapters.adapter import WEIGHTS
from adamergex.merging.folder import FIGURES
from adamergex.storage.files import from_json, sha256, small

# Fewer points make no curve.
_FEWEST = 3
_SAME = ("method", "settings", "inputs")


def tried(adapters: Mapping[str, Path]) -> dict[str, float]:
    """The t of the adapters that are one merge at several t, by name; its task adapter is t = 0.

    Of several merges, the one with the most adapters.

    Empty where there are fewer than three, or t is not one number for all modules.

    Args:
        adapters: name → PEFT folder.
    """
    merges: dict[str, dict[str, float]] = {}
    tasks: dict[str, str] = {}
    for name, folder in adapters.items():
        figures = _figures(folder / FIGURES)
        t = _number(figures.get("scale"))
        if (
            t is None
            or figures.get("layers")
            or figures.get("modules")
            or "task" not in (inputs := figures.get("inputs") or {})
        ):
            continue
        key = json.dumps([figures.get(part) for part in _SAME], sort_keys=True)
        merges.setdefault(key, {})[name] = t
        tasks[key] = inputs["task"][1]
    if not merges:
        return {}
    largest = max(merges, key=lambda key: len(merges[key]))
    scales = merges[largest]
    if 0.0 not in scales.values():
        scales |= {name: 0.0 for name, folder in adapters.items() if sha256(folder / WEIGHTS) == tasks[largest]}
    return scales if len(set(scales.values())) >= _FEWEST else {}


def _figures(path: Path) -> dict[str, Any]:
    try:
        figures = from_json(small(path))
    except (OSError, ValueError):
        return {}
    return figures if isinstance(figures, dict) else {}


def _number(text: Any) -> float | None:
    try:
        return float(text)
    except (TypeError, ValueError):
        return None
