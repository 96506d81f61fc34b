"""The stages of a recipe, one method for each; pure: the recipe and what was resolved are all they look at."""

from collections.abc import Mapping, Sequence
from typing import Any

from adamergex.data.settings import Source
from adamergex.execution.stage import Params
from adamergex.merging.methods import AnyMethod
from adamergex.models.adapter_settings import virtual_tokens
from adamergex.pipeline.resolve import Found, Wanted
from adamergex.pipeline.stage_table import StageTable
from adamergex.pipeline.stages.calibrate import CalibrateParams
from adamergex.pipeline.stages.checks import EqualCountsParams, OverlapParams
from adamergex.pipeline.stages.choose import ChooseParams
from adamergex.pipeline.stages.corpus import CorpusParams
from adamergex.pipeline.stages.deliver import DeliverParams
from adamergex.pipeline.stages.items import ItemsParams
from adamergex.pipeline.stages.merge import MergeParams
from adamergex.pipeline.stages.predict import PredictParams
from adamergex.pipeline.stages.refine import RefineParams
from adamergex.pipeline.stages.train import TrainParams
from adamergex.recipes.merges import candidates, method_settings
from adamergex.recipes.recipe import Recipe
from adamergex.scoring.systems import Asking
from adamergex.tasks.task import Task
from adamergex.training.settings import Schedule, Train

Inputs = Mapping[str, tuple[str, ...]]
# Settings of a training that only say how it is computed; a worker has them as options.
COMPUTED = ("checkpoint_seconds", "gradient_checkpointing", "micro_batch")


