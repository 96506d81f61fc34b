"""Adapters × tasks × languages → predictions, rows and a report, without a recipe: what `adamergex evaluate` does."""

import importlib.util
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adamergex.errors import ModelError, RecipeError
from adamergex.execution.run_folder import MARK, RunFolder, Stage
from adamergex.inference.engines.backend import Backend, Engine
from adamergex.inference.journal import Journal
from adamergex.inference.settings import Evaluate
from adamergex.pipeline.data_stages import item_settings
from adamergex.pipeline.result_stages import SCORERS, scoring_settings
from adamergex.pipeline.run_report import (
    HARNESS,
    ITEMS,
    PACKAGES,
    PAGE,
    PREDICTIONS,
    SCORING,
    differing,
    scored,
    versions,
)
from adamergex.progress import Display, Silent
from adamergex.recipes import encoders
from adamergex.reporting import report
from adamergex.reporting.report import Report
from adamergex.scoring.results import TESTS, Row
from adamergex.scoring.systems import Asking
from adamergex.selection.scale_curve import tried
from adamergex.storage.files import jsonl, read_jsonl, sha256, write_jsonl
from adamergex.tasks import loading
from adamergex.tasks.items import Item, from_row, read_items
from adamergex.tasks.task import Task

if TYPE_CHECKING:
    from adamergex.inference.answering import Manner
    from adamergex.inference.predict import Prediction

BASE = "base"


@dataclass(frozen=True)
class Comparison:
    """What is compared, on what.

    Attributes:
        base_model: a Hugging Face id, a local folder, or the packaged model.
        dtype: of its weights.
        adapters: name → PEFT folder. The base model itself is always measured, too.
        start: the adapter that the others are compared with, or `base`.
        tasks: name → task.
        languages: that items are asked in.
        evaluate: split, batches, lengths.
        asking: how prompts are put.
        seed: of the draw of few-shot examples.
        harness: tasks for lm-evaluation-harness.
        harness_folder: where their files lie, if they are your own.
        backend: what computes: the resident model, or vLLM.
        vllm: further arguments of vLLM's engine.
        trust_remote_code: whether Python code that comes with the base model may run.
    """

    base_model: str
    adapters: Mapping[str, Path]
    start: str
    tasks: Mapping[str, Task]
    languages: Sequence[str]
    evaluate: Evaluate
    dtype: str = "float32"
    asking: Asking = "plain"
    seed: int = 0
    harness: Sequence[str] = ()
    harness_folder: Path | None = None
    backend: Engine = "transformers"
    vllm: Mapping[str, Any] = field(default_factory=dict)
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        """Raises RecipeError where a name would be a file's outside of the results, or is the base model's."""
        problems = [
            f"adapter {name}={folder}: {name!r} is no name for an adapter; use letters, digits, -, _ and ., not {BASE}, "
            "which is the base model's: --adapter NAME=DIR"
            for name, folder in self.adapters.items()
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or name == BASE
        ]
        if problems:
            raise RecipeError(problems)


def run(wanted: Comparison, output: Path, display: Display | None = None, folder: Path = Path()) -> list[Row]:
    """Do whatever of a comparison is not done yet, and write scores.jsonl, report.md and report.html.

    Args:
        wanted: what is compared, on what.
        output: the folder for results.
        display: where progress is shown; nowhere by default.
        folder: what relative paths of tasks are relative to.

    Raises:
        AdaMergeXError: something that the user can mend; finished predictions stay done.
    """
    run_folder = RunFolder(output)
    with run_folder.held():
        return _Run(wanted, run_folder, display or Silent(), folder).run()


