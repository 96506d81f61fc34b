"""How each structure of adapter is attached to a model through PEFT, and how it is initialized.

All adapters of a run have the same initial weights, so that they differ only by what they learned. Every tensor has a
generator of its own, seeded by the run's seed and the tensor's name, so that initial weights depend neither on earlier
trainings nor on other modules.
"""

import copy
import hashlib
import math
import re
from collections.abc import Mapping
from typing import Any

import peft
import torch
from torch import Tensor

from adamergex.adapters.peft_config import STRUCTURES
from adamergex.errors import ModelError
from adamergex.models.adapter_settings import IA3, AdapterSettings, Lora, Prefix
from adamergex.models.families import Kind, first_line

_TASK_TYPES: dict[Kind, str] = {
    "causal": "CAUSAL_LM",
    "seq2seq": "SEQ_2_SEQ_LM",
    "classes": "SEQ_CLS",
    # PEFT has no task type for masked models; the forward pass of this one adds nothing.
    "masked": "FEATURE_EXTRACTION",
}
# Keys of an adapter's configuration that affect neither its modules nor what they compute.
_NO_STRUCTURE = {
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",
    "eva_config",
    "inference_mode",
    "init_ia3_weights",
    "init_lora_weights",
    "init_weights",
    "loftq_config",
    "lora_ga_config",
    "peft_version",
    "revision",
    "runtime_config",
}
# Lists of names whose order means nothing.
_SETS = ("target_modules", "feedforward_modules", "modules_to_save", "exclude_modules")
# (IA)³ scales keys and values, and what enters the second feed-forward layer: names of these by model.
_KEYS_AND_VALUES = (
    ["k_proj", "v_proj"],
    ["key", "value"],
    ["k", "v"],
    ["query_key_value"],
    ["c_attn"],
    ["qkv_proj"],
    ["Wqkv"],
)
_SECOND_LAYERS = ("down_proj", "fc2", "wo", "dense_4h_to_h", "mlp.c_proj", "output.dense", "w2")


def config(settings: AdapterSettings, model: torch.nn.Module, kind: Kind, name: str) -> peft.PeftConfig:
    """PEFT's configuration of a structure on a model.

    Args:
        settings: the recipe's.
        model: the base model.
        kind: how it predicts.
        name: of the base model, for messages.

    Raises:
        ModelError: the model has no module that `settings` names.
    """
    task = _TASK_TYPES[kind]
    if isinstance(settings, Prefix):
        return peft.PrefixTuningConfig(num_virtual_tokens=settings.virtual_tokens, task_type=task)
    if isinstance(settings, IA3):
        targets, second = _ia3_modules(settings, model, name)
        return peft.IA3Config(target_modules=targets, feedforward_modules=second, task_type=task)
    if isinstance(settings.target_modules, str):
        targets = _suffixes(model, _linear_of_body(model))
    else:
        targets = _present(settings.target_modules, model, name)
    _check_patterns(settings, targets, model, name)
    return peft.LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        use_rslora=settings.rslora,
        use_dora=settings.dora,
        rank_pattern=settings.rank_pattern,
        alpha_pattern=settings.alpha_pattern,
        target_modules=targets,
        task_type=task,
    )


