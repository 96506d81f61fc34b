"""The factors of a merged LoRA: stacked exactly, truncated, merged separately, or factorised from a dense update."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Literal

import torch
from torch import Tensor

from adamergex.adapters.adapter import Adapter
from adamergex.adapters.low_rank import LowRank, pad, singular_values, stack, truncate, truncate_dense
from adamergex.adapters.schema import Product
from adamergex.adapters.tensor_file import Spec
from adamergex.merging.base_method import TASK, MergeMethod
from adamergex.merging.stats import MergeStats


class LoraFactors:
    """A and B of every module of a merged LoRA, all of one rank.

    Args:
        adapters: by role.
        method: the merging method.
        dtype: of A and B.
        weights: the weight of each adapter in the sum of a module, by role.
        scale: t of a module.
        stats: receives the discarded energy of each module.

    Attributes:
        rank: of every module.
        modules: name of each tensor → its module.
    """

    def __init__(
        self,
        adapters: Mapping[str, Adapter],
        method: MergeMethod,
        dtype: torch.dtype,
        weights: Callable[[str], Mapping[str, float]],
        scale: Callable[[str], float],
        stats: MergeStats,
    ):
        self._adapters, self._method, self._dtype, self._stats = adapters, method, dtype, stats
        self._weights, self._scale = weights, scale
        self._products = adapters[TASK].schema.products
        self.modules = {name: module for module, p in self._products.items() for name in (p.a, p.b)}
        cut = method.wanted_rank is not None or method.wanted_energy is not None
        self._stacked = not (cut or method.needs_equal_ranks or method.dense)
        self._memory = torch.empty(0)
        self._last: tuple[str, dict[str, Tensor]] = ("", {})
        self.rank = self._find_rank() if self._products else 0

    def spec(self, name: str) -> Spec:
        """Shape and dtype of A or B."""
        product, dtype = self._products[self.modules[name]], self._dtype
        ranks = self.rank * product.experts
        return Spec((ranks, product.columns) if name == product.a else (product.rows, ranks), dtype)

    def pieces(self, name: str) -> Iterator[Tensor]:
        """A or B in float32 or float64, as one block or, for a stacked A, as several consecutive blocks of rows.

        A block is valid until the next one is requested.
        """
        module = self.modules[name]
        product = self._products[module]
        self._stats.computed.add(module)
        if self._stacked:
            self._stats.discarded_energy[module] = 0.0
            if name == product.a and product.experts == 1:
                yield from self._rows(module)
            else:
                yield self._side_by_side(module, "a" if name == product.a else "b")
            return
        if self._last[0] != module:
            low_rank = pad(self._low_rank(module), self.rank)
            a, b = low_rank.right, low_rank.left
            if product.experts > 1:
                a, b = a.flatten(0, 1), b.permute(1, 2, 0).flatten(1)
            self._last = (module, {product.a: a, product.b: b})
        yield self._last[1][name]

    def _find_rank(self) -> int:
        """One rank for all modules: the one that is set, or the largest that a module needs."""
        method = self._method
        if method.needs_equal_ranks:
            return max(product.rank for product in self._products.values())
        sums = {m: sum(self._product(role, m).rank for role in self._weights(m)) for m in self._products}
        if method.wanted_rank is not None:
            # A higher rank would only add zeros.
            full = (min(p.rows, p.columns) if method.dense else sums[m] for m, p in self._products.items())
            return min(method.wanted_rank, max(full))
        if method.wanted_energy is None:
            return max(sums.values())
        needed = 1
        for module in self._products:
            sigma = singular_values(self._stack(module))
            energy = sigma.square().reshape(-1, sigma.shape[-1]).sum(0)
            tail = energy.flip(0).cumsum(0).flip(0)
            # Below 1e-14, the square of what float32 resolves, is rounding.
            needed = max(needed, int((tail > max(1 - method.wanted_energy, 1e-14) * tail[0]).sum()))
        return needed

    def _product(self, role: str, module: str) -> Product:
        return self._adapters[role].schema.products[module]

    def _rows(self, module: str) -> Iterator[Tensor]:
        """The exact stack's A: the A of each adapter, concatenated, and zeros up to the common rank."""
        missing = self.rank
        for role in self._weights(module):
            part = self._product(role, module)
            missing -= part.rank
            yield self._adapters[role].tensors[part.a].float()
        if missing:
            yield torch.zeros(missing, self._products[module].columns)

    def _side_by_side(self, module: str, side: Literal["a", "b"]) -> Tensor:
        """The exact stack's A or B, in the order of the file, padded with zeros to the common rank; float32.

        The experts come before the rank in A, (E, r, in), and after it in B, (out, r, E): the rank is the middle dimension.
        """
        product = self._products[module]
        before, after = (product.experts, product.columns) if side == "a" else (product.rows, product.experts)
        stacked = self._buffer(before, self.rank, after)
        begin = 0
        for role, weight in self._weights(module).items():
            part = self._product(role, module)
            stored = self._adapters[role].tensors[getattr(part, side)].view(before, part.rank, after)
            block = stacked.narrow(1, begin, part.rank)
            if side == "b":
                torch.mul(stored.float(), weight * part.scaling, out=block)
            else:
                block.copy_(stored)
            begin += part.rank
            # Freed here, or it would stay in memory while the next one is read.
            del stored
        stacked.narrow(1, begin, self.rank - begin).zero_()
        return stacked.flatten(0, 1) if side == "a" else stacked.flatten(1)

    def _buffer(self, *shape: int) -> Tensor:
        """A buffer that all blocks share: allocating one for each costs more than the arithmetic."""
        size = math.prod(shape)
        if self._memory.numel() < size:
            self._memory = torch.empty(size, dtype=torch.float32)
        return self._memory[:size].view(shape)

    def _stack(self, module: str) -> LowRank:
        return stack([(weight, self._adapters[role].update(module)) for role, weight in self._weights(module).items()])

    def _low_rank(self, module: str) -> LowRank:
        """All but the exact stack: A and B merged separately, truncated sums, and dense updates."""
        method, weights = self._method, self._weights(module)
        if method.dense:
            return self._from_dense(module)
        if method.needs_equal_ranks:
            updates = {role: self._adapters[role].update(module) for role in weights}
            return method.factors(updates, weights, self._scale(module))
        truncated = truncate(self._stack(module), self.rank)
        self._stats.discarded_energy[module] = truncated.discarded_energy
        return truncated.product

    def _from_dense(self, module: str) -> LowRank:
        """Dense updates, merged expert by expert, and factorised to a low rank."""
        updates = {role: self._adapters[role].update(module) for role in self._weights(module)}
        experts = self._products[module].experts
        lefts, rights, lost, total = [], [], 0.0, 0.0
        for expert in range(experts):
            terms = []
            for role, weight in self._weights(module).items():
                left, right = updates[role]
                terms.append((weight, left @ right if experts == 1 else left[expert] @ right[expert]))
            dense = self._method.combine(terms, f"{module}.{expert}")
            truncated = truncate_dense(dense, self.rank, self._method.svd_seed)
            energy = float(dense.square().sum())
            lost, total = lost + truncated.discarded_energy * energy, total + energy
            lefts.append(truncated.product.left)
            rights.append(truncated.product.right)
        self._stats.discarded_energy[module] = lost / total if total else 0.0
        return LowRank(lefts[0], rights[0]) if experts == 1 else LowRank(torch.stack(lefts), torch.stack(rights))
