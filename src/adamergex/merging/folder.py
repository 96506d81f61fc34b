"""Adapter folders in, a merged folder out: what `adamergex merge` and the stage of a run do.

The folder holds what PEFT reads, and beside it `merge.yaml` (the plan, to make it again), `merge.json` (figures
by module) and `README.md` (the model card).
"""

import importlib.metadata
import json
import math
import os
import platform
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from adamergex.adapters.adapter import CONFIG, WEIGHTS, Adapter, load
from adamergex.errors import MergeError
from adamergex.merging.base_method import SOURCE, TARGET, TASK
from adamergex.merging.merge import Merged, merge
from adamergex.merging.model_card import card
from adamergex.merging.plan import Input, Inputs, Plan
from adamergex.storage.files import beside, clear, resolved, sha256
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
# Beyond it a prompt's noise is amplified a thousandfold.
_ILL_CONDITIONED = 1e3


def find_inputs(plan: Plan, folder: Path) -> dict[str, Path]:
    """Where the adapters of a plan lie, by role.

    Args:
        plan: names their folders, their SHA-256, or both.
        folder: of the plan's file: what its folders are relative to. Adapters that it names by SHA-256 alone are looked
            for in the run folder that it is in, the nearest one above with a recipe.yaml.

    Raises:
        MergeError: one is not there; all that are missing are in it.
    """
    folder = resolved(folder)
    run_folder = next((above for above in (folder, *folder.parents) if (above / "recipe.yaml").is_file()), None)
    digests = {}
    if run_folder and any(given.folder is None for given in plan.inputs.by_role().values()):
        # Backwards, so that of equal ones the first counts: what a run trained, before what it merged.
        for weights in sorted(run_folder.glob(f"**/{WEIGHTS}"), reverse=True):
            digests[sha256(weights)] = weights.parent
    found, problems = {}, []
    for role, given in plan.inputs.by_role().items():
        if given.folder is not None:
            found[role] = resolved(folder / given.folder)
        elif given.sha256 in digests:
            found[role] = digests[given.sha256]
        else:
            where = f"in {run_folder} no adapter has it" if run_folder else f"{folder} is in no run folder"
            problems.append(f"{role}: the plan names SHA-256 {given.sha256} alone, and {where}; give --{role} DIR")
    if problems:
        raise MergeError("; ".join(problems))
    return found


def open_inputs(plan: Plan, folders: Mapping[str, Path]) -> dict[str, Adapter]:
    """The adapters of a plan, by role, their tensors unread.

    Args:
        plan: names what they are.
        folders: where they lie, by role.

    Raises:
        AdapterError: one cannot be read.
        MergeError: one is not the file that the plan's SHA-256 names; all that differ are in it.
    """
    adapters = {role: load(place, lazy=True) for role, place in folders.items()}
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
    return merge(adapters[TASK], adapters[TARGET], adapters.get(SOURCE), method=plan.settings)


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
        plan: its settings, with the folders, if any, as they are to stand in `merge.yaml`.
        adapters: the inputs, by role.
        folder: exists.
        about: what the card says beyond the merge itself (`adamergex.merging.model_card.card`).
        step: is told how many tensors of how many are written.
    """
    result.save(folder, step)
    inputs = {
        role: Input(folder=given.folder, sha256=adapters[role].digest) for role, given in plan.inputs.by_role().items()
    }
    written = Plan(settings=plan.settings, language=plan.language, inputs=Inputs.model_validate(inputs))
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
        "inputs": {role: (Path(adapters[role].origin).name, given.sha256) for role, given in inputs.items()},
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


def check_output(inputs: Mapping[str, Path], output: Path, overwrite: bool) -> None:
    """Whether a folder may be written there. Raises MergeError where it is in the way of something.

    Args:
        inputs: where the adapters lie, by role.
        output: the folder.
        overwrite: whether an adapter that is there may be replaced.
    """
    place = resolved(output)
    for role, taken in inputs.items():
        if place == taken or place in taken.parents:
            raise MergeError(f"{output} would replace the {role} adapter {taken}; choose another --output")
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


def _worst(shares: Mapping[str, float]) -> float:
    """The largest of them, 0 where there is none."""
    return max(shares.values(), default=0.0)


def _mean(shares: Mapping[str, float]) -> float:
    """Their mean, 0 where there is none."""
    return math.fsum(shares.values()) / len(shares) if shares else 0.0


def writable(value: Any) -> Any:
    """Plain values without infinity and NaN, which JSON does not know."""
    if isinstance(value, dict):
        return {key: writable(item) for key, item in value.items()}
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
