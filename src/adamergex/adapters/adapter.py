"""A PEFT adapter folder: read it, check it, write it. No base model, no transformers, no peft.

A folder holds `adapter_config.json` and `adapter_model.safetensors`; `adamergex.adapters.schema` says what the
tensors in it are.
"""

import json
import math
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adamergex.adapters import tensor_file
from adamergex.adapters.agreement import agree
from adamergex.adapters.location import CONFIG, WEIGHTS, absent, locate, pickles, shards
from adamergex.adapters.low_rank import LowRank
from adamergex.adapters.peft_config import completed, supported
from adamergex.adapters.schema import Product, TensorSchema, read
from adamergex.adapters.stored_names import readable
from adamergex.adapters.tensor_file import Spec, TensorFile, refuse_pointer
from adamergex.errors import AdapterError
from adamergex.storage import record
from adamergex.storage.files import from_json, sha256, small, storage


class Computed(Mapping[str, Tensor]):
    """Tensors that are computed at each access, and not cached.

    Attributes:
        specs: shape and dtype of each tensor.
        pieces: computes a tensor as consecutive blocks of rows, for callers that need not have it whole; a block is valid
            until the next one is requested.
    """

    def __init__(self, specs: dict[str, Spec], pieces: Callable[[str], Iterator[Tensor]]):
        self.specs = specs
        self.pieces = pieces

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.specs:
            raise KeyError(name)
        # Copied, because a block is only valid until the next one is requested.
        pieces = [piece.clone() for piece in self.pieces(name)]
        return torch.cat(pieces) if len(pieces) > 1 else pieces[0]

    def __iter__(self) -> Iterator[str]:
        return iter(self.specs)

    def __len__(self) -> int:
        return len(self.specs)


@dataclass(frozen=True)
class Adapter:
    """The contents of a PEFT folder.

    Attributes:
        config: `adapter_config.json` as a dictionary.
        tensors: the stored tensors by name, on the CPU, in their stored dtype: in memory (a dictionary), read from
            the file at each access (`TensorFile`), or computed at each access (`Computed`).
        origin: the adapter's name in messages: the folder that it was read from.
        folder: the folder that it was read from, or None for an adapter in memory.
        notes: how its file differs from what PEFT reads, a line each.
    """

    config: dict[str, Any]
    tensors: Mapping[str, Tensor]
    origin: str = "adapter"
    folder: Path | None = None
    notes: tuple[str, ...] = ()

    @cached_property
    def specs(self) -> Mapping[str, Spec]:
        """Shape and dtype of each tensor, without its values."""
        known: Mapping[str, Spec] | None = getattr(self.tensors, "specs", None)
        return known or {name: Spec(tuple(tensor.shape), tensor.dtype) for name, tensor in self.tensors.items()}

    @cached_property
    def schema(self) -> TensorSchema:
        """What each tensor is: a LoRA factor, a bias, a prompt. Raises AdapterError where one is not known or supported."""
        schema = read(self.config, self.specs, self.origin)
        agree(schema, self.config, self.specs, self.origin)
        return schema

    @property
    def not_finite(self) -> list[str]:
        """The tensors that hold NaN or infinity. Reads all of them, once."""
        return self._once("not finite", lambda: [name for name in self.tensors if not finite(self.tensors[name])])

    @property
    def digest(self) -> str | None:
        """The SHA-256 of the weights file that this was loaded from, in hexadecimal; None for an adapter in memory."""
        return self._once("digest", lambda: sha256(self.folder / WEIGHTS) if self.folder else None)

    def _once(self, name: str, compute: Callable[[], Any]) -> Any:
        """Compute a value once and cache it. `cached_property` would let only one adapter at a time do so (before 3.12)."""
        if name not in self.__dict__:
            self.__dict__[name] = compute()
        return self.__dict__[name]

    def update(self, module: str) -> LowRank:
        """ΔW of a LoRA module, with its scaling: left (out, r), right (r, in), float64; with a leading E for experts."""
        product = self.schema.products[module]
        left = experts_first(self.tensors[product.b], product, "b").double() * product.scaling
        return LowRank(left, experts_first(self.tensors[product.a], product, "a").double())

    def prompts(self) -> dict[str, Tensor]:
        """The matrices of prefix tuning, p-tuning and prompt tuning, each (virtual tokens, width), by name.

        Prefix tuning has `layers.N.key` and `layers.N.value`, concatenated along the columns; the others have `prompt`, or
        for an encoder-decoder `prompt.N`, concatenated along the rows.
        """
        if not self.schema.prompts:
            return {}
        stored, tokens, width = (
            self.tensors[self.schema.prompts[0]],
            self.config["num_virtual_tokens"],
            self.config["token_dim"],
        )
        if self.schema.structure == "prefix tuning":
            blocks = stored.view(tokens, -1, width).permute(1, 0, 2)
            return {f"layers.{i // 2}.{('key', 'value')[i % 2]}": block for i, block in enumerate(blocks)}
        parts = stored.view(-1, tokens, width)
        return {f"prompt.{i}": part for i, part in enumerate(parts)} if len(parts) > 1 else {"prompt": parts[0]}

    def save(self, folder: str | Path, step: Callable[[int, int], None] | None = None) -> None:
        """Write the two files of a PEFT folder; equal adapters give equal bytes.

        Tensors are written one at a time: where they are read or computed at access, only one is in memory.

        Args:
            folder: created if it is missing.
            step: called after each tensor with the number written and the total.

        Raises:
            StorageError: it cannot be written.
        """
        folder = Path(folder)
        with storage(folder):
            folder.mkdir(parents=True, exist_ok=True)
            tensor_file.write(folder / WEIGHTS, self.specs, self._in_order(step))
            (folder / CONFIG).write_bytes(json.dumps(self.config, indent=2, sort_keys=True).encode() + b"\n")

    def _in_order(self, step: Callable[[int, int], None] | None) -> Iterator[tuple[str, Iterator[Tensor]]]:
        names = tensor_file.order(self.specs)
        for done, name in enumerate(names, 1):
            yield name, self.tensors.pieces(name) if isinstance(self.tensors, Computed) else iter([self.tensors[name]])
            if step:
                step(done, len(names))


