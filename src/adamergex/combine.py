"""The merged tensors, one at a time: which equation for which tensor, with which weights.

Adapters that agree with each other (`adamergex.compare.differences`) come in; what comes out is computed when it
is asked for, so that a folder of any size is written in the memory of one module.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from adamergex import baselines, equations
from adamergex.adapter import Adapter
from adamergex.coefficients import Scale, depths, position
from adamergex.errors import MergeError
from adamergex.layout import Product
from adamergex.lowrank import LowRank, pad, singular_values, truncate, truncate_dense
from adamergex.tensorfile import Spec

Method = Literal["adamergex", "task-arithmetic", "ties", "dare-ties", "layer-swap"]
Rule = Literal["auto", "additive", "multiplicative", "pseudo-inverse"]
Space = Literal["product", "factors"]
NearZero = Literal["refuse", "keep-task"]
TASK, TARGET, SOURCE = _ROLES = "task", "reference-target", "reference-source"


@dataclass(frozen=True)
class Settings:
    """How to merge; `adamergex.merge.merge` describes each."""

    scale: Scale
    method: Method = "adamergex"
    rule: Rule = "auto"
    space: Space = "product"
    rank: int | Literal["exact"] = "exact"
    energy: float | None = None
    dtype: torch.dtype | None = None
    near_zero: NearZero = "refuse"
    density: float = 0.5
    bottom: int = 0
    top: int = 0
    transition: int = 0
    seed: int = 0


@dataclass
class Facts:
    """What merging found out; complete once every tensor was computed.

    Attributes:
        discarded_energy: per LoRA module, the share of ‖ΔW‖²_F that truncation left out.
        condition: per prompt, the condition number of the matrix that was inverted.
    """

    discarded_energy: dict[str, float] = field(default_factory=dict)
    condition: dict[str, float] = field(default_factory=dict)


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
        self._module = {p.a: m for m, p in self._layout.products.items()}
        self._module |= {p.b: m for m, p in self._layout.products.items()}
        self._last: tuple[str, dict[str, Tensor]] = ("", {})
        self.facts = Facts()
        self.rank = self._rank() if self._layout.products else None
        self.specs = {name: self._spec(name, spec) for name, spec in self._task.specs.items()}

    def scaled_modules(self) -> list[str]:
        """The names that a scale may be given for: modules, and for prompts `layers.N.key` and `layers.N.value`."""
        names = {module for tensor, module in self._layout.modules().items() if tensor not in self._layout.prompts}
        return sorted(names) + list(self._task.prompts())

    def tensor(self, name: str) -> Tensor:
        """One merged tensor.

        Raises:
            MergeError: it does not fit the dtype wanted.
        """
        layout = self._layout
        if name in self._module:
            merged = self._factor(name)
        elif name in layout.updates:
            module, _ = layout.updates[name]
            merged = self._sum(module, lambda a: a.tensors[name].double() * a.layout.updates[name][1])
        elif name in layout.multipliers:
            merged = self._multiplier(name, layout.multipliers[name])
        elif name in layout.values:
            merged = self._sum(layout.values[name], lambda a: a.tensors[name].double())
        elif name in layout.prompts:
            merged = self._prompts(name)
        else:
            return self._task.tensors[name]
        stored = merged.to(self.specs[name].dtype)
        if stored.dtype == torch.float16 and not bool(torch.isfinite(stored).all()):
            raise MergeError(f"{name} has values beyond float16's 65504; use bfloat16 or float32")
        return stored

    def weights(self, module: str) -> dict[str, float]:
        """What each adapter counts in a sum, by role."""
        settings = self._settings
        t = settings.scale.of(module, self._depths)
        if settings.method == "layer-swap":
            own, layer = position(module)
            shape = (settings.bottom, settings.top, settings.transition)
            share = t * baselines.layer_swap(layer, self._depths.get(own, 1), *shape)
            return {TASK: 1 - share, TARGET: share}
        if settings.method == "task-arithmetic":
            return dict(zip((TASK, TARGET), baselines.task_arithmetic(t), strict=True))
        return {role: weight for role, weight in zip(_ROLES, (1.0, t, -t), strict=True) if role in self._adapters}

    def _spec(self, name: str, spec: Spec) -> Spec:
        dtype = self._settings.dtype or torch.float32
        if name in self._module:
            product = self._layout.products[self._module[name]]
            ranks = (self.rank or 0) * product.experts
            shape = (ranks, product.columns) if name == product.a else (product.rows, ranks)
            return Spec(shape, dtype)
        return Spec(spec.shape, dtype) if name in self._layout.modules() else spec

    # LoRA's factors

    def _rank(self) -> int:
        """One rank for all modules: what is asked for, or what the module that needs most needs."""
        settings, products = self._settings, self._layout.products
        if settings.space == "factors" or settings.rule == "multiplicative":
            return max(product.rank for product in products.values())
        if isinstance(settings.rank, int):
            return settings.rank
        if settings.energy is None:
            return max(sum(self._of(role, module).rank for role in self.weights(module)) for module in products)
        needed = 1
        for module in products:
            energy = singular_values(self._stack(module)).square().reshape(-1, self._stacked_rank(module)).sum(0)
            tail = energy.flip(0).cumsum(0).flip(0)
            needed = max(needed, int((tail > (1 - settings.energy) * tail[0]).sum()))
        return needed

    def _of(self, role: str, module: str) -> Product:
        return self._adapters[role].layout.products[module]

    def _stacked_rank(self, module: str) -> int:
        product = self._layout.products[module]
        ranks = sum(self._of(role, module).rank for role in self.weights(module))
        return min(ranks, product.rows, product.columns)

    def _factor(self, name: str) -> Tensor:
        """A or B of a module."""
        module = self._module[name]
        settings, product = self._settings, self._layout.products[module]
        exact = settings.rank == "exact" and settings.energy is None and settings.rule != "multiplicative"
        if exact and settings.space == "product" and settings.method not in ("ties", "dare-ties"):
            self.facts.discarded_energy[module] = 0.0
            return self._side_by_side(module, "a" if name == product.a else "b")
        if self._last[0] != module:
            low_rank = pad(self._low_rank(module), self.rank or 0)
            a, b = low_rank.right, low_rank.left
            if product.experts > 1:
                a, b = a.flatten(0, 1), b.permute(1, 2, 0).flatten(1)
            self._last = (module, {product.a: a, product.b: b})
        return self._last[1][name]

    def _side_by_side(self, module: str, side: Literal["a", "b"]) -> Tensor:
        """The exact stack's A or B, in the order of the file, padded with zeros to the common rank; float32.

        Experts lie before the rank in A, (E, r, in), and after it in B, (out, r, E): in both it is the middle.
        """
        product, rank = self._layout.products[module], self.rank or 0
        shape = (product.experts, rank, product.columns) if side == "a" else (product.rows, rank, product.experts)
        stacked = torch.empty(shape, dtype=torch.float32)
        begin = 0
        for role, weight in self.weights(module).items():
            part = self._of(role, module)
            stored = self._adapters[role].tensors[getattr(part, side)].view(shape[0], part.rank, shape[2])
            block = stacked.narrow(1, begin, part.rank)
            if side == "b":
                torch.mul(stored.float(), weight * part.scaling, out=block)
            else:
                block.copy_(stored)
            begin += part.rank
        stacked.narrow(1, begin, rank - begin).zero_()
        return stacked.view(product.experts * rank, product.columns) if side == "a" else stacked.view(product.rows, -1)

    def _stack(self, module: str) -> LowRank:
        return equations.lora_product(
            [(weight, self._adapters[role].update(module)) for role, weight in self.weights(module).items()]
        )

    def _low_rank(self, module: str) -> LowRank:
        """What is not an exact stack: factor space, truncation, and updates that only exist densely."""
        settings, rank = self._settings, self.rank or 0
        updates = {role: self._adapters[role].update(module) for role in self.weights(module)}
        if settings.rule == "multiplicative":
            left = {role: update.left for role, update in updates.items()}
            right = {role: update.right for role, update in updates.items()}
            return LowRank(self._multiplied(left, module, 0.0), self._multiplied(right, module, 0.0))
        if settings.space == "factors":
            return equations.lora_factors([(weight, updates[role]) for role, weight in self.weights(module).items()])
        if settings.method in ("ties", "dare-ties"):
            return self._from_dense(module, rank)
        found = truncate(self._stack(module), rank)
        self.facts.discarded_energy[module] = found.discarded_energy
        return found.product

    def _from_dense(self, module: str, rank: int) -> LowRank:
        """TIES and DARE-TIES, expert by expert, brought back to a low rank."""
        updates = {role: self._adapters[role].update(module) for role in self.weights(module)}
        experts = self._layout.products[module].experts
        lefts, rights, lost, total = [], [], 0.0, 0.0
        for expert in range(experts):
            terms = []
            for role, weight in self.weights(module).items():
                left, right = updates[role]
                terms.append((weight, left @ right if experts == 1 else left[expert] @ right[expert]))
            dense = self._elected(terms, f"{module}.{expert}")
            found = truncate_dense(dense, rank, self._settings.seed)
            energy = float(dense.square().sum())
            lost, total = lost + found.discarded_energy * energy, total + energy
            lefts.append(found.product.left)
            rights.append(found.product.right)
        self.facts.discarded_energy[module] = lost / total if total else 0.0
        return LowRank(lefts[0], rights[0]) if experts == 1 else LowRank(torch.stack(lefts), torch.stack(rights))

    # Everything else

    def _elected(self, terms: list[tuple[float, Tensor]], what: str) -> Tensor:
        if self._settings.method == "ties":
            return baselines.ties(terms, self._settings.density)
        # Of its own for each tensor, so that the order in which they are asked for does not matter.
        generator = torch.Generator().manual_seed(_seed(self._settings.seed, what))
        return baselines.dare_ties(terms, self._settings.density, generator)

    def _sum(self, module: str, read: Callable[[Adapter], Tensor]) -> Tensor:
        """Σ wᵢ·xᵢ over the adapters, or what TIES makes of it."""
        terms = [(weight, read(self._adapters[role])) for role, weight in self.weights(module).items()]
        if self._settings.method in ("ties", "dare-ties"):
            return self._elected(terms, module)
        return torch.stack([weight * value for weight, value in terms]).sum(0)

    def _multiplier(self, name: str, module: str) -> Tensor:
        additive = self._settings.rule == "additive" and self._layout.structure != "DoRA"
        if self._settings.method == "adamergex" and not additive:
            stored = {role: adapter.tensors[name] for role, adapter in self._adapters.items()}
            return self._multiplied(stored, module, equations.FLOOR)
        # l = 1 leaves the model as it is, so that l − 1 is the update.
        return 1 + self._sum(module, lambda a: a.tensors[name].double() - 1)

    def _multiplied(self, of: dict[str, Tensor], module: str, floor: float) -> Tensor:
        """The multiplicative rule; the task's value where the divisor is too near zero for one."""
        t = self._settings.scale.of(module, self._depths)
        merged = equations.multiplicative(of[TASK], of[TARGET], of[SOURCE], t)
        return torch.where(equations.near_zero(of[SOURCE], floor), of[TASK].double(), merged)

    def _prompts(self, name: str) -> Tensor:
        """Block by block: one layer's keys, one layer's values, or the embeddings of one part of the model."""
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
        t = self._settings.scale.of(block, self._depths)
        if self._settings.rule == "additive":
            return equations.additive(of[TASK], of[TARGET], of[SOURCE], t)
        if self._settings.rule == "multiplicative":
            return self._multiplied(of, block, 0.0)
        found = equations.pseudo_inverse(of[TASK], of[TARGET], of[SOURCE], t)
        self.facts.condition[block] = found.condition
        return found.merged


def _seed(seed: int, what: str) -> int:
    """A seed of its own for each tensor, the same in every process."""
    return int.from_bytes(hashlib.sha256(f"{seed} {what}".encode()).digest()[:7], "big")
