"""Kinds `overlap` and `equal-counts`: looks at items before anything is learned from them; data of the hub is here by then."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from adamergex.execution.stage import Inputs, Kind, Params, Stage, Unkeyed
from adamergex.pipeline.stages import items
from adamergex.storage.files import read_jsonl, write_jsonl
from adamergex.tasks.items import refuse_unequal
from adamergex.tasks.overlap import pairs, refuse_overlap

FILE = "checked.jsonl"


class OverlapParams(Params):
    """Whether items that a model sees with their answers stand among those that are scored. Inputs: `scored`, and all others.

    Attributes:
        language: of the scored items, for messages.
        where: role → what its items are called in messages.
        allowed: whether such items are counted, and not refused.
    """

    optional = ("allowed",)

    language: Annotated[str, Unkeyed]
    where: Annotated[dict[str, str], Unkeyed] = Field(default_factory=dict)
    allowed: bool | None = None


def make_overlap(params: OverlapParams, inputs: Inputs, output: Path, scratch: Path, worker: Any) -> None:
    """Write how many items were compared, and how many stand in both where that is allowed. Else raises DataError."""
    scored = items.read_all(inputs["scored"])
    counts = {"scored": len(scored)}
    for role, folders in inputs.items():
        if role != "scored":
            seen = items.read_all(folders)
            if params.allowed:
                counts[f"{role} shared"] = len({id for _, id in pairs(seen, scored)})
            else:
                refuse_overlap(seen, scored, params.language, params.where.get(role, "train"))
            counts[role] = len(seen)
    write_jsonl(output / FILE, [counts])


def compared(folder: Path, role: str) -> int:
    """How many items of a role the scored ones were compared with."""
    return counts(folder).get(role, 0)


def counts(folder: Path) -> dict[str, int]:
    """How many items there are: role → items, `scored` among them; `ROLE shared` → scored ones that stand there, too."""
    (found,) = read_jsonl(folder / FILE)
    return {role: int(count) for role, count in found.items()}


def facts(stage: Stage, folder: Path) -> Iterator[str]:
    """What a report says of a look at overlap: how many scored items were seen, where that is allowed.

    Args:
        stage: of kind `overlap`.
        folder: of its result.
    """
    params, found = stage.params, counts(folder)
    assert isinstance(params, OverlapParams)  # Whoever asks has looked.
    for role in found if params.allowed else ():
        if seen := found.get(f"{role} shared"):
            yield (
                f"{params.language}: {seen:,} of {found['scored']:,} scored items stand in {params.where.get(role, 'train')}, too "
                "(task.overlap); whatever was trained on them may remember them"
            )


class EqualCountsParams(Params):
    """Whether a labelled reference task has as many items in each language."""


def make_equal_counts(params: EqualCountsParams, inputs: Inputs, output: Path, scratch: Path, worker: Any) -> None:
    """Write the numbers of items by language. Raises DataError where they differ."""
    counts = {language: len(items.read_all(folders)) for language, folders in inputs.items()}
    refuse_unequal(counts)
    write_jsonl(output / FILE, [counts])


OVERLAP = Kind(OverlapParams, make_overlap, revision=1)
EQUAL_COUNTS = Kind(EqualCountsParams, make_equal_counts, revision=1)
