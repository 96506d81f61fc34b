"""The stages behind training: merged adapters, and every method's answers to every item."""

import json
import math
import os
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adamergex.disk import write_jsonl
from adamergex.methods import METHODS, Name
from adamergex.run_context import Context
from adamergex.stages import Stage
from adamergex.summary import PACKAGES, PREDICTIONS, SCORING, reference_facts, versions

if TYPE_CHECKING:
    from adamergex.evaluate import Questions
    from adamergex.items import Item

# What scores depend on beside the model.
_SCORERS = ("babel", "regex", "rouge-score", "sacrebleu")


def merged(context: Context, language: str, method: Name = "adamergex") -> Stage:
    """`merged/LANGUAGE/METHOD`: the adapters of a run as one."""
    recipe, path = context.recipe, context.run_folder.path
    roles = {
        "task": context.stage(f"adapters/task-{recipe.source}"),
        "reference-target": context.stage(f"adapters/reference-{language}"),
        "reference-source": context.stage(f"adapters/reference-{recipe.source}"),
    }
    settings = _merge_settings(context, method)
    if not method.startswith("adamergex"):
        # As they are published: the task's adapter and the language's, and nothing is subtracted.
        del roles["reference-source"]

    def build(folder: Path) -> None:
        from adamergex import merge_folder
        from adamergex.compare import drift
        from adamergex.merge_plan import Input, Inputs, Plan

        final = path / f"merged/{language}/{method}"
        # Relative, so that the run folder can be moved, and does not say where it was made.
        folders = {role: Input(folder=os.path.relpath(context.path(s), final)) for role, s in roles.items()}
        plan = Plan(**settings, language=language, inputs=Inputs.model_validate(folders))
        inputs = merge_folder.open_inputs(plan, final)
        result = merge_folder.merged(plan, inputs)
        about = {
            "weights": context.checkpoint.fingerprint,
            "source": recipe.source,
            "target": language,
            "task": recipe.task.prompt,
            "corpora": {code: reference_facts(recipe, path, code) for code in (recipe.source, language)},
            "drift": apart if math.isfinite(apart := drift(list(inputs.values()))) else None,
            "versions": versions(),
        }
        merge_folder.write(result, plan, inputs, folder, about)

    described = settings | {"language": language, "prompt": recipe.task.prompt}
    return context.add(Stage(f"merged/{language}/{method}", described, tuple(roles.values()), build, ("torch",)))


def _merge_settings(context: Context, method: Name) -> dict[str, Any]:
    """A method's part of a merge plan."""
    recipe = context.recipe
    merge, others = recipe.merge, recipe.evaluate.baselines
    settings: dict[str, Any] = {"scale": merge.scale, "rank": recipe.merged_rank, "space": merge.space}
    if method == "adamergex":
        return settings
    if method == "adamergex-factors":
        return settings | {"rank": "exact", "space": "factors"}
    settings |= {"method": method, "space": "product", "seed": recipe.seed}
    if method in ("ties", "dare-ties"):
        settings["density"] = others.ties_density if method == "ties" else others.dare_density
    if method == "layer-swap":
        settings |= others.model_dump(include={"bottom", "top", "transition"})
    return settings


