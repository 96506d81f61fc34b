"""What a run is: a typed recipe."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, cast

from pydantic import ConfigDict, ModelWrapValidatorHandler, model_validator

from adamergex.recipes.consistency import check
from adamergex.recipes.fields import RecipeFields
from adamergex.recipes.many_tasks import ManyTasks


def _task_or_tasks(schema: dict[str, Any]) -> None:
    """What is required of a recipe's keys."""
    schema["required"] = [key for key in schema["required"] if key != "task"]
    schema["oneOf"] = [{"required": ["task"]}, {"required": ["tasks"]}]


class Recipe(RecipeFields):
    """One run: a base model, a task in a source language or several, and the languages that they are wanted in."""

    model_config = ConfigDict(json_schema_extra=_task_or_tasks)

    @model_validator(mode="wrap")
    @classmethod
    def _with_tasks(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(value, Mapping):
            return handler(value)
        if value.get("tasks") is not None:
            return handler(ManyTasks(value, cls).resolved())
        if value.get("overrides"):
            raise ValueError("overrides belong to tasks: write what is other into the recipe itself, or give tasks")
        return handler({key: of for key, of in value.items() if key not in ("tasks", "overrides")})

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        # Of several tasks each one was looked at, with what is other for it.
        if self.tasks is None:
            check(self)
        return self

    @property
    def parts(self) -> "tuple[Part, ...]":
        """The recipe as recipes with one task: for each task one, and more where some of its targets have other settings."""
        if self.tasks is None:
            return (Part("", "", self),)
        found = ManyTasks(self.model_dump(mode="json"), type(self)).parts
        return tuple(
            Part(task, name, cast(Recipe, recipe), _changes_references(self.overrides.get(task, {})))
            for task, name, recipe in found
        )


@dataclass(frozen=True)
class Part:
    """A recipe with one task.

    Attributes:
        task: its name; empty where the whole recipe has one task.
        name: what messages call it: the task, and the languages where these are not all of its targets.
        recipe: its targets are those of the task that have the same settings.
        changes_references: whether it overrides how reference adapters are made, which it may have to itself then.
        headless: whether the recipe came to have no row for the base model, whose classification head would be new.
    """

    task: str
    name: str
    recipe: Recipe
    changes_references: bool = False
    headless: bool = False


def _changes_references(overrides: Mapping[str, Any]) -> bool:
    return bool({"reference", "adapter"} & overrides.keys() or set(overrides.get("train", ())) - {"task"})


def each_once(parts: Sequence[Part], lines: Sequence[Sequence[str]]) -> list[str]:
    """Lines on the parts of a recipe, equal ones once; those that are not said of all of them begin with the names of theirs.

    Args:
        parts: of a recipe, all of them.
        lines: on each part.
    """
    said: dict[str, list[Part]] = {}
    for part, of in zip(parts, lines, strict=True):
        for line in dict.fromkeys(of):
            said.setdefault(line, []).append(part)
    return [line if len(of) == len(parts) else f"{_called(of, parts)}: {line}" for line, of in said.items()]


def _called(some: Sequence[Part], parts: Sequence[Part]) -> str:
    """What some of the parts are called: by their tasks, where all parts of these are among them."""
    whole = {part.task for part in some} - {part.task for part in parts if part not in some}
    return ", ".join(dict.fromkeys(part.task if part.task in whole else part.name for part in some))
