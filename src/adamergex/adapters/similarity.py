"""Adapters compared: the distance between their A factors, and the cosine between their updates."""

import math
from collections.abc import Iterator, Mapping

from adamergex.adapters.adapter import Adapter
from adamergex.adapters.low_rank import inner
from adamergex.adapters.module_names import place
from adamergex.adapters.schema import Product


def drift(adapters: list[Adapter]) -> float:
    """The relative distance between A factors: the largest ‖Aᵢ − Aⱼ‖ / mean(‖Aᵢ‖, ‖Aⱼ‖) over pairs, over all modules.

    0 for equal A; √2 on average for independent ones. Factor-space merging assumes it to be small.
    Returns NaN where the shapes differ, or there is no A.
    """
    products = [adapter.schema.products for adapter in adapters]
    if not products[0] or any(_shapes(other) != _shapes(products[0]) for other in products):
        return math.nan
    distances: dict[tuple[int, int], float] = {}
    squares = [0.0] * len(adapters)
    for module in products[0]:
        factors = [
            a.tensors[module_products[module].a].double() for a, module_products in zip(adapters, products, strict=True)
        ]
        for i, factor in enumerate(factors):
            squares[i] += float(factor.square().sum())
            for j in range(i):
                distances[i, j] = distances.get((i, j), 0.0) + float((factor - factors[j]).square().sum())
    norms = [math.sqrt(square) for square in squares]
    return max(2 * math.sqrt(d) / (norms[i] + norms[j] or 1.0) for (i, j), d in distances.items())


def _shapes(products: Mapping[str, Product]) -> dict[str, tuple[int, int, int]]:
    return {module: (p.rank, p.columns, p.experts) for module, p in products.items()}


def cosines(first: Adapter, second: Adapter) -> dict[str, float]:
    """The cosine between what two adapters of one structure change, by layer and over all ("all").

    ΔW for LoRA, l − 1 for (IA)³, the prompts themselves. Modules outside of the layers are "other". NaN where one
    changes nothing.
    """
    sums: dict[str, list[float]] = {}
    for module, products in _inner_products(first, second):
        for layer in (place(module), "all"):
            sums[layer] = [a + b for a, b in zip(sums.get(layer, [0.0, 0.0, 0.0]), products, strict=True)]
    return {layer: dot / math.sqrt(a * b) if a > 0 and b > 0 else math.nan for layer, (dot, a, b) in sums.items()}


def _inner_products(first: Adapter, second: Adapter) -> Iterator[tuple[str, tuple[float, float, float]]]:
    """⟨x, y⟩, ⟨x, x⟩ and ⟨y, y⟩ for each module that both have with equal shapes."""
    mine, theirs = first.schema, second.schema
    for module in sorted(mine.products.keys() & theirs.products.keys()):
        x, y = first.update(module), second.update(module)
        yield module, (inner(x, y), inner(x, x), inner(y, y))
    pairs = [
        (module, first.tensors[name].double() - 1, second.tensors[name].double() - 1)
        for name, module in mine.multipliers.items()
        if mine.structure == theirs.structure == "(IA)³" and name in theirs.multipliers
    ]
    prompts = second.prompts()
    pairs += [
        (name, value.double(), prompts[name].double()) for name, value in first.prompts().items() if name in prompts
    ]
    for module, a, b in pairs:
        if a.shape == b.shape:
            yield module, (float((a * b).sum()), float((a * a).sum()), float((b * b).sum()))
