"""The merged tensors, one at a time: which equation for which tensor, with which weights.

Adapters that agree with each other (`adamergex.adapters.compatibility.differences`) come in; what comes out is computed when it
is asked for, so that a folder of any size is written in the memory of one module.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from adamergex.adapters.adapter import Adapter, finite
from adamergex.adapters.module_names import depths, position
from adamergex.adapters.tensor_file import Spec
from adamergex.errors import MergeError
from adamergex.merging import baselines, equations
from adamergex.merging.lora_factors import LoraFactors, multiplied
from adamergex.merging.settings import ROLES, SOURCE, TARGET, TASK, Facts, Settings


class Combination:
    """The tensors of a merged adapter.

    Attributes:
        specs: shape and dtype of each.
        facts: filled in as tensors are computed.
        rank: of every LoRA module of the result, or None where there is none.
    """

    def __init__(self, adapters: dict[str, Adapter], settings: Settings):
        self._adapters = adapters
        self._settings = settings
        self._task = adapters[TASK]
        self._layout = self._task.layout
        self._depths = depths(self.scaled_modules())
        self._weights: dict[str, dict[str, float]] = {}
        self.facts = Facts()
        self._lora = LoraFactors(adapters, settings, self.weights, self.scale, self.facts)
        self.rank = self._lora.rank or None
        self.specs = {name: self._spec(name, spec) for name, spec in self._task.specs.items()}

    def scaled_modules(self) -> list[str]:
        """The names that a scale may be given for: modules, and for prompts `layers.N.key` and `layers.N.value`."""
        names = {module for tensor, module in self._layout.modules().items() if tensor not in self._layout.prompts}
        return sorted(names) + list(self._task.prompts())

    def pieces(self, name: str) -> Iterator[Tensor]:
        """One merged tensor, in one piece or in several that lie one below the other; each holds until the next one.

        Raises:
            MergeError: it does not fit the dtype wanted.
        """
        layout = self._layout
        if name in self._lora.modules:
            found: Iterator[Tensor] = self._lora.pieces(name)
        elif name in layout.updates:
            module, _ = layout.updates[name]
            found = iter([self._sum(module, lambda a: a.tensors[name].double() * a.layout.updates[name][1])])
        elif name in layout.multipliers:
            found = iter([self._multiplier(name, layout.multipliers[name])])
        elif name in layout.values:
            found = iter([self._sum(layout.values[name], lambda a: a.tensors[name].double())])
        elif name in layout.prompts:
            found = iter([self._prompts(name)])
        else:
            found = iter([self._task.tensors[name]])
        for piece in found:
            stored = piece.to(self.specs[name].dtype)
            if not finite(stored):
                most, dtype = torch.finfo(stored.dtype).max, str(stored.dtype).removeprefix("torch.")
                raise MergeError(f"{name} has values beyond {dtype}'s {most:.5g}; use a smaller scale or another dtype")
            yield stored

    def scale(self, module: str) -> float:
        """T of a module."""
        return self._settings.scale.of(module, self._depths)

    def weights(self, module: str) -> dict[str, float]:
        """What each adapter counts in a sum, by role."""
        if module not in self._weights:
            self._weights[module] = self._find_weights(module)
        return self._weights[module]

    def _find_weights(self, module: str) -> dict[str, float]:
        settings = self._settings
        t = self.scale(module)
        if settings.method == "layer-swap":
            own, layer = position(module)
            shape = (settings.bottom, settings.top, settings.transition)
            share = t * baselines.layer_swap(layer, self._depths.get(own, 1), *shape)
            return {TASK: 1 - share, TARGET: share}
        if settings.method == "task-arithmetic":
            return dict(zip((TASK, TARGET), baselines.task_arithmetic(t), strict=True))
        return {role: weight for role, weight in zip(ROLES, (1.0, t, -t), strict=True) if role in self._adapters}

    def _spec(self, name: str, spec: Spec) -> Spec:
        if name in self._lora.modules:
            return self._lora.spec(name)
        return Spec(spec.shape, self._settings.dtype or torch.float32) if name in self._layout.modules() else spec

    def _sum(self, module: str, read: Callable[[Adapter], Tensor]) -> Tensor:
        """Σ wᵢ·xᵢ over the adapters, or what TIES makes of it."""
        terms = [(weight, read(self._adapters[role])) for role, weight in self.weights(module).items()]
        if self._settings.method in ("ties", "dare-ties"):
            return baselines.elected(self._settings.method, terms, self._settings.share, self._settings.seed, module)
        return torch.stack([weight * value for weight, value in terms]).sum(0)

    def _multiplier(self, name: str, module: str) -> Tensor:
        additive = self._settings.rule == "additive" and self._layout.structure != "DoRA"
        if self._settings.method == "adamergex" and not additive:
            stored = {role: adapter.tensors[name] for role, adapter in self._adapters.items()}
            return multiplied(stored, self.scale(module), equations.FLOOR)
        # l = 1 leaves the model as it is, so that l − 1 is the update.
        return 1 + self._sum(module, lambda a: a.tensors[name].double() - 1)

    def _prompts(self, name: str) -> Tensor:
        """Block by block: one layer's keys, one layer's values, or the embeddings of one part of the model."""
        self.facts.computed.add(name)
        blocks = {role: adapter.prompts() for role, adapter in self._adapters.items()}
        merged = torch.stack(
            [self._prompt(block, {role: blocks[role][block] for role in blocks}) for block in blocks[TASK]]
        )
        if self._layout.structure == "prefix tuning":
            merged = merged.permute(1, 0, 2)
        return merged.reshape(self.specs[name].shape)

    def _prompt(self, block: str, of: dict[str, Tensor]) -> Tensor:
        if self._settings.method == "layer-swap":
            return self._sum(block, lambda adapter: adapter.prompts()[block].double())
        t = self.scale(block)
        if self._settings.rule == "additive":
            return equations.additive(of[TASK], of[TARGET], of[SOURCE], t)
        if self._settings.rule == "multiplicative":
            return multiplied(of, t, 0.0)
        found = equations.pseudo_inverse(of[TASK], of[TARGET], of[SOURCE], t)
        self.facts.condition[block] = found.condition
        return found.merged
