"""Whether the sections of a recipe fit together."""

from adamergex import language_tags
from adamergex.data.settings import Source, is_language
from adamergex.merging.methods import METHODS
from adamergex.recipes.fields import RecipeFields
from adamergex.recipes.merges import method_settings


def check(recipe: RecipeFields) -> None:
    """Check that the sections of a recipe fit together. Raises ValueError where they do not."""
    for target in recipe.targets:
        if language_tags.same(recipe.source, target):
            raise ValueError(f"targets lists {target}, which is the source language; remove it")
    _trains_what_is_not_given(recipe)
    if recipe.evaluate.split == "dev" and recipe.task.test and not recipe.task.dev:
        raise ValueError("evaluate.split is dev, but the task has no dev source; add task.dev")
    if reason := recipe.task.refuses(recipe.evaluate.metric):
        raise ValueError(f"evaluate.metric: {reason}")
    if recipe.ceiling and not recipe.scored:
        raise ValueError("evaluate.methods: ceiling needs labelled items to score; add task.test or remove it")
    if recipe.train.early_stopping and (recipe.task.dev is None or recipe.reference.heldout == 0):
        raise ValueError("train.early_stopping needs held-out items: give task.dev, and reference.heldout above 0")
    if recipe.train.early_stopping and recipe.scored is not None and recipe.scored == recipe.task.dev:
        raise ValueError(
            "train.early_stopping chooses the task's adapters by task.dev, which is the scored split, too; score on "
            "test (evaluate.split), or remove early_stopping"
        )
    structure = recipe.adapter.structure
    _methods_fit(recipe)
    if structure == "prefix" and recipe.train.gradient_checkpointing:
        raise ValueError(
            "train.gradient_checkpointing drops the prefix, which is a cache of keys and values; remove it"
        )
    if structure == "prefix" and recipe.train.packing:
        raise ValueError("train.packing would let only the first sequence of a row see the prefix; remove it")
    _languages_differ(recipe)
    _calibrates_what_there_is(recipe)
    _refines_what_there_is(recipe)
    _chooses_by_what_there_is(recipe)


def _trains_what_is_not_given(recipe: RecipeFields) -> None:
    """Adapters that are given are of the recipe's languages; the others need something to be trained on."""
    if unknown := recipe.adapters.unknown(recipe.read_languages):
        raise ValueError(
            f"adapters.reference lists {unknown[0]}, which the recipe does not read; it reads "
            f"{', '.join(recipe.read_languages)}"
        )
    trained = recipe.trained_languages
    if trained and recipe.reference.corpus is None and recipe.reference.task is None:
        raise ValueError(
            f"reference: expected exactly one of corpus and task, which the reference adapters of {', '.join(trained)} are "
            "trained on; add one, or give these adapters in adapters.reference"
        )
    is_trained = trained or recipe.adapters.task is None or recipe.ceiling or recipe.refine is not None
    if len(recipe.seeds or ()) > 1 and not is_trained:
        raise ValueError(
            "seeds: all adapters are given, and nothing is trained that a seed could change; give one seed"
        )


def _refines_what_there_is(recipe: RecipeFields) -> None:
    """Self-training needs inputs, and labels that all of them can have."""
    if recipe.refine is None:
        return
    if not recipe.task.has_fixed_labels:
        raise ValueError("refine: answers are learned where all items have the same labels (task.choices); remove it")
    if recipe.refined_inputs is None and not recipe.refine.transductive:
        raise ValueError("refine: needs inputs without labels; give task.unlabelled or refine.inputs")
    if recipe.refine.transductive and recipe.scored is None:
        raise ValueError("refine.transductive: nothing is scored; remove it, or add task.test")


def _chooses_by_what_there_is(recipe: RecipeFields) -> None:
    """Labels that choose t must be there, and must not be those that are scored."""
    chosen = recipe.selection
    if chosen is None or not (chosen.validation or chosen.few_shot):
        return
    if recipe.task.dev is None:
        raise ValueError("merge.selection: labelled dev items choose; add task.dev")
    if recipe.evaluate.split == "dev":
        raise ValueError("merge.selection: task.dev chooses, and must not be scored; set evaluate.split: test")
    language_tags.distinct(chosen.validation, "merge.selection.validation")
    for code in chosen.validation:
        is_language(code)
        if language_tags.same(code, recipe.source):
            raise ValueError(f"merge.selection.validation lists {code}, the source language; name others")
    for target in recipe.targets:
        if chosen.validation and not recipe.choosing(target):
            raise ValueError(
                f"merge.selection.validation: no language but {target} itself would choose for it; name another one"
            )


def _calibrates_what_there_is(recipe: RecipeFields) -> None:
    """Shares that a user states must be of the task's labels."""
    stated = recipe.evaluate.calibration.shares
    if isinstance(stated, dict):
        labels = list(recipe.task.choices or ())
        if not recipe.task.has_fixed_labels:
            raise ValueError("evaluate.calibration.shares: the task has no fixed labels; remove them")
        if unknown := [label for label in stated if label not in labels]:
            raise ValueError(
                f"evaluate.calibration.shares: {unknown[0]!r} is no label of task.choices, which has {', '.join(labels)}"
            )


def _methods_fit(recipe: RecipeFields) -> None:
    """What merges must be defined for the structure of the adapters."""
    if recipe.merge.method in recipe.evaluate.baselines:
        raise ValueError(f"evaluate.baselines: {recipe.merge.method} is what the recipe merges with; see merge")
    if recipe.adapter.structure != "lora" and (recipe.merge.wanted_rank or recipe.merge.wanted_energy):
        raise ValueError(f"merge.rank and merge.energy are for LoRA; the adapters are {recipe.structure}")
    if reason := recipe.merge.refuses(recipe.structure):
        raise ValueError(f"merge: {reason}; the adapters are {recipe.structure}")
    rows = [method_settings(recipe, name) for name in recipe.evaluate.methods if name in METHODS]
    if reasons := [reason for row in rows if (reason := row.refuses(recipe.structure))]:
        raise ValueError(
            f"evaluate.methods: {'; '.join(reasons)}; the adapters are {recipe.structure}; remove what does not fit"
        )


def _languages_differ(recipe: RecipeFields) -> None:
    """A source without {language} would give every language the same rows, and the merge nothing to work with."""

    def same(what: str, sources: list[Source]) -> None:
        plain = [s.model_dump_json() for s in sources if s.package is None and s.benchmark is None]
        if len(set(plain)) < len(plain):
            raise ValueError(
                f"{what} is the same for two languages; write {{language}} where their names differ, or, for one file of all, "
                "where: {COLUMN: '{language}'}"
            )

    name = "reference.task.train" if recipe.reference.task else "reference.corpus"
    same(name, [recipe.reference_source(language) for language in recipe.trained_languages])
    if recipe.ceiling:
        same("task.train", [recipe.task.train.in_language(language) for language in recipe.languages])
    if recipe.scored is not None:
        same("the scored split", [recipe.scored.in_language(language) for language in recipe.targets])
        if recipe.scored.benchmark is None and recipe.scored.in_language(
            recipe.source
        ) == recipe.task.train.in_language(recipe.source):
            raise ValueError("task.train and the scored split are the same source; training items must not be scored")
