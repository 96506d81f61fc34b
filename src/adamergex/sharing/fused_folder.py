"""A folder of a fused model: what transformers loads, what `adamergex predict` needs, and a card that says what it is."""

import importlib.metadata
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from adamergex.adapters.adapter import Adapter, load
from adamergex.adapters.location import CONFIG, TOKENIZER, locate
from adamergex.errors import AdapterError, ModelError, StorageError
from adamergex.inference import delivered, usage
from adamergex.inference.predictor import differ
from adamergex.sharing.fuse import Fused, check_foldable, fuse
from adamergex.sharing.fused_card import card
from adamergex.storage.checkpoints import Checkpoint, resolve
from adamergex.storage.files import expanded, from_json, small
from adamergex.storage.outputs import replaceable, replacing, resolved

FIGURES, CARD = "fuse.json", "README.md"
_SHARD = "5GB"
_GENERATION = "generation_config.json"
_TERMS = ("LICENSE*", "NOTICE*", "USE_POLICY*")


@dataclass(frozen=True)
class Request:
    """What is folded into what.

    Attributes:
        adapter: of a PEFT folder.
        checkpoint: the base model.
        usage: how the adapter is asked, as its `adamergex.json` says; None where it has none.
    """

    adapter: Adapter
    checkpoint: Checkpoint
    usage: usage.Usage | None


def prepared(
    place: str | Path,
    output: Path,
    *,
    language: str | None = None,
    task: str | None = None,
    base_model: str | None = None,
    overwrite: bool = False,
    trust_remote_code: bool = False,
) -> Request:
    """Find an adapter and its base model, before the model is loaded.

    Args:
        place: the folder of an adapter, or of a run; or an adapter on the hub, `user/name[@revision][:subfolder]`.
        output: the folder to write.
        language: of the adapter; needed only where a run has several.
        task: its name; needed only where a run has several.
        base_model: a Hugging Face id or a folder, in place of the one that the adapter names.
        overwrite: whether a fused model that is there may be replaced.
        trust_remote_code: whether Python code that comes with the base model may run.

    Raises:
        AdapterError: there is no such adapter, it names no base model, or it cannot be folded in.
        ModelError: there is no such base model, or it has other weights than that of the adapter's run.
        NetworkError: the hub does not answer.
        StorageError: the output may not be written.
    """
    adapter = load(_found(place, language, task), lazy=True)
    folder = adapter.folder
    assert folder is not None  # It was loaded from there.
    check_foldable(adapter)
    known = usage.read(folder) if (folder / usage.FILE).is_file() else None
    named = base_model or (known.base_model if known else adapter.config.get("base_model_name_or_path"))
    if not named:
        raise AdapterError(f"{folder}: does not say which base model it was trained on; give it with --base-model")
    inputs = {"adapter": resolved(folder)}
    if expanded(str(named)).is_dir():
        inputs["base model"] = resolved(expanded(str(named)))
    present = replaceable(inputs, output, overwrite)
    if present and FIGURES not in present:
        raise StorageError(f"{output} is no fused model ({present[0]}), and is not replaced; choose another --output")
    checkpoint = resolve(str(named), trust_remote_code)
    if base_model is None and known is not None and differ(known.weights, checkpoint.fingerprint):
        raise ModelError(
            f"base_model {named}: its weights are {checkpoint.fingerprint}, those of the adapter's run were {known.weights}; "
            "name the model to use it all the same (--base-model)"
        )
    return Request(adapter, checkpoint, known)


def _found(place: str | Path, language: str | None, task: str | None) -> str:
    """Where the adapter is, and its `adamergex.json` where it has one: a folder, or a place on the hub at its commit."""
    path = expanded(place)
    if language is None and task is None and ((path / CONFIG).is_file() or not path.is_dir()):
        return locate(place, optional=[usage.FILE]).pinned
    return str(delivered.find(place, language, task))


