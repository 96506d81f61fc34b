"""What the tensors of a PEFT adapter folder are, and how each enters the model.

| structure | tensor names end in | shapes | enters the model as |
|---|---|---|---|
| LoRA, linear | `lora_A.weight`, `lora_B.weight` | (r, in), (out, r) | W + s·B@A, s = alpha / r, or alpha / √r for rsLoRA |
| LoRA, embedding | `lora_embedding_A`, `…_B` | (r, vocabulary), (width, r) | W + s·(B@A)ᵀ |
| LoRA, E experts | `lora_A.weight`, `lora_B.weight` | (E·r, in), (out, r·E) | Wₑ + s·Bₑ@Aₑ, A expert-major and B expert-minor |
| `lora_bias` | `lora_B.bias` | (out,) | b + s·(that) |
| DoRA | `lora_magnitude_vector` | (out,) | m ⊙ (W + s·B@A) / ‖W + s·B@A‖ by rows |
| trained bias | `bias` | (out,) | in place of b |
| trained tokens | `trainable_tokens_delta` | (tokens, width) | in place of these rows of the embedding |
| (IA)³ | `ia3_l` | (out, 1), feed-forward (1, in) | l ⊙ output, feed-forward l ⊙ input |
| prefix tuning | `prompt_embeddings` | (tokens, layers · 2 · width) | keys and values before those of the text, per layer |
| p-tuning | `prompt_embeddings` | (tokens, width) | embeddings before those of the text |
| `modules_to_save` | the module's own | the module's own | in place of the module |
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from adamergex.coefficients import ending
from adamergex.errors import AdapterError
from adamergex.tensorfile import Spec

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
# PEFT saves embeddings, input and output, whole where they are adapted or the vocabulary was resized.
_SAVED_ALONG = tuple(
    f"{name}.weight"
    for name in [
        "base_layer",
        "embed_tokens",
        "lm_head",
        "shared",
        "wte",
        "word_embeddings",
        "embed_in",
        "embed_out",
        "tok_embeddings",
    ]
)
_CHANGES_BASE = ("pissa", "olora", "corda", "lora_ga", "loftq")
_FACTOR = re.compile(r"(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<side>[AB])(\.weight)?")
_UPDATE = re.compile(r"(?P<module>.+)\.lora_B\.bias")
_MULTIPLIER = re.compile(r"(?P<module>.+)\.(lora_magnitude_vector(\.weight)?|ia3_l)")
_TOKENS = re.compile(r"(?P<module>.+)\.token_adapter\.trainable_tokens_delta")
_BIAS = re.compile(r"(?P<module>.+)\.bias")


@dataclass(frozen=True)
class Product:
    """One low-rank update.

    Attributes:
        a, b: the names of the tensors A and B.
        rank: r, of each expert.
        rows, columns: out and in.
        experts: E, or 1.
        scaling: what PEFT multiplies B @ A with.
    """

    a: str
    b: str
    rank: int
    rows: int
    columns: int
    experts: int
    scaling: float


@dataclass
class Layout:
    """The tensors of a folder by what they are; names of modules are those of the base model.

    Attributes:
        structure: "LoRA", "DoRA", "(IA)³", "prefix tuning" or "p-tuning".
        products: low-rank updates by module.
        updates: tensor → module and scaling, for what is added to the base model: `lora_bias`.
        multipliers: tensor → module, for what multiplies: (IA)³ and DoRA's magnitudes.
        values: tensor → module, for what replaces a value of the base model: trained biases and tokens.
        prompts: the tensor of prefix tuning and p-tuning.
        heads: tensors of `modules_to_save`.
        frozen: tensors of the base model that PEFT saved along, unchanged.
    """

    structure: str
    products: dict[str, Product] = field(default_factory=dict)
    updates: dict[str, tuple[str, float]] = field(default_factory=dict)
    multipliers: dict[str, str] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)
    prompts: list[str] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)
    frozen: list[str] = field(default_factory=list)

    def modules(self) -> dict[str, str]:
        """Every tensor that is merged, with its module."""
        found = {name: module for module, product in self.products.items() for name in (product.a, product.b)}
        found |= {name: module for name, (module, _) in self.updates.items()}
        found |= {name: name for name in self.prompts}
        return found | self.multipliers | self.values


def read(config: Any, specs: Mapping[str, Spec], origin: str) -> Layout:
    """Sort the tensors of a folder by what they are.

    Args:
        config: the content of `adapter_config.json`.
        specs: shape and dtype of each tensor by its name.
        origin: the folder, for messages.

    Raises:
        AdapterError: a structure or a setting that is not supported, a tensor that the settings do not explain,
            or one that is missing or of a wrong shape.
    """
    try:
        kind = _supported(config)
        layout = Layout("DoRA" if config.get("use_dora") else STRUCTURES[kind])
        _sort(layout, config, specs)
        for name in layout.modules():
            if not specs[name].dtype.is_floating_point:
                raise AdapterError(f"tensor {name} has dtype {specs[name].dtype}; expected a floating-point one")
        if not layout.modules():
            raise AdapterError(f"holds no {layout.structure} tensor")
        if layout.prompts:
            _check_prompts(layout, config, specs)
        elif layout.structure == "DoRA" and set(layout.multipliers.values()) != layout.products.keys():
            raise AdapterError("has use_dora, and not a lora_magnitude_vector for each pair of factors")
    except AdapterError as error:
        raise AdapterError(f"{origin}: {error}") from error
    return layout


def _supported(config: Any) -> str:
    """The adapter's PEFT type, once nothing in its settings stands against reading it."""
    if not isinstance(config, dict):
        raise AdapterError(f"adapter_config.json holds {type(config).__name__}, not an object")
    kind = config.get("peft_type")
    if not isinstance(kind, str) or kind not in STRUCTURES:
        supported = ", ".join(f"{name} ({key})" for key, name in STRUCTURES.items())
        raise AdapterError(f"adapter_config.json describes {_shown(kind)}; supported: {supported}")
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
        # Not math.isfinite, which stumbles over whole numbers beyond a float.
        return type(value) in (int, float) and -1e300 < value < 1e300

    if type(config.get("r")) is not int or config["r"] < 1:
        raise AdapterError(f"adapter_config.json: r is {_shown(config.get('r'))}; expected a whole number from 1")
    if not number(config.get("lora_alpha")):
        raise AdapterError(f"adapter_config.json: lora_alpha is {_shown(config.get('lora_alpha'))}; expected a number")
    for key in ("rank_pattern", "alpha_pattern"):
        pattern = config.get(key) or {}
        if not isinstance(pattern, dict) or not all(number(value) for value in pattern.values()):
            raise AdapterError(f"adapter_config.json: {key} is not an object of numbers")
        for expression in pattern:
            try:
                re.compile(ending(expression))
            except (re.error, RecursionError, OverflowError) as error:
                raise AdapterError(
                    f"adapter_config.json: {key}: {_shown(expression)} is no pattern: {error}"
                ) from error


