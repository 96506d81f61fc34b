"""A base model with an adapter folded into its weights, by PEFT's own `merge_and_unload`, in float32."""

import copy
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import peft
import torch
import transformers
from torch import Tensor

from adamergex.adapters.adapter import Adapter
from adamergex.errors import AdapterError, ModelError
from adamergex.models import adapter_setup, placement
from adamergex.models.families import does_not_load, first_line
from adamergex.storage.checkpoints import Checkpoint

# The places of a tied parameter: its names in the model → the module, and the name there.
_Places = dict[str, tuple[torch.nn.Module, str]]


@dataclass(frozen=True)
class Fused:
    """A whole model.

    Attributes:
        model: a transformers model with nothing of PEFT on it, its weights in the dtype to store.
        auto_class: of transformers, that loads it.
        dtype: of most of its weights.
        rounding: the Frobenius norm of what rounding to that dtype changes in the weights that the adapter changes, as
            a share of the norm of what the adapter changes in them; 0 where they are float32.
        untied: whether the base model's input and output embeddings are one matrix, and those of this model two.
    """

    model: Any
    auto_class: str
    dtype: str
    rounding: float
    untied: bool


def fuse(adapter: Adapter, checkpoint: Checkpoint, labels: Sequence[str] = (), dtype: str | None = None) -> Fused:
    """Fold an adapter into its base model.

    Args:
        adapter: one that `check_foldable` lets pass.
        checkpoint: the base model; all its weights are held as float32.
        labels: names of a classification head's outputs, in their order; ignored where there are not as many.
        dtype: to store the weights in, such as bfloat16; the base model's own by default.

    Raises:
        AdapterError: PEFT does not fold it.
        ModelError: the base model does not load, its weights are quantized, or the adapter does not fit it.
    """
    auto_class = placement.auto_class(adapter, checkpoint)
    base = _load(adapter, checkpoint, auto_class)
    wanted = getattr(torch, dtype) if dtype else base.dtype
    stored = {name: wanted if dtype else tensor.dtype for name, tensor in _floating(base)}
    rows = placement.embedding_rows(adapter, base)
    if rows is not None and rows != base.get_input_embeddings().weight.shape[0]:
        base.resize_token_embeddings(rows, mean_resizing=False)
    before = _changed_by(adapter, base) if torch.finfo(wanted).bits < 32 else {}
    base.float()
    tied = _tied(base)
    model = _with_adapter(adapter, base)
    for places in tied:
        for module, name in [*places.values()][1:]:
            module._parameters[name] = copy.deepcopy(module._parameters[name])
    try:
        model = model.merge_and_unload(safe_merge=True)
    except Exception as error:  # PEFT passes on all kinds of errors
        raise AdapterError(f"{adapter.origin}: PEFT does not fold it: {first_line(error)}") from error
    untied = _tie_again(model, tied, checkpoint)
    rounding = _round(model, stored, wanted, before)
    if len(labels) == getattr(model.config, "num_labels", 0) and auto_class == placement.BY_TASK["SEQ_CLS"]:
        model.config.id2label = dict(enumerate(labels))
        model.config.label2id = {label: number for number, label in enumerate(labels)}
    return Fused(model.eval(), auto_class, str(wanted).removeprefix("torch."), rounding, untied)


def check_foldable(adapter: Adapter) -> None:
    """Raises AdapterError where an adapter cannot be folded into weights, or holds NaN or infinity."""
    if adapter.schema.prompts:
        raise AdapterError(
            f"{adapter.origin}: is {adapter.schema.structure}, which stands before the text and is in no weight of the model, so "
            "that it cannot be folded into it; use it with PEFT, as an adapter"
        )
    if adapter.not_finite:
        raise AdapterError(f"{adapter.origin}: holds NaN or infinity, in {adapter.not_finite[0]}; train it again")


def _load(adapter: Adapter, checkpoint: Checkpoint, auto_class: str) -> Any:
    """The base model on the CPU, in its own dtype."""
    settings: dict[str, Any] = {}
    outputs = placement.outputs(adapter) if auto_class in placement.BY_TASK.values() else None
    if outputs is not None:
        # The adapter's head takes the place of whichever is there.
        settings = {"num_labels": outputs, "ignore_mismatched_sizes": True}
    transformers.utils.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()
    try:
        base, info = getattr(transformers, auto_class).from_pretrained(
            checkpoint.folder,
            dtype="auto",
            trust_remote_code=checkpoint.trust_remote_code,
            output_loading_info=True,
            **settings,
        )
    except Exception as error:  # transformers passes on all kinds of errors
        raise does_not_load(checkpoint, "does not load", error) from error
    if getattr(base.config, "quantization_config", None) is not None:
        raise ModelError(
            f"base_model {checkpoint.name}: its weights are quantized, and nothing can be added to them; give the model that it "
            "was made from with --base-model"
        )
    heads = tuple(adapter.config.get("modules_to_save") or ())
    missing = sorted(name for name in info["missing_keys"] if not set(name.split(".")) & set(heads))
    if missing:
        raise ModelError(
            f"base_model {checkpoint.name}: has no {missing[0]}, which {auto_class} has and the adapter {adapter.origin} does not "
            "bring; give the model that it was trained on with --base-model"
        )
    return base


