"""Delivered adapters: where those of a run or of a repository are, by task and language. Imports no torch."""

import re
from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel

from adamergex import language_tags
from adamergex.adapters.location import locate
from adamergex.errors import AdapterError, RecipeError
from adamergex.inference.usage import DELIVERED, FILE, TASKS, read
from adamergex.storage import hub, yaml_model
from adamergex.storage.files import expanded
from adamergex.storage.hub import HubName
from adamergex.storage.run_names import RECIPE, SCORES
from adamergex.storage.yaml_model import did_you_mean
from adamergex.terminal import say

# Task, empty where there is one alone, and language.
Pair = tuple[str, str]


class _Recipe(BaseModel):
    """What counts here of the recipe that a run folder has."""

    targets: list[str]
    tasks: dict[str, object] | None = None


def of_run(run: Path) -> dict[Pair, Path]:
    """The adapters of a run, by task and language: those that its recipe names, and that are there.

    Raises:
        RecipeError: the folder's recipe is none.
    """
    # Folders of what the recipe no longer names stay in a run folder.
    if not (run / RECIPE).is_file():
        return {}
    recipe = yaml_model.check(_Recipe, yaml_model.read(run / RECIPE), str(run / RECIPE))
    places = {task: run / TASKS / task / DELIVERED for task in recipe.tasks or ()} or {"": run / DELIVERED}
    return {
        (task, code): place / code
        for task, place in places.items()
        for code in sorted(recipe.targets)
        if (place / code / FILE).is_file()
    }


def _has_tasks(run: Path) -> bool:
    """Whether a folder is that of a run with several tasks, of which nothing may be there yet."""
    place = run / RECIPE
    return place.is_file() and re.search("^tasks:", yaml_model.read(place), re.MULTILINE) is not None


def is_finished(run: Path) -> bool:
    """Whether the last run in a folder came to its end: what it delivers may be of an earlier one otherwise."""
    return (run / SCORES).is_file()


def find(place: str | Path, language: str | None = None, task: str | None = None) -> Path:
    """The folder of an adapter with its `adamergex.json`: the place itself, or one that a run delivers.

    Args:
        place: an adapter's folder, or a run's; or `user/name[@revision][:subfolder]` on the hub, an adapter or a repository
            with one for each language, or each task and language, in a subfolder.
        language: that it answers in, a BCP 47 code; needed only where there are several.
        task: its name; needed only where a run has several.

    Raises:
        AdapterError: there is no such adapter.
        NetworkError: the hub does not answer.
        RecipeError: the language or the task has to be named.
    """
    folder = expanded(place)
    published = None if folder.is_dir() else hub.parse(str(place))
    if published is not None:
        return _published(str(place), published, language, task)
    if not folder.is_dir():
        raise AdapterError(
            f"{place}: no such folder; expected the folder of a run or of an adapter, or user/name on the Hugging Face hub"
        )
    known = of_run(folder) if _has_tasks(folder) else _below(folder / DELIVERED)
    is_run = (folder / RECIPE).is_file()
    if known and is_run and not is_finished(folder):
        say(
            f"warning: {folder}: its run is not finished, what it delivers may be of before; run the recipe to the end",
            error=True,
        )
    if not known:
        if is_run:
            raise AdapterError(f"{folder}: the run has no adapters in {DELIVERED}/ yet; run its recipe to the end")
        known = {("", read(folder).language): folder}
    return known[chosen(str(place), list(known), language, task)]


def _published(name: str, place: HubName, language: str | None, task: str | None) -> Path:
    """An adapter at a place on the hub, downloaded."""
    # Whoever writes a revision or a subfolder means the hub.
    begin = f"{name}: " + "no such folder here, and " * (name == place.repository)
    with hub.asking(begin, place):
        pinned, folder = hub.snapshot(place, [FILE, f"*/{FILE}", f"*/*/{FILE}"])
    if (folder / FILE).is_file():
        known = {("", read(folder).language): pinned}
    else:
        within = f"{pinned.subfolder}/" if pinned.subfolder else ""
        known = {
            pair: replace(pinned, subfolder=within + path.relative_to(folder).as_posix())
            for pair, path in _below(folder).items()
        }
        if not known:
            raise AdapterError(
                f"{begin}the hub has no {FILE} there, which says how an adapter is asked; `adamergex publish` writes it"
            )
    return locate(str(known[chosen(name, list(known), language, task)]), optional=[FILE]).folder


def _below(folder: Path) -> dict[Pair, Path]:
    """The folders of adapters that lie in a folder, called like their language, or in one that is called like their task."""
    found = {("", path.parent.name): path.parent for path in folder.glob(f"*/{FILE}")}
    found |= {(path.parts[-3], path.parts[-2]): path.parent for path in folder.glob(f"*/*/{FILE}")}
    return dict(sorted(found.items()))


def chosen(place: str, known: list[Pair], language: str | None, task: str | None) -> Pair:
    """Which of the adapters is meant.

    Args:
        place: that has them, for messages.
        known: task and language of each; not empty.
        language: see `find`.
        task: see `find`.

    Raises:
        AdapterError: none of them.
        RecipeError: several of them.
    """
    tasks = list(dict.fromkeys(of for of, _ in known))
    if task is None and len(tasks) > 1:
        raise RecipeError([f"{place}: has adapters for the tasks {', '.join(tasks)}; choose one with --task"])
    of_task = of_tasks(place, known, task)
    languages = [code for _, code in of_task]
    if language is None:
        if len(languages) > 1:
            raise RecipeError([f"{place}: has adapters for {', '.join(languages)}; choose one with --language"])
        return of_task[0]
    found = language_tags.match(language, languages)
    if found is None:
        raise AdapterError(f"{place}: has no adapter for {language!r}; it has {', '.join(languages)}")
    return of_task[languages.index(found)]


def of_tasks(place: str, known: list[Pair], task: str | None) -> list[Pair]:
    """Those of one task, or all where it is left out. Raises AdapterError where the place does not have it."""
    tasks = list(dict.fromkeys(of for of, _ in known))
    if task is None or task in tasks:
        return [pair for pair in known if task is None or pair[0] == task]
    if tasks == [""]:
        raise AdapterError(f"{place}: has one task, which has no name; leave --task out")
    hint = did_you_mean(task, tasks)
    raise AdapterError(f"{place}: has no adapters for the task {task!r}; it has {', '.join(tasks)}{hint}")