class _Run:
    """One comparison at work: the stages of its items and predictions, and resident models."""

    def __init__(self, wanted: Comparison, run_folder: RunFolder, display: Display, folder: Path):
        self.wanted, self.run_folder, self.display, self.folder = wanted, run_folder, display, folder
        display.stage(f"base model {wanted.base_model}")
        self.backend = Backend(
            wanted.base_model, wanted.dtype, wanted.adapters, wanted.backend, wanted.vllm, wanted.trust_remote_code
        )
        display.end()
        checkpoint = self.backend.checkpoint
        if problems := encoders.unscorable(
            checkpoint, wanted.tasks, wanted.adapters, wanted.asking, wanted.start, bool(wanted.harness)
        ):
            raise RecipeError(problems)
        self._without_base = encoders.headless(checkpoint, wanted.tasks)
        self._asked: dict[tuple[str, str], tuple[list[Item], int]] = {}
        # Stages of predictions by task, language and name; what was answered for some that are not written yet.
        self._scored: dict[tuple[str, str], dict[str, Stage]] = {}
        self._answered: dict[str, list[Prediction]] = {}

    def run(self) -> list[Row]:
        wanted = self.wanted
        pairs = [(task, language) for task in wanted.tasks for language in wanted.languages]
        data = {pair: self._data(*pair) for pair in pairs}
        stages = [*data.values()]
        for name in (BASE, *wanted.adapters):
            stages += [self._predictions(*pair, name, data[pair]) for pair in pairs if name in self._names(pair[0])]
        if wanted.harness:
            if importlib.util.find_spec("lm_eval") is None:
                raise ModelError("lm-evaluation-harness is not installed; run: pip install 'adamergex[harness]'")
            stages += [self._harness(name) for name in (BASE, *wanted.adapters)]
        for number, stage in enumerate(stages, 1):
            shown = f"[{number}/{len(stages)}] {stage.name}"
            if self.run_folder.has(stage):
                self.display.skip(shown)
                continue
            self.display.stage(shown)
            self.run_folder.make(stage)
            self.display.end()
        return self._report(pairs, stages)

    def _names(self, task: str) -> list[str]:
        """What is measured on a task."""
        return [name for name in (BASE, *self.wanted.adapters) if name != BASE or task not in self._without_base]

    def _data(self, name: str, language: str) -> Stage:
        task, split = self.wanted.tasks[name], self.wanted.evaluate.split
        source = task.test if split == "test" else task.dev
        assert source is not None  # The command has looked.
        settings = item_settings(task, language) | {"source": loading.fingerprint(source, self.folder, language)}

        def build(folder: Path) -> None:
            found = read_items(task, source, self.folder, language)
            write_jsonl(folder / ITEMS, [asdict(item) for item in found])

        return Stage(f"data/{name}-{language}-{split}", settings, (), build)

    def _predictions(self, task_name: str, language: str, name: str, data: Stage) -> Stage:
        from adamergex.inference.answering import Manner

        wanted = self.wanted
        task = wanted.tasks[task_name]
        manner = Manner(task, wanted.evaluate, language, wanted.asking, wanted.seed)

        def build(folder: Path) -> None:
            items, shortened = self._put(manner, task_name, data)
            found = self._answers(manner, items, stage, self._scored[task_name, language])
            write_jsonl(folder / PREDICTIONS, [asdict(prediction) for prediction in found])
            (folder / SCORING).write_text(json.dumps({"shortened": shortened}) + "\n")

        settings = self.backend.facts(name) | scoring_settings(
            task, wanted.evaluate, language, wanted.asking, wanted.seed
        )
        if virtual_tokens := self.backend.virtual_tokens:
            settings["virtual_tokens"] = virtual_tokens
        stage = Stage(f"predictions/{task_name}/{language}/{name}", settings, (data,), build, (*PACKAGES, *SCORERS))
        self._scored.setdefault((task_name, language), {})[name] = stage
        return stage

    def _put(self, manner: "Manner", task: str, data: Stage) -> tuple[list[Item], int]:
        """Items as they are put to the model, and how many of them had to be shortened; made once for all adapters."""
        from adamergex.inference.answering import asked

        key = (task, manner.language)
        if key not in self._asked:
            items = [from_row(row) for row in read_jsonl(self.run_folder.of(data) / ITEMS)]
            solved = self._solved(manner.task, manner.language) if manner.asking == "few-shot" else []
            reader = self.backend.reader(manner.task.outputs)
            self._asked[key] = asked(reader, manner, items, solved, self.backend.context(manner.task.outputs))
        items, shortened = self._asked[key]
        if shortened:
            self.display.warn(f"{shortened:,} of {len(items):,} prompts were too long and lost a part of a column")
        return items, shortened

    def _answers(
        self, manner: "Manner", items: list[Item], stage: Stage, stages: Mapping[str, Stage]
    ) -> "list[Prediction]":
        """What is answered for a stage; where adapters answer at once, for all on the same items that are not done."""
        if stage.name not in self._answered:
            missing = {
                name: other
                for name, other in stages.items()
                if other is stage or (self.backend.at_once and not self.run_folder.has(other))
            }
            journals = {name: self._journal(other) for name, other in missing.items()}
            found = self.backend.answers(manner, items, journals, self.display.step)
            self._answered |= {missing[name].name: predictions for name, predictions in found.items()}
        return self._answered.pop(stage.name)

    def _journal(self, stage: Stage) -> Callable[[str], Journal]:
        unfinished = self.run_folder.checkpoint(stage)
        return lambda name: Journal(unfinished.with_name(f"{unfinished.name}-{name}"))

    def _solved(self, task: Task, language: str) -> list[Item]:
        """Solved examples: the task's own in the language, or those it is learned from, which are English."""
        source = task.examples or task.train
        return read_items(task, source, self.folder, language if task.examples else "en", scored=False)

    def _harness(self, name: str) -> Stage:
        wanted = self.wanted

        def build(folder: Path) -> None:
            from adamergex.inference.engines import harness

            workbench = self.backend.workbench(0)
            with self.backend.holding(name, workbench):
                rows = harness.measure(
                    workbench, wanted.harness, wanted.harness_folder, batch_size=wanted.evaluate.batch_size
                )
            write_jsonl(folder / HARNESS, rows)

        given = wanted.harness_folder
        files = sorted(path for path in given.rglob("*") if path.is_file()) if given else []
        settings = self.backend.facts(name) | {"tasks": list(wanted.harness), "files": [sha256(path) for path in files]}
        return Stage(f"harness/{name}", settings, (), build, (*PACKAGES, "lm-eval"))

    def _report(self, pairs: Sequence[tuple[str, str]], stages: Sequence[Stage]) -> list[Row]:
        wanted, path = self.wanted, self.run_folder.path
        rows, examples = [], []
        for task in wanted.tasks:
            names = self._names(task)
            of_task = {language: f"{task} {language}" for name, language in pairs if name == task}
            if len(wanted.tasks) == 1:
                of_task = {language: language for language in of_task}
            predictions = {
                place: {
                    name: read_jsonl(path / f"predictions/{task}/{language}/{name}" / PREDICTIONS) for name in names
                }
                for language, place in of_task.items()
            }
            labels = {place: {name: "base model" if name == BASE else name for name in names} for place in predictions}
            items = {
                place: read_jsonl(path / f"data/{task}-{language}-{wanted.evaluate.split}" / ITEMS)
                for language, place in of_task.items()
            }
            of_all = scored(predictions, labels, wanted.start, items, {BASE: "base"})
            rows += [
                replace(row, language=f"{task} {row.language}") if row.average and len(wanted.tasks) > 1 else row
                for row in of_all
            ]
            for place, of in items.items():
                prompts = {item["id"]: item["prompt"] for item in of}
                examples += differing(place, labels[place], prompts, predictions[place], wanted.start)
        harness = [
            row | {"task": f"{row['task']} · {name}"}
            for name in ((BASE, *wanted.adapters) if wanted.harness else ())
            for row in read_jsonl(path / "harness" / name / HARNESS)
        ]
        scales = tried(wanted.adapters)
        found = Report(
            title=path.resolve().name,
            source=None,
            start=wanted.start,
            rows=rows,
            examples=examples,
            facts=self._facts(),
            scales={
                place: sorted((scales[row.method], row.score) for row in of if row.method in scales)
                for place, of in groupby(rows, key=lambda row: row.language)
                if scales
            },
            harness=harness,
            versions=versions(),
            hashes={s.name: json.loads((path / s.name / MARK).read_bytes())["fingerprint"] for s in stages},
        )
        from adamergex.reporting import html

        self.run_folder.write("scores.jsonl", jsonl(map(asdict, rows)).encode())
        self.run_folder.write("report.md", report.markdown(found, None).encode())
        self.run_folder.write(PAGE, html.page(found).encode())
        return rows

    def _facts(self) -> list[str]:
        """How the numbers came to be."""
        wanted = self.wanted
        return [
            f"base model: {self.backend.checkpoint.described}",
            *(f"{task}: the base model {encoders.NEW_HEAD}" for task in self._without_base),
            f"scored on the {wanted.evaluate.split} split, prompts {wanted.asking}"
            + (f" with {wanted.evaluate.shots} examples" if wanted.asking == "few-shot" else "")
            + f"; {TESTS}",
            *(f"{name}: {folder}" for name, folder in wanted.adapters.items()),
            *(f"prompt of {name}: {task.prompt!r}" for name, task in wanted.tasks.items()),
        ]
