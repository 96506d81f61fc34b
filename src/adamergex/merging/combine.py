"""The merged tensors, one at a time: which operation of the method merges which tensor, with which weights.

The adapters are compatible (`adamergex.adapters.compatibility.differences`). Tensors are computed at access, so that a
folder of any size is written in the memory of one module.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from adamergex.adapters.adapter import Adapter, finite
from adamergex.adapters.module_names import depths
from adamergex.adapters.tensor_file import Spec
from adamergex.errors import MergeError
from adamergex.merging.base_method import TASK, MergeMethod
from adamergex.merging.checks import scaled_modules
from adamergex.merging.lora_factors import LoraFactors
from adamergex.merging.stats import MergeStats


class Combination:
    """The tensors of a merged adapter.

    Attributes:
        specs: shape and dtype of each.
        stats: filled in as tensors are computed.
        rank: of every LoRA module of the result, or None where there is none.
    """

    def __init__(self, adapters: dict[str, Adapter], method: MergeMethod):
        self._adapters = adapters
        self._method = method
        self._task = adapters[TASK]
        self._schema = self._task.schema
        self._dtype: torch.dtype = getattr(torch, method.dtype or "float32")
        self._layers = depths(scaled_modules(self._task))
        self._weights: dict[str, dict[str, float]] = {}
        self.stats = MergeStats()
        self._lora = LoraFactors(adapters, method, self._dtype, self.weights, self.scale, self.stats)
        self.rank = self._lora.rank or None
        self.specs = {name: self._spec(name, spec) for name, spec in self._task.specs.items()}

    def pieces(self, name: str) -> Iterator[Tensor]:
        """One merged tensor, as one or several consecutive blocks of rows; each is valid until the next one is requested.

        Raises:
            MergeError: its values exceed the range of the result's dtype.
        """
        schema = self._schema
        if name in self._lora.modules:
            pieces: Iterator[Tensor] = self._lora.pieces(name)
        elif name in schema.updates:
            module, _ = schema.updates[name]
            pieces = iter([self._sum(module, lambda a: a.tensors[name].double() * a.schema.updates[name][1])])
        elif name in schema.multipliers:
            pieces = iter([self._multiplier(name, schema.multipliers[name])])
        elif name in schema.values:
            pieces = iter([self._sum(schema.values[name], lambda a: a.tensors[name].double())])
        elif name in schema.prompts:
            pieces = iter([self._prompts(name)])
        else:
            pieces = iter([self._task.tensors[name]])
        for piece in pieces:
            stored = piece.to(self.specs[name].dtype)
            if not finite(stored):
                most, dtype = torch.finfo(stored.dtype).max, str(stored.dtype).removeprefix("torch.")
                raise MergeError(f"{name} has values beyond {dtype}'s {most:.5g}; use a smaller scale or another dtype")
            yield stored

    def scale(self, module: str) -> float:
        """The scale t of a module."""
        return self._method.scale.of(module, self._layers)

    def weights(self, module: str) -> dict[str, float]:
        """The weight of each given adapter in a module's sum, by role."""
        if module not in self._weights:
            weights = self._method.weights(self.scale(module), module, self._layers)
            self._weights[module] = {role: weight for role, weight in weights.items() if role in self._adapters}
        return self._weights[module]

    def _spec(self, name: str, spec: Spec) -> Spec:
        if name in self._lora.modules:
            return self._lora.spec(name)
        return Spec(spec.shape, self._dtype) if name in self._schema.modules() else spec

    def _sum(self, module: str, read: Callable[[Adapter], Tensor]) -> Tensor:
        """The combined updates of the adapters."""
        terms = [(weight, read(self._adapters[role])) for role, weight in self.weights(module).items()]
        return self._method.combine(terms, module)

    def _multiplier(self, name: str, module: str) -> Tensor:
        stored = {role: adapter.tensors[name] for role, adapter in self._adapters.items()}
        structure = self._schema.structure
        return self._method.multiplier(stored, self.weights(module), self.scale(module), module, structure)

    def _prompts(self, name: str) -> Tensor:
        """Merge block by block: one layer's keys, one layer's values, or the embeddings of an encoder or a decoder."""
        self.stats.computed.add(name)
        blocks = {role: adapter.prompts() for role, adapter in self._adapters.items()}
        parts = []
        for block in blocks[TASK]:
            stored = {role: blocks[role][block] for role in blocks}
            merged, condition = self._method.prompt(stored, self.weights(block), self.scale(block), block)
            if condition is not None:
                self.stats.condition[block] = condition
            parts.append(merged)
        stacked = torch.stack(parts)
        if self._schema.structure == "prefix tuning":
            stacked = stacked.permute(1, 0, 2)
        return stacked.reshape(self.specs[name].shape)
