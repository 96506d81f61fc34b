"""A recipe with several tasks as recipes with one: one for each task, and for those of its targets that have overrides."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from adamergex import language_tags
from adamergex.recipes.fields import RecipeFields
from adamergex.recipes.overrides import SECTIONS, Overrides, Problem, difference
from adamergex.storage.yaml_model import by_location

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Made(NamedTuple):
    """A recipe with one task, which is a part of one with several; see `recipe.Part`."""

    task: str
    name: str
    recipe: RecipeFields


class ManyTasks:
    """A recipe with `tasks`.

    Args:
        document: its keys and values, as they are read.
        kind: of a recipe with one task.

    Attributes:
        parts: in the order of the tasks, then of the targets.

    Raises:
        ValidationError: with all that is wrong, located in the whole recipe.
    """

    def __init__(self, document: Mapping[str, Any], kind: type[RecipeFields]):
        _refuse(_misshapen(document))
        self._kind, self._made = kind, dict[str, RecipeFields]()
        self._own = {key: value for key, value in document.items() if key not in ("tasks", "overrides", "task")}
        self._tasks: Mapping[str, Any] = document["tasks"]
        listed = document.get("targets")
        # What else is wrong with them is said of every part.
        self._targets = list(filter(_is_tag, listed)) if isinstance(listed, list) else []
        self._overrides = Overrides(document.get("overrides") or {}, list(self._tasks), self._targets)
        _refuse([*_ambiguous(self._tasks, self._targets), *self._overrides.problems(), *_of_which_task(document)])
        self.parts = self._all_parts()
        _refuse([*self._without_effect(), *self._unequal(), *self._unused(), *self._without_row()])

    def resolved(self) -> dict[str, Any]:
        """The recipe as it comes out: its own sections, the tasks, and what is other for a task or a pair of task and language.

        Raises:
            ValidationError: the recipe's own sections are not what is expected.
        """
        own = RecipeFields.model_validate(self._own | {"task": self.parts[0].recipe.task}).model_dump(mode="json")
        overrides: dict[str, dict[str, Any]] = {}
        for name in self._tasks:
            parts = [part.recipe for part in self.parts if part.task == name]
            written = [part.model_dump(mode="json") for part in parts]
            for of in written:
                # Of the reference adapters that are given a part has those that it reads.
                of["adapters"]["reference"] = own["adapters"]["reference"]
            for section in SECTIONS:
                is_same = all(of[section] == written[0][section] for of in written)
                for of, recipe in zip(written, parts, strict=True):
                    if of[section] != own[section]:
                        change = difference(section, own[section], of[section])
                        for one in [name] if is_same else [f"{name}/{code}" for code in recipe.targets]:
                            overrides.setdefault(one, {})[section] = change
        tasks = {part.task: part.recipe.task for part in self.parts}
        return self._own | {"task": self.parts[0].recipe.task, "tasks": tasks, "overrides": overrides}

    def _all_parts(self) -> tuple[Made, ...]:
        """The parts. Raises ValidationError with the problems of all of them, equal ones once."""
        parts, problems, count = list[Made](), dict[Problem, list[str]](), 0
        for task in self._tasks:
            grouped = self._grouped(task)
            for languages, document in grouped:
                name = task if len(grouped) == 1 else f"{task}/{', '.join(languages)}"
                count += 1
                try:
                    parts.append(Made(task, name, self._recipe(document)))
                except ValidationError as error:
                    for location, message in by_location(error, self._kind).items():
                        problems.setdefault((self._place(task, languages, location), message), []).append(name)
        _refuse(
            (at, message if at or len(of) == count else f"{', '.join(of)}: {message}")
            for (at, message), of in problems.items()
        )
        return tuple(parts)

    def _grouped(self, task: str) -> list[tuple[list[str], dict[str, Any]]]:
        """The targets of a task that have the same settings, with the keys and values of their recipe."""
        groups: dict[str, tuple[list[str], dict[str, Any]]] = {}
        for code in self._targets:
            document = self._overrides.applied(self._own, task, code) | {"task": self._tasks[task]}
            if not _is_source(code, document):
                languages, _ = groups.setdefault(_text(document), ([], document))
                languages.append(code)
        if not groups:
            document = self._overrides.applied(self._own, task, "") | {"task": self._tasks[task]}
            return [(list(self._targets), document)]
        return [
            (codes, self._with_own_references(document | {"targets": codes})) for codes, document in groups.values()
        ]

    def _with_own_references(self, document: dict[str, Any]) -> dict[str, Any]:
        """The same without given reference adapters of languages that other parts alone read."""
        adapters = document.get("adapters")
        if not isinstance(adapters, Mapping) or not isinstance(given := adapters.get("reference"), Mapping):
            return document
        sources = [self._overrides.applied(self._own, task, "").get("source", "en") for task in self._tasks]
        merge = document.get("merge")
        selection = merge.get("selection") if isinstance(merge, Mapping) else None
        choosing = selection.get("validation") if isinstance(selection, Mapping) else None
        own = [document.get("source", "en"), *document["targets"], *(choosing or ())]
        read = {
            code: place
            for code, place in given.items()
            if not _has(code, [*sources, *self._targets]) or _has(code, own)
        }
        return document | {"adapters": {**adapters, "reference": read}}

    def _recipe(self, document: dict[str, Any]) -> RecipeFields:
        key = _text(document)
        if key not in self._made:
            self._made[key] = self._kind.model_validate(document)
        return self._made[key]

    def _place(self, task: str, languages: list[str], location: tuple[Any, ...]) -> tuple[Any, ...]:
        """Where a value of a part stands in the whole recipe."""
        if location[:1] == ("task",):
            return ("tasks", task, *location[1:])
        return self._overrides.place(task, languages[0] if languages else "", location)

    def _without_effect(self) -> Iterator[Problem]:
        """Overrides that change nothing of any pair."""
        for name, sections in self._overrides.given.items():
            of_task, code = self._overrides.meant[name]
            pairs = [
                (task, language)
                for task in ([of_task] if of_task else self._tasks)
                for language in ([code] if code else self._targets)
            ]
            for section in sections:
                if not any(self._counts(*pair, (name, section)) for pair in pairs):
                    yield (
                        ("overrides", name, section),
                        "has no effect: nothing comes out otherwise without it; remove it",
                    )

    def _counts(self, task: str, language: str, override: tuple[str, str]) -> bool:
        """Whether an override changes what comes out for a pair."""
        with_it = self._overrides.applied(self._own, task, language) | {"task": self._tasks[task]}
        if _is_source(language, with_it):
            return False
        without = self._overrides.applied(self._own, task, language, override) | {"task": self._tasks[task]}
        if with_it == without:
            return False
        try:
            alone = {"targets": [language]}
            recipes = [self._recipe(self._with_own_references(one | alone)) for one in (with_it, without)]
            return recipes[0] != recipes[1]
        except ValidationError:
            return True

    def _unused(self) -> Iterator[Problem]:
        """Targets that nothing is made for."""
        used = [code for part in self.parts for code in part.recipe.targets]
        for code in self._targets:
            if code not in used:
                yield ("targets",), f"lists {code}, which is the source language of every task; remove it"

    def _without_row(self) -> Iterator[Problem]:
        """What is delivered must be a row of the table, or nothing could be said of it."""
        lacking: dict[tuple[tuple[Any, ...], str], list[str]] = {}
        for task, name, recipe in self.parts:
            method: str = recipe.merge.method
            if recipe.scored is not None and recipe.refine is None and method not in recipe.evaluate.methods:
                at = self._overrides.place(task, recipe.targets[0], ("evaluate", "methods"))
                lacking.setdefault((at, method), []).append(name)
        for (at, method), names in lacking.items():
            yield (
                at,
                f"lacks {method}, which {', '.join(names)} {'are' if len(names) > 1 else 'is'} merged with; add it",
            )

    def _unequal(self) -> Iterator[Problem]:
        """What has to be the same in all languages of a task, whose rows are beside each other."""
        for task in self._tasks:
            recipes = [part.recipe for part in self.parts if part.task == task]
            for key in ("metric", "split"):
                found = {getattr(recipe.evaluate, key): ", ".join(recipe.targets) for recipe in recipes}
                if len(found) > 1:
                    each = " and ".join(f"{value} for {languages}" for value, languages in found.items())
                    yield (), f"{task}: evaluate.{key} is {each}; its languages are compared, set it for the task"


def _misshapen(document: Mapping[str, Any]) -> Iterator[Problem]:
    """What keeps tasks and overrides from being looked at."""
    tasks, overrides = document["tasks"], document.get("overrides")
    if document.get("task") is not None:
        yield (), "task and tasks are both given; move the one task into tasks, under a name"
    if not isinstance(tasks, Mapping) or not tasks:
        yield ("tasks",), f"expected at least one task by name, such as {{topics: sib200}}; got {tasks!r}"
        return
    seen: dict[str, str] = {}
    for name in tasks:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            yield ("tasks",), f"{name!r} is no name for a folder; use letters, digits, -, _ and ."
        elif (same := seen.setdefault(name.lower(), name)) != name:
            yield ("tasks", name), f"is called like {same}, but for capitals; give one of them another name"
    if overrides is not None and not isinstance(overrides, Mapping):
        yield (
            ("overrides",),
            f"expected NAME → sections, such as {{topics: {{merge: {{scale: 0.2}}}}}}; got {overrides!r}",
        )


def _ambiguous(tasks: Iterable[str], targets: list[str]) -> Iterator[Problem]:
    for name in tasks:
        if (
            code := language_tags.match(name, [code for code in targets if language_tags.is_well_formed(code)])
        ) is not None:
            yield (
                ("tasks", name),
                f"is the target language {code}, too, and overrides could mean either; give it another name",
            )


def _of_which_task(document: Mapping[str, Any]) -> Iterator[Problem]:
    adapters = document.get("adapters")
    if isinstance(adapters, Mapping) and adapters.get("task") is not None and len(document["tasks"]) > 1:
        yield ("adapters", "task"), "is of one task, and there are several; write it as overrides.NAME.adapters.task"


def _has(code: Any, languages: list[Any]) -> bool:
    return isinstance(code, str) and language_tags.match(code, filter(_is_tag, languages)) is not None


def _is_tag(value: Any) -> bool:
    return isinstance(value, str) and language_tags.is_well_formed(value)


def _is_source(language: str, document: Mapping[str, Any]) -> bool:
    """Whether a target is the language that a task has labels in: nothing is made for it then."""
    tags = (language, document.get("source", "en"))
    return all(map(_is_tag, tags)) and language_tags.same(*tags)


def _text(document: Mapping[str, Any]) -> str:
    return json.dumps(document, sort_keys=True, default=repr)


def _refuse(problems: Iterable[Problem]) -> None:
    """Raises ValidationError where there are problems."""
    found = [
        # The input is in the messages, where it says something.
        InitErrorDetails(type=PydanticCustomError("tasks", "{message}", {"message": message}), loc=at, input={})
        for at, message in problems
    ]
    if found:
        raise ValidationError.from_exception_data("Recipe", found)
