"""A recipe as stages: build the data → train the adapters → merge → predict → report.

    data/task-LANG-SPLIT   items of the task               adapters/task-LANG        the task's adapters
    data/corpus-LANG       windows of plain text           adapters/reference-LANG   the reference task's
    merged/LANG/adamergex  the merged adapter              predictions/LANG/METHOD   answers to every item

L targets cost L + 1 reference trainings and one task training. The base model is loaded once, when
the first stage needs it. Heavy libraries are imported by the stages that use them, so that a run
whose stages are all done answers in seconds.
"""

import json
import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adamergex import corpus, report, sources, tasks
from adamergex.checkpoints import Checkpoint, resolve
from adamergex.disk import read_jsonl, write_jsonl
from adamergex.preflight import check, texts
from adamergex.progress import Display, Silent
from adamergex.recipe import Recipe, Source
from adamergex.recipe_file import dump
from adamergex.stages import RunFolder, Stage
from adamergex.summary import (
    ITEMS,
    LOG,
    MANIFEST,
    PACKAGES,
    PREDICTIONS,
    WINDOWS,
    corpus_facts,
    versions,
    write_report,
)

if TYPE_CHECKING:
    from adamergex.model import Example, Workbench

_TOKENIZING = ("transformers", "tokenizers")


def run(
    recipe: Recipe, *, folder: Path = Path(), output: Path | None = None, display: Display | None = None
) -> list[report.Row]:
    """Do whatever of a run is not done yet, and write its report.

    Args:
        recipe: what to do.
        folder: what the recipe's relative paths are relative to.
        output: the run folder; `runs/NAME` by default.
        display: where progress is shown; nowhere by default.

    Returns:
        A row for each method and target language; empty where the recipe names nothing to score.

    Raises:
        AdaMergeXError: something that the user can mend; finished stages stay done.
    """
    check(recipe, folder)
    run_folder = RunFolder(output or Path("runs") / recipe.name)
    with run_folder.held():
        work = Run(recipe, folder, run_folder, display or Silent())
        run_folder.write("recipe.yaml", dump(recipe))
        if not all(map(run_folder.has, work.stages)):
            # A report of other settings must not lie beside this recipe, should the run be cut off.
            run_folder.remove("report.md", "scores.jsonl")
        for number, stage in enumerate(work.stages, 1):
            work.do(stage, number)
        return write_report(recipe, f"{work.checkpoint.name}, weights {work.checkpoint.fingerprint}", run_folder)


