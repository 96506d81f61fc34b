"""Kinds `overlap` and `equal-counts`: looks at items before anything is learned from them; data of the hub is here by then."""

from pathlib import Path
from typing import Any

from adamergex.execution.stage import Inputs, Kind, Params
from adamergex.pipeline.stages import items
from adamergex.storage.files import write_jsonl
from adamergex.tasks.items import refuse_overlap, refuse_unequal

FILE = "checked.jsonl"


class OverlapParams(Params):
    """Whether items that are learned from stand among those that are scored.

    Attributes:
        language: of the scored items, for messages.
    """

    language: str


def make_overlap(params: OverlapParams, inputs: Inputs, output: Path, scratch: Path, worker: Any) -> None:
    """Write how many items were compared. Raises DataError where an item stands in both."""
    learned, scored = items.read_all(inputs["learned"]), items.read_all(inputs["scored"])
    refuse_overlap(learned, scored, params.language)
    write_jsonl(output / FILE, [{"learned": len(learned), "scored": len(scored)}])


class EqualCountsParams(Params):
    """Whether a labelled reference task has as many items in each language."""


def make_equal_counts(params: EqualCountsParams, inputs: Inputs, output: Path, scratch: Path, worker: Any) -> None:
    """Write the numbers of items by language. Raises DataError where they differ."""
    counts = {language: len(items.read_all(folders)) for language, folders in inputs.items()}
    refuse_unequal(counts)
    write_jsonl(output / FILE, [counts])


OVERLAP = Kind(OverlapParams, make_overlap, revision=1)
EQUAL_COUNTS = Kind(EqualCountsParams, make_equal_counts, revision=1)
