"""Which recipes and evaluations an encoder supports: it only classifies, with a head that has to be trained."""

from collections.abc import Mapping
from pathlib import Path

from adamergex.adapters.adapter import configuration
from adamergex.errors import RecipeError
from adamergex.models.families import family, has_head
from adamergex.recipes.recipe import Recipe
from adamergex.scoring.systems import Asking
from adamergex.storage.checkpoints import Checkpoint
from adamergex.tasks.task import Task

# Names of classification heads in PEFT's `modules_to_save`.
_HEADS = {"classifier", "score"}
NEW_HEAD = "has no row: its classification head is new, drawn at random, and means nothing before it is trained"


def unsuited(recipe: Recipe) -> list[str]:
    """What a recipe asks for that no encoder can do: a line for each."""
    problems = []
    for place, task in (("task", recipe.task), ("reference.task", recipe.reference.task)):
        if task is not None and not task.choices:
            problems.append(f"{place}.choices: missing; an encoder chooses, it does not write")
        if task is not None:
            problems += [f"{place}.{problem}" for problem in _wordings(task)]
    if asked := [m for m in ("few-shot", "xlt", "reference-target") if m in recipe.evaluate.methods]:
        problems.append(f"evaluate.methods: {', '.join(asked)} need a model that writes; an encoder's head is learned")
    return problems


def without_new_head(recipe: Recipe, checkpoint: Checkpoint) -> Recipe:
    """The recipe; without a row for a base model that brings no classification head for the task (`NEW_HEAD`).

    Args:
        recipe: of the run.
        checkpoint: its base model.

    Raises:
        ModelError: the model's configuration cannot be read.
        RecipeError: it has no other row.
    """
    methods = recipe.evaluate.methods
    if (
        family(checkpoint) != "encoder"
        or recipe.scored is None
        or "base" not in methods
        or _brings(checkpoint, recipe.task)
    ):
        return recipe
    rest = [method for method in methods if method != "base"]
    if not rest:
        raise RecipeError([f"evaluate.methods: base model {checkpoint.name} {NEW_HEAD}; name other methods"])
    return recipe.model_copy(update={"evaluate": recipe.evaluate.model_copy(update={"methods": rest})})


def headless(checkpoint: Checkpoint, tasks: Mapping[str, Task]) -> list[str]:
    """The tasks that a base model, being an encoder, brings no classification head for."""
    if family(checkpoint) != "encoder":
        return []
    return [name for name, task in tasks.items() if not _brings(checkpoint, task)]


def unscorable(
    checkpoint: Checkpoint,
    tasks: Mapping[str, Task],
    adapters: Mapping[str, Path],
    asking: Asking = "plain",
    baseline: str = "",
    harness: bool = False,
) -> list[str]:
    """What `adamergex evaluate` is asked for that its base model, being an encoder, cannot do: a line for each.

    Args:
        checkpoint: the base model.
        tasks: by name.
        adapters: name → PEFT folder; any other name is the base model's.
        asking: plain, few-shot or xlt.
        baseline: the name that others are compared with.
        harness: whether tasks of lm-evaluation-harness are to be scored.
    """
    if family(checkpoint) != "encoder":
        return []
    problems = []
    for name, task in tasks.items():
        if not task.choices:
            problems.append(f"task {name}: its answers are written (kind: {task.answer_kind}); an encoder only chooses")
        problems += [f"task {name}: {problem}" for problem in _wordings(task)]
    if asking != "plain":
        problems.append(f"asking {asking}: needs a model that writes; an encoder's head is learned, use plain")
    if harness:
        problems.append("harness: needs a model that writes; leave it out")
    new = [] if problems else headless(checkpoint, tasks)
    if new and baseline not in adapters:
        problems.append(
            f"baseline {baseline}: on {', '.join(new)} the base model {NEW_HEAD}; give an adapter, or another baseline"
        )
    problems += [
        f"adapter {name}={folder}: brings no classification head, as reference adapters do not, and the base model has none "
        f"for {', '.join(new)}; give adapters that were trained on the task"
        for name, folder in adapters.items()
        if new and not _saves_head(folder)
    ]
    return [f"base_model {checkpoint.name} is of the encoder family. {problem}" for problem in problems]


def _brings(checkpoint: Checkpoint, task: Task) -> bool:
    return has_head(checkpoint, list(task.choices or ()), task.outputs)


def _wordings(task: Task) -> list[str]:
    """Every language is read by the same head: what choices name has to be the same in all wordings."""
    return [
        f"wordings.{language}: its choices name other columns than the task's; an encoder's head reads all languages alike"
        for language, wording in task.wordings.items()
        if (wording.shared_columns is None) != (task.shared_columns is None)
        or set(wording.shared_columns or ()) != set(task.shared_columns or ())
    ]


def _saves_head(folder: Path) -> bool:
    """Whether a trained head is saved with an adapter, by its configuration."""
    saved = configuration(folder, str(folder)).get("modules_to_save") or ()
    return not _HEADS.isdisjoint(saved)
