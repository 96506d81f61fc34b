"""Kind `merge`: adapters of a run as one, in a folder that PEFT and vLLM load as it is."""

import importlib.metadata
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adamergex.execution.stage import Inputs, Kind, Params
from adamergex.pipeline.stages import corpus, items
from adamergex.pipeline.stages.base_model import PACKAGES, BaseModel

if TYPE_CHECKING:
    from adamergex.pipeline.worker import Worker

ROLES = ("task", "reference-target", "reference-source")


class MergeParams(Params):
    """How adapters are merged. Inputs: `task`, `reference-target`, `reference-source` where it is needed, `corpus-source` and
    `corpus-target` for the card.

    Attributes:
        model: their base model.
        settings: of a merge plan.
        source: the source language.
        target: the target language.
        prompt: of the task.
    """

    model: BaseModel
    settings: dict[str, Any]
    source: str
    target: str
    prompt: str


def make(params: MergeParams, inputs: Inputs, output: Path, scratch: Path, worker: "Worker") -> None:
    """Write the adapter, `merge.yaml` (its plan), `merge.json` (figures) and `README.md` (its card)."""
    from adamergex.adapters.compatibility import drift
    from adamergex.merging import folder
    from adamergex.merging.plan import Input, Inputs, Plan

    places = {role: inputs[role][0] for role in ROLES if role in inputs}
    # Relative, so that the run folder can be moved, and does not say where it was made.
    given = {role: Input(folder=os.path.relpath(place, output)) for role, place in places.items()}
    plan = Plan(**params.settings, language=params.target, inputs=Inputs.model_validate(given))
    adapters = folder.open_inputs(plan, output)
    result = folder.merged(plan, adapters)
    checkpoint = worker.checkpoint(params.model)
    about = {
        "weights": checkpoint.fingerprint,
        "trust_remote_code": checkpoint.trust_remote_code,
        "source": params.source,
        "target": params.target,
        "task": params.prompt,
        "corpora": {
            params.source: reference_sentence(inputs["corpus-source"][0]),
            params.target: reference_sentence(inputs["corpus-target"][0]),
        },
        "drift": apart if math.isfinite(apart := drift(list(adapters.values()))) else None,
        "versions": versions(),
    }
    folder.write(result, plan, adapters, output, about)


def reference_sentence(folder: Path) -> str:
    """What a language's reference adapter was trained on, and how much of it, from the stage of its data."""
    if (folder / items.FILE).is_file():
        return f"{len(items.read(folder)):,} items of a labelled task"
    return corpus.sentence(corpus.manifest(folder))


def figures(folder: Path) -> dict[str, Any]:
    """What a merge came to: rank, discarded energy, drift, warnings."""
    found: dict[str, Any] = json.loads((folder / "merge.json").read_bytes())
    return found


def versions() -> Mapping[str, str]:
    """The versions that results depend on, by package."""
    return {package: importlib.metadata.version(package) for package in ("adamergex", *PACKAGES)}


KIND = Kind(MergeParams, make, revision=1, packages=lambda params: ("torch", "safetensors"))
