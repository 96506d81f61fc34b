"""A base model that adapters are loaded onto and removed from, and that is afterwards bit for bit what it was before.

PEFT wraps modules in place, and its `unload` is not complete: a module of `modules_to_save` stays the trained copy,
biases that an adapter trained stay in the base model, and the heads of prefix tuning stay wrapped. So the original
modules and biases are kept here with the modules that hold them; an adapter that trains biases trains copies.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

# A module's `_modules`, `_parameters` or `_buffers`; a name in it; the original module or tensor of that name.
_Place = tuple[dict[str, Any], str, Any]


class BaseModel:
    """The original modules and biases of a base model, which are restored when an adapter is removed.

    Args:
        model: as it was loaded, without an adapter.

    Attributes:
        model: the same object; while an adapter is loaded, some of its modules are wrapped by PEFT.
    """

    def __init__(self, model: Any):
        self.model = model
        self._by_name: dict[str, torch.nn.Module] = dict(model.named_modules())
        self._modules: list[_Place] = [
            (module._modules, name, child) for module in model.modules() for name, child in module._modules.items()
        ]
        self._biases: list[_Place] = []
        # An adapter that repeats layers (`layer_replication`) changes this number in the configuration.
        self._layers = getattr(model.config, "num_hidden_layers", None)

    def lend_biases(self) -> None:
        """Replace all biases by copies, for an adapter that has trained biases."""
        copies: dict[int, Tensor] = {}
        for module in self._by_name.values():
            tables: tuple[dict[str, Any], ...] = (module._parameters, module._buffers)
            for parts in tables:
                bias = parts.get("bias")
                if bias is None:
                    continue
                if id(bias) not in copies:  # Tied biases stay tied.
                    copy = bias.detach().clone()
                    is_trained = isinstance(bias, torch.nn.Parameter)
                    copies[id(bias)] = torch.nn.Parameter(copy, requires_grad=False) if is_trained else copy
                self._biases.append((parts, "bias", bias))
                parts["bias"] = copies[id(bias)]

    def take_off(self) -> None:
        """Remove the adapter, if there is one."""
        _set([*self._modules, *self._biases])
        self._biases = []
        if hasattr(self.model, "peft_config"):
            del self.model.peft_config
        if self._layers is not None:
            self.model.config.num_hidden_layers = self._layers

    @contextmanager
    def bare(self) -> Iterator[None]:
        """Within this context the model is without its adapter."""
        originals = [*self._modules, *self._biases]
        present = [(parts, name, parts[name]) for parts, name, part in originals if parts[name] is not part]
        layers = getattr(self.model.config, "num_hidden_layers", None)
        _set(originals)
        if layers is not None:
            self.model.config.num_hidden_layers = self._layers
        try:
            yield
        finally:
            _set(present)
            if layers is not None:
                self.model.config.num_hidden_layers = layers

    def has(self, name: str, tensor: Tensor) -> bool:
        """Whether a parameter of the base model equals a tensor, in the lower precision of the two dtypes.

        Args:
            name: of the parameter, as in the base model's `named_parameters`.
            tensor: the one that a file has under that name.
        """
        module, _, leaf = name.rpartition(".")
        parameter = self._by_name[module]._parameters.get(leaf) if module in self._by_name else None
        if parameter is None or parameter.shape != tensor.shape:
            return False
        tensor = tensor.to(parameter.device)
        return torch.equal(parameter.to(tensor.dtype), tensor) or torch.equal(parameter, tensor.to(parameter.dtype))


def _set(places: list[_Place]) -> None:
    for parts, name, part in places:
        parts[name] = part
