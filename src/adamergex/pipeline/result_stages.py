"""The stages behind training: merged adapters, and every method's answers to every item."""

import json
import math
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adamergex.execution.run_folder import Stage
from adamergex.inference.journal import Journal
from adamergex.inference.settings import Evaluate
from adamergex.inference.systems import METHODS
from adamergex.pipeline.run_report import PACKAGES, PREDICTIONS, SCORING, reference_facts, versions
from adamergex.pipeline.worker import Context
from adamergex.recipes.recipe import method_settings
from adamergex.scoring.systems import Asking
from adamergex.storage.files import sha256, write_jsonl
from adamergex.tasks.task import Task

if TYPE_CHECKING:
    from adamergex.tasks.items import Item

# What scores depend on beside the model.
SCORERS = ("babel", "regex", "rouge-score", "sacrebleu")


def merged(context: Context, language: str, method: str) -> Stage:
    """`merged/LANGUAGE/METHOD`: the adapters of a run as one."""
    recipe, path = context.recipe, context.run_folder.path
    roles = {
        "task": context.stage(f"adapters/task-{recipe.source}"),
        "reference-target": context.stage(f"adapters/reference-{language}"),
        "reference-source": context.stage(f"adapters/reference-{recipe.source}"),
    }
    settings = method_settings(recipe, method)
    if not settings.needs_source:
        # As they are published: the task's adapter and the language's, and nothing is subtracted.
        del roles["reference-source"]

    def build(output: Path) -> None:
        from adamergex.adapters.adapter import WEIGHTS
        from adamergex.adapters.similarity import drift
        from adamergex.merging import folder
        from adamergex.merging.plan import Input, Inputs, Plan

        folders = {role: context.path(stage) for role, stage in roles.items()}
        # By what they are, not where, so that the folder can be moved, and does not say where it was made.
        named = {role: Input(sha256=sha256(place / WEIGHTS)) for role, place in folders.items()}
        plan = Plan(settings=settings, language=language, inputs=Inputs.model_validate(named))
        inputs = folder.open_inputs(plan, folders)
        result = folder.merged(plan, inputs)
        about = {
            "weights": context.checkpoint.fingerprint,
            "trust_remote_code": recipe.trust_remote_code,
            "source": recipe.source,
            "target": language,
            "task": recipe.task.prompt,
            "corpora": {code: reference_facts(recipe, path, code) for code in (recipe.source, language)},
            "drift": apart if math.isfinite(apart := drift(list(inputs.values()))) else None,
            "versions": versions(),
        }
        folder.write(result, plan, inputs, output, about)

    described = settings.model_dump(mode="json") | {"language": language, "prompt": recipe.task.prompt}
    if recipe.trust_remote_code:
        # The card says so.
        described["trust_remote_code"] = True
    return context.add(Stage(f"merged/{language}/{method}", described, tuple(roles.values()), build, ("torch",)))


def predictions(context: Context, language: str, method: str, trained: Stage | None) -> Stage:
    """`predictions/LANGUAGE/METHOD`: a method's answers; without an adapter those of the base model."""
    evaluate, task, asking = context.recipe.evaluate, context.recipe.task, METHODS[method].asking
    data = context.stage(f"data/task-{language}-{evaluate.split}")
    needs: tuple[Stage, ...] = (data,) if trained is None else (data, trained)
    if asking == "few-shot":
        needs += (_examples(context, language),)

    def build(folder: Path) -> None:
        from adamergex.adapters import adapter

        workbench, processes = context.workbench(task), context.processes
        if trained is not None:
            workbench.put(adapter.load(context.path(trained)))
        with nullcontext() if trained is not None else workbench.without_adapter():
            found, shortened, total = _answers(context, language, method, stage)
        parts = processes.gathered(found)
        if processes.is_first:
            rows = [asdict(prediction) for prediction in processes.joined(parts, total)]
            write_jsonl(folder / PREDICTIONS, rows)
            layout = str(workbench.layout(False)) if task.choices else None
            (folder / SCORING).write_text(json.dumps({"shortened": shortened, "layout": layout}) + "\n")

    settings = context.model_settings() | scoring_settings(task, evaluate, language, asking, context.recipe.seed)
    settings["max_length"] = context.recipe.train.max_length
    name = f"predictions/{language}/{method}"
    stage = Stage(name, settings, needs, build, (*PACKAGES, *SCORERS), together=True)
    return context.add(stage)


def scoring_settings(task: Task, evaluate: Evaluate, language: str, asking: Asking, seed: int) -> dict[str, Any]:
    """What of a task and of how it is scored determines predictions, for fingerprints."""
    settings: dict[str, Any] = {"batch_size": evaluate.batch_size, "kind": task.answer_kind, "asking": asking}
    if task.choices:
        settings["length_normalization"] = evaluate.length_normalization
    else:
        settings |= {"max_new_tokens": evaluate.max_new_tokens, "marker": task.wording(language).marker}
    return settings | ({"shots": evaluate.shots, "seed": seed} if asking == "few-shot" else {})


def _examples(context: Context, language: str) -> Stage:
    """The data stage that few-shot examples are from."""
    given = context.recipe.task.examples is not None
    return context.stage(f"data/task-{language}-examples" if given else f"data/task-{context.recipe.source}-train")


def _answers(context: Context, language: str, method: str, stage: Stage) -> tuple[list[Any], int, int]:
    """This process's predictions, how many prompts were shortened, and how many items there are for all processes."""
    from adamergex.inference.answering import Manner, answers, asked

    recipe, processes, workbench = context.recipe, context.processes, context.workbench(context.recipe.task)
    manner = Manner(recipe.task, recipe.evaluate, language, METHODS[method].asking, recipe.seed)

    def put() -> "tuple[list[Item], int]":
        items = context.items(context.stage(f"data/task-{language}-{recipe.evaluate.split}"))
        solved = context.items(_examples(context, language)) if manner.asking == "few-shot" else []
        return asked(workbench, manner, items, solved, context.longest(workbench))

    items, shortened = context.once(("asked", language, manner.asking), put)
    if shortened:
        context.display.warn(f"{shortened:,} of {len(items):,} prompts were too long and lost a part of a column")
    unfinished = context.run_folder.checkpoint(stage)

    def journal(name: str) -> Journal:
        if not processes.split_the_model:
            return Journal(unfinished.with_name(f"{unfinished.name}-{processes.rank}-of-{processes.count}-{name}"))
        # All answer the same items, and go on from where the first one was.
        firsts = processes.first_does(lambda: Journal(unfinished.with_name(f"{unfinished.name}-{name}")))
        return firsts if processes.is_first else Journal(None, firsts.rows)

    mine = processes.share(items)
    return answers(workbench, manner, mine, context.display.step, journal), shortened, len(items)