class RunStages:
    """The stages of a recipe with one task and one seed, as they are added; every method returns the id of what it added.

    Args:
        recipe: what to do.
        found: what there is for it.
        table: that stages are added to.
        drawn: the seed with which plain text, inputs and examples are drawn: the first of several, so that it is done once.

    Attributes:
        asked: the model, with its chat template where the task is chat.
    """

    def __init__(self, recipe: Recipe, found: Found, table: StageTable, drawn: int):
        self.recipe, self.found, self.table, self.drawn = recipe, found, table, drawn
        self.contents, self.folder, self.given = found.contents, found.folder, found.given
        self.asked, self.model = found.model.asked(recipe.task.chat), found.model.asked(False)
        self.add = table.add
        self._adapters: dict[str, str] = {}

    def adapter(self, name: str) -> str:
        """The id of an adapter that is trained with the recipe's seed, or of one that is given, whatever the seed."""
        seed = "" if name in self.given else self.table.seed
        return self._adapters.get(name, f"{self.table.below}{seed}adapters/{name}")

    def give(self, name: str) -> str:
        """An adapter that is taken, not trained."""
        return self._adapter(name, "given", self.given[name])

    def _adapter(self, name: str, kind: str, params: Params, inputs: Inputs | None = None, checks: Any = ()) -> str:
        """An adapter; tasks share those of the reference task."""
        shared = name.startswith("reference-")
        self._adapters[name] = self.add(f"adapters/{name}", kind, params, inputs, tuple(checks), shared=shared)
        return self._adapters[name]

    @property
    def learned(self) -> str:
        """The id of the items that the task's adapter is trained on."""
        return f"{self.table.below}data/task-{self.recipe.source}-train"

    def has(self, source: Source, language: str) -> bool:
        """Whether a source is there in a language."""
        return self.contents.has(Wanted(source, language, True, self.folder))

    def inputs(self, id: str, source: Source, language: str, beside: tuple[str, ...] = (), **more: Any) -> str:
        """All inputs of a source, or a part of them (`ItemsParams.part`); their labels are not looked at."""
        more |= {"labelled": False, "seed": self.drawn}
        return self.items(id, self.recipe.task, source, language, beside, **more)

    def items(
        self, id: str, task: Task, source: Source, language: str, beside: tuple[str, ...] = (), **more: Any
    ) -> str:
        """The items of a source in a language; without those that are scored, too (`beside`), where the recipe drops them."""
        more = {"scored": True} | more
        content = self.contents.of(Wanted(source, language, True, self.folder))
        params = ItemsParams(task=task, source=source, content=content, language=language, folder=self.folder, **more)
        drops = beside and self.recipe.task.overlap == "drop"
        is_shared = task is self.recipe.reference.task
        return self.add(id, "items", params, {"scored": beside} if drops else {}, shared=is_shared)

    def checks(
        self,
        scored: Mapping[str, str],
        learned: Inputs,
        examples: Inputs,
        labelled: Mapping[str, str],
        beside: Mapping[str, Inputs],
        counted: Mapping[str, str],
    ) -> list[str]:
        """Looks at all items before anything is learned from them; data of the hub is here by then, too.

        Args:
            scored: language → the scored items.
            learned: language → what a task's adapter learns, and what it is chosen by.
            examples: language → solved examples.
            labelled: language → the items of a labelled reference task.
            beside: what is learned from in the language itself, by role and language.
            counted: language → the items of a labelled reference task, of all target languages of the task.
        """
        train = [ids[0] for ids in learned.values()]
        seen = {"train": train, "dev": [id for ids in learned.values() for id in ids[1:]]}
        seen |= {"examples": [id for ids in examples.values() for id in ids], "reference": list(labelled.values())}
        roles = {role: tuple(ids) for role, ids in seen.items() if ids}
        where = {"dev": "dev", "examples": "examples", "reference": "reference.task"}
        where |= {"unlabelled": "the unlabelled inputs", "labelled": "refine.labelled"}
        checks, allowed = [], self.recipe.task.overlap == "allow" or None
        for target, id in scored.items():
            params = OverlapParams(language=target, where=where, allowed=allowed)
            own = {role: of[target] for role, of in beside.items() if of.get(target)}
            checks.append(self.add(f"checks/overlap-{target}", "overlap", params, {**roles, **own, "scored": (id,)}))
        if counted:
            counts = {language: (id,) for language, id in counted.items()}
            checks.append(self.add("checks/equal-counts", "equal-counts", EqualCountsParams(), counts))
        return checks

    def corpus(self, language: str) -> str:
        """Windows of a language's plain text."""
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
            seed=self.drawn,
            folder=self.folder,
        )
        return self.add(f"data/corpus-{language}", "corpus", params, shared=True)

    def train(
        self,
        name: str,
        schedule: Schedule,
        inputs: Inputs,
        checks: list[str],
        task: Task | None,
        **more: Any,
    ) -> str:
        """An adapter that is trained, on items of a task, or else on plain text."""
        params = TrainParams(**self.training(name, schedule, task), **more)
        return self._adapter(name, "train", params, inputs, checks)

    def training(self, name: str, schedule: Schedule, task: Task | None) -> dict[str, Any]:
        """The parameters that all trainings have.

        Args:
            name: of the adapter.
            schedule: epochs and batch size.
            task: whose items are learned; None for plain text, which is never cut.
        """
        recipe = self.recipe
        dropout = bool(getattr(recipe.adapter, "dropout", 0))
        # Parts of a batch differ by rounding alone, unless each draws its own dropout.
        unkeyed = {key for key in COMPUTED if not (dropout and key == "micro_batch")} | {"task", "reference"}
        unkeyed |= set() if task is not None else {"max_length"}
        settings = recipe.train.model_copy(update={key: Train.model_fields[key].get_default() for key in unkeyed})
        return {
            "name": name,
            "model": self.found.model.asked(task is not None and task.chat),
            "adapter": recipe.adapter,
            "train": settings,
            "schedule": schedule,
            "learning_rate": recipe.learning_rate,
            "seed": recipe.seed,
            "processes": self.found.processes if dropout else None,
        }

    def merge(self, language: str, method: str, references: Mapping[str, str], choice: str | None = None) -> str:
        """The adapters of a run as one, by a method, or by what is chosen."""
        settings = method_settings(self.recipe, method)
        return self.merged_with(f"merged/{language}/{method}", language, settings, references, choice)

    def merged_with(
        self, id: str, language: str, method: AnyMethod, references: Mapping[str, str], choice: str | None = None
    ) -> str:
        """The adapters of a run as one, by a method with its settings."""
        recipe = self.recipe
        inputs = {
            "task": (self.adapter(f"task-{recipe.source}"),),
            "reference-target": (self.adapter(f"reference-{language}"),),
            "reference-source": (self.adapter(f"reference-{recipe.source}"),),
            **self.corpora(language, references),
        }
        if not method.needs_source:
            # As they are published: the task's adapter and the language's, and nothing is subtracted.
            del inputs["reference-source"]
        more: dict[str, Any] = {}
        if choice is not None:
            inputs["choice"], more["candidates"] = (choice,), tuple(candidates(recipe))
        params = MergeParams(
            model=self.model, method=method, source=recipe.source, target=language, prompt=recipe.task.described, **more
        )
        return self.add(id, "merge", params, inputs)

    def corpora(self, language: str, references: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
        """What the two reference adapters were trained on, where they were: role → ids."""
        codes = {"corpus-source": self.recipe.source, "corpus-target": language}
        return {role: (references[code],) for role, code in codes.items() if code in references}

    def choose(self, language: str, choosing: tuple[str, ...], inputs: Inputs) -> str:
        """Which merge is delivered for a language."""
        recipe = self.recipe
        assert recipe.selection is not None  # Whoever asks has looked.
        params = ChooseParams(
            model=self.asked,
            task=recipe.task,
            evaluate=recipe.evaluate,
            candidates=tuple(candidates(recipe)),
            labels=choosing,
            certain=recipe.selection.few_shot is not None,
            most=recipe.selection.few_shot,
            virtual_tokens=virtual_tokens(recipe.adapter),
            max_length=recipe.train.max_length,
            seed=self.drawn,
        )
        return self.add(f"choice/{language}", "choose", params, inputs)

    def refine(self, language: str, inputs: Inputs, checks: list[str]) -> str:
        """An adapter that learns from another one's answers."""
        recipe = self.recipe
        assert recipe.refine is not None  # Whoever asks has looked.
        more: dict[str, Any] = {"classes": recipe.task.outputs, "share": recipe.refine.share}
        name = "/".join(filter(None, (self.table.task, f"{self.table.seed}refined-{language}")))
        params = RefineParams(**self.training(name, recipe.train.task, recipe.task), **more)
        return self.add(f"refined/{language}", "refine", params, inputs, tuple(checks))

    def answers(
        self,
        id: str,
        language: str,
        items: str,
        adapter: str | None,
        asking: Asking = "plain",
        examples: tuple[str, ...] = (),
        after: Sequence[str] = (),
    ) -> str:
        """What the base model, alone or with an adapter, answers to items."""
        recipe = self.recipe
        inputs: dict[str, tuple[str, ...]] = {"items": (items,)}
        if adapter is not None:
            inputs["adapter"] = (adapter,)
        if asking == "few-shot":
            inputs["examples"] = examples
        params = PredictParams(
            model=self.asked,
            task=recipe.task,
            evaluate=recipe.evaluate,
            language=language,
            asking=asking,
            seed=self.drawn,
            classes=recipe.task.outputs,
            virtual_tokens=virtual_tokens(recipe.adapter),
            max_length=recipe.train.max_length,
        )
        return self.add(id, "predict", params, inputs, tuple(after))

    def calibrate(self, id: str, answers: str, refined: str | None = None) -> str:
        """The bias per label that gives answers the expected shares; `refined` may have learned from calibrated ones."""
        recipe, settings = self.recipe, self.recipe.evaluate.calibration
        assert recipe.task.choices is not None  # Only fixed labels are calibrated.
        params = CalibrateParams.of(settings, recipe.task.choices, refined=refined is not None)
        inputs: dict[str, tuple[str, ...]] = {"answers": (answers,)}
        inputs |= {"learned": (self.learned,)} if settings.from_source else {}
        inputs |= {"refined": (refined,)} if refined is not None else {}
        return self.add(id, "calibrate", params, inputs)

    def deliver(
        self, language: str, adapter: str, calibration: str | None, merged: str, references: Mapping[str, str]
    ) -> str:
        """The adapter that a run is for, with all that it takes to use it, and a card that says what it was made of."""
        recipe = self.recipe
        params = DeliverParams(
            model=self.asked,
            task=recipe.task,
            evaluate=recipe.evaluate,
            source=recipe.source,
            language=language,
            max_length=recipe.train.max_length,
            target_labels=recipe.target_labels,
            labelled=recipe.reference.task and recipe.reference.task.train,
        )
        inputs = {"adapter": (adapter,), "merged": (merged,), **self.corpora(language, references)}
        inputs |= {"calibration": (calibration,)} if calibration else {}
        return self.add(f"delivered/{language}", "deliver", params, inputs)
