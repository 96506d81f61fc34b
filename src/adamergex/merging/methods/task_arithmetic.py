"""Task arithmetic: updates are added, and nothing is subtracted.

Ilharco et al.: "Editing Models with Task Arithmetic", ICLR 2023, arXiv 2212.04089, section 2.

    ΔW = ΔW_T + t·ΔW_R
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

from adamergex.merging.base_method import IA3, TARGET, TASK, LowRankMethod

# Why no method that adds updates merges prompts or DoRA.
NO_UPDATES = "adds updates, and neither a prompt nor DoRA's magnitude is one"


def task_arithmetic(t: float) -> tuple[float, float]:
    """The weights of T and of R."""
    return 1.0, t


class TaskArithmetic(LowRankMethod):
    """T + t·R. The source reference is not used, given or not."""

    title: ClassVar[str] = "task arithmetic"
    arxiv: ClassVar[str] = "2212.04089"
    label: ClassVar[str] = "task arithmetic (t = {scale})"
    structures: ClassVar[tuple[str, ...]] = ("LoRA", *IA3)
    refusal: ClassVar[str] = NO_UPDATES
    adds_updates: ClassVar[bool] = True

    method: Literal["task-arithmetic"] = "task-arithmetic"

    def formula(self, structure: str) -> str:
        """The equation in a line, for the model card."""
        return "T + t·R"

    def weights(self, t: float, module: str, layers: Mapping[str, int]) -> dict[str, float]:
        """The weight of each adapter in the sum of a module, by role."""
        return dict(zip((TASK, TARGET), task_arithmetic(t), strict=True))
