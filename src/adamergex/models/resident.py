"""One resident base model with one adapter slot, whose weights are set in place."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import peft
import torch
import transformers
from torch import Tensor

from adamergex.adapters.adapter import Adapter
from adamergex.errors import ModelError
from adamergex.models import adapter_setup, fsdp, limits
from adamergex.models.adapter_settings import AdapterSettings, Prefix
from adamergex.models.base_model import BaseModel
from adamergex.models.device import default_device
from adamergex.models.encoded import EncodedExample
from adamergex.models.families import Kind, does_not_load, end_tokens, greedy, load_tokenizer, refuse_quantization
from adamergex.models.layout_probe import LayoutChoice, choose
from adamergex.models.likelihood import cross_entropy
from adamergex.models.target_logits import BatchLayout, target_logits
from adamergex.storage.checkpoints import Checkpoint

CLASSES: dict[Kind, Any] = {
    "causal": transformers.AutoModelForCausalLM,
    "seq2seq": transformers.AutoModelForSeq2SeqLM,
    "masked": transformers.AutoModelForMaskedLM,
    "classes": transformers.AutoModelForSequenceClassification,
}
# The adapter's name on the model.
SLOT = "slot-0"
# With all biases, PEFT writes those of a head once more under the places that they have on the model.
_TWICE = re.compile(r"\.(modules_to_save\.[^.]+|original_module)\..*bias$")


class ResidentModel:
    """A base model that is loaded once, and one adapter slot on it whose weights are set in place.

    Args:
        checkpoint: the folder of the model.
        dtype: of the frozen weights; adapters are float32.
        settings: structure and size of the adapters to train.
        tokenizer: the model's, if it is loaded already.
        kind: how the model predicts.
        classes: the number of classes, for kind `classes`.
        quantization: 4bit or 8bit to quantize the frozen base model.
        split_over: over how many processes its layers are sharded (`fsdp`); 0 for a whole model.
        device: that it runs on; `default_device()` by default.

    Raises:
        ModelError: the model does not load, or has no module that `settings` names.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        dtype: str,
        settings: AdapterSettings,
        tokenizer: Any = None,
        kind: Kind = "causal",
        classes: int = 0,
        quantization: str | None = None,
        split_over: int = 0,
        device: torch.device | None = None,
    ):
        self.checkpoint, self.kind, self.is_split = checkpoint, kind, split_over > 0
        self.tokenizer = tokenizer or load_tokenizer(checkpoint)
        self.ends = end_tokens(checkpoint, self.tokenizer)
        self._settings = settings
        # Layouts that were tested on this base model.
        self._layouts: dict[BatchLayout, LayoutChoice] = {}
        self.device = device = device or default_device()
        base, self._new = _load(checkpoint, dtype, kind, classes, quantization, device)
        self.pad = limits.pad_token(base, self.tokenizer, checkpoint.name)
        known = [limits.positions(base), self.tokenizer.model_max_length if kind in ("masked", "classes") else None]
        self._positions = min((limit for limit in known if limit is not None), default=None)
        if kind in ("causal", "seq2seq"):
            base.generation_config = greedy(base.config, self.ends, self.pad)
        if not split_over and not quantization:
            base.to(device)
        self._base = BaseModel(base)
        # The structure of the loaded adapter: as configured, and as completed by PEFT.
        self._structures: list[dict[str, Any]] = []
        self._config = adapter_setup.config(settings, base, kind, checkpoint.name)
        self._set_on(self._config, "adapter.target_modules")
        adapter_setup.check_trainable(self.model)
        self._given = {name: tensor.clone() for name, tensor in self._slot().items() if "lora_" not in name}
        self._given |= {name: tensor.clone() for name, tensor in self._slot().items() if "magnitude" in name}
        if split_over:
            fsdp.split(self.model, device, split_over)

    def _slot(self) -> dict[str, Tensor]:
        """The slot's tensors by the names they have in an adapter file; they share the parameters' memory."""
        tensors = peft.get_peft_model_state_dict(self.model, adapter_name=SLOT, save_embedding_layers=False)
        if self._prefix:
            # PEFT hands out a copy of the prompt.
            tensors["prompt_embeddings"] = self.model.prompt_encoder[SLOT].embedding.weight.data
        return {name: tensor for name, tensor in tensors.items() if not _TWICE.search(name)}

    def start(self, seed: int) -> None:
        """Set the slot to the initial weights that all adapters of a run share (`adapter_setup.start`)."""
        self._fit(self._config, "adapter")
        spread = self._settings.spread if isinstance(self._settings, Prefix) else self._head_spread()
        for name, tensor in self._slot().items():
            fresh = adapter_setup.start(name, tensor, seed, spread)
            if fresh is None or self._is_trained_head(name):
                fresh = self._given[name]
            tensor.copy_(fresh)

    def _head_spread(self) -> float:
        return getattr(self.model.config, "initializer_range", None) or 0.02

    def _is_trained_head(self, name: str) -> bool:
        """Whether a tensor belongs to a trained head of the checkpoint."""
        is_head = not any(part in name for part in ("lora_", "ia3_l", "prompt_embeddings"))
        return is_head and name.removeprefix("base_model.").removeprefix("model.") not in self._new

    def adapter(self) -> Adapter:
        """A copy of the slot as an adapter that can be saved, float32 on the CPU."""
        config = self.model.peft_config[SLOT].to_dict()
        config |= {"base_model_name_or_path": self.checkpoint.name, "inference_mode": True}
        tensors = {
            name: tensor.detach().to("cpu", torch.float32, copy=True).contiguous()
            for name, tensor in self._slot().items()
        }
        return Adapter({key: jsonable(value) for key, value in config.items()}, tensors)

    def set_adapter(self, adapter: Adapter) -> None:
        """Set the slot to an adapter's weights, in place if the loaded adapter has the same structure.

        Raises:
            AdapterError: its tensors are not those that its configuration describes.
            ModelError: the adapter's modules or shapes are not those of this model.
        """
        for name in adapter.schema.frozen:
            parameter = name.removeprefix("base_model.").removeprefix("model.").replace(".base_layer.", ".")
            if not self._base.has(parameter, adapter.tensors[name]):
                raise ModelError(
                    f"{adapter.origin}: holds {name}, which is not the one of {self.checkpoint.name}: it was trained on "
                    "another base model or with a resized vocabulary; give that one with --base-model"
                )
        self._fit(adapter_setup.as_given(adapter.config, self.kind, adapter.origin), adapter.origin)
        slot = self._slot()
        in_file = {name for name in adapter.tensors if not _TWICE.search(name)} - set(adapter.schema.frozen)
        if odd := slot.keys() ^ in_file:
            lacking = self.checkpoint.name if min(odd) in in_file else "the file"
            raise ModelError(
                f"{adapter.origin}: {lacking} lacks {len(odd)} tensors of the adapter, the first is {min(odd)}; score it on "
                "the base model that it was trained on"
            )
        for name, tensor in slot.items():
            stored = adapter.tensors[name]
            if tensor.shape != stored.shape:
                raise ModelError(
                    f"{adapter.origin}: {name} has shape {tuple(stored.shape)}, expected {tuple(tensor.shape)}"
                )
            tensor.copy_(stored)

    def _fit(self, config: peft.PeftConfig, origin: str) -> None:
        """Give the slot an adapter's structure."""
        if adapter_setup.structure(config) not in self._structures:
            self._set_on(config, origin)

    def _set_on(self, config: peft.PeftConfig, origin: str) -> None:
        """Remove the adapter, and attach an untrained one of this structure."""
        self._base.take_off()
        self._structures = []
        as_given = adapter_setup.structure(config)
        if getattr(config, "bias", "none") != "none":
            if self.is_split:
                raise ModelError(f"{origin}: has trained biases; they cannot be set on a base model in pieces")
            self._base.lend_biases()
        try:
            self.model = adapter_setup.attach(self._base.model, config, SLOT, origin)
        except ModelError:
            self._base.take_off()
            raise
        self._structures = [as_given, adapter_setup.structure(config)]
        self._prefix = int(config.num_virtual_tokens) if isinstance(config, peft.PrefixTuningConfig) else 0

    @property
    def context(self) -> int | None:
        """The longest sequence that the model takes now, in tokens, less the length of a prefix; None if it has no limit."""
        return self.context_behind(self._prefix)

    def context_behind(self, virtual_tokens: int) -> int | None:
        """The longest sequence that the model takes after a prefix of so many virtual tokens; None as for `context`."""
        return None if self._positions is None else self._positions - virtual_tokens

    @property
    def decoder_start(self) -> int | None:
        """The token that a decoder's sequences start with; None without a decoder."""
        if self.kind != "seq2seq":
            return None
        start: int | None = getattr(self.model.config, "decoder_start_token_id", None)
        return self.pad if start is None else start

    def layout(self, packing: bool) -> LayoutChoice:
        """How sequences are arranged in a batch, and why: packed, with shared prefixes, or one per row.

        The first two need a model that supports them (`layout_probe.choose`). Prefix tuning excludes them: the learned
        prefix precedes each row, and would have to precede each sequence.
        """
        if self.kind != "causal" or self._prefix:
            return LayoutChoice("rows", "a prefix stands before each" if self._prefix else "the model is not causal")
        preferred: BatchLayout = "packed" if packing else "shared"
        if preferred not in self._layouts:
            self._layouts[preferred] = choose(self.model, preferred)
        return self._layouts[preferred]

    def trainable(self) -> list[torch.nn.Parameter]:
        """The slot's parameters, in a fixed order."""
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    @contextmanager
    def without_adapter(self) -> Iterator[None]:
        """Within this context the model is the base model."""
        # Not PEFT's `disable_adapter`, which leaves biases, and fails with a prefix where the model cannot generate.
        attached, self.model = self.model, self._base.model
        try:
            with self._base.bare():
                yield
        finally:
            self.model = attached

    def loss(self, examples: Sequence[EncodedExample], model: Any = None, layout: BatchLayout = "rows") -> Tensor:
        """Cross-entropy summed over all predictions of a batch, in nats; a scalar with its gradient.

        Args:
            examples: one batch.
            model: called in place of `self.model`, such as a DistributedDataParallel wrapper of it.
            layout: see `target_logits`.
        """
        return cross_entropy(*target_logits(model or self.model, examples, self.pad, self.kind, layout))