def put(request: Request, output: Path, dtype: str | None = None, *, overwrite: bool = False) -> dict[str, Any]:
    """Fuse, and write a folder that is put in its place once it is complete.

    Args:
        request: of `prepared`.
        output: the folder to write.
        dtype: to store the weights in; the base model's by default.
        overwrite: whether a fused model that is there may be replaced.

    Returns:
        What `fuse.json` says.

    Raises:
        AdapterError, ModelError: as `fuse`.
        StorageError: it cannot be written; nothing is left behind.
    """
    labels = request.usage.task.labels if request.usage else ()
    fused = fuse(request.adapter, request.checkpoint, labels, dtype)
    facts = _facts(request, fused)
    with replacing(output, overwrite) as partial:
        _write(request, fused, facts, partial)
    return facts


def _facts(request: Request, fused: Fused) -> dict[str, Any]:
    """What the folder is, for its card and for `fuse.json`."""
    adapter, used = request.adapter, request.usage
    assert adapter.folder is not None  # It was loaded from there.
    made = _made(adapter.folder / "merge.json")
    return {
        "base_model": request.checkpoint.name,
        "weights": request.checkpoint.fingerprint,
        "adapter": Path(adapter.origin).resolve().name if Path(adapter.origin).is_dir() else adapter.origin,
        "sha256": adapter.digest,
        "structure": adapter.schema.structure,
        "method": made.get("title"),
        "scale": made.get("scale"),
        "language": used.language if used else made.get("target"),
        "auto_class": fused.auto_class,
        "dtype": fused.dtype,
        "rounding": fused.rounding,
        "untied": fused.untied,
        "quantization": used.quantization if used else None,
        "trust_remote_code": request.checkpoint.trust_remote_code,
        "versions": {name: importlib.metadata.version(name) for name in ("adamergex", "peft", "torch", "transformers")},
    }


def _made(path: Path) -> dict[str, Any]:
    """How an adapter was merged, as the file beside it says; nothing where there is none, or it is not of this package."""
    try:
        found = from_json(small(path))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(request: Request, fused: Fused, facts: Mapping[str, Any], folder: Path) -> None:
    source, adapter = request.checkpoint.folder, request.adapter.folder
    assert adapter is not None  # It was loaded from there.
    generation = small(source / _GENERATION) if (source / _GENERATION).is_file() else None
    if generation is not None:
        import transformers

        # The base model's file is copied; what it says need not be what transformers would write.
        fused.model.generation_config = transformers.GenerationConfig()
    try:
        fused.model.save_pretrained(folder, max_shard_size=_SHARD)
    except SafetensorError as error:
        raise StorageError(f"{folder}: the model cannot be written: {error}") from error
    for shard in folder.glob("*.safetensors"):
        # safetensors lets nobody else read what it writes.
        shard.chmod((folder / "config.json").stat().st_mode)
    if generation is not None:
        (folder / _GENERATION).write_bytes(generation)
    tokens = adapter if (adapter / "tokenizer_config.json").is_file() else source
    for origin, patterns in ((tokens, TOKENIZER), (source, _TERMS)):
        for path in (path for pattern in patterns for path in sorted(origin.glob(pattern)) if path.is_file()):
            shutil.copyfile(path, folder / path.name)
    if request.usage is not None:
        said = json.loads((adapter / usage.FILE).read_bytes())
        # The weights are whole now, whatever the adapter was trained on.
        usage.write(folder, {key: value for key, value in said.items() if key != "quantization"})
    (folder / FIGURES).write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", "utf-8")
    (folder / CARD).write_text(card(facts, request.usage, warnings(facts)), "utf-8")


def warnings(facts: Mapping[str, Any]) -> list[str]:
    """What to know before use, a line each.

    Args:
        facts: of `put`.
    """
    lines = []
    if facts["rounding"] > 0.1:
        lines.append(
            f"rounding to {facts['dtype']} changes the weights by {facts['rounding']:.0%} of what the adapter changes in them: "
            "it answers otherwise than the adapter on its base model; --dtype float32 keeps all of it, and so does serving the "
            "adapter as it is"
        )
    if facts["quantization"]:
        lines.append(
            f"the adapter was trained on the base model in {facts['quantization']}, and is folded into its whole weights: what was "
            "measured is not quite this model"
        )
    return lines
