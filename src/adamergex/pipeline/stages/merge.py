"""Kind `merge`: adapters of a run as one, in a folder that PEFT and vLLM load as it is."""

import importlib.metadata
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adamergex.execution.stage import Inputs, Kind, Params
from adamergex.merging.base_method import ROLES, SOURCE
from adamergex.merging.methods import Method
from adamergex.pipeline.stages import choose, corpus, given, items
from adamergex.pipeline.stages.base_model import PACKAGES, BaseModel
from adamergex.storage.files import read_json, sha256

if TYPE_CHECKING:
    from adamergex.pipeline.worker import Worker


class MergeParams(Params):
    """How adapters are merged. Inputs by role: `task`, `reference-target`, and `reference-source` where the method needs it;
    `corpus-source` and `corpus-target`, what the references were trained on if they were, for the card; `choice` of one of the candidates.

    Attributes:
        model: their base model.
        method: with its settings.
        source: the source language.
        target: the target language.
        prompt: of the task.
        candidates: methods with their settings, one of which is chosen in place of `method`.
    """

    model: BaseModel
    method: Method
    source: str
    target: str
    prompt: str
    candidates: tuple[Method, ...] = ()


def make(params: MergeParams, inputs: Inputs, output: Path, scratch: Path, worker: "Worker") -> None:
    """Write the adapter, `merge.yaml` (its plan), `merge.json` (figures) and `README.md` (its card)."""
    from adamergex.adapters.adapter import WEIGHTS
    from adamergex.adapters.similarity import drift
    from adamergex.merging import folder
    from adamergex.merging.plan import Input, Plan
    from adamergex.merging.plan import Inputs as Named

    method = params.candidates[choose.read(inputs["choice"][0])["candidate"]] if "choice" in inputs else params.method
    wanted = [role for role in ROLES if role != SOURCE or method.needs_source]
    folders = {role: inputs[role][0] for role in wanted if role in inputs}
    # By what they are, not where, so that the folder can be moved, and does not say where it was made.
    named = {role: Input(sha256=sha256(place / WEIGHTS)) for role, place in folders.items()}
    plan = Plan(settings=method, language=params.target, inputs=Named.model_validate(named))
    adapters = folder.open_inputs(plan, folders)
    about = {
        "weights": params.model.fingerprint,
        "trust_remote_code": params.model.trust_remote_code,
        "source": params.source,
        "target": params.target,
        "task": params.prompt,
        "corpora": {
            code: reference_sentence(inputs[f"corpus-{side}"][0])
            for code, side in ((params.source, "source"), (params.target, "target"))
            if f"corpus-{side}" in inputs
        },
        "drift": apart if math.isfinite(apart := drift(list(adapters.values()))) else None,
        "versions": versions(),
    }
    if taken := {role: said for role, place in folders.items() if (said := given.sentence(place)) is not None}:
        about["taken"] = taken
    folder.write(folder.merged(plan, adapters), plan, adapters, output, about)


def reference_sentence(folder: Path) -> str:
    """What a language's reference adapter was trained on, and how much of it, from the stage of its data."""
    if (folder / items.FILE).is_file():
        return f"{len(items.read(folder)):,} items of a labelled task"
    return corpus.sentence(corpus.manifest(folder))


def figures(folder: Path) -> dict[str, Any]:
    """What a merge came to: rank, discarded energy, drift, warnings."""
    from adamergex.merging.folder import FIGURES

    return read_json(folder / FIGURES)


def versions() -> Mapping[str, str]:
    """The versions that results depend on, by package."""
    return {package: importlib.metadata.version(package) for package in ("adamergex", *PACKAGES)}


KIND = Kind(MergeParams, make, revision=1, packages=lambda params: ("torch", "safetensors"))
