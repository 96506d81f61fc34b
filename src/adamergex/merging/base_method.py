"""The base classes of all merging methods: their settings, their requirements on adapters, and how tensors are merged.

A method is one file in `adamergex.merging.methods`, with a subclass of `MergeMethod` or `LowRankMethod`. The class's
fields are the settings in merge.yaml, in a recipe, on the command line and in Python. The base class computes the
weighted sum T + t·(R − S); a method overrides what it does otherwise.

Recipes name methods, and are read without torch: methods import it where they compute.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import BeforeValidator, Field, ValidationError, WrapValidator, model_validator
from pydantic_core import PydanticCustomError

from adamergex.merging.scale import Scale, ScaleSetting
from adamergex.storage.yaml_model import Section

if TYPE_CHECKING:
    from torch import Tensor

    from adamergex.adapters.low_rank import LowRank

TASK, TARGET, SOURCE = ROLES = "task", "reference-target", "reference-source"
# Structures of adapters, as `adamergex.adapters.schema` calls them.
LORA, IA3, PROMPTS = ("LoRA", "DoRA"), ("(IA)³",), ("prefix tuning", "p-tuning", "prompt tuning")


def _rank(value: Any, check: Any) -> Any:
    try:
        if isinstance(value, bool):
            raise PydanticCustomError("rank", "no number")
        return check(value)
    except (ValidationError, PydanticCustomError):
        raise PydanticCustomError("rank", "expected a whole number from 1, or exact") from None


Rank = Annotated[Annotated[int, Field(ge=1)] | Literal["exact"], WrapValidator(_rank)]
Dtype = Annotated[
    Literal["float32", "bfloat16", "float16"], BeforeValidator(lambda value: str(value).removeprefix("torch."))
]
NearZero = Literal["refuse", "keep-task"]
Density = Annotated[float, Field(gt=0, le=1)]
Layers = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class Prompt(NamedTuple):
    """A merged prompt, and the condition number of the matrix that was inverted for it, if any."""

    merged: "Tensor"
    condition: float | None = None


class MergeMethod(Section):
    """A merging method, with its settings.

    Attributes:
        title: its name in text.
        arxiv: the paper's number on arXiv.
        label: the name of its row in a report; `{scale}` is filled in.
        structures: the adapter structures that it is defined for.
        refusal: why it is not defined for others; completes a message that begins with the method's name.
        needs_source: whether the reference adapter of the source language must be given.
        assumes_shared_start: whether the result is only meaningful if the A factors of LoRA are close to each other.
        adds_updates: whether all trained tensors must be differences to the base model, because the weights of the
            sum do not add up to 1. A trained bias is a whole value, and so is DoRA's magnitude.
        dense: whether LoRA's updates are merged as dense matrices, and brought back to a low rank afterwards.
        simpler: names of methods that leave a part of this one out, and are tried beside it where t is chosen.
        published: settings of the paper that a recipe uses where it gives none; they are not defaults elsewhere.
    """

    title: ClassVar[str]
    arxiv: ClassVar[str]
    label: ClassVar[str]
    structures: ClassVar[tuple[str, ...]] = (*LORA, *IA3, *PROMPTS)
    refusal: ClassVar[str] = ""
    needs_source: ClassVar[bool] = False
    assumes_shared_start: ClassVar[bool] = False
    adds_updates: ClassVar[bool] = False
    dense: ClassVar[bool] = False
    simpler: ClassVar[tuple[str, ...]] = ()
    published: ClassVar[Mapping[str, Any]] = {}

    method: str
    scale: ScaleSetting = Field(
        Scale(1.0), description="t: 0 is the task adapter; several numbers are a curve over the layers"
    )
    dtype: Dtype | None = Field(None, description="of the merged tensors; float32 where it is left out")

    @property
    def needs_equal_ranks(self) -> bool:
        """Whether LoRA's A and B are merged separately, which needs equal ranks and scalings."""
        return False

    @property
    def divisors(self) -> NearZero | None:
        """What to do where the source's multipliers are near zero; None for a method that does not divide by them."""
        return None

    @property
    def wanted_rank(self) -> int | None:
        """The rank of a LoRA result, where one is set."""
        return None

    @property
    def wanted_energy(self) -> float | None:
        """The share of ‖ΔW‖² that a LoRA result has to keep, where one is set."""
        return None

    @property
    def svd_seed(self) -> int:
        """The seed of the randomised SVD, where updates are dense."""
        return 0

    def refuses(self, structure: str) -> str | None:
        """Why adapters of a structure cannot be merged with these settings, or None."""
        return None if structure in self.structures else f"{self.method} {self.refusal}"

    def formula(self, structure: str) -> str:
        """The equation in a line, for the model card."""
        raise NotImplementedError

    def weights(self, t: float, module: str, layers: Mapping[str, int]) -> dict[str, float]:
        """The weight of each adapter in the sum of a module, by role; adapters that are not given are left out.

        Args:
            t: the module's scale.
            module: its name.
            layers: how many layers each stack has.
        """
        return {TASK: 1.0, TARGET: t, SOURCE: -t}

    def combine(self, terms: "Sequence[tuple[float, Tensor]]", what: str) -> "Tensor":
        """Combine updates of one shape into one, float64: Σ wᵢ·xᵢ.

        Args:
            terms: pairs of a weight and an update.
            what: the name of the tensor or module, which seeds random draws.
        """
        import torch

        return torch.stack([weight * value for weight, value in terms]).sum(0)

    def multiplier(
        self, stored: "Mapping[str, Tensor]", weights: Mapping[str, float], t: float, what: str, structure: str
    ) -> "Tensor":
        """Merge what multiplies: (IA)³'s vectors or DoRA's magnitudes.

        Args:
            stored: the adapters' tensors, by role, all of one shape.
            weights: of `weights`.
            t: the module's scale.
            what: the module's name.
            structure: of the adapters.
        """
        # l = 1 leaves the model unchanged, so that l − 1 is the update.
        return 1 + self.combine([(weight, stored[role].double() - 1) for role, weight in weights.items()], what)

    def prompt(self, stored: "Mapping[str, Tensor]", weights: Mapping[str, float], t: float, what: str) -> Prompt:
        """Merge one layer's keys, one layer's values, or p-tuning's embeddings; arguments as of `multiplier`."""
        return Prompt(self.combine([(weight, stored[role].double()) for role, weight in weights.items()], what))

    def factors(self, updates: "Mapping[str, LowRank]", weights: Mapping[str, float], t: float) -> "LowRank":
        """Merge LoRA's A and B separately; called where `needs_equal_ranks`.

        Args:
            updates: the module's ΔW, by role.
            weights: of `weights`.
            t: the module's scale.
        """
        raise NotImplementedError


class LowRankMethod(MergeMethod):
    """A method whose LoRA result is a sum of low-rank updates: exact, or truncated to a rank or an energy."""

    rank: Rank = Field("exact", description="LoRA: rank of the result, or exact for the sum of the ranks")
    energy: float | None = Field(
        None, gt=0, le=1, description="LoRA, in place of rank: the smallest that keeps this share of ‖ΔW‖² everywhere"
    )

    @model_validator(mode="after")
    def _one_way_to_choose_the_rank(self) -> Self:
        if self.energy is not None and self.rank != "exact":
            raise ValueError("rank and energy are both given; choose one")
        return self

    @property
    def wanted_rank(self) -> int | None:
        """The rank of a LoRA result, where one is set."""
        return self.rank if isinstance(self.rank, int) else None

    @property
    def wanted_energy(self) -> float | None:
        """The share of ‖ΔW‖² that a LoRA result has to keep, where one is set."""
        return self.energy