def _sort(layout: Layout, config: dict[str, Any], specs: Mapping[str, Spec]) -> None:
    sides: dict[tuple[str, bool], dict[str, str]] = {}
    heads = tuple(config.get("modules_to_save") or ())
    lora = layout.structure in ("LoRA", "DoRA")
    for name in specs:
        path = name.removeprefix("base_model.").removeprefix("model.")
        if lora and (match := _FACTOR.fullmatch(path)):
            sides.setdefault((match["module"], bool(match["embedding"])), {})[match["side"]] = name
        elif lora and config.get("lora_bias") and (match := _UPDATE.fullmatch(path)):
            layout.updates[name] = (match["module"], math.nan)
        elif (layout.structure in ("DoRA", "(IA)³")) and (match := _MULTIPLIER.fullmatch(path)):
            layout.multipliers[name] = match["module"]
        elif config.get("trainable_token_indices") and (match := _TOKENS.fullmatch(path)):
            layout.values[name] = match["module"]
        elif name == "prompt_embeddings" and layout.structure in ("prefix tuning", "p-tuning"):
            layout.prompts.append(name)
        elif any(module.endswith(heads) for module in _above(path)):
            layout.heads.append(name)
        elif config.get("bias", "none") != "none" and (match := _BIAS.fullmatch(path)):
            layout.values[name] = match["module"].removesuffix(".base_layer")
        elif lora and path.endswith(_SAVED_ALONG):
            layout.frozen.append(name)
        else:
            raise AdapterError(f"tensor {name} is not one that the settings explain ({layout.structure})")
    for (module, _), names in sorted(sides.items()):
        layout.products[module] = _product(module, names, config, specs)
    for name, (module, _) in layout.updates.items():
        if module not in layout.products or specs[name].shape != (layout.products[module].rows,):
            raise AdapterError(f"tensor {name} has shape {specs[name].shape}, which fits no factor of its module")
        layout.updates[name] = (module, layout.products[module].scaling)


