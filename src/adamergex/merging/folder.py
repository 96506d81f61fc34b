"""Adapter folders in, a merged folder out: what `adamergex merge` and the stage of a run do.

The folder holds what PEFT reads, and beside it `merge.yaml` (the plan, to make it again), `merge.json` (figures
by module) and `README.md` (the model card).
"""

import glob
import importlib.metadata
import json
import math
import os
import platform
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from adamergex.adapters.adapter import CONFIG, WEIGHTS, Adapter, load
from adamergex.errors import MergeError
from adamergex.merging.merge import Merged, merge
from adamergex.merging.model_card import card
from adamergex.merging.plan import Input, Plan
from adamergex.storage.files import beside, remove, running
from adamergex.storage.yaml_model import dump

PLAN, FIGURES, CARD = "merge.yaml", "merge.json", "README.md"
# vLLM's own default, and the ranks that it can be set to.
VLLM_DEFAULT_RANK = 16
_VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
_AUTO = {
    "SEQ_2_SEQ_LM": "AutoModelForSeq2SeqLM",
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "TOKEN_CLS": "AutoModelForTokenClassification",
    "QUESTION_ANS": "AutoModelForQuestionAnswering",
    "FEATURE_EXTRACTION": "AutoModel",
}
_HEADER = "# adamergex merge --plan merge.yaml --output FOLDER makes this folder again\n"
# Beyond it a prompt's noise is amplified a thousandfold.
_ILL_CONDITIONED = 1e3


def open_inputs(plan: Plan, folder: Path = Path()) -> dict[str, Adapter]:
    """The adapters of a plan, by role, their tensors unread.

    Args:
        plan: names the folders.
        folder: what relative ones are relative to.

    Raises:
        AdapterError: one cannot be read.
        MergeError: one is not the file that the plan's SHA-256 names; all that differ are in it.
    """
    places = {role: resolved(folder / given.folder) for role, given in plan.inputs.by_role().items()}
    adapters = {role: load(place, lazy=True) for role, place in places.items()}
    # Neither hashing nor looking for NaN holds the interpreter: both look at all files on all cores.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        looks = [(adapter, what) for adapter in adapters.values() for what in ("digest", "not_finite")]
        list(pool.map(lambda look: getattr(*look), looks))
    other = [
        f"{role}: {adapters[role].origin} has SHA-256 {adapters[role].digest}, the plan {given.sha256}; it was trained "
        "or changed since"
        for role, given in plan.inputs.by_role().items()
        if given.sha256 not in (None, adapters[role].digest)
    ]
    if other:
        raise MergeError("; ".join(other))
    return adapters


def merged(plan: Plan, adapters: Mapping[str, Adapter]) -> Merged:
    """What a plan says, not computed yet. Raises MergeError where it cannot be."""
    return merge(
        adapters["task"],
        adapters["reference-target"],
        adapters.get("reference-source"),
        plan.coefficients(),
        dtype=getattr(torch, plan.dtype) if plan.dtype else None,
        **plan.model_dump(exclude={"scale", "layers", "modules", "dtype", "language", "inputs"}),
    )


def write(
    result: Merged,
    plan: Plan,
    adapters: Mapping[str, Adapter],
    folder: Path,
    about: Mapping[str, Any] | None = None,
    step: Callable[[int, int], None] | None = None,
) -> None:
    """Compute a merged adapter and write it, with its plan, figures and card.

    Args:
        result: of `merged`.
        plan: its settings, with the folders as they are to stand in `merge.yaml`.
        adapters: the inputs, by role.
        folder: exists.
        about: what the card says beyond the merge itself (`adamergex.merging.model_card.card`).
        step: is told how many tensors of how many are written.
    """
    result.save(folder, step)
    inputs = {
        role: Input(folder=given.folder, sha256=adapters[role].digest) for role, given in plan.inputs.by_role().items()
    }
    written = plan.model_dump(mode="json", exclude_none=True) | {
        "inputs": {role: given.model_dump() for role, given in inputs.items()}
    }
    (folder / PLAN).write_text(_HEADER + dump(written), "utf-8")
    energy, condition = result.discarded_energy, result.condition
    facts = {
        "base_model": result.config.get("base_model_name_or_path"),
        "auto_class": _AUTO.get(str(result.config.get("task_type")), "AutoModelForCausalLM"),
        "structure": result.layout.structure,
        **plan.model_dump(include={"method", "rule", "space"}),
        "scale": _described(plan),
        "target": plan.language,
        "inputs": {role: (Path(given.folder).name, given.sha256) for role, given in inputs.items()},
        "r": result.config.get("r"),
        "discarded": (_mean(energy), _worst(energy)) if energy else None,
        "condition": _worst(condition) if condition else None,
        "warnings": [*result.warnings, *afterwards(result)],
        "versions": {package: importlib.metadata.version(package) for package in ("adamergex", "torch")},
        **(about or {}),
    }
    figures = facts | {"kept": result.kept, "discarded_energy": energy, "condition_numbers": condition}
    text = json.dumps(writable(figures), indent=2, ensure_ascii=False, allow_nan=False)
    (folder / FIGURES).write_text(text + "\n", "utf-8")
    (folder / CARD).write_text(card(facts), "utf-8")


def put(
    result: Merged,
    plan: Plan,
    adapters: Mapping[str, Adapter],
    output: Path,
    step: Callable[[int, int], None] | None = None,
) -> None:
    """Write a merged folder beside its place, and rename it when it is whole; `check_output` comes before.

    Raises:
        StorageError: the disk does not take it; nothing is left behind.
    """
    output = resolved(output)
    clear(output)
    mark = f"{output.name}.{platform.node()}.{os.getpid()}"
    with beside(output, output.with_name(f".partial-{mark}"), output.with_name(f".old-{mark}")) as partial:
        write(result, plan, adapters, partial, step=step)


