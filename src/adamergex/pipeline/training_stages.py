"""The stages that train: the task's adapters and the reference task's, one stage each."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adamergex.execution.run_folder import Stage
from adamergex.pipeline.run_report import LEARNED_NOTHING, LOG, PACKAGES, TRAINING, learned_nothing
from adamergex.pipeline.worker import Context
from adamergex.storage.files import write_jsonl
from adamergex.tasks.items import refuse_overlap, refuse_unequal
from adamergex.tasks.task import Task
from adamergex.training.settings import Schedule

if TYPE_CHECKING:
    from adamergex.adapters.adapter import Adapter
    from adamergex.models.encoded import Examples

# What of the recipe's training changes no result.
_NO_RESULT = {"task", "reference", "checkpoint_seconds", "tensorboard", "gradient_checkpointing"}


@dataclass(frozen=True)
class Data:
    """What one adapter is trained on.

    Attributes:
        examples: those of an epoch.
        heldout: those that the loss is measured on, before and after.
        facts: what the report says about them.
    """

    examples: "Callable[[int], Examples]"
    heldout: "Examples | None"
    facts: dict[str, Any]


def task(context: Context, language: str) -> Stage:
    """`adapters/task-LANGUAGE`: the task, from the language's labels."""
    recipe = context.recipe
    data = context.stage(f"data/task-{language}-train")
    dev = context.stage(f"data/task-{language}-heldout") if recipe.train.early_stopping else None

    def load() -> Data:
        # Data of the hub is here by now, too, and nothing has been learned from it yet.
        for target in recipe.targets if recipe.scored is not None else ():
            scored = context.stage(f"data/task-{target}-{recipe.evaluate.split}")
            refuse_overlap(context.items(data), context.items(scored), target)
        examples, facts = _encoded(context, recipe.task, data)
        heldout = _encoded(context, recipe.task, dev)[0] if dev is not None else None
        return Data(lambda epoch: examples, heldout, facts)

    needs = (data,) if dev is None else (data, dev)
    return _adapter(context, f"adapters/task-{language}", needs, recipe.train.task, recipe.task, {}, load)


def reference(context: Context, language: str) -> Stage:
    """`adapters/reference-LANGUAGE`: the reference task, from plain text or from another task's labels."""
    settings = context.recipe.reference
    if settings.task is not None:
        return _labelled_reference(context, settings.task, language)
    data = context.stage(f"data/corpus-{language}")
    extra = settings.model_dump(include={"objective", "completion", "positions", "noise", "span"})

    def load() -> Data:
        import numpy as np

        from adamergex.data.corpus import HELDOUT, WINDOWS
        from adamergex.training.objectives import Windows

        start = context.workbench(None).decoder_start
        bodies, apart = (np.load(context.path(data) / name, mmap_mode="r") for name in (WINDOWS, HELDOUT))

        def windows(bodies: np.ndarray, seed: int, epoch: int) -> Windows:
            return Windows(bodies, settings, context.family, context.tokenizer, seed, epoch, start)

        seed = context.recipe.seed
        return Data(lambda epoch: windows(bodies, seed, epoch), windows(apart, seed + 1, 0), {"examples": len(bodies)})

    return _adapter(
        context, f"adapters/reference-{language}", (data,), context.recipe.train.reference, None, extra, load
    )


def _labelled_reference(context: Context, task: Task, language: str) -> Stage:
    """A labelled task in place of plain text: the paper's ablation. The same number of items in each language."""
    data = context.stage(f"data/reference-{language}")
    share = context.recipe.reference.heldout

    def load() -> Data:
        counts = {
            code: len(context.items(context.stage(f"data/reference-{code}"))) for code in context.recipe.languages
        }
        refuse_unequal(counts)
        examples, facts = _encoded(context, task, data)
        order = list(range(len(examples)))
        random.Random(context.recipe.seed).shuffle(order)
        # The same rows in every language, should they be translations of each other.
        apart = max(1, round(share * len(examples))) if share and len(examples) > 1 else 0
        heldout, rest = [examples[i] for i in order[:apart]], [examples[i] for i in order[apart:]]
        return Data(lambda epoch: rest, heldout, facts | {"examples": len(rest)})

    schedule = context.recipe.train.reference
    return _adapter(context, f"adapters/reference-{language}", (data,), schedule, task, {"heldout": share}, load)


