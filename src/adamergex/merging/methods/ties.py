"""TIES: trim, elect signs, merge disjointly.

Yadav et al.: "TIES-Merging: Resolving Interference When Merging Models", NeurIPS 2023, arXiv 2306.01708, section 4.

Each update keeps the entries that are largest in magnitude. For each entry a sign is elected, that of the weighted
sum, and the result is the mean over the updates that have this sign. Weights are 1 for T, t for R, and −t for S where
it is given.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationError, WrapValidator
from pydantic_core import PydanticCustomError

from adamergex.merging.base_method import IA3, Density, MergeMethod, Seed
from adamergex.merging.methods.task_arithmetic import NO_UPDATES

if TYPE_CHECKING:
    from torch import Tensor


def ties(terms: "Sequence[tuple[float, Tensor]]", density: float) -> "Tensor":
    """TIES of updates of one shape, float64.

    Weights come before the election, so that an update with a negative weight votes against its own sign.

    Args:
        terms: pairs of a weight and an update.
        density: the share of the entries that each keeps.
    """
    return elect([weight * _trim(update.double(), density) for weight, update in terms])


def elect(updates: "Sequence[Tensor]") -> "Tensor":
    """For each entry the mean over the updates that have the sign of their sum; 0 where the sum is 0."""
    import torch

    stacked = torch.stack(list(updates))
    agree = stacked.sign() == stacked.sum(0).sign()
    agree &= stacked != 0
    return (stacked * agree).sum(0) / agree.sum(0).clamp(min=1)


def _trim(update: "Tensor", density: float) -> "Tensor":
    """The `density` share of the entries that are largest in magnitude, at least one; entries equal to the smallest kept one are kept too."""
    kept = max(1, round(density * update.numel()))
    magnitude = update.abs()
    threshold = magnitude.flatten().kthvalue(update.numel() - kept + 1).values
    return update * (magnitude >= threshold)


def _rank(value: Any, check: Any) -> Any:
    try:
        return check(value)
    except ValidationError:
        message = "expected a whole number from 1: elected signs leave no exact result of low rank"
        raise PydanticCustomError("rank", message) from None


class SignElection(MergeMethod):
    """What TIES and DARE-TIES share: updates are merged as dense matrices, and factorised by a randomised SVD."""

    structures: ClassVar[tuple[str, ...]] = ("LoRA", *IA3)
    refusal: ClassVar[str] = NO_UPDATES
    adds_updates: ClassVar[bool] = True
    dense: ClassVar[bool] = True

    rank: Annotated[Annotated[int, Field(ge=1)], WrapValidator(_rank)] | None = Field(
        None, description="LoRA: rank of the result; the sum of the ranks where it is left out"
    )
    seed: Seed = Field(0, description="of what is drawn at random")

    @property
    def wanted_rank(self) -> int | None:
        """The rank of a LoRA result, where one is set."""
        return self.rank

    @property
    def svd_seed(self) -> int:
        """The seed of the randomised SVD."""
        return self.seed


class Ties(SignElection):
    """TIES with the paper's density by default."""

    title: ClassVar[str] = "TIES"
    arxiv: ClassVar[str] = "2306.01708"
    label: ClassVar[str] = "TIES (t = {scale})"

    method: Literal["ties"] = "ties"
    density: Density = Field(0.2, description="share of the entries that are kept, the largest ones")

    def formula(self, structure: str) -> str:
        """The equation in a line, for the model card."""
        return "trimmed, signs elected after weighting, merged disjointly"

    def combine(self, terms: "Sequence[tuple[float, Tensor]]", what: str) -> "Tensor":
        """Merge the updates of one tensor by TIES."""
        return ties(terms, self.density)