def experts_first(tensor: Tensor, product: Product, side: str) -> Tensor:
    """A stored factor as (r, in) or (out, r), or with several experts as (E, r, in) or (E, out, r).

    PEFT keeps A expert-major, (E·r, in), and B expert-minor, (out, r·E).
    """
    if product.experts == 1:
        return tensor
    if side == "a":
        return tensor.view(product.experts, -1, product.columns)
    return tensor.view(product.rows, -1, product.experts).permute(2, 0, 1)


def load(folder: str | Path, *, lazy: bool = False) -> Adapter:
    """Read a PEFT folder, or an adapter on the Hugging Face hub.

    Args:
        folder: holds `adapter_config.json` and `adapter_model.safetensors`; or `user/name[@revision][:subfolder]` on the
            hub, where there is no folder of that name.
        lazy: read each tensor at access, instead of all of them now.

    Raises:
        AdapterError: a file is missing, damaged or not what the run wrote by its `stage.json`, or the adapter is of a
            structure that is not supported.
        NetworkError: the hub does not answer.
    """
    location = locate(folder)
    record.check(location.folder, CONFIG, WEIGHTS)
    folder, origin = location.folder, str(folder if location.repository is None else location.repository)
    config = configuration(folder, origin)
    weights = folder / WEIGHTS
    if not weights.exists() and (others := pickles(folder) or shards(folder)):
        # Its conversion would end there.
        refuse_pointer(others[0])
        what = (
            "a pickle, which may run any code when it is read"
            if others[0].suffix == ".bin"
            else "a part of the weights"
        )
        raise AdapterError(
            f"{folder}: {others[0].name} is {what}; convert it to safetensors: adamergex convert {shlex.quote(str(folder))} "
            f"--output {shlex.quote(f'{folder.name}-safetensors')}"
        )
    if not weights.exists() and not weights.is_symlink():
        raise AdapterError(f"{folder}: not a PEFT adapter folder: {WEIGHTS} is missing")
    file = TensorFile(weights)
    try:
        names = readable(file, config["peft_type"])
    except AdapterError as error:
        raise AdapterError(f"{origin}: {error}") from error
    file.rename(names.of)
    adapter = Adapter(config, file if lazy else dict(file), origin, folder, names.notes)
    _ = adapter.schema
    return adapter


def configuration(folder: Path, origin: str) -> dict[str, Any]:
    """The content of `adapter_config.json`, with PEFT's own values for the numbers that it lacks.

    Args:
        folder: of the adapter.
        origin: what the adapter is called in messages.

    Raises:
        AdapterError: there is none, it cannot be read, or its settings are not supported or not valid.
    """
    path = folder / CONFIG
    try:
        config: dict[str, Any] = completed(from_json(small(path)))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise AdapterError(absent(folder)) from error
    except OSError as error:
        raise AdapterError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise AdapterError(f"{path}: not JSON: {error}") from error
    try:
        supported(config)
    except AdapterError as error:
        raise AdapterError(f"{origin}: {error}") from error
    return config


def finite(tensor: Tensor) -> bool:
    """Whether all values are finite."""
    # Quicker than a look at each: a sum is finite only if all are. It may overflow where they are, hence the second look.
    return math.isfinite(float(tensor.sum())) or bool(torch.isfinite(tensor).all())
