"""`adapter_config.json`: which settings are supported, which are refused and why, and how PEFT matches its patterns."""

import json
import re
from typing import Any

from adamergex.adapters.module_names import ending
from adamergex.errors import AdapterError

STRUCTURES = {"LORA": "LoRA", "IA3": "(IA)³", "PREFIX_TUNING": "prefix tuning", "P_TUNING": "p-tuning"}
_COMMON = """auto_mapping base_model_name_or_path inference_mode modules_to_save peft_type peft_version revision
    runtime_config task_type"""
_PROMPT = "num_attention_heads num_layers num_transformer_submodules num_virtual_tokens token_dim"
_UNDERSTOOD = {
    "LORA": f"""{_COMMON} alpha_pattern bias corda_config eva_config exclude_modules fan_in_fan_out
        init_lora_weights layer_replication layers_pattern layers_to_transform loftq_config lora_alpha lora_bias
        lora_dropout lora_ga_config megatron_config megatron_core qalora_group_size r rank_pattern target_modules
        target_parameters trainable_token_indices use_dora use_rslora""",
    "IA3": f"{_COMMON} exclude_modules fan_in_fan_out feedforward_modules init_ia3_weights target_modules",
    "PREFIX_TUNING": f"{_COMMON} {_PROMPT} encoder_hidden_size init_weights prefix_projection",
    "P_TUNING": f"""{_COMMON} {_PROMPT} encoder_dropout encoder_hidden_size encoder_num_layers
        encoder_reparameterization_type""",
}
# Settings with which B @ A is not the update, so that the rule for it would be wrong.
_NOT_AN_UPDATE = {
    "use_qalora": "QA-LoRA's A acts on pooled inputs",
    "use_bdlora": "its factors are block-diagonal",
    "alora_invocation_tokens": "activated LoRA acts only after its invocation tokens",
    "arrow_config": "Arrow routes between adapters at run time",
    "monteclora_config": "MonteCLoRA samples its update",
    "kasa_config": "KaSA cuts the base weights and has a diagonal between B and A",
    "ensure_weight_tying": "tied layers are one tensor that is stored twice",
}
_CHANGES_BASE = ("pissa", "olora", "corda", "lora_ga", "loftq")


def supported(config: Any) -> str:
    """The adapter's PEFT type. Raises AdapterError where its settings are not supported or not valid."""
    if not isinstance(config, dict):
        raise AdapterError(f"adapter_config.json holds {type(config).__name__}, not an object")
    kind = config.get("peft_type")
    if not isinstance(kind, str) or kind not in STRUCTURES:
        known = ", ".join(f"{name} ({key})" for key, name in STRUCTURES.items())
        raise AdapterError(f"adapter_config.json describes {_shown(kind)}; supported: {known}")
    refused = [f"{key} ({why})" for key, why in _NOT_AN_UPDATE.items() if config.get(key)]
    understood = {*_UNDERSTOOD[kind].split(), *_NOT_AN_UPDATE}
    refused += [f"{_shown(key)} (not known)" for key in sorted(config) if config[key] and key not in understood]
    initial = config.get("init_lora_weights")
    if isinstance(initial, str) and initial.startswith(_CHANGES_BASE):
        refused.append(
            f"init_lora_weights = {_shown(initial)} (the update is relative to base weights that it changed; convert it with "
            "save_pretrained(path_initial_model_for_weight_conversion=…))"
        )
    if refused:
        raise AdapterError(f"adapter_config.json sets what cannot be merged: {'; '.join(refused)}")
    for key in ("modules_to_save", "target_parameters"):
        names = config.get(key) or []
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise AdapterError(f"adapter_config.json: {key} is not a list of names")
    if kind == "LORA":
        _check_numbers(config)
    return kind


def _check_numbers(config: dict[str, Any]) -> None:
    def number(value: Any) -> bool:
        # Not math.isfinite, which raises OverflowError for integers beyond a float.
        return type(value) in (int, float) and -1e300 < value < 1e300

    def rank(value: Any) -> bool:
        return type(value) is int and value >= 1

    if not rank(config.get("r")):
        raise AdapterError(f"adapter_config.json: r is {_shown(config.get('r'))}; expected a whole number from 1")
    if not number(config.get("lora_alpha")):
        raise AdapterError(f"adapter_config.json: lora_alpha is {_shown(config.get('lora_alpha'))}; expected a number")
    for key in ("rank_pattern", "alpha_pattern"):
        values = config.get(key) or {}
        is_valid = rank if key == "rank_pattern" else number
        if not isinstance(values, dict) or not all(map(is_valid, values.values())):
            raise AdapterError(f"adapter_config.json: {key} is not an object of numbers, or of ranks from 1")
        for expression in values:
            try:
                re.compile(ending(expression))
            except (re.error, RecursionError, OverflowError) as error:
                raise AdapterError(
                    f"adapter_config.json: {key}: {_shown(expression)} is no pattern: {error}"
                ) from error


def parameters(module: str, config: dict[str, Any]) -> list[str]:
    """The parameters of a module that `target_parameters` selects; PEFT matches the end of their full names.

    Raises:
        AdapterError: a name without its module, where `target_modules` is a pattern that may select it too.
    """
    matches = []
    targets = config.get("target_modules") or []
    for parameter in config.get("target_parameters") or []:
        parent, _, name = parameter.rpartition(".")
        if not parent and not isinstance(targets, list):
            raise AdapterError(
                f"target_parameters names {parameter} without its module, and target_modules is a pattern: the file does "
                "not say which of them a tensor is"
            )
        is_targeted = module == parent or module.endswith(f".{parent}")
        if not parent:
            is_targeted = not any(module == target or module.endswith(f".{target}") for target in targets)
        if is_targeted:
            matches.append(f"{module}.{name}")
    return sorted(matches)


def pattern(config: dict[str, Any], what: str, name: str) -> Any:
    """R or alpha for a name: PEFT takes the first key that is the name or a regular expression for its end."""
    for key, value in (config.get(f"{what}_pattern") or {}).items():
        if re.match(ending(key), name):
            return value
    return config["r" if what == "rank" else "lora_alpha"]


def _shown(value: Any) -> str:
    """A value from a file, short and safe to print."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "…"
