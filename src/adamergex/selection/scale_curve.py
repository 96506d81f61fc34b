"""Which of several adapters are one merge at several t, from what a merge writes beside its weights."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adamergex.adapters.adapter import WEIGHTS
from adamergex.merging.folder import FIGURES
from adamergex.storage.files import sha256

# Points that make a curve.
_ENOUGH = 3
_SAME = ("method", "settings", "inputs")


def tried(adapters: Mapping[str, Path]) -> dict[str, float]:
    """The t of every adapter that belongs to the merge of which most are given, by name; its task adapter is t = 0.

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
    found = merges[largest]
    if 0.0 not in found.values():
        found |= {name: 0.0 for name, folder in adapters.items() if sha256(folder / WEIGHTS) == tasks[largest]}
    return found if len(set(found.values())) >= _ENOUGH else {}


def _figures(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _number(text: Any) -> float | None:
    try:
        return float(text)
    except (TypeError, ValueError):
        return None
