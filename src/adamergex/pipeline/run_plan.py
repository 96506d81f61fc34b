"""A recipe as stages; pure: the recipe and what was resolved are all it looks at.

    data/task-LANG-SPLIT   items of the task               adapters/task-LANG        the task's adapters
    data/corpus-LANG       windows of plain text           adapters/reference-LANG   the reference task's
    data/inputs-LANG       inputs without labels           merged/LANG/METHOD        merged adapters
    checks/…               looks at items before anything is learned from them
    predictions/LANG/SYSTEM   answers to every scored item
    answers/LANG/SYSTEM       answers to inputs without labels
    calibration/LANG/SYSTEM   the bias per label that follows from these
    choice/LANG               which merge is delivered
    refined/LANG              an adapter that learned from that one's surest answers
    delivered/LANG            the adapter that the run is for, with all that it takes to use it

What the recipe's section `adapters` gives is taken, not trained, and its plain text is not made.
L targets and K tasks cost L + 1 reference trainings and K task trainings; each pair one more where it is refined; all of it
again for each further seed. What a further seed trains, and whatever reads that, is below `seed-N/`; the rest is there once.
Of several tasks, what is a task's own is below `tasks/NAME/`. Corpora and reference adapters are there once for all of them; one
that an override makes another one is below its task, too.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from adamergex.execution.stage import Stage
from adamergex.inference.systems import SYSTEMS
from adamergex.pipeline.planned import Cell, Planned, together, whole
from adamergex.pipeline.resolve import Contents, Found
from adamergex.pipeline.run_data import RunData
from adamergex.pipeline.run_stages import RunStages
from adamergex.pipeline.stage_table import StageTable
from adamergex.pipeline.stages.base_model import BaseModel
from adamergex.pipeline.stages.given import GivenParams
from adamergex.recipes.merges import candidates, method_settings
from adamergex.recipes.recipe import Part
from adamergex.scoring.results import Role
from adamergex.scoring.systems import REFINED, START, Asking


def plan(
    parts: Sequence[Part],
    model: BaseModel,
    contents: Contents,
    folder: Path,
    processes: int = 1,
    given: Sequence[Mapping[str, GivenParams]] = (),
) -> Planned:
    """The stages of a recipe.

    Args:
        parts: of the recipe, all of them.
        model: its base model.
        contents: of all their `sources`.
        folder: what their relative paths are relative to.
        processes: that train together.
        given: name → an adapter that is taken in place of a training, for each part where there are any.
    """
    found = Found(model, contents, folder, processes)
    taken = [replace(found, given=of) for of in given] or [found] * len(parts)
    planners, stages = _planners(parts, taken)
    for of_seeds in planners:
        for planner in of_seeds:
            planner.read()
    # What tasks share is as it is without overrides: those that have none come first.
    order = sorted(range(len(parts)), key=lambda number: parts[number].changes_references)
    planned = {number: [planner.plan() for planner in planners[number]] for number in order}
    by_task: dict[str, list[Planned]] = {}
    for number, part in enumerate(parts):
        first, *further = planned[number]
        by_task.setdefault(part.task, []).append(replace(first, further=tuple(further)))
    of_tasks = {task: together(of) for task, of in by_task.items()}
    return of_tasks[""] if "" in of_tasks else whole(stages, of_tasks)


def _planners(parts: Sequence[Part], found: Sequence[Found]) -> "tuple[list[list[_Planner]], dict[str, Stage]]":
    """For each part one for each of its seeds, all of which add to one table."""
    whole_table = StageTable()
    of_tasks: dict[tuple[str, int], _Planner] = {}
    planners = []
    for part, of in zip(parts, found, strict=True):
        table = whole_table.of_task(part.task)
        own = []
        for number, recipe in enumerate(part.recipe.of_each_seed):
            add = RunStages(recipe, of, table.of_seed(recipe.seed) if number else table, part.recipe.seed)
            own.append(_Planner(add, of_tasks.get((part.task, number))))
            of_tasks.setdefault((part.task, number), own[-1])
        planners.append(own)
    return planners, whole_table.stages


class _Planner(RunData):
    """Which stages a recipe with one task and one seed takes, in their order."""

    def __init__(self, add: RunStages, beside: "RunData | None" = None):
        super().__init__(add, beside)
        self.scales: dict[str, float] = {}

    def plan(self) -> Planned:
        """What is learned from the items that were read; corpora right before the adapter that is trained on them."""
        recipe = self.recipe
        self.adapters, self.given = dict[str, str](), dict[str, str]()
        self._adapter(f"task-{recipe.source}", lambda: self._task(recipe.source))
        self.references = self._references(self.labelled)
        chosen = {language: self._choose(language) for language in recipe.targets if recipe.selection is not None}
        merged, refined, delivered, cells = dict[str, str](), dict[str, str](), dict[str, str](), list[Cell]()
        for language in recipe.targets:
            own = self.add.merge(language, recipe.merge.method, self.references, chosen.get(language))
            last = merged[language] = own
            calibration = self._calibrate(language, recipe.merge.method, own)
            if recipe.refine is not None:
                assert calibration is not None  # A recipe that refines calibrates.
                last = refined[language] = self._refine(language, own, calibration)
                calibration = self._calibrate(language, REFINED, last)
            by_method = {recipe.merge.method: own, REFINED: last}
            cells += self._cells(language, by_method) if language in self.scored else []
            if not self.add.table.seed:
                delivered[language] = self.add.deliver(language, last, calibration, own, self.references)
        return Planned(
            self.add.table.stages,
            tuple(cells),
            START,
            self.adapters,
            self.given,
            self.references,
            merged,
            delivered=delivered,
            chosen=chosen,
            refined=refined,
            scales=self.scales,
            seed=recipe.seed,
        )

    def _adapter(self, name: str, train: Callable[[], str]) -> None:
        """An adapter: taken where it is given, else trained."""
        if name in self.add.given:
            self.given[name] = self.add.give(name)
        else:
            self.adapters[name] = train()

    def _task(self, language: str) -> str:
        learned = self.learned[language]
        inputs = {"items": learned[:1]}
        if len(learned) > 1:
            inputs["dev"] = learned[1:]
        recipe = self.recipe
        return self.add.train(
            f"task-{language}", recipe.train.task, inputs, self.checks, recipe.task, classes=recipe.task.outputs
        )

    def _references(self, labelled: Mapping[str, str]) -> dict[str, str]:
        """The reference task in every language; returns the ids of its data, where an adapter is trained on it."""
        data = dict(labelled)
        for language in self.recipe.read_languages:
            self._adapter(f"reference-{language}", partial(self._reference, language, data))
        return data

    def _reference(self, language: str, data: dict[str, str]) -> str:
        """A reference adapter; a corpus that is made for it is added to the data."""
        recipe, task = self.recipe, self.recipe.reference.task
        if task is None:
            data[language] = self.add.corpus(language)
            more: dict[str, Any] = {"objective": recipe.reference.learned}
            inputs = {"corpus": (data[language],)}
        else:
            more = {"heldout": recipe.reference.heldout, "classes": task.outputs}
            inputs = {"items": (data[language],)}
        schedule = recipe.train.reference
        return self.add.train(f"reference-{language}", schedule, inputs, self.checks, task, keep_head=False, **more)

    def _choose(self, language: str) -> str:
        """Which merge is delivered for a language, by labels that are not scored, or by a rule."""
        recipe, choosing = self.recipe, tuple(self.recipe.choosing(language))
        inputs: dict[str, tuple[str, ...]] = {"reference-target": (self.add.adapter(f"reference-{language}"),)}
        for code in choosing:
            assert recipe.task.dev is not None  # A recipe whose labels choose has it.
            inputs[f"items-{code}"] = (self.add.items(f"data/choosing-{code}", recipe.task, recipe.task.dev, code),)
            inputs[f"reference-{code}"] = (self.add.adapter(f"reference-{code}"),)
        if choosing:
            inputs["task"] = (self.add.adapter(f"task-{recipe.source}"),)
            inputs["reference-source"] = (self.add.adapter(f"reference-{recipe.source}"),)
            inputs["learned"] = (self.add.learned,)
            inputs["scored"] = self.all_scored
        return self.add.choose(language, choosing, inputs)

    def _refine(self, language: str, teacher: str, calibration: str) -> str:
        """An adapter that learns from the surest answers of another one."""
        refine = self.recipe.refine
        assert refine is not None  # Whoever asks has looked.
        unlabelled = self.unlabelled[language]
        answers = self._answers(f"answers/{language}/teacher", language, unlabelled[0], teacher)
        inputs = {
            "items": (self.add.learned,),
            "unlabelled": unlabelled,
            "answers": (answers,),
            "calibration": (calibration,),
            "teacher": (teacher,),
        }
        if len(unlabelled) > 1:
            inputs["answers"] += (
                self._answers(f"answers/{language}/teacher-scored", language, unlabelled[1], teacher),
            )
        if refine.labelled is not None:
            inputs["items"] += self.in_targets["labelled"][language]
        return self.add.refine(language, inputs, self.checks)

    def _cells(self, language: str, by_method: dict[str, str]) -> list[Cell]:
        """What all systems answer in one language."""
        recipe, cells = self.recipe, []
        for system in recipe.systems:
            if SYSTEMS[system].adapter == "ceiling":
                self.adapters[f"task-{language}"] = self._task(language)
            elif SYSTEMS[system].adapter == "merged" and system not in by_method:
                by_method[system] = self.add.merge(language, system, self.references)
            cells.append(self._cell(language, system, by_method.get(system)))
            if system == recipe.merge.method:
                cells += self._swept(language)
        return cells

    def _swept(self, language: str) -> list[Cell]:
        """A row for every t of a list, so that the report can draw the curve."""
        recipe, cells = self.recipe, list[Cell]()
        if recipe.selection is None or "scales" not in recipe.selection.model_fields_set:
            return cells
        for method in candidates(recipe)[1:]:
            name = f"{method.method}-{method.scale}"
            if method.method == recipe.merge.method:
                self.scales |= {START: 0.0, name: float(str(method.scale))}
            adapter = self.add.merged_with(f"merged/{language}/{name}", language, method, self.references)
            cells.append(self._answered(language, name, method.label.format(scale=method.scale), "adapter", adapter))
        return cells

    def _cell(self, language: str, system: str, merged: str | None) -> Cell:
        """One system's answers in one language, and their calibration."""
        recipe, of = self.recipe, SYSTEMS[system]
        adapter = {
            "none": None,
            "task": self.add.adapter(f"task-{recipe.source}"),
            "reference-target": self.add.adapter(f"reference-{language}"),
            "ceiling": self.add.adapter(f"task-{language}"),
            "merged": merged,
            "refined": merged,
        }[of.adapter]
        role: Role = "merged" if system == recipe.merge.method else _ROLES.get(of.adapter, "adapter")
        scale = str(method_settings(recipe, system).scale) if of.adapter == "merged" else ""
        label = of.label.format(source=recipe.source, target=language, scale=scale, shots=recipe.evaluate.shots)
        if role == "refined" and recipe.refine is not None and recipe.refine.transductive:
            label += ", the scored inputs among what it learned from"
        return self._answered(language, system, label, role, adapter, of.asking)

    def _answered(
        self, language: str, system: str, label: str, role: Role, adapter: str | None, asking: Asking = "plain"
    ) -> Cell:
        items = self.scored[language]
        predictions = self._answers(f"predictions/{language}/{system}", language, items, adapter, asking)
        calibration = self._calibrate(language, system, adapter, asking)
        return Cell("", language, system, label, role, items, predictions, calibration, language in self.inputs)

    def _calibrate(self, language: str, system: str, adapter: str | None, asking: Asking = "plain") -> str | None:
        """The bias of a system's answers to inputs that are not scored, or else to the scored ones."""
        items = self.inputs.get(language) or self.scored.get(language)
        if not self.recipe.calibrates or items is None:
            return None
        place = "answers" if language in self.inputs else "predictions"
        answers = self._answers(f"{place}/{language}/{system}", language, items, adapter, asking)
        return self.add.calibrate(f"calibration/{language}/{system}", answers, adapter if system == REFINED else None)

    def _answers(self, id: str, language: str, items: str, adapter: str | None, asking: Asking = "plain") -> str:
        shots = self.examples.get(language) or self.learned[self.recipe.source][:1]
        return self.add.answers(id, language, items, adapter, asking, shots, self.checks)


_ROLES: dict[str, Role] = {"none": "base", "refined": "refined", "ceiling": "ceiling"}