def _above(path: str) -> list[str]:
    """The modules that a tensor is in. PEFT compares their ends with the names in `modules_to_save`."""
    parts = path.split(".")[:-1]
    return [".".join(parts[:i]) for i in range(1, len(parts) + 1)]


def _product(module: str, names: dict[str, str], config: dict[str, Any], specs: Mapping[str, Spec]) -> Product:
    if len(names) != 2:
        raise AdapterError(f"module {module} has no lora_{'A' if 'B' in names else 'B'}; the file is incomplete")
    a, b = specs[names["A"]].shape, specs[names["B"]].shape
    if len(a) > 2 and len(b) > 2:
        raise AdapterError(f"module {module} is a convolution; supported: linear layers, embeddings and parameters")
    if len(a) != 2 or len(b) != 2 or a[0] != b[1] or 0 in (*a, *b):
        raise AdapterError(f"module {module} has lora_A {a} and lora_B {b}; expected (r, in) and (out, r)")
    parameters = _parameters(module.replace(".base_layer", ""), config)
    if parameters:
        found = {(_pattern(config, "rank", name), _pattern(config, "alpha", name)) for name in parameters}
        if len(found) > 1:
            raise AdapterError(
                f"rank_pattern or alpha_pattern tells {' and '.join(parameters)} apart, and the file does not say which "
                "tensor is whose"
            )
        rank, alpha = found.pop()
        if a[0] % rank:
            raise AdapterError(f"module {module} has {a[0]} rows in lora_A; expected a multiple of r = {rank}")
        experts = a[0] // rank
    else:
        # What is inside an adapted module, as the projections of attention are, has that module's alpha.
        alpha, rank, experts = _pattern(config, "alpha", module.partition(".base_layer.")[0]), a[0], 1
    scaling = alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank
    return Product(names["A"], names["B"], rank, b[0], a[1], experts, scaling)


def _parameters(module: str, config: dict[str, Any]) -> list[str]:
    """The parameters of a module that `target_parameters` means: PEFT compares the ends of their whole names.

    Raises:
        AdapterError: a name without its module, beside `target_modules` that may mean the same.
    """
    found = []
    for parameter in config.get("target_parameters") or []:
        parent, _, name = parameter.rpartition(".")
        targets = config.get("target_modules") or []
        if not parent and isinstance(targets, str):
            raise AdapterError(
                f"target_parameters names {parameter} without its module, and target_modules is a pattern"
            )
        if (parent and (module == parent or module.endswith(f".{parent}"))) or (
            not parent and not any(module == target or module.endswith(f".{target}") for target in targets)
        ):
            found.append(f"{module}.{name}")
    return sorted(found)


def _pattern(config: dict[str, Any], what: str, name: str) -> Any:
    """R or alpha for a name: PEFT takes the first key that is the name or a regular expression for its end."""
    for key, value in (config.get(f"{what}_pattern") or {}).items():
        if re.match(ending(key), name):
            return value
    return config["r" if what == "rank" else "lora_alpha"]


def _check_prompts(layout: Layout, config: dict[str, Any], specs: Mapping[str, Spec]) -> None:
    """One matrix of the shape that the settings say."""
    tokens, layers, width = (config.get(key, 0) for key in ("num_virtual_tokens", "num_layers", "token_dim"))
    parts = config.get("num_transformer_submodules") or 1
    if not all(type(n) is int and n > 0 for n in (tokens, layers, width, parts)):
        raise AdapterError(
            "adapter_config.json: num_virtual_tokens, num_layers and token_dim are not all whole numbers"
        )
    expected = (tokens, layers * 2 * width) if layout.structure == "prefix tuning" else (tokens * parts, width)
    found = specs[layout.prompts[0]].shape
    if found != expected:
        raise AdapterError(f"prompt_embeddings has shape {found}; expected {expected}")


def _shown(value: Any) -> str:
    """A value from a file, short and safe to print."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "…"
