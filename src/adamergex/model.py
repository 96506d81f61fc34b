"""One resident base model with one adapter slot, and logits only where they are needed.

The output embedding of a multilingual model is large: at a vocabulary of 262,144 it costs more than
the rest of Gemma-3-270M at every position. Hidden states are therefore gathered at the positions
that carry a label before they enter it, by a hook, so that whatever a model does around its output
embedding (soft-capping, scaling, a bias) still happens, in its own code.
"""

import ctypes
import hashlib
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import peft
import torch
import transformers
from torch import Tensor
from torch.nn import functional

from adamergex.adapter import Adapter
from adamergex.checkpoints import Checkpoint
from adamergex.errors import ModelError
from adamergex.recipe import AdapterSettings

_SLOT = "default"


@dataclass(frozen=True)
class Example:
    """A token sequence and the positions in it that are to be predicted, each at least 1."""

    ids: list[int]
    targets: list[int]


def _output_embedding(model: torch.nn.Module) -> Any:
    """The module that turns hidden states into logits."""
    return model.get_output_embeddings()  # type: ignore[operator]


@contextmanager
def logits_only_at(model: torch.nn.Module, row: Tensor, column: Tensor) -> Iterator[None]:
    """Within this context a forward pass returns logits of shape (1, n, vocabulary) at n positions.

    Args:
        model: any Hugging Face causal language model, with or without PEFT around it.
        row: int64 (n,), the batch row of each position.
        column: int64 (n,), the position in its row; the logits are those of the token after it.

    Raises:
        ModelError: the forward pass did not go through the model's output embedding.
    """
    calls = 0

    def gather(module: torch.nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        nonlocal calls
        calls += 1
        return (args[0][row, column].unsqueeze(0), *args[1:])

    handle = _output_embedding(model).register_forward_pre_hook(gather)
    try:
        yield
    finally:
        handle.remove()
    if calls != 1:
        raise ModelError(
            f"{type(model).__name__}: the output embedding was used {calls} times in a forward pass; expected once"
        )


def target_logits(model: torch.nn.Module, examples: Sequence[Example], pad: int) -> tuple[Tensor, Tensor]:
    """Logits at every target of every example, in order, and the tokens that stand there.

    Sequences are padded on the right and no mask is given: attention is causal, so no position that
    is read can see the padding behind it.

    Returns:
        float32 logits (n, vocabulary) and int64 tokens (n,), n the number of targets.
    """
    device = _output_embedding(model).weight.device
    width = max(len(example.ids) for example in examples)
    ids = torch.tensor([example.ids + [pad] * (width - len(example.ids)) for example in examples], device=device)
    # The last token is only ever predicted: it is not read.
    row = torch.tensor([i for i, example in enumerate(examples) for _ in example.targets], device=device)
    column = torch.tensor([target for example in examples for target in example.targets], device=device)
    with logits_only_at(model, row, column - 1):
        logits = model(input_ids=ids[:, :-1], use_cache=False).logits[0]
    return logits.float(), ids[row, column]


def batches_by_length(examples: Sequence[Example], size: int) -> list[list[int]]:
    """Indices of examples in batches of `size` with like lengths, the longest first."""
    order = sorted(range(len(examples)), key=lambda i: (-len(examples[i].ids), i))
    return [order[start : start + size] for start in range(0, len(order), size)]


def load_tokenizer(checkpoint: Checkpoint) -> Any:
    """The model's tokenizer. Raises ModelError where it does not load or has no end-of-sequence token."""
    transformers.logging.set_verbosity_error()
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint.folder)
    except Exception as error:  # the library raises whatever its readers raise
        raise ModelError(f"base_model {checkpoint.name}: its tokenizer does not load: {_first_line(error)}") from error
    if tokenizer.eos_token_id is None:
        raise ModelError(
            f"base_model {checkpoint.name}: its tokenizer has no end-of-sequence token, which answers end with"
        )
    return tokenizer


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


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
    """A base model that is loaded once, and one LoRA slot on it whose weights are set in place.

    Args:
        checkpoint: where the model lies.
        dtype: of the frozen weights; adapters are float32.
        settings: rank, alpha and target modules of the adapters to train.
        tokenizer: the model's, if it is loaded already.

    Raises:
        ModelError: the model does not load, or has no linear module that `settings` names.
    """

    def __init__(self, checkpoint: Checkpoint, dtype: str, settings: AdapterSettings, tokenizer: Any = None):
        self.checkpoint = checkpoint
        self.tokenizer = tokenizer or load_tokenizer(checkpoint)
        pad = self.tokenizer.pad_token_id
        self.pad: int = self.tokenizer.eos_token_id if pad is None else pad
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        transformers.utils.logging.disable_progress_bar()
        try:
            base = transformers.AutoModelForCausalLM.from_pretrained(checkpoint.folder, dtype=getattr(torch, dtype)).to(
                device
            )
        except Exception as error:  # the library raises whatever its readers raise
            raise ModelError(f"base_model {checkpoint.name}: does not load: {_first_line(error)}") from error
        targets = settings.target_modules if isinstance(settings.target_modules, str) else list(settings.target_modules)
        if isinstance(targets, list):
            linear = {name.rpartition(".")[2] for name, module in base.named_modules() if not list(module.children())}
            if absent := [target for target in targets if not _matches(target, base)]:
                raise ModelError(
                    f"adapter.target_modules: {', '.join(absent)} matches no module of {checkpoint.name}; it has {', '.join(sorted(linear))}"
                )
        self._config = peft.LoraConfig(
            r=settings.r, lora_alpha=settings.alpha, target_modules=targets, task_type="CAUSAL_LM"
        )
        try:
            self.model = peft.get_peft_model(base, self._config, adapter_name=_SLOT)
        except ValueError as error:
            raise ModelError(f"adapter.target_modules: {_first_line(error)}") from error

        strange = [name for name, p in self.model.named_parameters() if p.requires_grad and not _is_factor(name)]
        if strange:
            raise ModelError(f"adapter.target_modules: {strange[0]} is not a linear layer's; name linear layers only")

    def _factors(self) -> dict[str, torch.nn.Parameter]:
        """The slot's parameters by the names they have in an adapter file."""
        return {
            name.replace(f".{_SLOT}.", "."): parameter
            for name, parameter in self.model.named_parameters()
            if _is_factor(name)
        }

    def start(self, seed: int) -> None:
        """Set the slot to the start that all adapters of a run share: A seeded, B zero.

        A is drawn as PEFT and the LoRA paper's code do it (Kaiming uniform, a = √5), but from a generator
        of its own for each module, seeded by `seed` and the module's name: the result does not depend on
        what was trained before, nor on the order or choice of other modules.
        """
        self._fit(self._config)
        for name, parameter in self._factors().items():
            if ".lora_A." in name:
                digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
                generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
                fresh = torch.empty(parameter.shape)
                torch.nn.init.kaiming_uniform_(fresh, a=math.sqrt(5), generator=generator)
                parameter.data.copy_(fresh)
            else:
                parameter.data.zero_()

    def adapter(self) -> Adapter:
        """A copy of the slot as an adapter that can be saved, float32 on the CPU."""
        config = self.model.peft_config[_SLOT].to_dict()
        config |= {"base_model_name_or_path": self.checkpoint.name, "inference_mode": True}
        tensors = {
            name: parameter.detach().to("cpu", torch.float32, copy=True) for name, parameter in self._factors().items()
        }
        return Adapter({key: _jsonable(value) for key, value in config.items()}, tensors)

    def put(self, adapter: Adapter) -> None:
        """Set the slot to an adapter's weights, in place where rank and alpha are those it has now.

        Raises:
            ModelError: the adapter's modules or shapes are not those of this model.
        """
        alpha = adapter.config["lora_alpha"]
        self._fit(
            peft.LoraConfig(
                r=adapter.config["r"],
                lora_alpha=alpha,
                target_modules=self._config.target_modules,
                task_type="CAUSAL_LM",
            )
        )
        slot = self._factors()
        if slot.keys() != adapter.tensors.keys():
            odd = min(slot.keys() ^ adapter.tensors.keys())
            raise ModelError(f"{adapter.origin}: its modules are not those of the run; {odd} is in one of them only")
        for name, parameter in slot.items():
            if parameter.shape != adapter.tensors[name].shape:
                raise ModelError(
                    f"{adapter.origin}: {name} has shape {tuple(adapter.tensors[name].shape)}, expected {tuple(parameter.shape)}"
                )
            parameter.data.copy_(adapter.tensors[name])

    def _fit(self, config: peft.LoraConfig) -> None:
        """Give the slot a rank and alpha."""
        present = self.model.peft_config[_SLOT]
        if (present.r, present.lora_alpha) != (config.r, config.lora_alpha):
            self.model.delete_adapter(_SLOT)
            self.model.add_adapter(_SLOT, config)
            self.model.set_adapter(_SLOT)

    @property
    def context(self) -> int | None:
        """The longest sequence that the model's configuration allows, in tokens, or None where it does not say."""
        return getattr(self.model.config, "max_position_embeddings", None)

    def trainable(self) -> list[torch.nn.Parameter]:
        """The slot's parameters, in a fixed order."""
        return list(self._factors().values())

    @contextmanager
    def without_adapter(self) -> Iterator[None]:
        """Within this context the model is the base model."""
        with self.model.disable_adapter():
            yield

    def loss(self, examples: Sequence[Example]) -> Tensor:
        """Mean cross-entropy over all targets of a batch, in nats; a scalar with its gradient."""
        return functional.cross_entropy(*target_logits(self.model, examples, self.pad))


def _is_factor(name: str) -> bool:
    """Whether a parameter is a LoRA factor of a linear layer in the slot."""
    return f".lora_A.{_SLOT}." in name or f".lora_B.{_SLOT}." in name


def _matches(target: str, model: torch.nn.Module) -> bool:
    """PEFT's rule for a list: a module's whole name, or its end after a dot."""
    return any(name == target or name.endswith(f".{target}") for name, _ in model.named_modules())


def _jsonable(value: Any) -> Any:
    """Sets in sorted order and enumerations by value: the same configuration is the same text."""
    if isinstance(value, set):
        return sorted(value)
    return getattr(value, "value", value)