def as_given(config: Mapping[str, Any], kind: Kind, origin: str) -> peft.PeftConfig:
    """PEFT's configuration of an existing adapter, such as one from a folder.

    Args:
        config: the content of its `adapter_config.json`.
        kind: how the model predicts.
        origin: the folder, for messages.

    Raises:
        ModelError: PEFT does not accept it, or the structure is not supported here.
    """
    if config.get("peft_type") in ("P_TUNING", "PROMPT_TUNING"):
        raise ModelError(
            f"{origin}: is {STRUCTURES[config['peft_type']]}, which cannot be set on a model here; expected LoRA, DoRA, (IA)³ or prefix tuning; "
            "score it with PEFT"
        )
    # A copy, since PEFT changes lists in place; without initialization, which the weights replace.
    own = copy.deepcopy(dict(config)) | {"inference_mode": False, "base_model_name_or_path": None}
    if "megatron_config" in own:
        # PEFT would import the module that is named beside it, whichever that is.
        own["megatron_config"] = None
    # PEFT makes an object of it only where it reads the file itself; it says where DoRA and the like compute.
    own.pop("runtime_config", None)
    if "init_lora_weights" in own:
        own["init_lora_weights"] = True
    if own.get("peft_type") == "PREFIX_TUNING":
        # PEFT stores prefixes after their projection.
        own |= {"prefix_projection": False, "task_type": own.get("task_type") or _TASK_TYPES[kind]}
    try:
        return peft.PeftConfig.from_peft_type(**own)
    except Exception as error:  # PEFT passes on all kinds of errors
        raise ModelError(f"{origin}: PEFT does not read adapter_config.json: {first_line(error)}") from error


def structure(config: peft.PeftConfig) -> dict[str, Any]:
    """The part of a configuration that determines an adapter's modules; adapters with equal ones can share a slot."""
    settings = {key: value for key, value in config.to_dict().items() if key not in _NO_STRUCTURE}
    return {
        key: frozenset(value)
        if key in _SETS and isinstance(value, list | set | tuple)
        else getattr(value, "value", value)
        for key, value in settings.items()
    }


def attach(model: torch.nn.Module, config: peft.PeftConfig, slot: str, origin: str) -> peft.PeftModel:
    """The model with an adapter on it.

    Args:
        model: the base model.
        config: completed in place by PEFT.
        slot: the adapter's name on the model.
        origin: of the configuration, for messages.

    Raises:
        ModelError: PEFT cannot attach it.
    """
    try:
        attached = peft.get_peft_model(model, config, adapter_name=slot)
    except Exception as error:  # PEFT passes on all kinds of errors
        raise ModelError(f"{origin}: {first_line(error)}") from error
    # PEFT adds the names of heads each time.
    if getattr(config, "modules_to_save", None):
        config.modules_to_save = list(dict.fromkeys(config.modules_to_save))
    return attached


def check_trainable(model: peft.PeftModel) -> None:
    """Raises ModelError where an adapter is on other than linear layers, which are not initialized here."""
    strange = [name for name, _ in model.named_parameters() if ".lora_embedding_" in name]
    if strange:
        raise ModelError(f"adapter.target_modules: {strange[0]} is not a linear layer's; name linear layers only")


def start(name: str, tensor: Tensor, seed: int, spread: float) -> Tensor | None:
    """The initial value of an adapter's tensor; float32, on the CPU.

    LoRA's A is drawn as PEFT and the LoRA paper's code draw it (Kaiming uniform, a = √5), B is zero; (IA)³ is
    one everywhere; a prefix and the weights of a new head are normal, a bias is zero. None for what is computed
    from the base model (DoRA's magnitudes).

    Args:
        name: of the tensor in the adapter file.
        tensor: any of that shape.
        seed: the run's.
        spread: standard deviation of prefixes and heads.
    """
    if "lora_magnitude_vector" in name:
        return None
    fresh = torch.zeros(tensor.shape)
    if "ia3_l" in name:
        return fresh.fill_(1.0)
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    if ".lora_A." in name:
        return torch.nn.init.kaiming_uniform_(fresh, a=math.sqrt(5), generator=generator)
    if ".lora_B." in name or tensor.ndim < 2:
        return fresh
    return fresh.normal_(std=spread, generator=generator)


def _is_linear(module: torch.nn.Module) -> bool:
    """Conv1D is GPT-2's name for a linear layer; quantised ones are subclasses of Linear."""
    return isinstance(module, torch.nn.Linear) or type(module).__name__ == "Conv1D"


