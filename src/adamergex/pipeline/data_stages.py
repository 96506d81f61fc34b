"""The stages that read data: items of a task, and windows of plain text."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from adamergex.data import corpus, sources
from adamergex.data.settings import Source
from adamergex.execution.run_folder import Stage
from adamergex.pipeline.run_report import ITEMS, MANIFEST
from adamergex.pipeline.worker import Context
from adamergex.storage.files import write_jsonl
from adamergex.tasks import loading
from adamergex.tasks.items import read_items
from adamergex.tasks.task import Task
from adamergex.training.objectives import overhead


def items(context: Context, name: str, task: Task, source: Source, language: str) -> Stage:
    """`data/NAME`: the items of a task's split in one language."""
    settings = item_settings(task, language) | {
        "source": context.processes.first_does(lambda: loading.fingerprint(source, context.folder, language))
    }
    scored = task is context.recipe.task

    def build(folder: Path) -> None:
        found = read_items(task, source, context.folder, language, scored)
        write_jsonl(folder / ITEMS, [asdict(item) for item in found])

    return context.add(Stage(f"data/{name}", settings, (), build))


def item_settings(task: Task, language: str) -> dict[str, Any]:
    """What of a task determines its items in a language, beside their rows; for fingerprints."""
    wording = task.wording(language)
    template = wording.model_dump(include={"prompt", "separator", "choices"})
    # Items of before have nothing of what choices name that an encoder could read.
    template |= {} if wording.shared_columns == [] else {"text_pair": True}
    return template | task.model_dump(include={"answer", "learned", "kind"})


def windows(context: Context, language: str) -> Stage:
    """`data/corpus-LANGUAGE`: windows of tokens of plain text, some of them held out."""
    recipe, reference = context.recipe, context.recipe.reference
    source = recipe.reference_source(language)
    cleaning = reference.model_dump(include={"text", "heldout", "duplicates", "boilerplate", "other_languages"})
    settings = cleaning | {
        "budget": reference.budget.model_dump(),
        "window": reference.window,
        "source": context.processes.first_does(lambda: sources.fingerprint(source, context.folder, language)),
        "tokenizer": context.checkpoint.fingerprint,
        "seed": recipe.seed,
    }

    def build(folder: Path) -> None:
        request = corpus.Request(
            language=language,
            tokens=reference.budget.tokens,
            characters=reference.budget.characters,
            window=reference.window - overhead(context.family, context.tokenizer),
            heldout=reference.heldout,
            seed=recipe.seed,
            duplicates=reference.duplicates == "drop",
            boilerplate=reference.boilerplate == "drop",
            other_languages=reference.other_languages,
        )
        found = context.while_wanted(sources.texts(source, context.folder, language, reference.text))
        facts = corpus.build(
            found, context.tokenizer, folder, request, name=f"corpus of {language}", on_progress=context.display.step
        )
        about = {
            "language": language,
            "source": source.model_dump(exclude_none=True),
            "licence": sources.licence(source),
        }
        (folder / MANIFEST).write_text(json.dumps(about | facts, indent=2, ensure_ascii=False) + "\n", "utf-8")

    return context.add(Stage(f"data/corpus-{language}", settings, (), build, corpus.PACKAGES, ahead=True))
