"""`adapter_config.json`: which settings are supported, which are refused and why, and what PEFT makes of them."""

import re
from collections.abc import Mapping
from typing import Any

from adamergex.adapters import peft_settings
from adamergex.adapters.module_names import ending, objection
from adamergex.adapters.peft_settings import shown
from adamergex.errors import AdapterError

STRUCTURES = {
    "LORA": "LoRA",
    "IA3": "(IA)³",
    "PREFIX_TUNING": "prefix tuning",
    "P_TUNING": "p-tuning",
    "PROMPT_TUNING": "prompt tuning",
}
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
    "PROMPT_TUNING": f"""{_COMMON} {_PROMPT} prompt_tuning_init prompt_tuning_init_text tokenizer_kwargs
        tokenizer_name_or_path""",
}
# What other tools and older versions of PEFT write beside PEFT's own settings, and which changes no tensor.
FOREIGN = {
    "merge_weights": "PEFT up to 0.3: whether the update was folded into the base model outside of training",
    "lora_dtype": "ms-swift: of the factors while they were trained",
    "lorap_lr_ratio": "ms-swift: LoRA+'s learning rate of B",
    "lorap_emb_lr": "ms-swift: LoRA+'s learning rate of embeddings",
    "torch_dtype": "transformers: of the base model",
    "transformers_version": "transformers: its version",
}
# The heads that PEFT adds to modules_to_save when it sets an adapter of this task_type on a model.
_HEADS = {"SEQ_CLS": ("classifier", "score"), "TOKEN_CLS": ("classifier", "score"), "QUESTION_ANS": ("qa_outputs",)}
# PEFT's own values where a file has none.
_DEFAULTS = {"LORA": {"r": 8, "lora_alpha": 8}}
# Settings with which B @ A is not the update, so that the rule for it would be wrong.
_NOT_AN_UPDATE = {
    "use_qalora": "QA-LoRA's A acts on pooled inputs",
    "enable_lora": "up to PEFT 0.2 B acted on each part of a fused projection alone",
    "use_bdlora": "its factors are block-diagonal",
    "alora_invocation_tokens": "activated LoRA acts only after its invocation tokens",
    "arrow_config": "Arrow routes between adapters at run time",
    "monteclora_config": "MonteCLoRA samples its update",
    "kasa_config": "KaSA cuts the base weights and has a diagonal between B and A",
}
_OTHER_LIBRARIES = (
    ({"lora_parameters"}, "mlx-lm"),
    ({"fine_tune_type"}, "mlx-lm"),
    ({"model_class", "config"}, "AdapterHub's adapters"),
)
_CHANGES_BASE = ("pissa", "olora", "corda", "lora_ga", "loftq")


def supported(config: Any) -> str:
    """The adapter's PEFT type. Raises AdapterError where its settings are not supported or not valid."""
    if not isinstance(config, dict):
        raise AdapterError(f"adapter_config.json holds {type(config).__name__}, not an object")
    kind = config.get("peft_type")
    if not isinstance(kind, str) or kind not in STRUCTURES:
        raise AdapterError(_no_structure(config))
    refused = [f"{key} ({why})" for key, why in _NOT_AN_UPDATE.items() if config.get(key)]
    understood = {*_UNDERSTOOD[kind].split(), *_NOT_AN_UPDATE, *FOREIGN, "ensure_weight_tying"}
    refused += [f"{shown(key)} (not known)" for key in sorted(config) if config[key] and key not in understood]
    initial = config.get("init_lora_weights")
    if isinstance(initial, str) and initial.lower().startswith(_CHANGES_BASE):
        refused.append(
            f"init_lora_weights = {shown(initial)} (the update is relative to base weights that it changed; convert it with "
            "save_pretrained(path_initial_model_for_weight_conversion=…))"
        )
    if refused:
        raise AdapterError(f"adapter_config.json sets what cannot be merged: {'; '.join(refused)}")
    peft_settings.check(config)
    for key in ("target_modules", "exclude_modules", "layers_pattern", "feedforward_modules"):
        _check_names(config, key)
    for key in ("modules_to_save", "target_parameters"):
        names = config.get(key) or []
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise AdapterError(f"adapter_config.json: {key} is not a list of names")
    if kind == "LORA":
        _check_numbers(config)
    return kind


def _no_structure(config: dict[str, Any]) -> str:
    """What to say of a configuration that names no structure, or none that is supported."""
    known = ", ".join(f"{name} ({key})" for key, name in STRUCTURES.items())
    if config.get("peft_type") is not None:
        return f"adapter_config.json describes {shown(config['peft_type'])}; supported: {known}"
    other = next((tool for keys, tool in _OTHER_LIBRARIES if keys <= config.keys()), "another library")
    return (
        f"adapter_config.json has no peft_type: it is not PEFT's, but of {other}; convert it to PEFT's format: {known}"
    )