def check_output(plan: Plan, output: Path, overwrite: bool) -> None:
    """Whether a folder may be written there. Raises MergeError where it is in the way of something."""
    place = resolved(output)
    for role, given in plan.inputs.by_role().items():
        taken = resolved(Path(given.folder))
        if place == taken or place in taken.parents:
            raise MergeError(f"{output} would replace the {role} adapter {given.folder}; choose another --output")
    if place in (here := Path.cwd(), *here.parents):
        raise MergeError(f"{output} is the current folder, or above it; choose another --output")
    try:
        if place.is_symlink() or (place.exists() and not place.is_dir()):
            raise MergeError(f"{output} is not a folder; choose another --output")
        present = sorted(path.name for path in place.iterdir()) if place.is_dir() else []
    except OSError as error:
        raise MergeError(f"{output}: {error.strerror or error}; choose another --output") from error
    if present and not overwrite:
        raise MergeError(f"{output} exists already; choose another --output, or add --overwrite")
    if others := set(present) - {CONFIG, WEIGHTS, PLAN, FIGURES, CARD}:
        raise MergeError(
            f"{output} holds more than an adapter ({min(others)}), and is not replaced; choose another --output"
        )


def resolved(path: Path) -> Path:
    """The path without links and `..`, as the system would follow it. Raises MergeError where it cannot be one."""
    try:
        place = os.path.realpath(path)
        place.encode("utf-8")
    except (OSError, ValueError) as error:
        shown = str(path).encode("utf-8", "backslashreplace").decode()
        raise MergeError(f"{shown!r} is no path that can be written down: {error}") from error
    return Path(place)


def clear(output: Path) -> None:
    """Put right what merges to the same output left behind when they were killed on this machine."""
    for kind in (".old", ".partial"):
        for leftover in output.parent.glob(f"{kind}-{glob.escape(f'{output.name}.{platform.node()}')}.*"):
            owner = leftover.name.rpartition(".")[2]
            if not owner.isdecimal() or running(int(owner)):
                continue
            if kind == ".old" and not output.exists():
                # Killed between two renames: this is the only copy.
                leftover.rename(output)
            else:
                remove(leftover)


def afterwards(result: Merged) -> list[str]:
    """What the user should know, and only computing could tell."""
    worst_prompt = max(result.condition.items(), key=lambda item: item[1], default=("", 0.0))
    if worst_prompt[1] <= _ILL_CONDITIONED:
        return []
    bad = sum(value > _ILL_CONDITIONED for value in result.condition.values())
    return [
        f"the source reference is ill-conditioned in {bad} of {len(result.condition)} prompts, at worst {worst_prompt[0]} with "
        f"{worst_prompt[1]:.3g}: its noise is amplified as much; fewer virtual tokens, or longer training, help"
    ]


def summary(result: Merged, plan: Plan, output: Path) -> list[tuple[str, str]]:
    """What a merge came to, as pairs of a name and its value."""
    rank, energy = result.config.get("r"), result.discarded_energy
    rows = [("structure", result.layout.structure), ("method", f"{plan.method}, t = {_described(plan)}")]
    if result.layout.products:
        rows.append(("rank", f"{rank} ({len(result.layout.products)} modules, {plan.space} space)"))
    if energy:
        rows.append(("energy discarded", f"{_mean(energy):.3%} on average, {_worst(energy):.3%} at worst"))
    if result.condition:
        rows.append(("condition", f"{_worst(result.condition):.3g} at worst of {len(result.condition)} prompts"))
    if result.kept:
        rows.append(("kept as they were", f"{len(result.kept)} tensors of the task's, such as {result.kept[0]}"))
    return [*rows, ("merged adapter", str(output))]


def for_vllm(result: Merged) -> list[str]:
    """What stands in the way of serving the folder with vLLM, or must be set for it."""
    config, found = result.config, []
    if result.layout.structure != "LoRA":
        return [f"vLLM serves LoRA; this is {result.layout.structure}: load it with PEFT"]
    if config.get("modules_to_save") or result.layout.values or result.layout.updates:
        found.append("vLLM loads no trained biases, tokens and whole modules (modules_to_save): load it with PEFT")
    if config["r"] > _VLLM_RANKS[-1]:
        found.append(f"r = {config['r']} is more than vLLM takes ({_VLLM_RANKS[-1]}); choose a --rank")
    elif config["r"] > VLLM_DEFAULT_RANK:
        needed = next(rank for rank in _VLLM_RANKS if rank >= config["r"])
        found.append(
            f"r = {config['r']} is above vLLM's default: serve it with --max-lora-rank {needed}, or merge with --rank "
            f"{VLLM_DEFAULT_RANK}"
        )
    return found


def _worst(shares: Mapping[str, float]) -> float:
    """The largest of them, 0 where there is none."""
    return max(shares.values(), default=0.0)


def _mean(shares: Mapping[str, float]) -> float:
    """Their mean, 0 where there is none."""
    return math.fsum(shares.values()) / len(shares) if shares else 0.0


def _described(plan: Plan) -> str:
    """The scale in a few words."""
    first = ", ".join(f"{value:g}" for value in plan.scale) if isinstance(plan.scale, list) else f"{plan.scale:g}"
    more = [f"{len(plan.layers)} layers"] * bool(plan.layers) + [f"{len(plan.modules)} patterns"] * bool(plan.modules)
    return (
        first
        + (" over the layers" if isinstance(plan.scale, list) else "")
        + "".join(f"; {m} of their own" for m in more)
    )


def writable(value: Any) -> Any:
    """Plain values without infinity and NaN, which JSON does not know."""
    if isinstance(value, dict):
        return {key: writable(item) for key, item in value.items()}
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
