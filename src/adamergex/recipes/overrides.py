"""The section `overrides` of a recipe with several tasks: what is other for a task, a language or a pair of both.

A recipe is plain keys and values here, as it is read and written.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from adamergex import language_tags
from adamergex.storage.yaml_model import did_you_mean

OF_A_LANGUAGE = ("merge", "refine", "evaluate")
SECTIONS = ("source", "adapters", "reference", "adapter", "train", *OF_A_LANGUAGE)
# Sections within sections, which are overridden key by key, too; any other value is replaced.
_WITHIN = {
    "train": ("task", "reference"),
    "evaluate": ("calibration", "baselines"),
    "reference": ("corpora",),
}
# What is the same for the whole run, and why.
_OF_THE_RUN = {
    ("train", "micro_batch"): "changes no result",
    ("train", "gradient_checkpointing"): "changes no result",
    ("train", "checkpoint_seconds"): "changes no result",
    ("evaluate", "batch_size"): "changes no result",
    ("adapters", "reference"): "tasks share reference adapters",
}
# Where this key is another one, a section has other settings: none of the recipe's own is kept.
_KIND = {"merge": ("method", "adamergex"), "adapter": ("structure", "lora")}

Problem = tuple[tuple[str, ...], str]


class Overrides:
    """What a recipe overrides.

    Args:
        given: name → section → what is other in it.
        tasks: the names of the recipe's tasks.
        targets: its target languages.

    Attributes:
        meant: name → the task and the language that it is of; either is empty where it is of all.
    """

    def __init__(self, given: Mapping[str, Mapping[str, Any]], tasks: Sequence[str], targets: Sequence[str]):
        self.given, self._tasks, self._targets = given, tasks, targets
        self.meant = {name: meant for name in given if (meant := self._meant(name)) is not None}

    def _meant(self, name: str) -> tuple[str, str] | None:
        if name in self._tasks:
            return name, ""
        task, _, code = name.rpartition("/")
        language = language_tags.match(code, self._targets)
        return None if language is None or task not in ("", *self._tasks) else (task, language)

    def problems(self) -> Iterator[Problem]:
        """What is wrong with names, and with sections that cannot be overridden, each with where it is."""
        seen: dict[tuple[str, str], str] = {}
        for name, sections in self.given.items():
            at = ("overrides", name)
            if name not in self.meant:
                known = [*self._tasks, *self._targets]
                known += [f"{task}/{code}" for task in self._tasks for code in self._targets]
                hint = did_you_mean(name, known) or f"; there are {', '.join([*self._tasks, *self._targets])}"
                yield at, f"is no task, no target language and no pair of them, TASK/CODE{hint}"
                continue
            if self.meant[name] in seen:
                yield at, f"is the same as {seen[self.meant[name]]}; make one of the two"
            seen[self.meant[name]] = name
            if not isinstance(sections, Mapping) or not sections:
                yield at, f"expected sections, such as merge: {{scale: 0.2}}; got {sections!r}"
                continue
            yield from self._of_sections(name, sections)

    def _of_sections(self, name: str, sections: Mapping[str, Any]) -> Iterator[Problem]:
        of_language = bool(self.meant[name][1])
        known = OF_A_LANGUAGE if of_language else SECTIONS
        for section, value in sections.items():
            at = ("overrides", name, str(section))
            if section not in known:
                whose = "a language" if of_language else "a task"
                yield at, f"cannot be other for {whose}; {', '.join(known)} can{did_you_mean(str(section), known)}"
            for key in value if isinstance(value, Mapping) else ():
                if why := _OF_THE_RUN.get((section, key)):
                    yield (*at, str(key)), f"{why}; set {section}.{key} for the whole run"

    def names(self, task: str, language: str) -> list[str]:
        """Those of a pair; what is said of the task counts less than what is said of the language, and that less than the pair's."""
        found = [
            name for name, (of_task, code) in self.meant.items() if of_task in ("", task) and code in ("", language)
        ]
        return sorted(found, key=lambda name: (bool(self.meant[name][1]), all(self.meant[name])))

    def applied(
        self, document: Mapping[str, Any], task: str, language: str, without: tuple[str, str] | None = None
    ) -> dict[str, Any]:
        """A recipe for a pair, with all that is other for it.

        Args:
            document: the recipe without tasks.
            task: a name.
            language: one of the targets.
            without: name and section of an override to leave out.
        """
        found = dict(document)
        for name in self.names(task, language):
            for section, value in self.given[name].items():
                if (name, section) != without:
                    found[section] = overridden(section, found.get(section), value)
        return found

    def place(self, task: str, language: str, location: Sequence[Any]) -> tuple[Any, ...]:
        """Where a value of a pair's recipe stands in the whole one."""
        for name in reversed(self.names(task, language)) if location else ():
            inside: Any = self.given[name]
            for key in location[:2]:
                inside = inside.get(key, ...) if isinstance(inside, Mapping) else ...
            if inside is not ...:
                return ("overrides", name, *location)
        return tuple(location)


def overridden(section: str, own: Any, other: Any) -> Any:
    """A section of a recipe, with what is other in it."""
    if not isinstance(own, Mapping) or not isinstance(other, Mapping) or _is_of_another_kind(section, own, other):
        return other
    merged = dict(own)
    for key, value in other.items():
        within = key in _WITHIN.get(section, ()) and isinstance(value, Mapping) and isinstance(own.get(key), Mapping)
        merged[key] = {**own[key], **value} if within else value
    return merged


def difference(section: str, own: Any, other: Any) -> Any:
    """What makes one section another one when it is `overridden`."""
    if not isinstance(own, Mapping) or not isinstance(other, Mapping) or _is_of_another_kind(section, own, other):
        return other
    # What is not there any more is null.
    found: dict[str, Any] = dict.fromkeys(own.keys() - other.keys())
    for key, value in other.items():
        if key in own and own[key] == value:
            continue
        within = key in _WITHIN.get(section, ()) and isinstance(value, Mapping) and isinstance(own.get(key), Mapping)
        found[key] = {name: of for name, of in value.items() if own[key].get(name, ...) != of} if within else value
    return found


def _is_of_another_kind(section: str, own: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    if section == "reference":
        return bool(other.get("task") if own.get("task") is None else other.get("corpus"))
    key, default = _KIND.get(section, ("", ""))
    return key in other and other[key] != own.get(key, default)
