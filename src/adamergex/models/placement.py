"""Whether PEFT finds a place on a base model for each tensor of an adapter, by the model's configuration alone.

The model is made on the meta device, where tensors have a shape and no values: nothing is downloaded, no weights are read, and
no Python code that comes with the model is run.
"""

import warnings
from collections.abc import Mapping
from typing import Any

import peft
import torch
import transformers
from peft.utils.transformers_weight_conversion import convert_peft_adapter_state_dict_for_transformers

from adamergex.adapters.adapter import Adapter
from adamergex.errors import ModelError
from adamergex.models import adapter_setup
from adamergex.models.families import Family, does_not_load, family
from adamergex.storage import hub
from adamergex.storage.checkpoints import PACKAGED, Checkpoint, model_at_hand
from adamergex.storage.files import expanded

BY_TASK = {
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "TOKEN_CLS": "AutoModelForTokenClassification",
    "QUESTION_ANS": "AutoModelForQuestionAnswering",
}
_BY_FAMILY: dict[Family, str] = {
    "causal": "AutoModelForCausalLM",
    "seq2seq": "AutoModelForSeq2SeqLM",
    "encoder": "AutoModelForMaskedLM",
}
_Shapes = Mapping[str, tuple[int, ...]]


def here(base_model: str) -> Checkpoint:
    """A base model of which the configuration is on this machine: a folder, or in the hub's cache. Asks no network.

    Raises:
        ModelError: it is not here.
    """
    is_here = base_model == PACKAGED or expanded(base_model).is_dir() or hub.is_cached(base_model, "config.json")
    checkpoint = model_at_hand(base_model) if is_here else None
    if checkpoint is None:
        raise ModelError(
            f"base_model {base_model}: its config.json is not on this machine, and nothing is downloaded to check an adapter; "
            "name a folder that has it"
        )
    return checkpoint


def auto_class(adapter: Adapter, checkpoint: Checkpoint) -> str:
    """The name of transformers' class that loads a base model for an adapter. Raises ModelError as `family`."""
    return BY_TASK.get(str(adapter.config.get("task_type"))) or _BY_FAMILY[family(checkpoint)]


def outputs(adapter: Adapter) -> int | None:
    """The number of outputs of the adapter's head, in which the last layer is the narrowest; None where it has no head."""
    return min(
        (adapter.specs[n].shape[0] for n in adapter.schema.heads if len(adapter.specs[n].shape) == 2), default=None
    )


def own(name: str) -> str:
    """The name in the base model of a tensor that an adapter holds whole."""
    return name.removeprefix("base_model.").removeprefix("model.").replace(".base_layer.", ".")


def embedding_rows(adapter: Adapter, base: Any) -> int | None:
    """The rows of the input embeddings that the adapter holds, more where tokens were added; None where it holds none."""
    embeddings = base.get_input_embeddings()
    names = {f"{name}.weight" for name, module in base.named_modules() if module is embeddings}
    held = [n for n in (*adapter.schema.frozen, *adapter.schema.heads) if own(n) in names]
    return adapter.specs[held[0]].shape[0] if held else None


def misplaced(adapter: Adapter, checkpoint: Checkpoint) -> list[str]:
    """What PEFT would not load of an adapter on a base model: a line for each kind of problem.

    Args:
        adapter: its names and shapes are read, and no values.
        checkpoint: the base model; its configuration alone is read.

    Raises:
        ModelError: the configuration does not load without code that comes with the model.
    """
    base = _without_weights(adapter, checkpoint)
    modules = [name for name, _ in base.named_modules()]
    whole = {name: tuple(tensor.shape) for name, tensor in base.state_dict().items()}
    stored: _Shapes = {name: spec.shape for name, spec in adapter.specs.items()}
    try:
        of = _prompts if adapter.schema.prompts else _updates
        wanted, stored = of(adapter, base, stored, f"{adapter.origin} on {checkpoint.name}")
    except ModelError as error:
        return [str(error)]
    # PEFT sets these in the base model itself.
    along = {name: whole[own(name)] for name in adapter.schema.frozen if own(name) in whole}
    return _lines(stored, {**wanted, **along}, checkpoint.name, max(modules, key=len))


