"""Reads adapter folders and writes a merged one: used by `adamergex merge` and by the merge stage of a run.

The folder holds the files that PEFT reads, and beside them `merge.yaml` (the plan, to make it again), `merge.json` (figures
by module) and `README.md` (the model card).
"""

import fnmatch
import importlib.metadata
import json
import math
import os
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from adamergex.adapters.adapter import CONFIG, WEIGHTS, Adapter, load
from adamergex.adapters.location import TOKENIZER, Location, locate
from adamergex.errors import MergeError, StorageError
from adamergex.merging.base_method import SOURCE, TARGET, TASK
from adamergex.merging.merge import Merged, merge
from adamergex.merging.model_card import card
from adamergex.merging.plan import Input, Inputs, Plan
from adamergex.storage.files import sha256
from adamergex.storage.hub import parse
from adamergex.storage.outputs import replaceable, replacing, resolved
from adamergex.storage.run_names import RECIPE
from adamergex.storage.yaml_model import dump

PLAN, FIGURES, CARD = "merge.yaml", "merge.json", "README.md"
_AUTO = {
    "SEQ_2_SEQ_LM": "AutoModelForSeq2SeqLM",
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "TOKEN_CLS": "AutoModelForTokenClassification",
    "QUESTION_ANS": "AutoModelForQuestionAnswering",
    "FEATURE_EXTRACTION": "AutoModel",
}
_HEADER = "# adamergex merge --plan merge.yaml --output FOLDER makes this folder again\n"
# Condition number beyond which a prompt's noise is amplified a thousandfold.
_ILL_CONDITIONED = 1e3


def named(location: Location) -> str:
    """An adapter as a plan names it: its folder without links, or its place on the hub at its commit."""
    return str(resolved(location.folder)) if location.repository is None else location.pinned


def find_inputs(plan: Plan, folder: Path) -> dict[str, str]:
    """The adapters of a plan as `named`, by role.

    Args:
        plan: names their folders or places on the hub, their SHA-256, or both.
        folder: the folder of the plan's file, which its paths are relative to. Adapters that are named by SHA-256 alone
            are searched in the enclosing run folder, the nearest parent with a recipe.yaml.

    Raises:
        AdapterError, NetworkError: an adapter cannot be had from the hub.
        MergeError: an adapter is missing; the message names all that are.
    """
    folder = resolved(folder)
    run_folder = next((above for above in (folder, *folder.parents) if (above / RECIPE).is_file()), None)
    digests = {}
    if run_folder and any(entry.folder is None for entry in plan.inputs.by_role().values()):
        # In reverse order, so that of equal files the first wins: trained adapters come before merged ones.
        for weights in sorted(run_folder.glob(f"**/{WEIGHTS}"), reverse=True):
            digests[sha256(weights)] = str(weights.parent)
    folders, problems = {}, []
    for role, entry in plan.inputs.by_role().items():
        if entry.folder is not None:
            folders[role] = named(locate(entry.folder, folder, TOKENIZER if role == TASK else ()))
        elif entry.sha256 in digests:
            folders[role] = digests[entry.sha256]
        else:
            where = f"in {run_folder} no adapter has it" if run_folder else f"{folder} is in no run folder"
            problems.append(f"{role}: the plan names SHA-256 {entry.sha256} alone, and {where}; give --{role} DIR")
    if problems:
        raise MergeError("; ".join(problems))
    return folders


def open_inputs(plan: Plan, folders: Mapping[str, str | Path]) -> dict[str, Adapter]:
    """Open the adapters of a plan, by role, without reading their tensors.

    Args:
        plan: names their SHA-256.
        folders: of the adapters, or their places on the hub, by role.

    Raises:
        AdapterError: one cannot be read.
        MergeError: a file's SHA-256 is not the plan's; the message names all that differ.
    """
    adapters = {role: load(path, lazy=True) for role, path in folders.items()}
    # Hashing and the search for NaN release the GIL, so that all files are read on all cores.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        reads = [(adapter, what) for adapter in adapters.values() for what in ("digest", "not_finite")]
        list(pool.map(lambda read: getattr(*read), reads))
    changed = [
        f"{role}: {adapters[role].origin} has SHA-256 {adapters[role].digest}, the plan {entry.sha256}; it was trained "
        "or changed since"
        for role, entry in plan.inputs.by_role().items()
        if entry.sha256 not in (None, adapters[role].digest)
    ]
    if changed:
        raise MergeError("; ".join(changed))
    return adapters


