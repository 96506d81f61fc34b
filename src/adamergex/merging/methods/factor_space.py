"""AdaMergeX in factor space: A and B of LoRA are merged separately, as in the code that the paper's authors published.

Zhao et al., arXiv 2402.18913; https://github.com/DAMO-NLP-SG/AdaMergeX, test_combine_llama2.py.

    ΔW = (B_T + t·(B_R − B_S)) · (A_T + t·(A_R − A_S))

That is not the sum of the updates: there are cross terms, and S enters as +t²·B_S·A_S. Both are close only where the
three A are close to one shared initialisation (`adamergex.adapters.similarity.drift`).
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from adamergex.merging.base_method import LORA, SOURCE, TARGET, TASK, MergeMethod, NearZero
from adamergex.merging.methods.adamergex import multiplicative

if TYPE_CHECKING:
    from torch import Tensor

    from adamergex.adapters.low_rank import LowRank


def lora_factors(terms: "Sequence[tuple[float, LowRank]]") -> "LowRank":
    """(Σ wᵢ·Bᵢ) @ (Σ wᵢ·Aᵢ), float64.

    Args:
        terms: pairs of a weight and a product, left (..., out, r) with the scaling in it, right (..., r, in); all of
            one rank and one scaling.
    """
    import torch

    from adamergex.adapters.low_rank import LowRank

    left = torch.stack([weight * product.left.double() for weight, product in terms]).sum(0)
    return LowRank(left, torch.stack([weight * product.right.double() for weight, product in terms]).sum(0))


class FactorSpace(MergeMethod):
    """The published code's sum. DoRA's magnitudes are merged by quotients, as in AdaMergeX."""

    title: ClassVar[str] = "AdaMergeX in factor space"
    arxiv: ClassVar[str] = "2402.18913"
    label: ClassVar[str] = "merged in factor space (t = {scale})"
    structures: ClassVar[tuple[str, ...]] = LORA
    refusal: ClassVar[str] = "merges A and B of LoRA"
    needs_source: ClassVar[bool] = True
    assumes_shared_start: ClassVar[bool] = True

    method: Literal["factor-space"] = "factor-space"
    near_zero: NearZero = Field(
        "refuse", description="DoRA: refuse magnitudes near zero, or keep the task's value there"
    )

    @property
    def needs_equal_ranks(self) -> bool:
        """LoRA's A and B are merged separately."""
        return True

    @property
    def divisors(self) -> NearZero | None:
        """What to do where the source's magnitudes are near zero."""
        return self.near_zero

    def formula(self, structure: str) -> str:
        """The equation in a line, for the model card."""
        if structure == "DoRA":
            return "A and B merged separately, and m = m_T ⊙ (1 + t·(m_R ⊘ m_S − 1))"
        return "A = A_T + t·(A_R − A_S) and B = B_T + t·(B_R − B_S), as in the paper's code"

    def multiplier(
        self, stored: "Mapping[str, Tensor]", weights: Mapping[str, float], t: float, what: str, structure: str
    ) -> "Tensor":
        """Merge DoRA's magnitudes by quotients."""
        return multiplicative(stored[TASK], stored[TARGET], stored[SOURCE], t)

    def factors(self, updates: "Mapping[str, LowRank]", weights: Mapping[str, float], t: float) -> "LowRank":
        """Merge A and B, each as a sum."""
        return lora_factors([(weight, updates[role]) for role, weight in weights.items()])