def completed(config: Any) -> Any:
    """The content of `adapter_config.json` with PEFT's own values for the numbers that it lacks."""
    return _DEFAULTS.get(str(config.get("peft_type")), {}) | config if isinstance(config, dict) else config


def saved_modules(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The ends of the names of modules that are trained as a whole: those that are set, and PEFT's for the task."""
    return (*(config.get("modules_to_save") or ()), *_HEADS.get(str(config.get("task_type")), ()))


def _check_names(config: Mapping[str, Any], key: str) -> None:
    """Raises AdapterError where a setting that selects modules is neither a regular expression nor a list of names."""
    value = config.get(key)
    if isinstance(value, str):
        _check_expression(key, value)
    elif value is not None and not (isinstance(value, list) and all(isinstance(name, str) for name in value)):
        raise AdapterError(f"adapter_config.json: {key} is neither a list of names nor a regular expression")
    # The one list of expressions, not of names.
    for expression in value if key == "layers_pattern" and isinstance(value, list) else ():
        _check_expression(key, expression)


def _check_expression(key: str, expression: str) -> None:
    if reason := objection(expression):
        raise AdapterError(f"adapter_config.json: {key}: {shown(expression)} {reason}")


def _check_numbers(config: dict[str, Any]) -> None:
    def number(value: Any) -> bool:
        # Not math.isfinite, which raises OverflowError for integers beyond a float.
        return type(value) in (int, float) and -1e300 < value < 1e300

    def rank(value: Any) -> bool:
        return type(value) is int and value >= 1

    if not rank(config.get("r")):
        raise AdapterError(f"adapter_config.json: r is {shown(config.get('r'))}; expected a whole number from 1")
    if not number(config.get("lora_alpha")):
        raise AdapterError(f"adapter_config.json: lora_alpha is {shown(config.get('lora_alpha'))}; expected a number")
    for key in ("rank_pattern", "alpha_pattern"):
        values = config.get(key) or {}
        is_valid = rank if key == "rank_pattern" else number
        if not isinstance(values, dict) or not all(map(is_valid, values.values())):
            raise AdapterError(f"adapter_config.json: {key} is not an object of numbers, or of ranks from 1")
        for expression in values:
            _check_expression(key, expression)


def parameters(module: str, config: Mapping[str, Any]) -> list[str]:
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


def targets(config: Mapping[str, Any], module: str) -> bool:
    """Whether PEFT sets an adapter on a module, by `target_modules` and what narrows it; its `check_target_module_exists`.

    Args:
        config: of a supported adapter.
        module: its name in the base model.
    """
    excluded, wanted = config.get("exclude_modules") or [], config.get("target_modules")
    if _selects(excluded, module) or is_saved_whole(config, module):
        return False
    # Which modules these are, only the base model says.
    if wanted is None or wanted == "all-linear":
        return True
    if isinstance(wanted, str) or module in wanted:
        return _selects(wanted, module)
    layers, stacks = config.get("layers_to_transform"), config.get("layers_pattern") or r"[^.]*"
    if not _selects(wanted, module) or layers in (None, []):
        return _selects(wanted, module)
    stacks = [stacks] if isinstance(stacks, str) else stacks
    found = (re.match(rf"(?:^|.*?\.){stack}\.(?P<layer>\d+)\.", module) for stack in stacks)
    match = next((match for match in found if match), None)
    return match is not None and int(match["layer"]) in (layers if isinstance(layers, list) else [layers])


def is_saved_whole(config: Mapping[str, Any], module: str) -> bool:
    """Whether a module is one that is trained as a whole, or lies in one: PEFT sets no adapter there."""
    return any(re.match(rf"(^|.*\.){re.escape(name)}($|\..*)", module) for name in saved_modules(config))


def _selects(names: str | list[str], module: str) -> bool:
    if isinstance(names, str):
        return re.fullmatch(names, module) is not None
    return any(module == name or module.endswith(f".{name}") for name in names)


def feeds_forward(config: Mapping[str, Any], module: str) -> bool:
    """Whether (IA)³ scales what a module reads, and not what it gives."""
    return _selects(config.get("feedforward_modules") or [], module)


def tokens(config: Mapping[str, Any], module: str) -> list[int] | None:
    """The indices of an embedding's trained tokens, in the order of their rows; None where the settings have none for it."""
    indices = config.get("trainable_token_indices")
    if isinstance(indices, dict):
        return next((value for name, value in indices.items() if _selects([name], module)), None)
    return indices or None


def pattern(config: Mapping[str, Any], what: str, name: str) -> Any:
    """R or alpha for a name: PEFT takes the first key that is the name or a regular expression for its end."""
    for key, value in (config.get(f"{what}_pattern") or {}).items():
        if re.match(ending(key), name):
            return value
    return config["r" if what == "rank" else "lora_alpha"]
