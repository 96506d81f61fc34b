"""A recipe as stages; pure: the recipe and what was resolved are all it looks at.

    data/task-LANG-SPLIT   items of the task               adapters/task-LANG        the task's adapters
    data/corpus-LANG       windows of plain text           adapters/reference-LANG   the reference task's
    merged/LANG/METHOD     merged adapters                 predictions/LANG/SYSTEM   answers to every item
    checks/…               looks at items before anything is learned from them

L targets cost L + 1 reference trainings and one task training.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from adamergex.data.settings import Source
from adamergex.execution.stage import Params, Stage
from adamergex.inference.systems import SYSTEMS
from adamergex.models.adapter_settings import virtual_tokens
from adamergex.pipeline.planned import Cell, Planned
from adamergex.pipeline.resolve import Contents, Wanted
from adamergex.pipeline.stages.base_model import BaseModel
from adamergex.pipeline.stages.checks import EqualCountsParams, OverlapParams
from adamergex.pipeline.stages.corpus import CorpusParams
from adamergex.pipeline.stages.items import ItemsParams
from adamergex.pipeline.stages.merge import MergeParams
from adamergex.pipeline.stages.predict import PredictParams
from adamergex.pipeline.stages.train import TrainParams
from adamergex.recipes.recipe import Recipe, method_settings
from adamergex.scoring.results import Role
from adamergex.scoring.systems import START
from adamergex.tasks.task import Task
from adamergex.training.settings import Schedule, Train

# Settings of a training that only say how it is computed; a worker has them as options.
COMPUTED = ("checkpoint_seconds", "tensorboard", "gradient_checkpointing", "micro_batch")


def sources(recipe: Recipe, folder: Path) -> Iterator[Wanted]:
    """Every source that the plan of a recipe reads.

    Args:
        recipe: what to do.
        folder: what its relative paths are relative to.
    """
    task, scored = recipe.task, recipe.scored
    trained = [recipe.source, *(recipe.targets if recipe.ceiling else [])]
    for language in trained:
        yield Wanted(task.train, language, True, folder)
        if recipe.train.early_stopping and task.dev:
            yield Wanted(task.dev, language, True, folder)
    for language in recipe.targets if scored is not None else ():
        assert scored is not None
        yield Wanted(scored, language, True, folder)
        if task.examples is not None and "few-shot" in recipe.evaluate.methods:
            yield Wanted(task.examples, language, True, folder)
    for language in recipe.languages:
        reference = recipe.reference.task
        source = reference.train if reference is not None else recipe.reference_source(language)
        yield Wanted(source, language, reference is not None, folder)


def plan(recipe: Recipe, model: BaseModel, contents: Contents, folder: Path, processes: int = 1) -> Planned:
    """The stages of a recipe.

    Args:
        recipe: what to do.
        model: its base model.
        contents: of all its `sources`.
        folder: what its relative paths are relative to.
        processes: that train together.
    """
    return _Planner(recipe, model, contents, folder, processes).plan()


class _Planner:
    """The stages of a recipe, as they are added."""

    def __init__(self, recipe: Recipe, model: BaseModel, contents: Contents, folder: Path, processes: int):
        self.recipe, self.model, self.contents, self.folder = recipe, model, contents, folder
        self.processes = processes
        self.stages: dict[str, Stage] = {}

    def plan(self) -> Planned:
        """Items first, then what looks at them; corpora right before the adapter that is trained on them."""
        recipe = self.recipe
        scored = {language: self._scored(language) for language in recipe.targets if recipe.scored is not None}
        languages = [recipe.source, *(recipe.targets if recipe.ceiling else [])]
        learned = {language: self._learned(language) for language in languages}
        examples = {language: self._examples(language) for language in scored if "few-shot" in recipe.evaluate.methods}
        labelled = self._labelled_references()
        checks = self._checks(scored, learned, examples, labelled)
        adapters = {f"task-{recipe.source}": self._task(recipe.source, learned, checks)}
        references = self._references(adapters, labelled, checks)
        merged, cells = {}, list[Cell]()
        for language in recipe.targets:
            by_method: dict[str, str] = {recipe.merge.method: self._merge(language, recipe.merge.method, references)}
            merged[language] = by_method[recipe.merge.method]
            for system in recipe.evaluate.methods if language in scored else ():
                if SYSTEMS[system].adapter == "ceiling":
                    adapters[f"task-{language}"] = self._task(language, learned, checks)
                elif SYSTEMS[system].adapter == "merged" and system not in by_method:
                    by_method[system] = self._merge(language, system, references)
                shots = examples.get(language) or learned[recipe.source][:1]
                cells.append(self._cell(language, system, scored[language], by_method.get(system), shots, checks))
        return Planned(self.stages, tuple(cells), START, adapters, references, merged)

    def _add(
        self, id: str, kind: str, params: Params, inputs: Mapping[str, tuple[str, ...]] | None = None, after: Any = ()
    ) -> str:
        self.stages[id] = Stage(id, kind, params, inputs or {}, tuple(after))
        return id

    def _items(self, id: str, task: Task, source: Source, language: str, scored: bool) -> str:
        content = self.contents.of(Wanted(source, language, True, self.folder))
        params = ItemsParams(
            task=task, source=source, content=content, language=language, scored=scored, folder=self.folder
        )
        return self._add(id, "items", params)

    def _scored(self, language: str) -> str:
        recipe = self.recipe
        assert recipe.scored is not None  # Whoever asks has looked.
        return self._items(
            f"data/task-{language}-{recipe.evaluate.split}", recipe.task, recipe.scored, language, scored=True
        )

    def _learned(self, language: str) -> tuple[str, ...]:
        """Ids of the items that a task's adapter is trained on, and those that its held-out loss is measured on."""
        recipe, task = self.recipe, self.recipe.task
        ids = [self._items(f"data/task-{language}-train", task, task.train, language, scored=True)]
        if recipe.train.early_stopping and task.dev:
            ids.append(self._items(f"data/task-{language}-heldout", task, task.dev, language, scored=True))
        return tuple(ids)

    def _checks(
        self,
        scored: Mapping[str, str],
        learned: Mapping[str, tuple[str, ...]],
        examples: Mapping[str, tuple[str, ...]],
        labelled: Mapping[str, str],
    ) -> list[str]:
        """Looks at all items before anything is learned from them; data of the hub is here by then, too.

        Args:
            scored: language → the scored items.
            learned: language → what a task's adapter learns, and what it is chosen by.
            examples: language → solved examples.
            labelled: language → the items of a labelled reference task.
        """
        train = [ids[0] for ids in learned.values()]
        seen = {"train": train, "dev": [id for ids in learned.values() for id in ids[1:]]}
        seen |= {"examples": [id for ids in examples.values() for id in ids], "reference": list(labelled.values())}
        roles = {role: tuple(ids) for role, ids in seen.items() if ids}
        where = {"dev": "dev", "examples": "examples", "reference": "reference.task"}
        checks = []
        for target, id in scored.items():
            params = OverlapParams(language=target, where=where)
            checks.append(self._add(f"checks/overlap-{target}", "overlap", params, {**roles, "scored": (id,)}))
        if labelled:
            counts = {language: (id,) for language, id in labelled.items()}
            checks.append(self._add("checks/equal-counts", "equal-counts", EqualCountsParams(), counts))
        return checks

    def _task(self, language: str, learned: Mapping[str, tuple[str, ...]], checks: list[str]) -> str:
        inputs = {"items": learned[language][:1]}
        if len(learned[language]) > 1:
            inputs["dev"] = learned[language][1:]
        return self._train(f"task-{language}", self.recipe.train.task, inputs, checks, classes=self.recipe.task.outputs)

    def _labelled_references(self) -> dict[str, str]:
        """The items of a labelled reference task, by language; none where it is plain text."""
        task = self.recipe.reference.task
        if task is None:
            return {}
        return {
            language: self._items(f"data/reference-{language}", task, task.train, language, scored=False)
            for language in self.recipe.languages
        }

    def _references(self, adapters: dict[str, str], labelled: Mapping[str, str], checks: list[str]) -> dict[str, str]:
        """The reference task in every language; returns the ids of its data."""
        recipe, task, data = self.recipe, self.recipe.reference.task, dict(labelled)
        for language in recipe.languages:
            name = f"reference-{language}"
            if task is None:
                data[language] = self._corpus(language)
                more: dict[str, Any] = {"objective": recipe.reference.learned}
                inputs = {"corpus": (data[language],)}
            else:
                more = {"heldout": recipe.reference.heldout, "classes": task.outputs}
                inputs = {"items": (data[language],)}
            adapters[name] = self._train(name, recipe.train.reference, inputs, checks, keep_head=False, **more)
        return data

    def _corpus(self, language: str) -> str:
        recipe, reference = self.recipe, self.recipe.reference
        source = recipe.reference_source(language)
        params = CorpusParams(
            model=self.model,
            source=source,
            content=self.contents.of(Wanted(source, language, False, self.folder)),
            language=language,
            **reference.budget.model_dump(),
            **reference.model_dump(
                include={"text", "window", "heldout", "duplicates", "boilerplate", "other_languages"}
            ),
            seed=recipe.seed,
            folder=self.folder,
        )
        return self._add(f"data/corpus-{language}", "corpus", params)

    def _train(
        self, name: str, schedule: Schedule, inputs: Mapping[str, tuple[str, ...]], checks: list[str], **more: Any
    ) -> str:
        recipe = self.recipe
        dropout = bool(getattr(recipe.adapter, "dropout", 0))
        # Parts of a batch differ by rounding alone, unless each draws its own dropout. Plain text is never cut.
        unkeyed = {key for key in COMPUTED if not (dropout and key == "micro_batch")} | {"task", "reference"}
        unkeyed |= {"max_length"} if "corpus" in inputs else set()
        settings = recipe.train.model_copy(update={key: Train.model_fields[key].get_default() for key in unkeyed})
        params = TrainParams(
            name=name,
            model=self.model,
            adapter=recipe.adapter,
            train=settings,
            schedule=schedule,
            learning_rate=recipe.learning_rate,
            seed=recipe.seed,
            processes=self.processes if dropout else None,
            **more,
        )
        return self._add(f"adapters/{name}", "train", params, inputs, checks)

    def _merge(self, language: str, method: str, references: dict[str, str]) -> str:
        recipe = self.recipe
        settings = method_settings(recipe, method)
        inputs = {
            "task": (f"adapters/task-{recipe.source}",),
            "reference-target": (f"adapters/reference-{language}",),
            "reference-source": (f"adapters/reference-{recipe.source}",),
            "corpus-source": (references[recipe.source],),
            "corpus-target": (references[language],),
        }
        if not settings.needs_source:
            # As they are published: the task's adapter and the language's, and nothing is subtracted.
            del inputs["reference-source"]
        params = MergeParams(
            model=self.model, method=settings, source=recipe.source, target=language, prompt=recipe.task.prompt
        )
        return self._add(f"merged/{language}/{method}", "merge", params, inputs)

    def _cell(
        self,
        language: str,
        system: str,
        items: str,
        merged: str | None,
        examples: tuple[str, ...],
        checks: list[str],
    ) -> Cell:
        """One system's answers in one language."""
        recipe, of = self.recipe, SYSTEMS[system]
        adapter = {
            "none": None,
            "task": f"adapters/task-{recipe.source}",
            "reference-target": f"adapters/reference-{language}",
            "ceiling": f"adapters/task-{language}",
            "merged": merged,
        }[of.adapter]
        inputs: dict[str, tuple[str, ...]] = {"items": (items,)}
        if adapter is not None:
            inputs["adapter"] = (adapter,)
        if of.asking == "few-shot":
            inputs["examples"] = examples
        params = PredictParams(
            model=self.model,
            task=recipe.task,
            evaluate=recipe.evaluate,
            language=language,
            asking=of.asking,
            seed=recipe.seed,
            classes=recipe.task.outputs,
            virtual_tokens=virtual_tokens(recipe.adapter),
            max_length=recipe.train.max_length,
        )
        predictions = self._add(f"predictions/{language}/{system}", "predict", params, inputs, checks)
        role: Role = "merged" if system == recipe.merge.method else _ROLES.get(of.adapter, "adapter")
        scale = str(method_settings(recipe, system).scale) if of.adapter == "merged" else ""
        label = of.label.format(source=recipe.source, target=language, scale=scale, shots=recipe.evaluate.shots)
        return Cell("", language, system, label, role, items, predictions, f"data/task-{recipe.source}-train")

    def _examples(self, language: str) -> tuple[str, ...]:
        """The task's own solved examples in a language; without any, few-shot examples are what is learned from."""
        task = self.recipe.task
        if task.examples is None:
            return ()
        return (self._items(f"data/task-{language}-examples", task, task.examples, language, scored=True),)


_ROLES: dict[str, Role] = {"none": "base", "ceiling": "ceiling"}
