"""AdaMergeX: one equation for each way in which an adapter enters the model.

Zhao, Zhang, Wang, Kawaguchi, Bing: "AdaMergeX: Cross-Lingual Transfer with Large Language Models via Adaptive Adapter
Merging", NAACL 2025, arXiv 2402.18913, section 3.

Three adapters of one frozen base model: the task in the source language (T), and the reference task in the target
language (R) and in the source language (S). The difference between the languages on the reference
task is taken for that on the task. `t` is one scalar; every equation gives T at t = 0 and wherever R = S.

    LoRA                     ΔW = ΔW_T + t·(ΔW_R − ΔW_S)
    (IA)³, DoRA's magnitude   l = l_T ⊙ (1 + t·(l_R ⊘ l_S − 1))
    prefix, p-, prompt tuning P = P_T + t·(P_R − P_S)·P_S⁺·P_T
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from adamergex.merging.base_method import PROMPTS, SOURCE, TARGET, TASK, LowRankMethod, NearZero, Prompt

if TYPE_CHECKING:
    from torch import Tensor

    from adamergex.adapters.low_rank import LowRank

# (IA)³ starts at 1, so that a channel below this is all but switched off, and a quotient by it is noise.
FLOOR = 2.0**-10
_FORMULAS = {
    "LoRA": "ΔW = ΔW_T + t·(ΔW_R − ΔW_S)",
    "DoRA": "ΔW = ΔW_T + t·(ΔW_R − ΔW_S) and m = m_T ⊙ (1 + t·(m_R ⊘ m_S − 1))",
    "(IA)³": "l = l_T ⊙ (1 + t·(l_R ⊘ l_S − 1))",
    "prefix tuning": "P = P_T + t·(P_R − P_S)·P_S⁺·P_T for each layer's keys and values",
    "p-tuning": "P = P_T + t·(P_R − P_S)·P_S⁺·P_T",
    "prompt tuning": "P = P_T + t·(P_R − P_S)·P_S⁺·P_T",
}


def additive(task: "Tensor", target: "Tensor", source: "Tensor", t: float) -> "Tensor":
    """T + t·(R − S), for what is added to the model. All of one shape; float64."""
    return task.double() + t * (target.double() - source.double())


def multiplicative(task: "Tensor", target: "Tensor", source: "Tensor", t: float, floor: float = FLOOR) -> "Tensor":
    """T ⊙ (1 + t·(R ⊘ S − 1)), for what multiplies; the task's value where a divisor is too near zero for a quotient.

    Args:
        task: of any shape.
        target: of the same shape.
        source: of the same shape.
        t: the scale.
        floor: |S| up to it is too near zero.

    Returns:
        The merged tensor, float64.
    """
    import torch

    merged = task.double() * (1 + t * (target.double() / source.double() - 1))
    return torch.where(near_zero(source, floor), task.double(), merged)


def near_zero(divisor: "Tensor", floor: float = FLOOR) -> "Tensor":
    """Where |divisor| ≤ floor, as a boolean tensor."""
    return divisor.abs() <= floor


def pseudo_inverse(task: "Tensor", target: "Tensor", source: "Tensor", t: float) -> Prompt:
    """T + t·(R − S)·S⁺·T, for prompts: rows are virtual tokens; S⁺ is the Moore–Penrose inverse.

    The paper has t·(R·S⁺)·T: R·S⁺ is the (v, v) map that takes the source's tokens to the target's, and is
    applied to T. At t = 1 both agree if S has full row rank (S·S⁺ = 1), which v virtual tokens of width d ≥ v have;
    this form is T at t = 0, where the paper's is zero, and wherever R = S, also where S has not full rank.

    Args:
        task: (v, d): one layer's keys, one layer's values, or p-tuning's embeddings.
        target: of the same shape.
        source: of the same shape.
        t: the scale.

    Returns:
        The merged (v, d) in float64, and the condition number of S: the factor by which its noise may be amplified;
        infinity where it has not full row rank. Singular values below max(v, d)·ε(float32) of the largest count as 0.
    """
    import torch

    u, sigma, vt = torch.linalg.svd(source.double(), full_matrices=False)
    kept = sigma > max(source.shape) * torch.finfo(torch.float32).eps * sigma[0]
    inverse = (vt[kept].mT / sigma[kept]) @ u[:, kept].mT
    condition = float(sigma[0] / sigma[-1]) if bool(kept.all()) and len(sigma) == len(source) else float("inf")
    return Prompt(task.double() + t * ((target.double() - source.double()) @ (inverse @ task.double())), condition)


class AdaMergeX(LowRankMethod):
    """The paper's method; the structure of the adapters decides which equation is used."""

    title: ClassVar[str] = "AdaMergeX"
    arxiv: ClassVar[str] = "2402.18913"
    label: ClassVar[str] = "merged (t = {scale})"
    needs_source: ClassVar[bool] = True
    simpler: ClassVar[tuple[str, ...]] = ("task-arithmetic",)

    method: Literal["adamergex"] = "adamergex"
    rule: Literal["auto", "additive", "multiplicative", "pseudo-inverse"] = Field(
        "auto", description="auto is that of the adapter's structure; others are for ablations"
    )
    near_zero: NearZero = Field(
        "refuse", description="(IA)³, DoRA: refuse divisors near zero, or keep the task's value there"
    )

    @model_validator(mode="after")
    def _no_rank_where_factors_are_merged_separately(self) -> Self:
        if self.needs_equal_ranks and (self.rank != "exact" or self.energy is not None):
            raise ValueError("a rank or an energy has no meaning with the multiplicative rule; leave it out")
        return self

    @property
    def needs_equal_ranks(self) -> bool:
        """Whether LoRA's A and B are merged separately, each by the multiplicative rule: an ablation."""
        return self.rule == "multiplicative"

    @property
    def divisors(self) -> NearZero | None:
        """What to do where the source's multipliers are near zero; the additive rule does not divide."""
        return self.near_zero if self.rule in ("auto", "multiplicative") else None

    def refuses(self, structure: str) -> str | None:
        """Why adapters of a structure cannot be merged with these settings, or None."""
        if self.rule == "pseudo-inverse" and structure not in PROMPTS:
            return "the pseudo-inverse rule is for prompts"
        return super().refuses(structure)

    def formula(self, structure: str) -> str:
        """The equation in a line, for the model card."""
        return _FORMULAS[structure] if self.rule == "auto" else f"the {self.rule} rule, for an ablation"

    def multiplier(
        self, stored: "Mapping[str, Tensor]", weights: Mapping[str, float], t: float, what: str, structure: str
    ) -> "Tensor":
        """Merge by quotients, or by sums where the additive rule is set; DoRA's magnitudes are never added."""
        if self.rule == "additive" and structure != "DoRA":
            return super().multiplier(stored, weights, t, what, structure)
        return multiplicative(stored[TASK], stored[TARGET], stored[SOURCE], t)

    def prompt(self, stored: "Mapping[str, Tensor]", weights: Mapping[str, float], t: float, what: str) -> Prompt:
        """Merge with the pseudo-inverse, unless another rule is set."""
        parts = stored[TASK], stored[TARGET], stored[SOURCE], t
        if self.rule == "additive":
            return Prompt(additive(*parts))
        return Prompt(multiplicative(*parts, 0.0)) if self.rule == "multiplicative" else pseudo_inverse(*parts)

    def factors(self, updates: "Mapping[str, LowRank]", weights: Mapping[str, float], t: float) -> "LowRank":
        """Merge A and B separately by the multiplicative rule."""
        from adamergex.adapters.low_rank import LowRank

        task, target, source = updates[TASK], updates[TARGET], updates[SOURCE]
        left = multiplicative(task.left, target.left, source.left, t, 0.0)
        return LowRank(left, multiplicative(task.right, target.right, source.right, t, 0.0))