def _linear_of_body(model: torch.nn.Module) -> set[str]:
    """Names of the linear layers without the head's, the same for every head on a model body."""
    prefix = getattr(model, "base_model_prefix", "")
    body = f"{prefix}." if prefix and hasattr(model, prefix) else ""
    output = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None  # type: ignore[operator]
    return {
        name
        for name, module in model.named_modules()
        if _is_linear(module) and name.startswith(body) and module is not output and ".pooler." not in name
    }


def _suffixes(model: torch.nn.Module, modules: set[str]) -> list[str]:
    """The shortest suffixes of names that match these modules and no others."""
    others = {name for name, module in model.named_modules() if name not in modules}
    suffixes = set()
    for name in modules:
        parts = name.split(".")
        for count in range(1, len(parts) + 1):
            ending = ".".join(parts[-count:])
            if not any(other == ending or other.endswith(f".{ending}") for other in others):
                suffixes.add(ending)
                break
    return sorted(suffixes)


def _present(targets: list[str], model: torch.nn.Module, name: str) -> list[str]:
    """The targets by PEFT's rule (a name, or its suffix after a dot), but never in the head, which may have such names.

    Raises:
        ModelError: one of them matches no linear layer.
    """
    body = _linear_of_body(model)
    matched = {t: {module for module in body if module == t or module.endswith(f".{t}")} for t in targets}
    absent = [target for target, modules in matched.items() if not modules]
    if absent:
        leaves = {module.rpartition(".")[2] for module in body}
        raise ModelError(
            f"adapter.target_modules: {', '.join(absent)} matches no module of {name}; it has {', '.join(sorted(leaves))}"
        )
    return _suffixes(model, set().union(*matched.values()))


def _check_patterns(settings: Lora, targets: list[str], model: torch.nn.Module, name: str) -> None:
    """Raises ModelError where a pattern, by PEFT's rule for names, matches no module that gets an adapter."""
    adapted = [m for m in _linear_of_body(model) if any(m == t or m.endswith(f".{t}") for t in targets)]
    for key, patterns in (("rank_pattern", settings.rank_pattern), ("alpha_pattern", settings.alpha_pattern)):
        for pattern in patterns:
            if not any(re.match(rf"(.*\.)?({pattern})$", module) for module in adapted):
                raise ModelError(
                    f"adapter.{key}: {pattern!r} matches no module of {name} that gets an adapter, such as {min(adapted)}"
                )


def _ia3_modules(settings: IA3, model: torch.nn.Module, name: str) -> tuple[list[str], list[str]]:
    """Target modules of (IA)³, and those among them that scale their input."""
    linear = _linear_of_body(model)

    def ending_in(suffix: str) -> set[str]:
        # BERT's attention has an output.dense of its own, which is no feed-forward layer.
        return {m for m in linear if m.endswith(f".{suffix}") and not m.endswith("attention.output.dense")}

    second = set().union(*(ending_in(suffix) for suffix in _SECOND_LAYERS))
    if settings.target_modules is not None:
        targets = _present(settings.target_modules, model, name)
        if settings.feedforward_modules is not None:
            scaled_before = _present(settings.feedforward_modules, model, name)
            if more := sorted(set(scaled_before) - set(targets)):
                raise ModelError(
                    f"adapter.feedforward_modules: {more[0]} is not one of adapter.target_modules, {', '.join(targets)}; "
                    "list it there, too"
                )
            return targets, scaled_before
        return targets, [t for t in targets if any(m == t or m.endswith(f".{t}") for m in second)]
    attention = next((group for group in _KEYS_AND_VALUES if all(map(ending_in, group))), None)
    if attention is None or not second:
        raise ModelError(
            f"adapter.target_modules: keys, values and second feed-forward layers of {name} are not known by name; "
            "list target_modules and feedforward_modules"
        )
    keys = set().union(*map(ending_in, attention))
    return _suffixes(model, keys | second), _suffixes(model, second)
