"""A base model that adapters are set on and come off again, and that is afterwards what it was when it was loaded.

PEFT wraps modules in place. Its own way back leaves something behind: a module of `modules_to_save` stays the trained
copy, biases that an adapter trained stay in the base model's memory, and the heads of prefix tuning stay wrapped. What
an adapter may change is therefore kept here: the modules by their places, and the biases, of which every adapter that
trained them gets copies.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

# A dictionary of a module's parts, the part's name, and the part.
_Place = tuple[dict[str, Any], str, Any]


class BaseModel:
    """The modules and biases of a base model by their places.

    Args:
        model: as it was loaded, without an adapter.

    Attributes:
        model: the same; it has wrapped modules where an adapter is on it.
    """

    def __init__(self, model: Any):
        self.model = model
        self._by_name: dict[str, torch.nn.Module] = dict(model.named_modules())
        self._modules: list[_Place] = [
            (module._modules, name, child) for module in model.modules() for name, child in module._modules.items()
        ]
        self._biases: list[_Place] = []
        # Layers that an adapter repeats are counted in the configuration.
        self._layers = getattr(model.config, "num_hidden_layers", None)

    def lend_biases(self) -> None:
        """Put copies in the places of all biases, for an adapter that brings its own."""
        copies: dict[int, Tensor] = {}
        for module in self._by_name.values():
            tables: tuple[dict[str, Any], ...] = (module._parameters, module._buffers)
            for parts in tables:
                own = parts.get("bias")
                if own is None:
                    continue
                if id(own) not in copies:  # What is tied stays tied.
                    copy = own.detach().clone()
                    is_trained = isinstance(own, torch.nn.Parameter)
                    copies[id(own)] = torch.nn.Parameter(copy, requires_grad=False) if is_trained else copy
                self._biases.append((parts, "bias", own))
                parts["bias"] = copies[id(own)]

    def take_off(self) -> None:
        """Take whatever is on the model off it."""
        _set([*self._modules, *self._biases])
        self._biases = []
        if hasattr(self.model, "peft_config"):
            del self.model.peft_config
        if self._layers is not None:
            self.model.config.num_hidden_layers = self._layers

    @contextmanager
    def bare(self) -> Iterator[None]:
        """Within this context nothing is on the model."""
        own = [*self._modules, *self._biases]
        present = [(parts, name, parts[name]) for parts, name, part in own if parts[name] is not part]
        layers = getattr(self.model.config, "num_hidden_layers", None)
        _set(own)
        if layers is not None:
            self.model.config.num_hidden_layers = self._layers
        try:
            yield
        finally:
            _set(present)
            if layers is not None:
                self.model.config.num_hidden_layers = layers

    def has(self, name: str, given: Tensor) -> bool:
        """Whether a tensor is the base model's own, as far as the coarser of the two types can tell.

        Args:
            name: of a parameter, by the base model's names.
            given: what a file holds under that name.
        """
        module, _, leaf = name.rpartition(".")
        own = self._by_name[module]._parameters.get(leaf) if module in self._by_name else None
        if own is None or own.shape != given.shape:
            return False
        given = given.to(own.device)
        return torch.equal(own.to(given.dtype), given) or torch.equal(own, given.to(own.dtype))


def _set(places: list[_Place]) -> None:
    for parts, name, part in places:
        parts[name] = part