def _encoded(context: Context, task: Task, data: Stage) -> tuple[list[Any], dict[str, Any]]:
    """A data stage's items as examples, and how many there are and were shortened."""
    from adamergex.models.encode import for_training

    workbench = context.workbench(task)
    longest = context.longest(workbench)
    items = context.items(data)
    examples, shortened = for_training(context.tokenizer, items, workbench.kind, workbench.decoder_start, longest)
    return examples, {"examples": len(examples), "shortened": shortened}


def _adapter(
    context: Context,
    name: str,
    needs: tuple[Stage, ...],
    schedule: Schedule,
    task: Task | None,
    extra: dict[str, Any],
    load: Callable[[], Data],
) -> Stage:
    recipe = context.recipe
    # Plain text is never cut; parts of a batch differ by rounding alone, unless each draws its own dropout.
    more = ({"max_length"} if name.startswith("adapters/reference-") and task is None else set()) | (
        set() if getattr(recipe.adapter, "dropout", 0) else {"micro_batch"}
    )
    training = recipe.train.model_dump(exclude=_NO_RESULT | more) | schedule.model_dump()
    settings = (
        extra
        | context.model_settings()
        | {"train": training | {"learning_rate": recipe.learning_rate}, "seed": recipe.seed}
    )

    def build(folder: Path) -> None:
        from adamergex.training.tensorboard import writer
        from adamergex.training.train import Step, train

        workbench, data = context.workbench(task), load()
        resumed = context.run_folder.checkpoint(stage).exists()
        folder_of_board = context.run_folder.path / "tensorboard" / name
        wanted = recipe.train.tensorboard and context.processes.is_first
        board = writer(folder_of_board, resumed) if wanted else None

        def on_step(step: Step) -> None:
            context.display.step(step.step, step.steps, step.tokens, step.loss)
            if board is not None:
                board(step.step, {"loss": step.loss, "learning_rate": step.learning_rate, "memory": step.memory})

        trained = train(
            workbench,
            data.examples,
            recipe.train,
            schedule,
            recipe.seed,
            learning_rate=recipe.learning_rate,
            heldout=data.heldout,
            on_step=on_step,
            checkpoint=context.run_folder.checkpoint(stage),
            processes=context.processes,
        )
        if not context.processes.is_first:
            return
        if trained.heldout is not None and name.startswith("adapters/reference-") and learned_nothing(trained.heldout):
            context.display.warn(LEARNED_NOTHING)
        adapter = trained.adapter if task is recipe.task else _without_head(trained.adapter)
        adapter.save(folder)
        facts = data.facts | {"heldout": trained.heldout, "best_step": trained.best_step, "layout": str(trained.layout)}
        facts["processes"] = context.processes.count
        (folder / TRAINING).write_text(json.dumps(facts, indent=2) + "\n")
        write_jsonl(folder / LOG, trained.log)

    stage = Stage(name, settings, needs, build, PACKAGES, together=True)
    return context.add(stage)


def _without_head(adapter: "Adapter") -> "Adapter":
    """A reference adapter without its classification head: that is another task's, and no part of the merge."""
    from adamergex.adapters.adapter import Adapter

    names = adapter.config.get("modules_to_save") or ()
    # A prefix wraps the base model once, the other structures twice.
    heads = tuple(f"{above}.{name}." for name in names for above in ("base_model", "base_model.model"))
    tensors = {name: tensor for name, tensor in adapter.tensors.items() if not heads or not name.startswith(heads)}
    return Adapter({**adapter.config, "modules_to_save": None}, tensors)
