"""One stage, made in a run's folder: what every executor does, whoever decides that it is made."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adamergex.execution.run_folder import RunFolder
from adamergex.execution.stage import Kind, Stage, Worker


def inputs(stage: Stage, folder: RunFolder) -> dict[str, list[Path]]:
    """Role → the folders of the results that a stage reads."""
    return {role: [folder.place(id) for id in ids] for role, ids in stage.inputs.items()}


def is_begun(stage: Stage, description: Mapping[str, Any], folder: RunFolder) -> bool:
    """Whether an attempt before was cut off, from where the next one goes on."""
    return any(folder.scratch(stage.id, description).iterdir())


def make(stage: Stage, kind: Kind, description: Mapping[str, Any], folder: RunFolder, worker: Worker) -> None:
    """Make a stage, and put its result in its place.

    Args:
        stage: to be made, whose inputs are there.
        kind: its kind.
        description: what determines its result.
        folder: of the run.
        worker: the resources to make it with.

    Raises:
        StorageError: the disk is full or the folder cannot be written; nothing is left behind.
    """
    scratch = folder.scratch(stage.id, description)
    folder.make(
        stage,
        kind,
        description,
        lambda output: kind.make(stage.params, inputs(stage, folder), output, scratch, worker),
    )
