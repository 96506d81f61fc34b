"""Kinds `overlap` and `equal-counts`: looks at items before anything is learned from them; data of the hub is here by then."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from adamergex.execution.stage import Inputs, Kind, Params, Unkeyed
from adamergex.pipeline.stages import items
from adamergex.storage.files import read_jsonl, write_jsonl
from adamergex.tasks.items import refuse_overlap, refuse_unequal

FILE = "checked.jsonl"


class OverlapParams(Params):
    """Whether items that a model sees with their answers stand among those that are scored. Inputs: `scored`, and all others.

    Attributes:
        language: of the scored items, for messages.
        where: role → what its items are called in messages.
    """

    language: Annotated[str, Unkeyed]
    where: Annotated[dict[str, str], Unkeyed] = Field(default_factory=dict)


def make_overlap(params: OverlapParams, inputs: Inputs, output: Path, scratch: Path, worker: Any) -> None:
    """Write how many items were compared. Raises DataError where an item stands in both."""
    scored = items.read_all(inputs["scored"])
    counts = {"scored": len(scored)}
    for role, folders in inputs.items():
        if role != "scored":
            seen = items.read_all(folders)
            refuse_overlap(seen, scored, params.language, params.where.get(role, "train"))
            counts[role] = len(seen)
    write_jsonl(output / FILE, [counts])


def compared(folder: Path, role: str) -> int:
    """How many items of a role the scored ones were compared with."""
    (counts,) = read_jsonl(folder / FILE)
    return int(counts.get(role, 0))


class EqualCountsParams(Params):
    """Whether a labelled reference task has as many items in each language."""


def make_equal_counts(params: EqualCountsParams, inputs: Inputs, output: Path, scratch: Path, worker: Any) -> None:
    """Write the numbers of items by language. Raises DataError where they differ."""
    counts = {language: len(items.read_all(folders)) for language, folders in inputs.items()}
    refuse_unequal(counts)
    write_jsonl(output / FILE, [counts])


OVERLAP = Kind(OverlapParams, make_overlap, revision=1)
EQUAL_COUNTS = Kind(EqualCountsParams, make_equal_counts, revision=1)
