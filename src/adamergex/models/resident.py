"""One resident base model with one adapter slot, whose weights are set in place."""

import ctypes
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import peft
import torch
import transformers
from peft.utils import ModulesToSaveWrapper
from torch import Tensor

from adamergex.adapters.adapter import Adapter
from adamergex.data.special_tokens import padding
from adamergex.errors import ModelError
from adamergex.models import adapter_setup, fsdp
from adamergex.models.adapter_settings import AdapterSettings, Prefix
from adamergex.models.encoded import Example
from adamergex.models.families import Kind, first_line, load_tokenizer
from adamergex.models.likelihood import cross_entropy
from adamergex.models.target_logits import Layout, can_pack, can_share, target_logits
from adamergex.storage.checkpoints import Checkpoint

_CLASSES: dict[Kind, Any] = {
    "causal": transformers.AutoModelForCausalLM,
    "seq2seq": transformers.AutoModelForSeq2SeqLM,
    "masked": transformers.AutoModelForMaskedLM,
    "classes": transformers.AutoModelForSequenceClassification,
}
# What of an adapter's configuration its tensors' shapes and their scale follow from.
_SHAPING = ("r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "use_dora", "num_virtual_tokens")

# And where on the model it stands.
_PLACING = ("peft_type", "target_modules", "feedforward_modules", "modules_to_save")


def keep_freed_memory() -> None:
    """Ask glibc to keep large freed blocks for the next step instead of returning them to the kernel.

    Logits over a large vocabulary take hundreds of megabytes, and a fresh mapping of that size costs a page
    fault for every 4 KiB: without this a training step on the CPU spends about a tenth of its time in them.
    Does nothing where the C library is another one.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        m_trim_threshold, m_mmap_threshold = -1, -3
        mallopt(m_mmap_threshold, 1 << 30)
        mallopt(m_trim_threshold, (1 << 31) - 1)


class Workbench:
    """A base model that is loaded once, and one adapter slot on it whose weights are set in place.

    Args:
        checkpoint: where the model lies.
        dtype: of the frozen weights; adapters are float32.
        settings: structure and size of the adapters to train.
        tokenizer: the model's, if it is loaded already.
        kind: how the model is to predict.
        classes: of how many, for kind `classes`.
        quantization: 4bit or 8bit for a frozen base in fewer bits.
        split_over: how many processes hold its layers in pieces (`sharding`); 0 for a whole model.

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
    ):
        self.checkpoint, self.kind, self.is_split = checkpoint, kind, split_over > 0
        self.tokenizer = tokenizer or load_tokenizer(checkpoint)
        self.pad = padding(self.tokenizer)
        self._settings = settings
        # Whether the base model can, tried once.
        self._layouts: dict[Layout, bool] = {}
        self._name = "slot-0"
        device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
        base, self._new = _load(checkpoint, dtype, kind, classes, quantization, device)
        if not split_over and not quantization:
            base.to(device)
        self._config = adapter_setup.config(settings, base, kind, checkpoint.name)
        self.model = adapter_setup.attach(base, self._config, self._name)
        self._prefix = _prefix(self._config)
        self._given = {name: tensor.clone() for name, tensor in self._slot().items() if "lora_" not in name}
        self._given |= {name: tensor.clone() for name, tensor in self._slot().items() if "magnitude" in name}
        if split_over:
            fsdp.split(self.model, device, split_over)

    def _slot(self) -> dict[str, Tensor]:
        """The slot's tensors by the names they have in an adapter file; they share the parameters' memory."""
        tensors = peft.get_peft_model_state_dict(self.model, adapter_name=self._name, save_embedding_layers=False)
        if self._prefix:
            # PEFT hands out a copy of the prompt.
            tensors["prompt_embeddings"] = self.model.prompt_encoder[self._name].embedding.weight.data
        return tensors

    def start(self, seed: int) -> None:
        """Set the slot to the start that all adapters of a run share (`adapter_setup.start`)."""
        self._fit(self._config.to_dict())
        spread = self._settings.spread if isinstance(self._settings, Prefix) else self._head_spread()
        for name, tensor in self._slot().items():
            fresh = adapter_setup.start(name, tensor, seed, spread)
            if fresh is None or self._is_trained_head(name):
                fresh = self._given[name]
            tensor.copy_(fresh)

    def _head_spread(self) -> float:
        return getattr(self.model.config, "initializer_range", None) or 0.02

    def _is_trained_head(self, name: str) -> bool:
        """Whether a tensor belongs to a head that the checkpoint brought along."""
        is_head = not any(part in name for part in ("lora_", "ia3_l", "prompt_embeddings"))
        return is_head and name.removeprefix("base_model.").removeprefix("model.") not in self._new

    def adapter(self) -> Adapter:
        """A copy of the slot as an adapter that can be saved, float32 on the CPU."""
        config = self.model.peft_config[self._name].to_dict()
        config |= {"base_model_name_or_path": self.checkpoint.name, "inference_mode": True}
        tensors = {
            name: tensor.detach().to("cpu", torch.float32, copy=True).contiguous()
            for name, tensor in self._slot().items()
        }
        return Adapter({key: _jsonable(value) for key, value in config.items()}, tensors)

    def put(self, adapter: Adapter) -> None:
        """Set the slot to an adapter's weights, in place where its size is the one the slot has now.

        Raises:
            ModelError: the adapter's modules or shapes are not those of this model.
        """
        self._fit(adapter.config)
        slot = self._slot()
        if slot.keys() != adapter.tensors.keys():
            odd = min(slot.keys() ^ adapter.tensors.keys())
            raise ModelError(f"{adapter.origin}: its modules are not those of the run; {odd} is in one of them only")
        for name, tensor in slot.items():
            given = adapter.tensors[name]
            if tensor.shape != given.shape:
                raise ModelError(
                    f"{adapter.origin}: {name} has shape {tuple(given.shape)}, expected {tuple(tensor.shape)}"
                )
            tensor.copy_(given)

    def _fit(self, config: dict[str, Any]) -> None:
        """Give the slot an adapter's size."""
        present = self.model.peft_config[self._name].to_dict()
        shaping = {key: config[key] for key in _SHAPING if key in present and key in config}
        if any(_listed(config.get(key)) != _listed(present.get(key)) for key in _PLACING):
            self._attach(config)
        elif any(present[key] != value for key, value in shaping.items()):
            fitting = {**present, **shaping}
            # PEFT does not take the last adapter of a model with a head: the new one comes first.
            old, self._name = self._name, "slot-1" if self._name == "slot-0" else "slot-0"
            self.model.add_adapter(self._name, peft.PeftConfig.from_peft_type(**fitting))
            self.model.set_adapter(self._name)
            self.model.delete_adapter(old)

    def _attach(self, config: dict[str, Any]) -> None:
        """Take the slot off the base model, and set one of another structure or on other modules in its place."""
        base = self.model.get_base_model() if self._prefix else self.model.unload()
        placed = peft.PeftConfig.from_peft_type(**config | {"inference_mode": False})
        self.model = adapter_setup.attach(base, placed, self._name)
        self._prefix = _prefix(placed)

    @property
    def context(self) -> int | None:
        """The longest sequence that the model takes, in tokens, or None where nothing says so.

        An encoder's configuration counts positions that no token takes; its tokenizer knows. A prefix takes some.
        """
        limits = [getattr(self.model.config, "max_position_embeddings", None)]
        if self.kind in ("masked", "classes"):
            limits.append(self.tokenizer.model_max_length)
        known = [limit for limit in limits if limit is not None]
        return min(known) - self._prefix if known else None

    @property
    def decoder_start(self) -> int | None:
        """The token that a decoder's sequences start with; None without a decoder."""
        if self.kind != "seq2seq":
            return None
        start: int | None = getattr(self.model.config, "decoder_start_token_id", None)
        return self.pad if start is None else start

    def layout(self, packing: bool) -> Layout:
        """How sequences should lie in a batch: packed where that is wanted and possible.

        A beginning that they have in common is computed once where the model allows it; a prefix stands before every
        row, and would have to stand before every sequence.
        """
        if self.kind != "causal" or self._prefix:
            return "rows"
        wanted: Layout = "packed" if packing else "shared"
        if wanted not in self._layouts:
            self._layouts[wanted] = (can_pack if packing else can_share)(self.model)
        return wanted if self._layouts[wanted] else "rows"

    def trainable(self) -> list[torch.nn.Parameter]:
        """The slot's parameters, in a fixed order."""
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    @contextmanager
    def without_adapter(self) -> Iterator[None]:
        """Within this context the model is the base model."""
        if not self._prefix:
            with self.model.disable_adapter():
                yield
            return
        # A prefix stands beside the base model; PEFT's own way fails where the model cannot generate.
        attached, self.model = self.model, self.model.get_base_model()
        heads = [module for module in self.model.modules() if isinstance(module, ModulesToSaveWrapper)]
        for head in heads:
            head.enable_adapters(False)
        try:
            yield
        finally:
            for head in heads:
                head.enable_adapters(True)
            self.model = attached

    def loss(self, examples: Sequence[Example], model: Any = None, layout: Layout = "rows") -> Tensor:
        """Cross-entropy summed over all predictions of a batch, in nats; a scalar with its gradient.

        Args:
            examples: one batch.
            model: what to call in place of `self.model`, such as DistributedDataParallel around it.
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
        # A head that the checkpoint lacks is drawn from torch's generator: let the base model be the same each time.
        torch.manual_seed(0)
        base, info = _CLASSES[kind].from_pretrained(checkpoint.folder, **settings)
    except Exception as error:  # the library raises whatever its readers raise
        raise ModelError(f"base_model {checkpoint.name}: does not load: {first_line(error)}") from error
    new = set(info["missing_keys"]) | {name for name, *_ in info.get("mismatched_keys", ())}
    return base, new


def _bits(quantization: str, dtype: str) -> transformers.BitsAndBytesConfig:
    """How bitsandbytes is to hold the frozen weights: QLoRA's settings (arXiv 2305.14314) in 4 bits, LLM.int8() in 8."""
    try:
        import bitsandbytes  # noqa: F401
    except ImportError as error:
        raise ModelError(
            f"quantization: {quantization} needs bitsandbytes; run: pip install 'adamergex[quantized]'"
        ) from error
    if quantization == "8bit":
        return transformers.BitsAndBytesConfig(load_in_8bit=True)
    return transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, dtype),
    )


def _prefix(config: peft.PeftConfig) -> int:
    """Virtual tokens in front of every sequence."""
    return int(config.num_virtual_tokens) if isinstance(config, peft.PrefixTuningConfig) else 0


def _listed(value: Any) -> Any:
    """Module names in an order of their own; whatever else as it is."""
    return sorted(value) if isinstance(value, list | set | tuple) else getattr(value, "value", value)


def _jsonable(value: Any) -> Any:
    """Sets in sorted order and enumerations by value: the same configuration is the same text."""
    if isinstance(value, set):
        return sorted(value)
    return getattr(value, "value", value)
