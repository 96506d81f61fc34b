"""Kind `given`: an adapter that is there already, and is taken in place of a training."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from adamergex.execution.stage import Kind, Params, Place, Unkeyed
from adamergex.storage.files import read_json

if TYPE_CHECKING:
    from adamergex.execution.stage import Inputs
    from adamergex.pipeline.worker import Worker

FACTS = "given.json"


class GivenParams(Params):
    """An adapter. No inputs.

    Attributes:
        folder: where it lies.
        place: where it is from: a folder as the recipe writes it, or a place on the hub at its commit.
        repository: the latter alone; None for a folder, whose path is nobody's business.
        base_model: as the adapters of the run call it.
        config: the SHA-256 of its `adapter_config.json`.
        weights: and of its `adapter_model.safetensors`.
    """

    folder: Place
    place: Annotated[str, Unkeyed]
    repository: Annotated[str | None, Unkeyed]
    base_model: str
    config: str
    weights: str


def make(params: GivenParams, inputs: "Inputs", output: Path, scratch: Path, worker: "Worker") -> None:
    """Copy the adapter, name the run's base model in its configuration, and write `given.json`: where it is from."""
    from adamergex.adapters.adapter import CONFIG, WEIGHTS, load
    from adamergex.errors import AdapterError
    from adamergex.storage.files import sha256

    adapter = load(params.folder, lazy=True)
    config = {**adapter.config, "base_model_name_or_path": params.base_model, "revision": None}
    if adapter.notes:
        # Under names that PEFT reads.
        adapter.save(output)
    else:
        shutil.copyfile(params.folder / WEIGHTS, output / WEIGHTS)
    (output / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")
    if (
        sha256((params.folder if adapter.notes else output) / WEIGHTS) != params.weights
        or sha256(params.folder / CONFIG) != params.config
    ):
        raise AdapterError(f"{params.place}: changed while the run was at work; run the same command again")
    facts = {"repository": params.repository, "sha256": params.weights}
    (output / FACTS).write_text(json.dumps(facts, indent=2) + "\n", "utf-8")


def sentence(folder: Path) -> str | None:
    """What was taken, without a path, for reports and cards; None for an adapter that was trained."""
    if not (folder / FACTS).is_file():
        return None
    facts: dict[str, Any] = read_json(folder / FACTS)
    where = facts["repository"] or "an adapter that was at hand"
    return f"{where} (SHA-256 {facts['sha256']})"


# Where the same bytes are from is no part of what they are.
KIND = Kind(GivenParams, make, revision=1, notes=(FACTS,))