def merged(plan: Plan, adapters: Mapping[str, Adapter]) -> Merged:
    """The merged adapter of a plan, not computed yet. Raises MergeError where it cannot be merged."""
    return merge(
        adapters[TASK],
        adapters[TARGET],
        adapters.get(SOURCE),
        method=plan.settings,
        same_base=plan.same_base,
        missing=plan.missing,
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
        plan: its settings, with the folders, if any, as `merge.yaml` is to name them.
        adapters: the inputs, by role.
        folder: an existing folder.
        about: additional facts for the card (`adamergex.merging.model_card.card`).
        step: called after each tensor with the number written and the total.
    """
    result.save(folder, step)
    inputs = {
        role: Input(folder=entry.folder, sha256=adapters[role].digest) for role, entry in plan.inputs.by_role().items()
    }
    for path in tokenizer(adapters[TASK]):
        shutil.copyfile(path, folder / path.name)
    written = plan.model_copy(update={"inputs": Inputs.model_validate(inputs)})
    (folder / PLAN).write_text(_HEADER + dump(written.model_dump()), "utf-8")
    method, energy, condition = plan.settings, result.discarded_energy, result.condition
    facts = {
        "base_model": result.config.get("base_model_name_or_path"),
        "auto_class": _AUTO.get(str(result.config.get("task_type")), "AutoModelForCausalLM"),
        "structure": result.schema.structure,
        "method": method.method,
        "title": method.title,
        "arxiv": method.arxiv,
        "formula": method.formula(result.schema.structure),
        "settings": method.model_dump(mode="json", exclude_none=True, exclude={"method", "scale"}),
        "scale": method.model_dump(mode="json")["scale"],
        "target": plan.language,
        "inputs": {role: (_shown(adapters[role].origin), entry.sha256) for role, entry in inputs.items()},
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
    (folder / CARD).write_text(card(facts | {"scale": str(method.scale)}), "utf-8")


def tokenizer(task: Adapter) -> list[Path]:
    """The files of a tokenizer beside the task's adapter: it may have tokens that the base model's has not."""
    folder = task.folder
    if folder is None or not (folder / "tokenizer_config.json").is_file():
        return []
    return [path for pattern in TOKENIZER for path in sorted(folder.glob(pattern)) if path.is_file()]


def put(
    result: Merged,
    plan: Plan,
    adapters: Mapping[str, Adapter],
    output: Path,
    step: Callable[[int, int], None] | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Write a merged folder, and put it in its place once it is complete; call `check_output` first.

    Raises:
        StorageError: it cannot be written; nothing is left behind.
    """
    with replacing(output, overwrite) as partial:
        write(result, plan, adapters, partial, step=step)


def check_output(inputs: Mapping[str, str], output: Path, overwrite: bool) -> None:
    """Check that a folder may be written.

    Args:
        inputs: the adapters as `named`, by role.
        output: the folder to write.
        overwrite: whether an adapter that is there may be replaced.

    Raises:
        StorageError: it would replace something that must stay.
    """
    named = {f"{role} adapter": Path(folder) for role, folder in inputs.items()}
    present = replaceable(named, output, overwrite)
    own = (CONFIG, WEIGHTS, PLAN, FIGURES, CARD, *TOKENIZER)
    if others := [name for name in present if not any(fnmatch.fnmatchcase(name, pattern) for pattern in own)]:
        raise StorageError(
            f"{output} holds more than an adapter ({min(others)}), and is not replaced; choose another --output"
        )


def afterwards(result: Merged) -> list[str]:
    """Warnings that are only known once the tensors are computed."""
    worst_prompt = max(result.condition.items(), key=lambda item: item[1], default=("", 0.0))
    if worst_prompt[1] <= _ILL_CONDITIONED:
        return []
    bad = sum(value > _ILL_CONDITIONED for value in result.condition.values())
    return [
        f"the source reference is ill-conditioned in {bad} of {len(result.condition)} prompts, at worst {worst_prompt[0]} with "
        f"{worst_prompt[1]:.3g}: its noise is amplified as much; fewer virtual tokens, or longer training, help"
    ]


def summary(result: Merged, plan: Plan, output: Path) -> list[tuple[str, str]]:
    """The result of a merge, as pairs of a name and a value."""
    rank, energy = result.config.get("r"), result.discarded_energy
    rows = [("structure", result.schema.structure), ("method", f"{plan.settings.method}, t = {plan.settings.scale}")]
    if result.schema.products:
        rows.append(("rank", f"{rank} ({len(result.schema.products)} modules)"))
    if energy:
        rows.append(("energy discarded", f"{_mean(energy):.3%} on average, {_worst(energy):.3%} at worst"))
    if result.condition:
        rows.append(("condition", f"{_worst(result.condition):.3g} at worst of {len(result.condition)} prompts"))
    if result.kept:
        rows.append(("kept as they were", f"{len(result.kept)} tensors of the task's, such as {result.kept[0]}"))
    return [*rows, ("merged adapter", str(output))]


def _shown(origin: str) -> str:
    """An input for a card, which must not say where on a machine its folder is."""
    return origin if not Path(origin).is_dir() and parse(origin) else Path(origin).name


def _worst(shares: Mapping[str, float]) -> float:
    """The largest value, or 0 if there is none."""
    return max(shares.values(), default=0.0)


def _mean(shares: Mapping[str, float]) -> float:
    """The mean, or 0 if there is no value."""
    return math.fsum(shares.values()) / len(shares) if shares else 0.0


def writable(value: Any) -> Any:
    """Plain values with infinity and NaN as text, because JSON has no such numbers."""
    if isinstance(value, dict):
        return {key: writable(item) for key, item in value.items()}
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
