"""The stages behind training: the merged adapter, and answers to every item."""

import json
import math
import os
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

from adamergex.disk import write_jsonl
from adamergex.run_context import Context
from adamergex.stages import Stage
from adamergex.summary import PACKAGES, PREDICTIONS, SCORING, reference_facts, versions


def merged(context: Context, language: str) -> Stage:
    """`merged/LANGUAGE/adamergex`: the three adapters as one."""
    recipe, path = context.recipe, context.run_folder.path
    roles = {
        "task": context.stage(f"adapters/task-{recipe.source}"),
        "reference-target": context.stage(f"adapters/reference-{language}"),
        "reference-source": context.stage(f"adapters/reference-{recipe.source}"),
    }

    def build(folder: Path) -> None:
        from adamergex import merge_folder
        from adamergex.compare import drift
        from adamergex.merge_plan import Input, Inputs, Plan

        final = path / f"merged/{language}/adamergex"
        plan = Plan(
            space=recipe.merge.space,
            scale=recipe.merge.scale,
            rank=recipe.merged_rank,
            language=language,
            # Relative, so that the run folder can be moved, and does not say where it was made.
            inputs=Inputs.model_validate(
                {role: Input(folder=os.path.relpath(context.path(s), final)) for role, s in roles.items()}
            ),
        )
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

    settings = recipe.merge.model_dump() | {
        "rank": recipe.merged_rank,
        "language": language,
        "prompt": recipe.task.prompt,
    }
    return context.add(Stage(f"merged/{language}/adamergex", settings, tuple(roles.values()), build, ("torch",)))


def predictions(context: Context, language: str, method: str, trained: Stage | None) -> Stage:
    """`predictions/LANGUAGE/METHOD`: an adapter's answers, or without one the base model's."""
    evaluate, task = context.recipe.evaluate, context.recipe.task
    data = context.stage(f"data/task-{language}-{evaluate.split}")

    def build(folder: Path) -> None:
        from adamergex import adapter
        from adamergex.encode import fitted
        from adamergex.evaluate import predict

        workbench, processes = context.workbench(task), context.processes
        room = None if task.choices else evaluate.max_new_tokens
        kind, start, longest = workbench.kind, workbench.decoder_start, context.longest(workbench)
        items, shortened = fitted(context.tokenizer, context.items(data), kind, start, longest, room)
        if shortened:
            context.display.warn(f"{shortened:,} of {len(items):,} prompts were too long and lost a part of a column")
        if trained is not None:
            workbench.put(adapter.load(context.path(trained)))
        mine = items[processes.rank :: processes.count]
        with nullcontext() if trained is not None else workbench.without_adapter():
            found = predict(workbench, mine, evaluate.batch_size, evaluate.max_new_tokens, context.display.step)
        parts = processes.gathered(found)
        if processes.is_first:
            # Back into the order of the items, which were dealt out like cards.
            rows = [asdict(parts[i % len(parts)][i // len(parts)]) for i in range(len(items))]
            write_jsonl(folder / PREDICTIONS, rows)
            (folder / SCORING).write_text(json.dumps({"shortened": shortened}) + "\n")

    settings = context.model_settings() | evaluate.model_dump(include={"batch_size", "max_new_tokens"})
    settings["max_length"] = context.recipe.train.max_length
    needs = (data,) if trained is None else (data, trained)
    return context.add(Stage(f"predictions/{language}/{method}", settings, needs, build, PACKAGES, together=True))
