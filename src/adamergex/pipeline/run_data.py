"""The items of a recipe as stages: what is scored, what is learned, inputs without labels, and the looks at them."""

from dataclasses import dataclass, field

from adamergex.pipeline.run_stages import RunStages


@dataclass(frozen=True)
class _OfTask:
    """What all recipes of a task read.

    Attributes:
        scored: language → the items that are scored.
        labelled: language → the items of a labelled reference task.
    """

    scored: dict[str, str] = field(default_factory=dict)
    labelled: dict[str, str] = field(default_factory=dict)


class RunData:
    """What a recipe with one task and one seed reads.

    Args:
        add: adds stages.
        beside: what another recipe reads for the same task, with other target languages.

    Attributes:
        scored: language → the items that are scored.
        learned: language → the items that a task's adapter is trained on, and those of its held-out loss.
        examples: language → solved examples for few-shot prompts.
        inputs: language → inputs without labels to calibrate on.
        unlabelled: language → inputs without labels to learn from.
        labelled: language → the items of a labelled reference task.
        in_targets: role → language → the same of what is learned from in the target languages themselves.
        checks: looks at all of them, which come before trainings.
    """

    def __init__(self, add: RunStages, beside: "RunData | None" = None):
        self.add, self.recipe = add, add.recipe
        recipe = add.recipe
        self.scored = {language: self._scored(language) for language in recipe.targets if recipe.scored is not None}
        self._of_task: _OfTask = _OfTask() if beside is None else beside._of_task
        self._of_task.scored.update(self.scored)

    def read(self) -> None:
        """What is learned, then what looks at it."""
        recipe = self.recipe
        languages = [recipe.source, *(recipe.targets if recipe.ceiling else [])]
        self.learned = {language: self._learned(language) for language in languages}
        self.examples = {
            language: self._examples(language) for language in self.scored if "few-shot" in recipe.evaluate.methods
        }
        self.inputs = {language: id for language in recipe.targets if (id := self._inputs(language)) is not None}
        self.unlabelled = {language: self._unlabelled(language) for language in recipe.targets}
        self.labelled = self._labelled_references()
        self._of_task.labelled.update(self.labelled)
        self.in_targets, counted = self._learned_in_targets(), self._of_task.labelled
        self.checks = self.add.checks(self.scored, self.learned, self.examples, self.labelled, self.in_targets, counted)

    def _scored(self, language: str) -> str:
        recipe = self.recipe
        assert recipe.scored is not None  # Whoever asks has looked.
        return self.add.items(f"data/task-{language}-{recipe.evaluate.split}", recipe.task, recipe.scored, language)

    @property
    def all_scored(self) -> tuple[str, ...]:
        """The scored items of all target languages of the task."""
        return tuple(self._of_task.scored.values())

    def _scored_in(self, language: str) -> tuple[str, ...]:
        return (self.scored[language],) if language in self.scored else ()

    def _learned(self, language: str) -> tuple[str, ...]:
        """Ids of the items that a task's adapter is trained on, and those that its held-out loss is measured on."""
        recipe, task = self.recipe, self.recipe.task
        ids = [self.add.items(f"data/task-{language}-train", task, task.train, language, beside=self.all_scored)]
        if recipe.train.early_stopping and task.dev:
            held = f"data/task-{language}-heldout"
            ids.append(self.add.items(held, task, task.dev, language, beside=self.all_scored))
        return tuple(ids)

    def _inputs(self, language: str) -> str | None:
        """Inputs without labels to calibrate on; none where there are none, or nothing to calibrate."""
        recipe = self.recipe
        for source in recipe.inputs:
            if self.add.has(source, language):
                # What an adapter learns from is not what it is calibrated on.
                part = "apart" if source == recipe.refined_inputs else "all"
                most = recipe.evaluate.calibration.inputs
                return self.add.inputs(f"data/inputs-{language}", source, language, part=part, most=most)
        return None

    def _unlabelled(self, language: str) -> tuple[str, ...]:
        """Inputs without labels to learn from; the scored ones among them where the recipe says so."""
        recipe, source, ids = self.recipe, self.recipe.refined_inputs, list[str]()
        if source is not None:
            first = next((one for one in recipe.inputs if self.add.has(one, language)), None)
            part, beside = ("rest" if source == first else "all"), self._scored_in(language)
            ids.append(self.add.inputs(f"data/unlabelled-{language}", source, language, beside, part=part))
        if recipe.refine is not None and recipe.refine.transductive:
            ids.append(self.scored[language])
        return tuple(ids)

    def _learned_in_targets(self) -> dict[str, dict[str, tuple[str, ...]]]:
        """What is learned from in each target language, which must not be scored: role → language → ids."""
        recipe, found = self.recipe, dict[str, dict[str, tuple[str, ...]]]()
        scored = set(self.scored.values())
        found["unlabelled"] = {
            code: tuple(id for id in ids if id not in scored) for code, ids in self.unlabelled.items()
        }
        if recipe.refine is not None and recipe.refine.labelled is not None:
            some = recipe.refine.labelled
            found["labelled"] = {
                code: (self.add.items(f"data/labelled-{code}", recipe.task, some, code, beside=self._scored_in(code)),)
                for code in recipe.targets
            }
        return found

    def _examples(self, language: str) -> tuple[str, ...]:
        """The task's own solved examples in a language; without any, few-shot examples are what is learned from."""
        task = self.recipe.task
        if task.examples is None:
            return ()
        id = f"data/task-{language}-examples"
        return (self.add.items(id, task, task.examples, language, beside=self.all_scored),)

    def _labelled_references(self) -> dict[str, str]:
        """The items of a labelled reference task, by language; none where it is plain text."""
        task = self.recipe.reference.task
        if task is None:
            return {}
        return {
            language: self.add.items(
                f"data/reference-{language}", task, task.train, language, scored=False, beside=self.all_scored
            )
            for language in self.recipe.trained_languages
        }
