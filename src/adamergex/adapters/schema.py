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
| p-tuning, prompt tuning | `prompt_embeddings` | (tokens, width) | embeddings before those of the text |
| `modules_to_save` | the module's own | the module's own | in place of the module |
| saved along | the base model's own, `weight` or `bias` | the module's own | in place of the base model's |
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from adamergex.adapters.peft_config import STRUCTURES, parameters, pattern, saved_modules, supported
from adamergex.adapters.tensor_file import Spec
from adamergex.errors import AdapterError

PROMPTS = ("prefix tuning", "p-tuning", "prompt tuning")
_FACTOR = re.compile(r"(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<side>[AB])(\.weight)?")
_UPDATE = re.compile(r"(?P<module>.+)\.lora_B\.bias")
_MULTIPLIER = re.compile(r"(?P<module>.+)\.(lora_magnitude_vector(\.weight)?|ia3_l)")
_TOKENS = re.compile(r"(?P<module>.+)\.token_adapter\.trainable_tokens_delta")
_BIAS = re.compile(r"(?P<module>.+)\.bias")
_OF_THE_BASE = re.compile(r"(?P<module>.+)\.(weight|bias)")
_OF_AN_ADAPTER = re.compile(r"(.+\.)?(lora_|ia3_|prompt_|token_adapter|trainable_tokens|modules_to_save)")


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
class TensorSchema:
    """The tensors of an adapter, classified; names of modules are those of the base model.

    Attributes:
        structure: "LoRA", "DoRA", "(IA)³", "prefix tuning", "p-tuning" or "prompt tuning".
        products: low-rank updates by module.
        updates: tensor → module and scaling, for what is added to the base model: `lora_bias`.
        multipliers: tensor → module, for what multiplies: (IA)³ and DoRA's magnitudes.
        values: tensor → module, for what replaces a value of the base model: trained biases and tokens.
        prompts: the tensor of prefix tuning, p-tuning and prompt tuning.
        heads: tensors of `modules_to_save`.
        frozen: tensors of the base model that PEFT saved along, as it does where the vocabulary was resized or an embedding
            is adapted; it sets them on the base model when it loads the adapter.
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
        modules = {name: module for module, product in self.products.items() for name in (product.a, product.b)}
        modules |= {name: module for name, (module, _) in self.updates.items()}
        modules |= {name: name for name in self.prompts}
        return modules | self.multipliers | self.values


def read(config: Any, specs: Mapping[str, Spec], origin: str) -> TensorSchema:
    """Classify the tensors of an adapter.

    Args:
        config: the content of `adapter_config.json`.
        specs: shape and dtype of each tensor by its name.
        origin: the folder, for messages.

    Raises:
        AdapterError: a structure or a setting that is not supported, a tensor that the settings do not explain,
            or one that is missing or has a wrong shape.
    """
    try:
        kind = supported(config)
        _check_whole(specs)
        schema = TensorSchema("DoRA" if config.get("use_dora") else STRUCTURES[kind])
        _sort(schema, config, specs)
        for name in schema.modules():
            if not specs[name].dtype.is_floating_point:
                raise AdapterError(f"tensor {name} has dtype {specs[name].dtype}; expected a floating-point one")
        if not schema.modules():
            raise AdapterError(f"holds no {schema.structure} tensor")
    except AdapterError as error:
        raise AdapterError(f"{origin}: {error}") from error
    return schema


def _check_whole(specs: Mapping[str, Spec]) -> None:
    """Raises AdapterError for a tensor without values."""
    empty = [name for name, spec in specs.items() if 0 in spec.shape]
    if empty:
        raise AdapterError(
            f"tensor {min(empty)} is empty, shape {specs[min(empty)].shape} ({len(empty)} such tensors): it was saved while the "
            "model lay in pieces (DeepSpeed ZeRO-3, FSDP); save it again with stage3_gather_16bit_weights_on_model_save, or make "
            "it of the checkpoint with zero_to_fp32.py"
        )


def _sort(schema: TensorSchema, config: dict[str, Any], specs: Mapping[str, Spec]) -> None:
    sides: dict[tuple[str, bool], dict[str, str]] = {}
    heads = saved_modules(config)
    unexplained = []
    lora = schema.structure in ("LoRA", "DoRA")
    for name in specs:
        path = name.removeprefix("base_model.").removeprefix("model.")
        if lora and (match := _FACTOR.fullmatch(path)):
            sides.setdefault((match["module"], bool(match["embedding"])), {})[match["side"]] = name
        elif lora and config.get("lora_bias") and (match := _UPDATE.fullmatch(path)):
            schema.updates[name] = (match["module"], math.nan)
        elif (schema.structure in ("DoRA", "(IA)³")) and (match := _MULTIPLIER.fullmatch(path)):
            schema.multipliers[name] = match["module"]
        elif config.get("trainable_token_indices") and (match := _TOKENS.fullmatch(path)):
            schema.values[name] = match["module"]
        elif name == "prompt_embeddings" and schema.structure in PROMPTS:
            schema.prompts.append(name)
        elif any(module.endswith(heads) for module in _ancestors(path)):
            schema.heads.append(name)
        elif config.get("bias", "none") != "none" and (match := _BIAS.fullmatch(path)):
            schema.values[name] = match["module"].removesuffix(".base_layer")
        else:
            unexplained.append((name, path))
    adapted = {*(module for module, _ in sides), *schema.multipliers.values()}
    for name, path in unexplained:
        if not _is_of_the_base(path, adapted):
            raise AdapterError(f"tensor {name} is not one that the settings explain ({schema.structure})")
        schema.frozen.append(name)
    for (module, _), names in sorted(sides.items()):
        schema.products[module] = _product(module, names, config, specs)
    for name, (module, _) in schema.updates.items():
        if module not in schema.products or specs[name].shape != (schema.products[module].rows,):
            raise AdapterError(f"tensor {name} has shape {specs[name].shape}, which fits no factor of its module")
        schema.updates[name] = (module, schema.products[module].scaling)


def _is_of_the_base(path: str, adapted: set[str]) -> bool:
    """Whether a name is one of the base model's; inside of an adapted module all but the module itself is the adapter's."""
    inside = any(module in adapted for module in _ancestors(path)) and ".base_layer." not in path
    return _OF_THE_BASE.fullmatch(path) is not None and _OF_AN_ADAPTER.match(path) is None and not inside


def _ancestors(path: str) -> list[str]:
    """The modules that contain a tensor. PEFT matches the ends of their names with `modules_to_save`."""
    parts = path.split(".")[:-1]
    return [".".join(parts[:i]) for i in range(1, len(parts) + 1)]


def _product(module: str, names: dict[str, str], config: dict[str, Any], specs: Mapping[str, Spec]) -> Product:
    if len(names) != 2:
        raise AdapterError(f"module {module} has no lora_{'A' if 'B' in names else 'B'}; the file is incomplete")
    a, b = specs[names["A"]].shape, specs[names["B"]].shape
    if len(a) == len(b) == 3 and a[0] == b[0] and b[2] == a[1]:
        raise AdapterError(
            f"module {module} has factors of three dimensions, {a} and {b}, one pair for each of {a[0]} experts; PEFT stores "
            "them in two, (E·r, in) and (out, r·E), with target_parameters: convert them"
        )
    if len(a) > 2 and len(b) > 2:
        raise AdapterError(f"module {module} is a convolution; supported: linear layers, embeddings and parameters")
    if len(a) != 2 or len(b) != 2 or a[0] != b[1]:
        raise AdapterError(f"module {module} has lora_A {a} and lora_B {b}; expected (r, in) and (out, r)")
    targeted = parameters(module.replace(".base_layer", ""), config)
    if targeted:
        settings = {(pattern(config, "rank", name), pattern(config, "alpha", name)) for name in targeted}
        if len(settings) > 1:
            raise AdapterError(
                f"rank_pattern or alpha_pattern tells {' and '.join(targeted)} apart, and the file does not say which "
                "tensor is whose"
            )
        rank, alpha = settings.pop()
        if a[0] % rank:
            raise AdapterError(f"module {module} has {a[0]} rows in lora_A; expected a multiple of r = {rank}")
        experts = a[0] // rank
    else:
        # Modules inside an adapted module, such as the projections of nn.MultiheadAttention, have that module's alpha.
        alpha, rank, experts = pattern(config, "alpha", module.partition(".base_layer.")[0]), a[0], 1
    scaling = alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank
    return Product(names["A"], names["B"], rank, b[0], a[1], experts, scaling)
