"""Adapters that a recipe takes in place of trainings: where they are, and whether they fit the recipe."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from adamergex.adapters.adapter import Adapter, load
from adamergex.adapters.compatibility import differences, off_base
from adamergex.adapters.location import Location, locate
from adamergex.errors import AdaMergeXError, NetworkError
from adamergex.merging.base_method import SOURCE, TARGET, TASK
from adamergex.merging.checks import unfit as unfit_for
from adamergex.models.adapter_settings import Lora
from adamergex.models.families import KINDS, family
from adamergex.recipes.merges import of_recipe
from adamergex.recipes.recipe import Recipe
from adamergex.storage.checkpoints import Checkpoint
from adamergex.storage.files import expanded

_OWN = "the recipe's adapters"


@dataclass(frozen=True)
class Taken:
    """The adapters that a recipe takes.

    Attributes:
        places: name in the run, such as `task-en` → where it is on this machine.
        problems: why one cannot be had, a line each.
        unreachable: the same where the hub did not answer.
    """

    places: dict[str, Location] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    unreachable: list[str] = field(default_factory=list)

    def opened(self) -> dict[str, Adapter]:
        """The adapters, whose tensors are read when they are wanted; one that cannot be read is among the problems."""
        found = {}
        for name, location in self.places.items():
            try:
                found[name] = load(location.pinned, lazy=True)
            except AdaMergeXError as error:
                self.problems.append(f"{key(name)}: {error}")
        return found


def key(name: str) -> str:
    """Where the recipe names an adapter."""
    kind, _, language = name.partition("-")
    return "adapters.task" if kind == "task" else f"adapters.reference.{language}"


def find(recipe: Recipe, folder: Path) -> Taken:
    """Find the adapters that a recipe takes; those of the hub are downloaded.

    Args:
        recipe: of the run.
        folder: what its relative paths are relative to.
    """
    taken = Taken()
    for name, place in recipe.given_adapters.items():
        try:
            taken.places[name] = locate(place, folder)
        except NetworkError as error:
            taken.unreachable.append(f"{key(name)}: {error}")
        except AdaMergeXError as error:
            taken.problems.append(f"{key(name)}: {error}")
    return taken


def unfit(recipe: Recipe, adapters: Mapping[str, Adapter], checkpoint: Checkpoint | None) -> list[str]:
    """Why adapters do not fit the base model, the recipe's settings of adapters or each other, a line for each problem.

    Args:
        recipe: of the run.
        adapters: name in the run → adapter.
        checkpoint: the base model, whose weights need not be there; None where it is not at hand, and only the adapters
            themselves can be looked at.
    """
    if not adapters:
        return []
    named = {key(name): adapter for name, adapter in adapters.items()}
    problems = [] if checkpoint is None else _other_base(named, checkpoint)
    problems += [problem for role, adapter in named.items() for problem in _other_structure(recipe, role, adapter)]
    problems += [
        f"{role} was saved along with {min(adapter.schema.frozen)} of its base model: was its vocabulary resized? A recipe's "
        "base model has its own"
        for role, adapter in named.items()
        if adapter.schema.frozen
    ]
    if problems:
        return problems
    if checkpoint is None:
        return differences(named)
    # That they are of this base model is known.
    bases = {"base_model_name_or_path": checkpoint.name, "revision": None}
    known = {role: replace(adapter, config=adapter.config | bases) for role, adapter in named.items()}
    try:
        own = _own(recipe, checkpoint, "text")
        problems = differences({_OWN: own, **known}) + _heads(recipe, known, checkpoint)
    except AdaMergeXError as error:
        return [str(error)]
    return problems or unmergeable(recipe, known, own)


def _other_base(adapters: Mapping[str, Adapter], checkpoint: Checkpoint) -> list[str]:
    """The adapters that say that they are of another base model; one that says nothing is believed to be of this one."""
    name = checkpoint.name
    folder = expanded(name)
    lines = off_base(adapters, str(folder.resolve()) if folder.is_dir() else name, checkpoint.fingerprint)
    return [
        f"{line.partition(', and is scored')[0]}, and the recipe's base_model is {name}; if the weights are the same, say so with "
        "base_model_name_or_path in a copy of its adapter_config.json"
        for line in lines
        if " does not say which base model" not in line
    ]


def _other_structure(recipe: Recipe, role: str, adapter: Adapter) -> list[str]:
    structure, settings = adapter.schema.structure, recipe.adapter
    if structure != recipe.structure:
        return [f"{role} is {structure}, and adapter.structure makes {recipe.structure}; set adapter alike"]
    r = adapter.config.get("r")
    if isinstance(settings, Lora) and r != settings.r:
        return [f"{role} has r = {r}, and adapter.r is {settings.r}; set adapter.r to {r}"]
    return []


def _own(recipe: Recipe, checkpoint: Checkpoint, purpose: str) -> Adapter:
    from adamergex.models.expected import expected

    return expected(checkpoint, recipe.adapter, KINDS[family(checkpoint)][purpose], recipe.task.outputs)


def _heads(recipe: Recipe, adapters: Mapping[str, Adapter], checkpoint: Checkpoint) -> list[str]:
    """Whether the task's adapter brings the head that an encoder answers with."""
    task = adapters.get("adapters.task")
    if task is None or family(checkpoint) != "encoder":
        return []
    own = _own(recipe, checkpoint, "task")
    shapes = [{name: tuple(of.specs[name].shape) for name in of.schema.heads} for of in (own, task)]
    if shapes[0] == shapes[1]:
        return []
    wanted, found = (", ".join(f"{name} {shape}" for name, shape in of.items()) or "none" for of in shapes)
    return [f"adapters.task: its classification head does not fit the task's labels: expected {wanted}; got {found}"]


def unmergeable(recipe: Recipe, adapters: Mapping[str, Adapter], own: Adapter) -> list[str]:
    """Why the recipe's methods cannot merge adapters, a line for each problem.

    Args:
        recipe: of the run.
        adapters: those that are taken.
        own: one that is trained.
    """
    methods, problems = of_recipe(recipe), []
    for target in recipe.targets:
        roles = {
            TASK: adapters.get("adapters.task", own),
            TARGET: adapters.get(f"adapters.reference.{target}", own),
            SOURCE: adapters.get(f"adapters.reference.{recipe.source}", own),
        }
        problems += [f"merging for {target}: {problem}" for method in methods for problem in unfit_for(method, roles)]
    return list(dict.fromkeys(problems))