def predictions(context: Context, language: str, method: Name, trained: Stage | None) -> Stage:
    """`predictions/LANGUAGE/METHOD`: a method's answers; without an adapter those of the base model."""
    evaluate, task, asking = context.recipe.evaluate, context.recipe.task, METHODS[method].asking
    data = context.stage(f"data/task-{language}-{evaluate.split}")
    needs: tuple[Stage, ...] = (data,) if trained is None else (data, trained)
    if asking == "few-shot":
        needs += (_examples(context, language),)

    def build(folder: Path) -> None:
        from adamergex import adapter

        workbench, processes = context.workbench(task), context.processes
        if trained is not None:
            workbench.put(adapter.load(context.path(trained)))
        with nullcontext() if trained is not None else workbench.without_adapter():
            found, shortened, total = _answers(context, language, method, stage)
        parts = processes.gathered(found)
        if processes.is_first:
            # Back into the order of the items, which were dealt out like cards.
            rows = [asdict(parts[i % len(parts)][i // len(parts)]) for i in range(total)]
            write_jsonl(folder / PREDICTIONS, rows)
            (folder / SCORING).write_text(json.dumps({"shortened": shortened}) + "\n")

    settings = context.model_settings() | evaluate.model_dump(include={"batch_size"})
    settings |= {"max_length": context.recipe.train.max_length, "kind": task.answer_kind, "asking": asking}
    if task.choices:
        settings["length_normalization"] = evaluate.length_normalization
    else:
        settings |= {"max_new_tokens": evaluate.max_new_tokens, "marker": task.wording(language).marker}
    if asking == "few-shot":
        settings |= {"shots": evaluate.shots, "seed": context.recipe.seed}
    name = f"predictions/{language}/{method}"
    stage = Stage(name, settings, needs, build, (*PACKAGES, *_SCORERS), together=True)
    return context.add(stage)


def _examples(context: Context, language: str) -> Stage:
    """The data stage that few-shot examples are from."""
    given = context.recipe.task.examples is not None
    return context.stage(f"data/task-{language}-examples" if given else f"data/task-{context.recipe.source}-train")


def _answers(context: Context, language: str, method: Name, stage: Stage) -> tuple[list[Any], int, int]:
    """This process's predictions, how many prompts were shortened, and how many items there are for all processes."""
    from adamergex.asking import XLT_TOKENS, answering
    from adamergex.evaluate import predict
    from adamergex.journal import Journal

    processes, recipe = context.processes, context.recipe
    items, shortened = context.once(
        ("asked", language, METHODS[method].asking), lambda: _asked(context, language, method)
    )
    if shortened:
        context.display.warn(f"{shortened:,} of {len(items):,} prompts were too long and lost a part of a column")
    mine = items[processes.rank :: processes.count]
    workbench = context.workbench(recipe.task)
    unfinished = context.run_folder.checkpoint(stage)

    def answered(questions: "Questions", part: str) -> list[Any]:
        path = unfinished.with_name(f"{unfinished.name}-{part}-{processes.rank}-of-{processes.count}")
        return predict(workbench, questions, context.display.step, Journal(path))

    questions = _questions(context, language, mine)
    if METHODS[method].asking == "xlt":
        thinking = replace(questions, kind="generation", max_new_tokens=XLT_TOKENS)
        thoughts = answered(replace(thinking, items=[replace(item, choices=()) for item in mine]), "thoughts")
        questions = replace(questions, items=answering(mine, [thought.written for thought in thoughts]))
    return answered(questions, "answers"), shortened, len(items)


def _questions(context: Context, language: str, items: "list[Item]") -> "Questions":
    from adamergex.evaluate import NEW_TOKENS, Questions

    evaluate, task = context.recipe.evaluate, context.recipe.task
    return Questions(
        items,
        task.answer_kind,
        language,
        task.wording(language).marker,
        evaluate.batch_size,
        evaluate.max_new_tokens or NEW_TOKENS[task.answer_kind],
        evaluate.length_normalization,
    )


def _asked(context: Context, language: str, method: Name) -> "tuple[list[Item], int]":
    """All items as the method asks them, made to fit, and how many had to be shortened for it."""
    from adamergex.asking import XLT_TOKENS, few_shot, xlt
    from adamergex.encode import fitted
    from adamergex.evaluate import NEW_TOKENS

    recipe, asking = context.recipe, METHODS[method].asking
    kind, evaluate = recipe.task.answer_kind, recipe.evaluate
    items = context.items(context.stage(f"data/task-{language}-{evaluate.split}"))
    room = None if recipe.task.choices else evaluate.max_new_tokens or NEW_TOKENS[kind]
    if asking == "few-shot":
        items = few_shot(items, context.items(_examples(context, language)), evaluate.shots, recipe.seed)
    elif asking == "xlt":
        items = xlt(items, kind, language)
        # The choices are read behind the thoughts.
        room = XLT_TOKENS + (room or max(len(choice) for item in items for choice in item.choices))
    workbench = context.workbench(recipe.task)
    longest = context.longest(workbench)
    return fitted(context.tokenizer, items, workbench.kind, workbench.decoder_start, longest, room)
