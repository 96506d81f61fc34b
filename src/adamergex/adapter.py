"""A PEFT adapter folder: read it, check it, write it. No base model, no transformers, no peft.

A folder holds `adapter_config.json` and `adapter_model.safetensors`. For LoRA the tensors of a
module are named `base_model.model.<module>.lora_A.weight` (r, in) and `….lora_B.weight` (out, r),
and the update that the folder stands for is ΔW = scaling · B @ A.
"""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from adamergex.disk import write_synced
from adamergex.errors import AdapterError
from adamergex.lowrank import LowRank

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_FACTOR = re.compile(r"^base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight$")


@dataclass(frozen=True)
class Factors:
    """The stored factors of one module: A (r, in), B (out, r), and the scaling PEFT applies to B @ A."""

    a: Tensor
    b: Tensor
    scaling: float

    @property
    def product(self) -> LowRank:
        """ΔW = (scaling · B) @ A as a low-rank product in float64: left (out, r), right (r, in)."""
        return LowRank(self.scaling * self.b.double(), self.a.double())


@dataclass(frozen=True)
class Adapter:
    """The contents of a PEFT LoRA folder.

    Attributes:
        config: `adapter_config.json` as a dictionary.
        tensors: the stored tensors by name, on the CPU, in their stored dtype.
        origin: where it was read from, for messages.
    """

    config: dict[str, Any]
    tensors: dict[str, Tensor]
    origin: str = "adapter"

    def modules(self) -> dict[str, Factors]:
        """The LoRA factors by module name, in sorted order.

        The scaling is alpha / r, or alpha / √r for rsLoRA (arXiv 2312.03732), with the module's own
        alpha where `alpha_pattern` names it, and the rank that the tensors themselves have.

        Raises:
            AdapterError: a tensor is not a LoRA factor, or a factor lacks its partner.
        """
        sides: dict[str, dict[str, Tensor]] = {}
        for name, tensor in self.tensors.items():
            match = _FACTOR.match(name)
            if match is None:
                raise AdapterError(
                    f"{self.origin}: tensor {name} is not a LoRA factor of a linear layer; only lora_A and lora_B are merged"
                )
            sides.setdefault(match["module"], {})[match["side"]] = tensor
        factors = {}
        for module in sorted(sides):
            if len(sides[module]) != 2:
                missing = "A" if "B" in sides[module] else "B"
                raise AdapterError(f"{self.origin}: module {module} has no lora_{missing}; the file is incomplete")
            a, b = sides[module]["A"], sides[module]["B"]
            if a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1]:
                raise AdapterError(
                    f"{self.origin}: module {module} has lora_A {tuple(a.shape)} and lora_B {tuple(b.shape)}; "
                    "expected (r, in) and (out, r)"
                )
            alpha = _pattern(self.config.get("alpha_pattern") or {}, module, self.config["lora_alpha"])
            rank = a.shape[0]
            scaling = alpha / math.sqrt(rank) if self.config.get("use_rslora") else alpha / rank
            factors[module] = Factors(a, b, scaling)
        return factors


def _pattern(pattern: dict[str, float], module: str, default: float) -> float:
    """PEFT's rule: the first key that is the module's name or a regular expression for its end."""
    for key, value in pattern.items():
        if re.match(rf"(.*\.)?({key})$", module):
            return value
    return default


def load(folder: str | Path) -> Adapter:
    """Read a PEFT LoRA folder.

    Args:
        folder: holds `adapter_config.json` and `adapter_model.safetensors`.

    Raises:
        AdapterError: a file is missing or damaged, or the adapter is not plain LoRA.
    """
    folder = Path(folder)
    try:
        config = json.loads((folder / CONFIG).read_bytes())
        tensors = safetensors.torch.load_file(folder / WEIGHTS)
    except FileNotFoundError as error:
        raise AdapterError(
            f"{folder}: not a PEFT adapter folder: {Path(error.filename or WEIGHTS).name} is missing"
        ) from error
    except (OSError, ValueError, SafetensorError) as error:
        raise AdapterError(f"{folder}: cannot be read: {error}") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        kind = config.get("peft_type") if isinstance(config, dict) else type(config).__name__
        raise AdapterError(f"{folder}: {CONFIG} describes {kind}; supported: LORA")
    refused = [key for key in ("use_dora", "lora_bias", "modules_to_save", "target_parameters") if config.get(key)]
    if config.get("bias", "none") != "none":
        refused.append("bias")
    if refused:
        raise AdapterError(f"{folder}: {CONFIG} sets {', '.join(refused)}; supported: plain LoRA on linear layers")
    return Adapter(config, tensors, str(folder))


def save(adapter: Adapter, folder: str | Path) -> None:
    """Write the two files of a PEFT folder into `folder`, which exists; same adapter, same bytes."""
    folder = Path(folder)
    write_synced(folder / CONFIG, json.dumps(adapter.config, indent=2, sort_keys=True).encode() + b"\n")
    tensors = {name: adapter.tensors[name].contiguous() for name in sorted(adapter.tensors)}
    write_synced(folder / WEIGHTS, safetensors.torch.save(tensors, metadata={"format": "pt"}))


def drift(adapters: list[Adapter]) -> float:
    """How far the A factors lie apart: the largest ‖Aᵢ − Aⱼ‖ / mean(‖Aᵢ‖, ‖Aⱼ‖) over pairs, over all modules.

    0 for equal A; √2 on average for independent ones. Factor-space merging assumes it to be small.
    Returns NaN where the shapes differ.
    """
    factors = [adapter.modules() for adapter in adapters]
    largest = 0.0
    for i, one in enumerate(factors):
        for other in factors[i + 1 :]:
            if one.keys() != other.keys() or any(one[m].a.shape != other[m].a.shape for m in one):
                return math.nan
            apart = sum(float((one[m].a.double() - other[m].a.double()).square().sum()) for m in one)
            norms = [math.sqrt(sum(float(f.a.double().square().sum()) for f in side.values())) for side in (one, other)]
            largest = max(largest, 2 * math.sqrt(apart) / (sum(norms) or 1.0))
    return largest