def _load(
    checkpoint: Checkpoint, dtype: str, kind: Kind, classes: int, quantization: str | None, device: torch.device
) -> tuple[Any, set[str]]:
    """The base model, on the CPU unless it is quantized, and the names of its parameters that the checkpoint lacks."""
    settings: dict[str, Any] = {"dtype": getattr(torch, dtype), "output_loading_info": True}
    if kind == "classes":
        settings["num_labels"] = classes
        # A checkpoint with a head for another number of classes gets a new one.
        settings["ignore_mismatched_sizes"] = True
    if quantization is not None:
        settings |= {"quantization_config": _bits(quantization, dtype), "device_map": {"": device}}
    transformers.utils.logging.disable_progress_bar()
    try:
        # A head that the checkpoint lacks is initialized from torch's generator: seeded, so that it is always the same.
        torch.manual_seed(0)
        base, info = CLASSES[kind].from_pretrained(
            checkpoint.folder, trust_remote_code=checkpoint.trust_remote_code, **settings
        )
    except Exception as error:  # transformers passes on all kinds of errors
        raise does_not_load(checkpoint, "does not load", error) from error
    new = set(info["missing_keys"]) | {name for name, *_ in info.get("mismatched_keys", ())}
    return base, new


def _bits(quantization: str, dtype: str) -> transformers.BitsAndBytesConfig:
    """How bitsandbytes is to hold the frozen weights: QLoRA's settings (arXiv 2305.14314) in 4 bits, LLM.int8() in 8."""
    refuse_quantization(quantization)
    if quantization == "8bit":
        return transformers.BitsAndBytesConfig(load_in_8bit=True)
    return transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, dtype),
    )


def jsonable(value: Any) -> Any:
    """Sets in sorted order and enumerations by value: the same configuration is the same text."""
    if isinstance(value, set):
        return sorted(value)
    return getattr(value, "value", value)
