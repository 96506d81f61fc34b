"""How adapters are merged, and what merging found out: plain values that the rooms of merging pass to each other."""

from dataclasses import dataclass, field
from typing import Literal

import torch

from adamergex.merging.scale import Scale

Method = Literal["adamergex", "task-arithmetic", "ties", "dare-ties", "layer-swap"]
Rule = Literal["auto", "additive", "multiplicative", "pseudo-inverse"]
Space = Literal["product", "factors"]
# The share of entries kept where none is given: TIES' own, and a half.
DENSITY = {"ties": 0.2, "dare-ties": 0.5}
NearZero = Literal["refuse", "keep-task"]
TASK, TARGET, SOURCE = ROLES = "task", "reference-target", "reference-source"


@dataclass(frozen=True)
class Settings:
    """How to merge; `adamergex.merging.merge.merge` describes each."""

    scale: Scale
    method: Method = "adamergex"
    rule: Rule = "auto"
    space: Space = "product"
    rank: int | Literal["exact"] = "exact"
    energy: float | None = None
    dtype: torch.dtype | None = None
    near_zero: NearZero = "refuse"
    density: float | None = None
    bottom: int = 0
    top: int = 0
    transition: int = 0
    seed: int = 0

    @property
    def share(self) -> float:
        """`density`, or the method's own."""
        return DENSITY.get(self.method, 1.0) if self.density is None else self.density


@dataclass
class Facts:
    """What merging found out; complete once every tensor was computed.

    Attributes:
        discarded_energy: per LoRA module, the share of ‖ΔW‖²_F that truncation left out.
        condition: per prompt, the condition number of the matrix that was inverted.
        computed: the modules and prompts that were computed.
    """

    discarded_energy: dict[str, float] = field(default_factory=dict)
    condition: dict[str, float] = field(default_factory=dict)
    computed: set[str] = field(default_factory=set)
