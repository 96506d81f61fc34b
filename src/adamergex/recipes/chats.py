"""Whether a base model can be asked as an assistant: its family, and its chat template."""

from collections.abc import Iterable, Mapping

from adamergex.models import chat
from adamergex.models.families import family, load_tokenizer
from adamergex.recipes.recipe import Recipe
from adamergex.scoring.systems import Asking
from adamergex.storage.checkpoints import PACKAGED, Checkpoint, model_at_hand
from adamergex.storage.files import expanded
from adamergex.tasks.conversations import Role
from adamergex.tasks.items import Item
from adamergex.tasks.task import Task

HINT = (
    "the base model has a chat template; if it is instruction-tuned, ask through it with task.chat: true (docs/chat.md)"
)


def of_recipe(recipe: Recipe, checkpoint: Checkpoint, items: Iterable[Item] = ()) -> list[str]:
    """What a recipe asks for that its base model cannot do in chat: a line for each.

    Args:
        recipe: of the run.
        checkpoint: its base model, or those of its files that are at hand.
        items: that will be asked, as far as they are known.
    """
    return problems(checkpoint, _tasks(recipe), "few-shot" if "few-shot" in recipe.evaluate.methods else "plain", items)


def files(recipe: Recipe) -> tuple[str, ...]:
    """The small files of a base model that a recipe is checked with: none where nothing is asked in chat."""
    return chat.FILES if any(task.chat for task in _tasks(recipe).values()) else ()


def _tasks(recipe: Recipe) -> dict[str, Task]:
    labelled = recipe.reference.task
    return {"task": recipe.task} | ({} if labelled is None else {"reference.task": labelled})


def problems(
    checkpoint: Checkpoint, tasks: Mapping[str, Task], asking: Asking = "plain", items: Iterable[Item] = ()
) -> list[str]:
    """What tasks ask for that a base model cannot do in chat: a line for each.

    Args:
        checkpoint: the base model, or those of its files that are at hand.
        tasks: by name.
        asking: plain, few-shot or xlt.
        items: that will be asked, as far as they are known.

    Raises:
        ModelError: its configuration, its tokenizer or its template cannot be read.
    """
    tasks = {name: task for name, task in tasks.items() if task.chat}
    if not tasks or not _is_known(checkpoint):
        return []
    if (found := family(checkpoint)) != "causal":
        names = ", ".join(tasks)
        return [f"base_model {checkpoint.name} is of the {found} family. {names}: chat is for causal models; remove it"]
    if chat.template_of(checkpoint.folder) is None:
        return [f"base_model {checkpoint.name}: {chat.NO_TEMPLATE}"]
    if not (_is_whole(checkpoint) or (checkpoint.folder / "tokenizer.json").is_file()):
        return []
    shapes = {shape: None for task in tasks.values() for shape in _shapes(task, asking)}
    shapes |= {(*(role for role, _ in item.turns), "user"): None for item in items if item.chat}
    return [f"base_model {checkpoint.name}: {line}" for line in chat.problems(load_tokenizer(checkpoint), shapes)]


def may_chat(base_model: str, trust_remote_code: bool = False) -> bool:
    """Whether a base model, as far as its small files are at hand, is causal and has a chat template."""
    checkpoint = model_at_hand(base_model, trust_remote_code, also=chat.FILES)
    if checkpoint is None or not _is_known(checkpoint) or family(checkpoint) != "causal":
        return False
    return chat.template_of(checkpoint.folder) is not None


def _shapes(task: Task, asking: Asking) -> list[tuple[Role, ...]]:
    """The roles of the conversations that a task's prompts are; those of whole conversations are in their rows."""
    systems = {bool(task.system)} | {bool(wording.system or task.system) for wording in task.wordings.values()}
    shown: tuple[Role, ...] = ("user", "assistant") if asking == "few-shot" else ()
    return [(*(("system",) if system else ()), *shown, "user") for system in sorted(systems)]


def _is_whole(checkpoint: Checkpoint) -> bool:
    """Whether all files of a checkpoint are here that it has: of a model on the hub that is at hand, a few small ones are."""
    is_local = checkpoint.name == PACKAGED or expanded(checkpoint.name).is_dir()
    return bool(checkpoint.fingerprint) or is_local


def _is_known(checkpoint: Checkpoint) -> bool:
    """Whether it can be told if there is a template."""
    return _is_whole(checkpoint) or (checkpoint.folder / "tokenizer_config.json").is_file()