def _floating(model: Any) -> Iterable[tuple[str, Tensor]]:
    """Parameters and stored buffers that are numbers, by name, tied ones under each of their names."""
    kept = model.state_dict().keys()
    named = (*model.named_parameters(remove_duplicate=False), *model.named_buffers())
    return ((name, tensor) for name, tensor in named if name in kept and tensor.is_floating_point())


def _changed_by(adapter: Adapter, base: Any) -> dict[str, Tensor]:
    """Copies of the weights that the adapter's low-rank updates and factors change, by name, as the checkpoint has them."""
    modules = {*adapter.schema.products, *adapter.schema.multipliers.values()}
    named = ((name, tensor) for name, tensor in _floating(base) if name.rpartition(".")[0] in modules)
    return {name: tensor.detach().clone() for name, tensor in named if name.endswith(".weight")}


def _tied(model: Any) -> list[_Places]:
    """The parameters that are in several places of a model."""
    places: dict[int, _Places] = {}
    for prefix, module in model.named_modules(remove_duplicate=False):
        for name, parameter in module._parameters.items():
            if parameter is not None:
                places.setdefault(id(parameter), {})[f"{prefix}.{name}"] = (module, name)
    return [found for found in places.values() if len(found) > 1]


def _with_adapter(adapter: Adapter, base: Any) -> peft.PeftModel:
    """The base model with all of the adapter on it. Raises ModelError where a part of it finds no place."""
    names = {name for name, _ in base.named_modules()}
    config = adapter_setup.as_given(adapter.config, "causal", adapter.origin)
    model = adapter_setup.attach(base, config, "default", adapter.origin)
    try:
        peft.set_peft_model_state_dict(model, dict(adapter.tensors))
    except Exception as error:  # PEFT passes on all kinds of errors
        reason = " ".join(str(error).split())
        raise ModelError(f"{adapter.origin}: does not fit {base.config.name_or_path}: {reason[:200]}") from error
    set_on = peft.get_peft_model_state_dict(model, save_embedding_layers=False)
    absent = sorted(
        name
        for name, spec in adapter.specs.items()
        if name not in adapter.schema.frozen and (name not in set_on or tuple(set_on[name].shape) != spec.shape)
    )
    if absent:
        raise ModelError(
            f"{adapter.origin}: {absent[0]} has no place in {base.config.name_or_path}, which has modules such as "
            f"{max(names, key=len)}; give the base model that it was trained on with --base-model"
        )
    return model


def _tie_again(model: Any, tied: list[_Places], checkpoint: Checkpoint) -> bool:
    """Tie again what is equal after the adapter was folded in, and say in the configuration if embeddings are not tied.

    An adapter on one of two layers that share a matrix changes what that layer computes and not what the other does:
    folded in, they are two matrices.

    Returns:
        Whether some are.

    Raises:
        ModelError: the architecture always ties what is not equal any more.
    """
    groups = [{name: model.get_parameter(name) for name in places} for places in tied]
    apart = [group for group in groups if not _equal(group.values())]
    bound: set[str] = set()
    # PEFT says so itself where they are two tensors, be they equal or not.
    if tied:
        for config in (model.config, model.config.get_text_config()):
            config.tie_word_embeddings = not apart
    if apart:
        with torch.device("meta"):
            # As it will be read from config.json.
            like = type(model)(type(model.config).from_dict(model.config.to_dict()))
        bound = {name for pair in like.all_tied_weights_keys.items() for name in pair}
    for group in groups:
        names = [name for name in group if not apart or name in bound]
        if not _equal([group[name] for name in names]):
            raise ModelError(
                f"base_model {checkpoint.name}: {' and '.join(names)} are always one matrix in {type(model).__name__}, and the "
                "adapter changes them differently, so that it cannot be folded in; use it with PEFT, as an adapter"
            )
        for name in names[1:]:
            prefix, _, leaf = name.rpartition(".")
            model.get_submodule(prefix)._parameters[leaf] = group[names[0]]
    return bool(apart)


def _equal(tensors: Iterable[Tensor]) -> bool:
    """Whether tensors are equal, each to the first."""
    first, *others = [*tensors] or [torch.empty(0)]
    return all(torch.equal(first, other) for other in others)


def _round(model: Any, stored: dict[str, torch.dtype], otherwise: torch.dtype, before: dict[str, Tensor]) -> float:
    """Give each weight the dtype that it is stored in; see `Fused.rounding`.

    Args:
        model: in float32.
        stored: the dtype of each parameter and buffer.
        otherwise: of those that the base model lacks.
        before: weights of the base model that the adapter changed.
    """
    changed = lost = 0.0
    for name, tensor in _floating(model):
        rounded = tensor.detach().to(stored.get(name, otherwise))
        if name in before:
            changed += float((tensor.detach() - before[name]).double().square().sum())
            lost += float((tensor.detach() - rounded.float()).double().square().sum())
        tensor.data = rounded
    return math.sqrt(lost / changed) if changed else 0.0
