"""Whether an adapter's tensors are those that its configuration describes, number by number: PEFT loads only such files.

PEFT makes the tensors from the configuration and the base model, and then sets what the file has. A rank that is another one
ends with an error there, and a module that the configuration does not select is left out with a warning.
"""

from collections.abc import Mapping
from typing import Any

from adamergex.adapters.peft_config import feeds_forward, is_saved_whole, parameters, pattern, targets, tokens
from adamergex.adapters.schema import TensorSchema
from adamergex.adapters.tensor_file import Spec
from adamergex.errors import AdapterError

# Names of input and output embeddings, which a model may tie.
_EMBEDDINGS = ("embed_tokens", "lm_head", "shared", "wte", "word_embeddings", "embed_in", "embed_out", "tok_embeddings")


def agree(schema: TensorSchema, config: Mapping[str, Any], specs: Mapping[str, Spec], origin: str) -> None:
    """Check every number and every name of a configuration against the tensors.

    Args:
        schema: the tensors by what they are.
        config: the content of `adapter_config.json`, of a supported structure.
        specs: shape and dtype of each tensor.
        origin: the folder, for messages.

    Raises:
        AdapterError: PEFT would not load the file, or not all of it.
    """
    try:
        if schema.prompts:
            _prompts(schema, config, specs)
        for module, product in schema.products.items():
            _rank(config, module, product.rank)
        for name, module in schema.multipliers.items():
            _multiplier(schema, config, name, module, specs[name].shape)
        if schema.structure == "DoRA" and set(schema.multipliers.values()) != schema.products.keys():
            raise AdapterError("has use_dora, and not a lora_magnitude_vector for each pair of factors")
        if config.get("lora_bias") and {module for module, _ in schema.updates.values()} != schema.products.keys():
            raise AdapterError("has lora_bias, and not a lora_B.bias for each pair of factors")
        for name, module in schema.values.items():
            if name.endswith("trainable_tokens_delta"):
                _tokens(config, name, module, specs[name].shape[0])
        _untied(schema, config)
    except AdapterError as error:
        raise AdapterError(f"{origin}: {error}") from error


def _own(module: str) -> str:
    """The module that settings name: of a projection of nn.MultiheadAttention, the attention."""
    return module.partition(".base_layer.")[0]


def _rank(config: Mapping[str, Any], module: str, rank: int) -> None:
    _targeted(config, module)
    expected = pattern(config, "rank", _own(module))
    # Of a parameter it was taken from the configuration, to tell the experts apart.
    if not parameters(_own(module), config) and rank != expected:
        raise AdapterError(
            f"module {module} has rank {rank} in the file, and {expected} by r and rank_pattern in adapter_config.json, beside "
            f"lora_alpha = {config['lora_alpha']}; PEFT does not load it so: give the configuration that it was trained with"
        )


def _tokens(config: Mapping[str, Any], name: str, module: str, rows: int) -> None:
    indices = tokens(config, module)
    if not isinstance(indices, list) or len(indices) != rows:
        raise AdapterError(
            f"tensor {name} has {rows} rows, and trainable_token_indices of adapter_config.json names "
            f"{len(indices) if isinstance(indices, list) else 'no'} tokens of it"
        )


def _targeted(config: Mapping[str, Any], module: str) -> None:
    if not parameters(module.replace(".base_layer", ""), config) and not targets(config, _own(module)):
        wanted = config.get("target_modules")
        if is_saved_whole(config, _own(module)):
            raise AdapterError(
                f"module {module} has an adapter's tensors, and lies in a module that is trained whole (modules_to_save, or the head "
                f"that PEFT saves with task_type {config.get('task_type')}), where PEFT sets no adapter: train it in one way"
            )
        if isinstance(wanted, str) and module.endswith(f".{wanted}"):
            raise AdapterError(
                f"module {module} is in the file, and target_modules in adapter_config.json is {wanted!r}, which PEFT takes for a "
                f'regular expression of the whole name, so that it would leave the module out; write ["{wanted}"]'
            )
        raise AdapterError(
            f"module {module} is in the file, and adapter_config.json does not select it (target_modules, exclude_modules, "
            "layers_to_transform, modules_to_save): PEFT would leave it out; give the configuration that it was trained with"
        )


def _multiplier(
    schema: TensorSchema, config: Mapping[str, Any], name: str, module: str, shape: tuple[int, ...]
) -> None:
    """Check the shape of (IA)³'s vector or DoRA's magnitude."""
    if schema.structure == "(IA)³":
        _targeted(config, module)
        side, what = (0, "(1, in)") if feeds_forward(config, module) else (1, "(out, 1)")
        if len(shape) < 2 or any(size != 1 for i, size in enumerate(shape) if i != 1 - side):
            raise AdapterError(f"tensor {name} has shape {shape}; expected {what}, by feedforward_modules")
    elif module in schema.products:
        rows = schema.products[module].rows
        if shape != (rows,):
            raise AdapterError(f"tensor {name} has shape {shape}; expected ({rows},)")


def _untied(schema: TensorSchema, config: Mapping[str, Any]) -> None:
    """Refuse tied layers that are adapted: PEFT makes one tensor of the two that the file has."""
    modules = {*schema.modules().values(), *(name.rpartition(".")[0] for name in schema.heads)}
    tied = [module for module in modules if module.rpartition(".")[2] in _EMBEDDINGS]
    if config.get("ensure_weight_tying") and tied:
        raise AdapterError(
            f"has ensure_weight_tying, and {min(tied)} is adapted: tied layers are one tensor that is stored twice; cannot be "
            "merged"
        )


def _prompts(schema: TensorSchema, config: Mapping[str, Any], specs: Mapping[str, Spec]) -> None:
    """Check that there is one matrix, of the shape that follows from the settings."""
    count, layers, width = (config.get(key, 0) for key in ("num_virtual_tokens", "num_layers", "token_dim"))
    parts, heads = config.get("num_transformer_submodules") or 1, config.get("num_attention_heads") or 1
    if not all(type(n) is int and n > 0 for n in (count, layers, width, parts, heads)):
        raise AdapterError(
            "adapter_config.json: num_virtual_tokens, num_layers, token_dim and num_attention_heads are not all whole numbers"
        )
    is_prefix = schema.structure == "prefix tuning"
    expected = (count, layers * 2 * width) if is_prefix else (count * parts, width)
    shape = specs[schema.prompts[0]].shape
    if shape != expected:
        raise AdapterError(f"prompt_embeddings has shape {shape}; expected {expected}")
    if is_prefix and width % heads:
        raise AdapterError(
            f"adapter_config.json: token_dim = {width} is not a multiple of num_attention_heads = {heads}"
        )
