"""A task that adapters are scored on without a recipe's run: its items, and those that they may have been trained on."""

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

from adamergex.errors import DataError
from adamergex.execution.run_folder import RunFolder, Stage
from adamergex.pipeline.data_stages import item_settings
from adamergex.pipeline.run_report import ITEMS
from adamergex.storage.files import read_jsonl, write_jsonl
from adamergex.tasks import loading
from adamergex.tasks.items import Item, from_row, read_items, refuse_overlap
from adamergex.tasks.task import Task

OVERLAP = "overlap.json"


@dataclass(frozen=True)
class ScoredTask:
    """A task, and what its items depend on beside it.

    Attributes:
        task: what is asked.
        folder: what its relative paths are relative to.
        source: the language of the labels that it is learned from.
    """

    task: Task
    folder: Path = Path()
    source: str = "en"

    def solved(self, language: str) -> list[Item]:
        """Solved examples: the task's own in the language, or training items in the source language."""
        if self.task.examples is not None:
            return read_items(self.task, self.task.examples, self.folder, language)
        return read_items(self.task, self.task.train, self.folder, self.source)

    def training_data(self, languages: Iterable[str]) -> dict[str, dict[str, Any]]:
        """What determines the training items, by language: of the source language, and of those that may have a ceiling.

        Left out is what is not on this machine: nothing is downloaded to be looked at, and a task may have come without
        its training items.
        """
        found = {}
        for language in dict.fromkeys((self.source, *languages)) if self.task.train.is_local else ():
            with suppress(DataError):
                content = loading.fingerprint(self.task.train, self.folder, language)
                found[language] = item_settings(self.task, language) | {"source": content}
        return found


def items(name: str, scored: ScoredTask, language: str, split: str) -> Stage:
    """`data/NAME-LANGUAGE-SPLIT`: the items of a task's split, which is dev or test, in one language."""
    task, source = scored.task, scored.task.test if split == "test" else scored.task.dev
    assert source is not None  # The command has looked.
    settings = item_settings(task, language) | {"source": loading.fingerprint(source, scored.folder, language)}

    def build(folder: Path) -> None:
        found = read_items(task, source, scored.folder, language)
        write_jsonl(folder / ITEMS, [asdict(item) for item in found])

    return Stage(f"data/{name}-{language}-{split}", settings, (), build)


def overlaps(name: str, scored: ScoredTask, data: Mapping[str, Stage], run_folder: RunFolder) -> list[Stage]:
    """Stages that look whether scored items stand among those that adapters may have been trained on.

    Args:
        name: of the task.
        scored: the task.
        data: language → the stage that holds the scored items.
        run_folder: where the stages' results lie.
    """
    training = scored.training_data(data)

    def stage(language: str) -> Stage:
        seen_in = [code for code in training if code in (scored.source, language)]

        def build(folder: Path) -> None:
            rows = read_jsonl(run_folder.of(data[language]) / ITEMS)
            task = scored.task
            seen = [
                item for code in seen_in for item in read_items(task, task.train, scored.folder, code, scored=False)
            ]
            refuse_overlap(seen, [from_row(row) for row in rows], f"{name}, {language}")
            (folder / OVERLAP).write_text(json.dumps({"languages": seen_in, "items": len(seen)}) + "\n")

        settings = {"training": {code: training[code] for code in seen_in}}
        return Stage(_place(name, language), settings, (data[language],), build)

    return [stage(language) for language in data]


def facts(run_folder: RunFolder, names: Iterable[str], languages: Sequence[str]) -> list[str]:
    """With which training items the scored ones were compared, a line for each task and language."""
    lines = []
    for name, language in product(names, languages):
        looked = json.loads((run_folder.path / _place(name, language) / OVERLAP).read_bytes())
        if looked["languages"]:
            what = f"none of the scored items is among {looked['items']:,} training items ({', '.join(looked['languages'])})"
        else:
            what = "not compared with training items, which are not on this machine"
        lines.append(f"{name}, {language}: {what}")
    return lines


def _place(name: str, language: str) -> str:
    return f"overlap/{name}-{language}"
