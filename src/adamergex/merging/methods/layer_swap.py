"""Layer swapping: the first and last layers come from the target reference, those between from the task adapter.

Bandarkar et al.: "Layer Swapping for Zero-Shot Cross-Lingual Transfer in Large Language Models", ICLR 2025,
arXiv 2410.01335, section 4.

    (1 − t·share)·T + t·share·R, where the share of a layer is 1 at both ends, 0 inside, and goes down in equal steps
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from adamergex.adapters.module_names import position
from adamergex.merging.base_method import IA3, LORA, TARGET, TASK, Layers, LowRankMethod


def layer_swap(layer: int | None, layers: int, bottom: int, top: int, transition: int) -> float:
    """The share of the target reference in a layer.

    Args:
        layer: from 0; None for a module outside of the layers, which is the task adapter's.
        layers: the number of layers.
        bottom: how many of the first layers are the target reference's.
        top: how many of the last layers are.
        transition: how many layers next to each of the two are mixed.
    """
    if layer is None:
        return 0.0
    inside = min(layer - bottom if bottom else math.inf, (layers - 1 - layer) - top if top else math.inf)
    return min(1.0, max(0.0, 1 - (inside + 1) / (transition + 1)))


class LayerSwap(LowRankMethod):
    """Layer swapping. `bottom` and `top` have no default above 0: the number of layers is to be chosen on a validation set."""

    title: ClassVar[str] = "layer swapping"
    arxiv: ClassVar[str] = "2410.01335"
    label: ClassVar[str] = "layer swapping"
    structures: ClassVar[tuple[str, ...]] = (*LORA, *IA3, "prefix tuning")
    refusal: ClassVar[str] = "swaps layers, and a prompt at the input has none"
    published: ClassVar[Mapping[str, Any]] = {"bottom": 6, "top": 2, "transition": 2}

    method: Literal["layer-swap"] = "layer-swap"
    bottom: Layers = Field(0, description="how many of the first layers are the target reference's")
    top: Layers = Field(0, description="how many of the last layers are the target reference's")
    transition: Layers = Field(0, description="how many layers mix, next to each of the two")

    @model_validator(mode="after")
    def _swaps_something(self) -> Self:
        if not self.bottom and not self.top:
            raise ValueError("layer-swap swaps nothing; say how many layers with bottom and top")
        return self

    def formula(self, structure: str) -> str:
        """The equation in a line, for the model card."""
        return "the first and last layers from R, the rest from T"

    def weights(self, t: float, module: str, layers: Mapping[str, int]) -> dict[str, float]:
        """The weight of each adapter in the sum of a module, by role."""
        stack, layer = position(module)
        share = t * layer_swap(layer, layers.get(stack, 1), self.bottom, self.top, self.transition)
        return {TASK: 1 - share, TARGET: share}
