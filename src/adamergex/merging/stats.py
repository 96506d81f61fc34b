"""The figures of a merge, beside the merged tensors."""

from dataclasses import dataclass, field


@dataclass
class MergeStats:
    """Complete once every tensor has been computed.

    Attributes:
        discarded_energy: per LoRA module, the share of ‖ΔW‖²_F that truncation left out.
        condition: per prompt, the condition number of the matrix that was inverted.
        computed: the modules and prompts that were computed.
    """

    discarded_energy: dict[str, float] = field(default_factory=dict)
    condition: dict[str, float] = field(default_factory=dict)
    computed: set[str] = field(default_factory=set)
