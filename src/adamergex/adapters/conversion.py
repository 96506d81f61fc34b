"""Weights that PEFT wrote in other files, as the one safetensors file that is read here. The one place where a pickle is opened.

Up to PEFT 0.6 `adapter_model.bin` was the default, and a file may have been cut into shards. A pickle is read by torch's
restricted unpickler, which makes tensors and nothing else, and runs no code of the file's.
"""

import fnmatch
import json
import pickle
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adamergex.adapters import tensor_file
from adamergex.adapters.adapter import configuration
from adamergex.adapters.location import CONFIG, TOKENIZER, WEIGHTS, pickles, shards
from adamergex.adapters.tensor_file import Spec, TensorFile
from adamergex.errors import AdapterError, StorageError
from adamergex.storage.outputs import replaceable, replacing, resolved

_CARD = "README.md"


def convert(folder: Path, output: Path, overwrite: bool = False) -> list[str]:
    """Write an adapter's weights as `adapter_model.safetensors`, beside a copy of its configuration, tokenizer and card.

    Args:
        folder: holds `adapter_config.json`, and `adapter_model.bin` or shards of either format.
        output: the folder to write; its parents are made.
        overwrite: whether an adapter that is there may be replaced.

    Returns:
        The names of the files that were read.

    Raises:
        AdapterError: there is nothing to convert, its settings are not supported, or a file holds something else than tensors.
        StorageError: it cannot be written; nothing is left behind.
    """
    sources = pickles(folder) or shards(folder)
    configuration(folder, str(folder))
    if (folder / WEIGHTS).exists():
        raise AdapterError(f"{folder}: has {WEIGHTS} already; there is nothing to convert")
    if not sources:
        raise AdapterError(f"{folder}: holds neither adapter_model.bin nor shards; there is nothing to convert")
    present = replaceable({"adapter": resolved(folder)}, output, overwrite)
    own = (CONFIG, WEIGHTS, _CARD, *TOKENIZER)
    if others := [name for name in present if not any(fnmatch.fnmatchcase(name, pattern) for pattern in own)]:
        raise StorageError(
            f"{output} holds more than an adapter ({min(others)}), and is not replaced; choose another --output"
        )
    tensors: dict[str, Tensor] = {}
    for source in sources:
        tensors |= _pickled(source) if source.suffix == ".bin" else dict(TensorFile(source))
    with replacing(output, overwrite) as partial:
        specs = {name: Spec(tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}
        tensor_file.write(partial / WEIGHTS, specs, _in_order(tensors, specs))
        for path in (folder / CONFIG, folder / _CARD, *_beside(folder)):
            if path.is_file():
                shutil.copyfile(path, partial / path.name)
    return [source.name for source in sources]


def _beside(folder: Path) -> list[Path]:
    """The files of a tokenizer in a folder."""
    return [path for pattern in TOKENIZER for path in sorted(folder.glob(pattern))]


def _in_order(tensors: Mapping[str, Tensor], specs: Mapping[str, Spec]) -> Iterator[tuple[str, Iterator[Tensor]]]:
    for name in tensor_file.order(specs):
        yield name, iter([tensors[name].detach()])


def _pickled(path: Path) -> dict[str, Tensor]:
    """The tensors of a pickle, on the CPU.

    Raises:
        AdapterError: it cannot be read, or holds something else.
    """
    if not path.is_file():
        # A pipe would wait for ever.
        raise AdapterError(f"{path}: not a regular file")
    tensor_file.refuse_pointer(path)
    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise AdapterError(
            f"{path}: holds more than tensors, and would run code when it is read; it is not opened: ask its author for safetensors"
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise AdapterError(f"{path}: is no whole file of torch's: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        raise AdapterError(f"{path}: holds {json.dumps(type(found).__name__)}, not tensors by their names")
    for name, tensor in found.items():
        tensor_file.check_dtype(path, str(name), tensor)
    return {str(name): tensor for name, tensor in found.items()}
