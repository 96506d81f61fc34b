"""Kind `items`: the items of one split of a task in one language, as prompts and answers, or as prompts alone."""

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from adamergex.data import sources
from adamergex.data.settings import Source
from adamergex.execution.stage import Inputs, Kind, Params, Place, Stage
from adamergex.scoring.calibration import FEWEST
from adamergex.storage.files import read_json, read_jsonl, write_jsonl
from adamergex.tasks import benchmarks, loading
from adamergex.tasks.items import Item, from_row, read_items, to_row
from adamergex.tasks.overlap import refuse_emptied, without
from adamergex.tasks.task import Task

if TYPE_CHECKING:
    from adamergex.pipeline.worker import Worker

FILE, DROPPED = "items.jsonl", "dropped.json"
# Of inputs without labels that are learned from, this share is kept apart to calibrate on, and as many as that takes.
_APART = 0.2


class ItemsParams(Params):
    """Which rows, and how a row becomes an item. Inputs, if any: `scored`, items that are left out.

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

    @property
    def is_known(self) -> bool:
        """See Params; offline two machines may have other versions of a data set at hand."""
        return sources.is_known(self.content)

    def identity(self) -> dict[str, Any]:
        """See Params; of the source counts what it holds, of the task how a row becomes an item."""
        wording = self.task.wording(self.language).model_dump(include={"prompt", "separator", "choices"})
        if optional := self.task.wording(self.language).optional:
            wording["optional"] = optional
        task = self.task.model_dump(include={"answer", "learned", "kind"})
        # What an encoder reads as the second text of a pair.
        task |= {"shared_columns": self.task.wording(self.language).shared_columns}
        if self.task.answer_kind == "number":
            task |= {"marker": self.task.wording(self.language).marker, "answer_format": self.task.answer_format}
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
    """Write `items.jsonl`; and where there are scored items, which are left out, how many those are in `dropped.json`."""
    items = read_items(params.task, params.source, params.folder, params.language, params.scored, params.labelled)
    order = list(range(len(items)))
    random.Random(params.seed).shuffle(order)
    apart = max(FEWEST, round(_APART * len(items)))
    part = {"all": order, "apart": order[:apart], "rest": order[apart:]}[params.part]
    taken = [items[number] for number in sorted(part[: params.most])]
    if "scored" in inputs:
        read, scored = len(taken), read_all(inputs["scored"])
        refuse_emptied(taken, scored, params.language, loading.name(params.source, params.language))
        taken = without(taken, scored)
        (output / DROPPED).write_text(json.dumps({"read": read, "dropped": read - len(taken)}) + "\n", "utf-8")
    write_jsonl(output / FILE, map(to_row, taken))


def read(folder: Path) -> list[Item]:
    """The items of a stage of this kind."""
    return [from_row(row) for row in read_jsonl(folder / FILE)]


def dropped(folder: Path) -> tuple[int, int] | None:
    """How many items were left out because they are scored, too, and of how many; None where nobody asked for it."""
    if not (folder / DROPPED).is_file():
        return None
    found = read_json(folder / DROPPED)
    return found["dropped"], found["read"]


def facts(stage: Stage, folder: Path) -> Iterator[str]:
    """What a report says of the items of a stage of this kind: how their rows were read, and which were left out.

    Args:
        stage: of this kind.
        folder: of its result.
    """
    params = stage.params
    assert isinstance(params, ItemsParams)  # Whoever asks has looked.
    name, source = stage.id.removeprefix("data/"), params.source
    if source.benchmark is not None and (note := benchmarks.find(source.benchmark).note(params.language)):
        yield f"{name}: {note}"
    if source.limit is not None:
        label = params.task.answer if params.task.choices and params.labelled else None
        yield f"{name}: {loading.limited(source, label)}"
    if (found := dropped(folder)) is not None:
        yield f"{name}: {found[0]:,} of {found[1]:,} items were dropped, being scored, too (task.overlap)"


def read_all(folders: Sequence[Path]) -> list[Item]:
    """The items of several stages, one after the other."""
    return [item for folder in folders for item in read(folder)]


KIND = Kind(ItemsParams, make, revision=4)