class Run:
    """The stages of one run, and what they share: one tokenizer and one base model.

    Args:
        recipe: what to do.
        folder: what the recipe's relative paths are relative to.
        run_folder: where results go.
        display: where progress is shown.
    """

    def __init__(self, recipe: Recipe, folder: Path, run_folder: RunFolder, display: Display):
        self.recipe, self.folder, self.run_folder, self.display = recipe, folder, run_folder, display
        display.stage(f"base model {recipe.base_model}")
        self.checkpoint: Checkpoint = resolve(recipe.base_model)
        display.end()
        self.stages: list[Stage] = []
        self._by_name: dict[str, Stage] = {}
        self._plan()

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer."""
        from adamergex.model import load_tokenizer

        return load_tokenizer(self.checkpoint)

    @cached_property
    def workbench(self) -> "Workbench":
        """The one resident base model."""
        from adamergex.model import Workbench, keep_freed_memory

        keep_freed_memory()
        return Workbench(self.checkpoint, self.recipe.dtype, self.recipe.adapter, self.tokenizer)

    def do(self, stage: Stage, number: int) -> None:
        """Make a stage unless it is done."""
        name = f"[{number}/{len(self.stages)}] {stage.name}"
        if self.run_folder.has(stage):
            self.display.skip(name)
            return
        self.display.stage(name)
        self.run_folder.make(stage)
        self.display.end()

    # What the stages are

    def _plan(self) -> None:
        """All data first: what is hashed now is read within the next seconds, not after an hour of training."""
        recipe, scored = self.recipe, self.recipe.scored
        ceilings = recipe.targets if recipe.evaluate.ceiling else []
        for language in (recipe.source, *ceilings):
            self._items("train", recipe.task.train, language)
        if scored is not None:
            for language in recipe.targets:
                self._items(recipe.evaluate.split, scored, language)
        for language in recipe.languages:
            self._corpus(language)
        task = self._task_adapter(recipe.source)
        for language in recipe.languages:
            self._reference_adapter(language)
        for language in recipe.targets:
            merged = self._merged(language)
            if scored is None:
                continue
            self._predictions(language, "base", None)
            self._predictions(language, "source-adapter", task)
            self._predictions(language, "adamergex", merged)
            if recipe.evaluate.ceiling:
                self._predictions(language, "ceiling", self._task_adapter(language))

    def _add(self, stage: Stage) -> Stage:
        self.stages.append(stage)
        self._by_name[stage.name] = stage
        return stage

    def _items(self, split: str, source: Source, language: str) -> Stage:
        task = self.recipe.task
        filled = source.in_language(language)
        template = task.model_dump(include={"prompt", "answer", "separator", "choices"})
        settings = template | {"source": sources.fingerprint(filled, self.folder, language)}

        def build(folder: Path) -> None:
            write_jsonl(folder / ITEMS, [asdict(item) for item in tasks.items(task, source, self.folder, language)])

        return self._add(Stage(f"data/task-{language}-{split}", settings, (), build))

    def _corpus(self, language: str) -> Stage:
        reference, seed = self.recipe.reference, self.recipe.seed
        source = self.recipe.corpus(language)
        settings = reference.model_dump(include={"text", "tokens", "window"}) | {
            "source": sources.fingerprint(source, self.folder, language),
            "tokenizer": self.checkpoint.fingerprint,
            "seed": seed,
        }

        def build(folder: Path) -> None:
            built = corpus.build(
                texts(self.recipe, source, self.folder, language),
                self.tokenizer,
                tokens=reference.tokens,
                window=reference.window,
                seed=seed,
                name=f"corpus of {language}",
            )
            (folder / WINDOWS).write_text(json.dumps(built.windows))
            facts = {
                "language": language,
                "source": source.model_dump(exclude_none=True),
                "windows": len(built.windows),
            }
            facts |= {"tokens": built.tokens, "documents": built.documents, "characters": built.characters}
            (folder / MANIFEST).write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", "utf-8")

        return self._add(Stage(f"data/corpus-{language}", settings, (), build, _TOKENIZING))

    def _task_adapter(self, language: str) -> Stage:
        data = self._by_name[f"data/task-{language}-train"]

        def examples() -> "Callable[[int], Sequence[Example]]":
            from adamergex.encode import for_training

            encoded = for_training(self.tokenizer, self._read_items(data))
            return lambda epoch: encoded

        return self._adapter(f"adapters/task-{language}", data, "task", {}, examples)

    def _reference_adapter(self, language: str) -> Stage:
        data = self._by_name[f"data/corpus-{language}"]
        positions, seed = self.recipe.reference.positions, self.recipe.seed

        def examples() -> "Callable[[int], Sequence[Example]]":
            from adamergex.encode import windows_for_training

            windows = json.loads((self.run_folder.of(data) / WINDOWS).read_bytes())
            return lambda epoch: windows_for_training(windows, positions, seed, epoch)

        return self._adapter(f"adapters/reference-{language}", data, "reference", {"positions": positions}, examples)

    def _adapter(self, name: str, data: Stage, kind: str, extra: dict[str, Any], examples: Callable[[], Any]) -> Stage:
        recipe = self.recipe
        schedule = recipe.train.task if kind == "task" else recipe.train.reference
        settings = (
            extra
            | self._model_settings()
            | {
                "train": recipe.train.model_dump(exclude={"task", "reference"}) | schedule.model_dump(),
                "seed": recipe.seed,
            }
        )

        def build(folder: Path) -> None:
            from adamergex.train import Step, train

            log = []

            def on_step(step: Step) -> None:
                log.append({"step": step.step, "loss": step.loss, "learning_rate": step.learning_rate})
                self.display.step(step.step, step.steps, step.tokens, step.loss)

            trained = train(self.workbench, examples(), recipe.train, schedule, recipe.seed, on_step)
            trained.save(folder)
            write_jsonl(folder / LOG, log)

        return self._add(Stage(name, settings, (data,), build, PACKAGES))

    def _model_settings(self) -> dict[str, Any]:
        """What the model is, for fingerprints."""
        return {
            "base_model": [self.checkpoint.name, self.checkpoint.fingerprint],
            "dtype": self.recipe.dtype,
            "adapter": self.recipe.adapter.model_dump(),
        }

    def _merged(self, language: str) -> Stage:
        roles = {
            "task": self._by_name[f"adapters/task-{self.recipe.source}"],
            "reference-target": self._by_name[f"adapters/reference-{language}"],
            "reference-source": self._by_name[f"adapters/reference-{self.recipe.source}"],
        }

        def build(folder: Path) -> None:
            from adamergex import merge_folder
            from adamergex.compare import drift
            from adamergex.merge_plan import Input, Inputs, Plan

            settings, final = self.recipe.merge, self.run_folder.path / f"merged/{language}/adamergex"
            plan = Plan(
                space=settings.space,
                scale=settings.scale,
                rank="exact" if settings.space == "factors" else settings.rank or self.recipe.adapter.r,
                language=language,
                # Relative, so that the run folder can be moved, and does not say where it was made.
                inputs=Inputs.model_validate(
                    {role: Input(folder=os.path.relpath(self.run_folder.of(s), final)) for role, s in roles.items()}
                ),
            )
            inputs = merge_folder.open_inputs(plan, final)
            result = merge_folder.merged(plan, inputs)
            about = {
                "weights": self.checkpoint.fingerprint,
                "source": self.recipe.source,
                "target": language,
                "task": self.recipe.task.prompt,
                "corpora": {code: corpus_facts(self.run_folder.path, code) for code in (self.recipe.source, language)},
                "drift": drift(list(inputs.values())),
                "versions": versions(),
            }
            merge_folder.write(result, plan, inputs, folder, about)

        settings = self.recipe.merge.model_dump() | {"language": language, "prompt": self.recipe.task.prompt}
        return self._add(Stage(f"merged/{language}/adamergex", settings, tuple(roles.values()), build, ("torch",)))

    def _predictions(self, language: str, method: str, trained: Stage | None) -> Stage:
        evaluate = self.recipe.evaluate
        data = self._by_name[f"data/task-{language}-{evaluate.split}"]

        def build(folder: Path) -> None:
            from adamergex import adapter
            from adamergex.evaluate import predict

            if trained is not None:
                self.workbench.put(adapter.load(self.run_folder.of(trained)))
            with nullcontext() if trained is not None else self.workbench.without_adapter():
                items = self._read_items(data)
                found = predict(self.workbench, items, evaluate.batch_size, evaluate.max_new_tokens, self.display.step)
            write_jsonl(folder / PREDICTIONS, [asdict(prediction) for prediction in found])

        settings = self._model_settings() | evaluate.model_dump(include={"batch_size", "max_new_tokens"})
        needs = (data,) if trained is None else (data, trained)
        return self._add(Stage(f"predictions/{language}/{method}", settings, needs, build, PACKAGES))

    def _read_items(self, stage: Stage) -> list[tasks.Item]:
        rows = read_jsonl(self.run_folder.of(stage) / ITEMS)
        return [tasks.Item(**(row | {"choices": tuple(row["choices"])})) for row in rows]
