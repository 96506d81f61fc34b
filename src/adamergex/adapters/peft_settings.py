"""Which values PEFT's settings may have in `adapter_config.json`: what is of another kind ends deep within PEFT."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from adamergex.errors import AdapterError

# A model is built of the layers that are named, and no model has a tenth of it; nor has a module so many rows.
_MOST_LAYERS, _MOST_ROWS = 2_000, 2**20
_TASKS = ("CAUSAL_LM", "SEQ_2_SEQ_LM", "SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS", "FEATURE_EXTRACTION")
_BIASES = ("none", "all", "lora_only")


def check(config: Mapping[str, Any]) -> None:
    """Check the values of settings; null is PEFT's own value. Raises AdapterError where PEFT would not take one."""
    for (is_right, wanted), keys in _KINDS.items():
        for key in keys.split():
            if config.get(key) is not None and not is_right(config[key]):
                raise AdapterError(f"adapter_config.json: {key} is {shown(config[key])}; expected {wanted}")


def shown(value: Any) -> str:
    """A value from a file, short and safe to print."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "…"


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _MOST_ROWS


def _is_share(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < 1


def _is_layers(value: Any) -> bool:
    layers = value if isinstance(value, list) else [value]
    return len(layers) <= _MOST_LAYERS and all(type(one) is int and 0 <= one < _MOST_LAYERS for one in layers)


def _is_replication(value: Any) -> bool:
    if not isinstance(value, list) or not all(
        isinstance(one, list) and len(one) == 2 and _is_layers(one) for one in value
    ):
        return False
    return all(first < end for first, end in value) and sum(end - first for first, end in value) <= _MOST_LAYERS


def _is_tokens(value: Any) -> bool:
    lists = list(value.values()) if isinstance(value, dict) else [value]
    return all(isinstance(one, list) and all(type(token) is int and token >= 0 for token in one) for one in lists)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_switch(value: Any) -> bool:
    return isinstance(value, bool)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


# What is expected → the settings, separated by spaces.
_KINDS: dict[tuple[Callable[[Any], bool], str], str] = {
    (_is_switch, "true or false"): """fan_in_fan_out inference_mode init_ia3_weights lora_bias
        prefix_projection use_dora use_rslora ensure_weight_tying""",
    (_is_share, "a number from 0, less than 1"): "encoder_dropout lora_dropout",
    (
        _is_text,
        "text",
    ): """base_model_name_or_path megatron_core peft_type prompt_tuning_init_text revision tokenizer_name_or_path""",
    (
        _is_object,
        "an object",
    ): """auto_mapping corda_config eva_config loftq_config lora_ga_config megatron_config
        runtime_config tokenizer_kwargs""",
    (
        _is_count,
        f"a whole number up to {_MOST_ROWS:,}",
    ): "encoder_hidden_size encoder_num_layers qalora_group_size",
    (lambda value: value in _BIASES, f"one of {', '.join(_BIASES)}"): "bias",
    (lambda value: value in _TASKS, f"one of {', '.join(_TASKS)}"): "task_type",
    (
        lambda value: isinstance(value, bool | str),
        "true, false, or the name of a way",
    ): "init_lora_weights init_weights",
    (_is_layers, f"numbers of layers, less than {_MOST_LAYERS:,}"): "layers_to_transform",
    (_is_replication, f"a list of [first, end], of {_MOST_LAYERS:,} layers at most"): "layer_replication",
    (_is_tokens, "a list of tokens' numbers, or such lists by the names of embeddings"): "trainable_token_indices",
}