def _without_weights(adapter: Adapter, checkpoint: Checkpoint) -> Any:
    """The base model on the meta device, with as many outputs and tokens as the adapter has."""
    name = auto_class(adapter, checkpoint)
    labels = outputs(adapter) if name in BY_TASK.values() else None
    more = {} if labels is None else {"num_labels": labels}
    try:
        config = transformers.AutoConfig.from_pretrained(checkpoint.folder, trust_remote_code=False, **more)
        with torch.device("meta"):
            base = getattr(transformers, name).from_config(config, trust_remote_code=False)
            rows = embedding_rows(adapter, base)
            if rows is not None and rows != base.get_input_embeddings().weight.shape[0]:
                base.resize_token_embeddings(rows, mean_resizing=False)
    except Exception as error:  # transformers passes on all kinds of errors
        raise does_not_load(checkpoint, "its configuration does not load", error) from error
    return base


def _updates(adapter: Adapter, base: Any, stored: _Shapes, origin: str) -> tuple[_Shapes, _Shapes]:
    """The tensors that PEFT makes, and those that it takes the file's for: it renames those of older transformers."""
    config = adapter_setup.as_given(adapter.config, "causal", origin)
    with torch.device("meta"), warnings.catch_warnings():
        # What they say of single tensors is said here of all.
        warnings.simplefilter("ignore")
        model = adapter_setup.attach(base, config, "default", origin)
        wanted = peft.get_peft_model_state_dict(model, save_embedding_layers=False)
        empty = {name: torch.empty(shape) for name, shape in stored.items()}
        found = convert_peft_adapter_state_dict_for_transformers(model, config, empty)
    return _shapes(wanted), _shapes(found)


def _prompts(adapter: Adapter, base: Any, stored: _Shapes, origin: str) -> tuple[_Shapes, _Shapes]:
    """The same of a prompt, whose size PEFT takes from the model where the settings do not say it."""
    kept = ("peft_type", "task_type", "num_virtual_tokens")
    config = peft.PeftConfig.from_peft_type(**{key: adapter.config.get(key) for key in kept})
    heads = {name: tuple(tensor.shape) for name, tensor in base.state_dict().items()}
    wanted = {name: heads[own(name)] for name in adapter.schema.heads if own(name) in heads}
    with torch.device("meta"):
        model = adapter_setup.attach(base, config, "default", origin)
    weight = model.prompt_encoder["default"].embedding.weight
    return wanted | {"prompt_embeddings": tuple(weight.shape)}, stored


def _shapes(tensors: Mapping[str, torch.Tensor]) -> _Shapes:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _lines(stored: _Shapes, wanted: _Shapes, name: str, module: str) -> list[str]:
    """What differs, by kind; `name` is the base model's, `module` that of one in it."""
    unexpected, missing = (sorted(a.keys() - b.keys()) for a, b in ((stored, wanted), (wanted, stored)))
    other = sorted(key for key in stored.keys() & wanted.keys() if stored[key] != wanted[key])
    lines = []
    if unexpected:
        lines.append(
            f"{len(unexpected)} tensors have no place in {name}, such as {unexpected[0]}: PEFT would leave them out; the model has "
            f"modules such as {module}"
        )
    if missing:
        lines.append(
            f"{len(missing)} tensors that PEFT makes on {name} are missing, such as {missing[0]}: it would leave them as it "
            "initialises them"
        )
    if other:
        lines.append(
            f"{len(other)} tensors have another shape than on {name}, such as {other[0]} with {stored[other[0]]}; expected "
            f"{wanted[other[0]]}: PEFT would not load them"
        )
    return lines
