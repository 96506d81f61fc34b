"""Reference adapters that adapt fewer modules than the task's: what they lack, as tensors that change nothing."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from adamergex.adapters.adapter import Adapter
from adamergex.adapters.schema import TensorSchema
from adamergex.adapters.tensor_file import Spec


@dataclass(frozen=True)
class Filled(Adapter):
    """An adapter with tensors for what it lacked.

    Attributes:
        filled: what all of them are, the added ones too.
    """

    filled: TensorSchema | None = None

    @property
    def schema(self) -> TensorSchema:
        """What each tensor is."""
        assert self.filled is not None
        return self.filled


class _Tensors(Mapping[str, Tensor]):
    """Stored tensors, and those that change nothing, which are made at each access.

    Attributes:
        specs: shape and dtype of each.
    """

    def __init__(self, stored: Adapter, task: Adapter, added: Mapping[str, float | None]):
        self._stored, self._task, self._added = stored.tensors, task, added
        self.specs: dict[str, Spec] = {**stored.specs, **{name: task.specs[name] for name in added}}

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._added:
            return self._stored[name]
        value, spec = self._added[name], self._task.specs[name]
        return self._task.tensors[name] if value is None else torch.full(spec.shape, value, dtype=spec.dtype)

    def __iter__(self) -> Iterator[str]:
        yield from self._stored
        yield from self._added

    def __len__(self) -> int:
        return len(self._stored) + len(self._added)


def filled(adapters: Mapping[str, Adapter]) -> dict[str, Adapter]:
    """The adapters, the references with tensors for what the task's adapter has and they lack, so that its part there is kept as it is.

    An update that is added is 0, (IA)³'s vector 1. What replaces a value of the base model (trained tokens and biases,
    DoRA's magnitudes) is the task's own where all references lack it, so that R − S is 0 there; where one of them has it,
    what the other would have only the base model says, and it is left as it is, to be refused.

    Args:
        adapters: by role; the first is the task's.
    """
    (role, task), *references = adapters.items()
    whole = [*task.schema.values, *(task.schema.multipliers if task.schema.structure == "DoRA" else ())]
    nowhere = {name for name in whole if not any(name in adapter.specs for _, adapter in references)}
    return {role: task} | {role: _filled(task, adapter, nowhere) for role, adapter in references}


def _filled(task: Adapter, adapter: Adapter, nowhere: set[str]) -> Adapter:
    mine, theirs = task.schema, adapter.schema
    if mine.structure != theirs.structure or mine.prompts:
        return adapter
    added: dict[str, float | None] = dict.fromkeys(sorted(nowhere))
    products = {module: product for module, product in mine.products.items() if module not in theirs.products}
    added |= {name: 0.0 for product in products.values() for name in (product.a, product.b)}
    updates = {name: update for name, update in mine.updates.items() if name not in theirs.updates}
    added |= dict.fromkeys(updates, 0.0)
    vectors = {} if mine.structure == "DoRA" else mine.multipliers
    added |= {name: 1.0 for name in vectors if name not in theirs.multipliers}
    if not added:
        return adapter
    schema = replace(
        theirs,
        products=theirs.products | products,
        updates=theirs.updates | updates,
        multipliers=theirs.multipliers | {name: m for name, m in mine.multipliers.items() if name in added},
        values=theirs.values | {name: module for name, module in mine.values.items() if name in added},
    )
    config = adapter.config
    if {*(config.get("target_parameters") or [])} <= {*(task.config.get("target_parameters") or [])}:
        config = config | {"target_parameters": task.config.get("target_parameters")}
    if not config.get("trainable_token_indices"):
        config = config | {"trainable_token_indices": task.config.get("trainable_token_indices")}
    note = f"adapts {len(products) or len(added)} modules fewer than the task's adapter, which keeps its part there as it is"
    return Filled(
        config,
        _Tensors(adapter, task, added),
        adapter.origin,
        adapter.folder,
        (*adapter.notes, note),
        schema,
    )
