"""DARE-TIES: entries are dropped at random and the rest rescaled, then signs are elected as in TIES.

Yu et al.: "Language Models are Super Mario: Absorbing Abilities from Homologous Models as a Free Lunch", ICML 2024,
arXiv 2311.03099, section 3.

    each entry is kept with probability `density` and divided by `density`, which leaves its mean as it was
"""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from adamergex.merging.base_method import Density
from adamergex.merging.methods.ties import SignElection, elect

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def dare_ties(terms: "Sequence[tuple[float, Tensor]]", density: float, generator: "torch.Generator") -> "Tensor":
    """DARE, then TIES' election, of updates of one shape; float64.

    Args:
        terms: pairs of a weight and an update.
        density: the probability with which an entry is kept.
        generator: draws the entries that are kept.
    """
    import torch

    kept = []
    for weight, update in terms:
        mask = torch.rand(update.shape, generator=generator, dtype=torch.float64) < density
        kept.append(weight * update.double() * mask / density)
    return elect(kept)


class DareTies(SignElection):
    """DARE-TIES; which entries are dropped depends on the seed and on the tensor's name alone."""

    title: ClassVar[str] = "DARE with TIES"
    arxiv: ClassVar[str] = "2311.03099"
    label: ClassVar[str] = "DARE-TIES (t = {scale})"

    method: Literal["dare-ties"] = "dare-ties"
    density: Density = Field(0.5, description="share of the entries that are kept, at random")

    def formula(self, structure: str) -> str:
        """The equation in a line, for the model card."""
        return "entries dropped at random, signs elected after weighting"

    def combine(self, terms: "Sequence[tuple[float, Tensor]]", what: str) -> "Tensor":
        """Merge the updates of one tensor by DARE-TIES."""
        import torch

        digest = hashlib.sha256(f"{self.seed} {what}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        return dare_ties(terms, self.density, generator)
