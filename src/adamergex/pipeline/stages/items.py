"""Kind `items`: the items of one split of a task in one language, as prompts and answers, or as prompts alone."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from adamergex.data.settings import Source
from adamergex.execution.stage import Inputs, Kind, Params, Place
from adamergex.scoring.calibration import FEWEST
from adamergex.storage.files import read_jsonl, write_jsonl
from adamergex.tasks.items import Item, from_row, read_items, to_row
from adamergex.tasks.task import Task

if TYPE_CHECKING:
    from adamergex.pipeline.worker import Worker

FILE = "items.jsonl"
# Of inputs without labels that are learned from, this share is kept apart to calibrate on, and as many as that takes.
_APART = 0.2


class ItemsParams(Params):
    """Which rows, and how a row becomes an item.

    Attributes:
        task: prompt, choices, answer.
        source: where the rows come from.
        content: what determines them: hashes of files, the commit of a data set.
        language: a BCP 47 code.
        scored: whether answers are compared with a model's.
        folder: what relative paths are relative to.
        labelled: whether rows have an answer that is read.
        part: all items; or, of those that are learned from without labels, the part that is kept apart to calibrate on, or
            the rest, in an order that the seed draws.
        most: how many are taken of that part, at most.
        seed: of that order.
    """

    task: Task
    source: Source
    content: dict[str, Any]
    language: str
    scored: bool
    folder: Place
    labelled: bool = True
    part: Literal["all", "apart", "rest"] = "all"
    most: int | None = None
    seed: int = 0

    def identity(self) -> dict[str, Any]:
        """See Params; of the source counts what it holds, of the task how a row becomes an item."""
        wording = self.task.wording(self.language).model_dump(include={"prompt", "separator", "choices"})
        task = self.task.model_dump(include={"answer", "learned", "kind"})
        # What an encoder reads as the second text of a pair.
        task |= {"shared_columns": self.task.wording(self.language).shared_columns}
        if self.task.chat:
            task["chat"] = self.task.wording(self.language).model_dump(include={"system"}) | {
                "messages": self.task.messages
            }
        described = super().identity()
        del described["source"]
        if self.part == "all" and self.most is None:
            del described["seed"]
        return described | {"task": wording | task}


def make(params: ItemsParams, inputs: Inputs, output: Path, scratch: Path, worker: "Worker") -> None:
    """Write `items.jsonl`."""
    items = read_items(params.task, params.source, params.folder, params.language, params.scored, params.labelled)
    order = list(range(len(items)))
    random.Random(params.seed).shuffle(order)
    apart = max(FEWEST, round(_APART * len(items)))
    part = {"all": order, "apart": order[:apart], "rest": order[apart:]}[params.part]
    taken = sorted(part[: params.most])
    write_jsonl(output / FILE, (to_row(items[number]) for number in taken))


def read(folder: Path) -> list[Item]:
    """The items of a stage of this kind."""
    return [from_row(row) for row in read_jsonl(folder / FILE)]


def read_all(folders: Sequence[Path]) -> list[Item]:
    """The items of several stages, one after the other."""
    return [item for folder in folders for item in read(folder)]


KIND = Kind(ItemsParams, make, revision=2)
