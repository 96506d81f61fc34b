"""Adapters beside each other: how far their A lie apart, how alike their updates are."""

import math
from collections.abc import Iterator, Mapping

from adamergex.adapters.adapter import Adapter
from adamergex.adapters.low_rank import inner
from adamergex.adapters.module_names import place
from adamergex.adapters.schema import Product


def drift(adapters: list[Adapter]) -> float:
    """How far the A factors lie apart: the largest ‖Aᵢ − Aⱼ‖ / mean(‖Aᵢ‖, ‖Aⱼ‖) over pairs, over all modules.

    0 for equal A; √2 on average for independent ones. Factor-space merging assumes it to be small.
    Returns NaN where the shapes differ, or there is no A.
    """
    products = [adapter.schema.products for adapter in adapters]
    if not products[0] or any(_shapes(one) != _shapes(products[0]) for one in products):
        return math.nan
    apart: dict[tuple[int, int], float] = {}
    squares = [0.0] * len(adapters)
    for module in products[0]:
        factors = [a.tensors[of[module].a].double() for a, of in zip(adapters, products, strict=True)]
        for i, factor in enumerate(factors):
            squares[i] += float(factor.square().sum())
            for j in range(i):
                apart[i, j] = apart.get((i, j), 0.0) + float((factor - factors[j]).square().sum())
    norms = [math.sqrt(square) for square in squares]
    return max(2 * math.sqrt(d) / (norms[i] + norms[j] or 1.0) for (i, j), d in apart.items())


def _shapes(products: Mapping[str, Product]) -> dict[str, tuple[int, int, int]]:
    return {module: (p.rank, p.columns, p.experts) for module, p in products.items()}


def cosines(one: Adapter, other: Adapter) -> dict[str, float]:
    """The cosine between what two adapters of one structure change, by layer and over all ("all").

    ΔW for LoRA, l − 1 for (IA)³, the prompts themselves. Modules outside of the layers are "other". NaN where one
    changes nothing.
    """
    sums: dict[str, list[float]] = {}
    for module, products in _inner_products(one, other):
        for where in (place(module), "all"):
            sums[where] = [a + b for a, b in zip(sums.get(where, [0.0, 0.0, 0.0]), products, strict=True)]
    return {where: dot / math.sqrt(a * b) if a > 0 and b > 0 else math.nan for where, (dot, a, b) in sums.items()}


def _inner_products(one: Adapter, other: Adapter) -> Iterator[tuple[str, tuple[float, float, float]]]:
    """⟨x, y⟩, ⟨x, x⟩ and ⟨y, y⟩ for each module that both have in one shape."""
    mine, theirs = one.schema, other.schema
    for module in sorted(mine.products.keys() & theirs.products.keys()):
        x, y = one.update(module), other.update(module)
        yield module, (inner(x, y), inner(x, x), inner(y, y))
    pairs = [
        (module, one.tensors[name].double() - 1, other.tensors[name].double() - 1)
        for name, module in mine.multipliers.items()
        if mine.structure == theirs.structure == "(IA)³" and name in theirs.multipliers
    ]
    prompts = other.prompts()
    pairs += [
        (name, value.double(), prompts[name].double()) for name, value in one.prompts().items() if name in prompts
    ]
    for module, a, b in pairs:
        if a.shape == b.shape:
            yield module, (float((a * b).sum()), float((a * a).sum()), float((b * b).sum()))
