"""A base model whose layers are sharded over the processes (PyTorch's FSDP2) and gathered as they are used.

Only the frozen weights of the layers are sharded. Embeddings are whole on every process, since logits are computed
outside of the forward pass that would gather them. So is the adapter: it is small, is overwritten in place, and its
gradients are averaged in the training loop. Settings are those of Accelerate's configuration file.
"""

from typing import Any

import torch
from accelerate import FullyShardedDataParallelPlugin
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from adamergex.errors import ModelError


def split(model: Any, device: torch.device, processes: int) -> None:
    """Shard the layers of a model over all processes, in place, and move all other weights to the device.

    Args:
        model: a PEFT model around a transformers model; its trainable parameters are not sharded.
        device: of this process.
        processes: how many there are.

    Raises:
        ModelError: its layers are not known.
    """
    # `distributed` has checked that the launcher asked for version 2.
    plugin = FullyShardedDataParallelPlugin(fsdp_version=2)
    base = model.get_base_model()
    layers = _layers(base, plugin.transformer_cls_names_to_wrap)
    mesh = init_device_mesh(device.type, (processes,))
    settings = {"mesh": mesh, "reshard_after_forward": plugin.reshard_after_forward}
    if device.type != "cpu":
        settings["offload_policy"] = plugin.cpu_offload
    adapter = {parameter for parameter in model.parameters() if parameter.requires_grad}
    for layer in layers.values():
        fully_shard(layer, ignored_params=adapter, **settings)
    # The module that calls the layers in turn has no sharded weights of its own; wrapping it lets the next layer be
    # gathered while the current one computes.
    whole = {parameter for parameter in model.parameters() if not isinstance(parameter, DTensor)}
    for stack in {name.rpartition(".")[0].rpartition(".")[0] for name in layers}:
        fully_shard(base.get_submodule(stack), ignored_params=whole, **settings)
    for tensor in (*whole, *model.buffers()):
        tensor.data = tensor.data.to(device)


def _layers(base: Any, classes: list[str] | None) -> dict[str, torch.nn.Module]:
    """The layers by name: modules of these classes, by default those in transformers' `_no_split_modules`."""
    embeddings = base.get_input_embeddings()
    names = set(classes or base._no_split_modules or ())
    layers = {
        name: module
        for name, module in base.named_modules()
        if type(module).__name__ in names and all(part is not embeddings for part in module.modules())
    }
    if not layers:
        raise ModelError(
            f"{type(base).__name__}: no layers to split; set fsdp_transformer_layer_cls_to_wrap in Accelerate's "
            "configuration file to the name of their class"
        )
    return layers
