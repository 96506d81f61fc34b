"""The results of a run's stages, read back as rows and facts, and written as its report."""

import importlib.metadata
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from adamergex import report
from adamergex.disk import jsonl, read_jsonl
from adamergex.recipe import Recipe
from adamergex.stages import RunFolder

# The files in the folders of stages.
ITEMS, MANIFEST, LOG, TRAINING = "items.jsonl", "manifest.json", "training.jsonl", "training.json"
CURVES = "training.png"
MERGE, PREDICTIONS, SCORING = "merge.json", "predictions.jsonl", "scoring.json"
# A reference adapter that lowered the held-out loss by less than this, in nats, learned next to nothing.
_LEARNED = 0.01
LEARNED_NOTHING = (
    "it learned next to nothing, and an adapter that learned nothing cannot move anything: "
    "give it more text, more epochs or a higher learning rate"
)
PACKAGES = ("torch", "transformers", "tokenizers", "peft")


def versions() -> dict[str, str]:
    """The versions that results depend on, by package."""
    return {package: importlib.metadata.version(package) for package in ("adamergex", *PACKAGES)}


def reference_facts(recipe: Recipe, run_folder: Path, language: str) -> str:
    """What a language's reference adapter was trained on, and how much of it."""
    if recipe.reference.task is not None:
        training = json.loads((run_folder / f"adapters/reference-{language}" / TRAINING).read_bytes())
        return f"{training['examples']:,} items of a labelled task"
    facts = json.loads((run_folder / f"data/corpus-{language}" / MANIFEST).read_bytes())
    source = facts["source"]
    where = source.get("package") or source.get("dataset") or ", ".join(Path(path).name for path in source["files"])
    config = f" ({source['config']})" if source.get("config") else ""
    return f"{where}{config}: {facts['tokens']:,} tokens from {facts['documents']:,} documents"


def _cleaning(run_folder: Path, language: str) -> str:
    """What was found in a corpus that does not belong there, to append to a line."""
    facts = json.loads((run_folder / f"data/corpus-{language}" / MANIFEST).read_bytes())
    found = {
        "near-duplicates dropped": facts["near_duplicates_dropped"],
        "lines of boilerplate dropped": facts["boilerplate_lines_dropped"],
        "documents in other languages dropped": facts["in_other_languages_dropped"],
    }
    if not facts["in_other_languages_dropped"]:
        found["documents in other languages"] = facts["in_other_languages"]
    parts = [f"{count:,} {what}" for what, count in found.items() if count]
    return f" ({', '.join(parts)}, of {facts['documents_read']:,} read)" if parts else ""


def write_report(recipe: Recipe, base_model: str, run_folder: RunFolder) -> list[report.Row]:
    """Write scores.jsonl and report.md, and return the rows.

    Args:
        recipe: of a run whose stages are all done.
        base_model: its name and fingerprint, for the report.
        run_folder: where the results lie.
    """
    tables = []
    for language in recipe.targets if recipe.scored is not None else ():
        methods = {
            "base": "base model",
            "source-adapter": f"{recipe.source} adapter (t = 0)",
            "adamergex": f"merged (t = {recipe.merge.scale:g})",
        }
        if recipe.evaluate.ceiling:
            methods["ceiling"] = f"{language} adapter (ceiling)"
        predictions = {m: read_jsonl(run_folder.path / f"predictions/{language}/{m}" / PREDICTIONS) for m in methods}
        correct = {method: [row["correct"] for row in of] for method, of in predictions.items()}
        tables.append((f"{recipe.source} → {language}", report.rows(language, methods, correct)))
    rows = [row for _, of_language in tables for row in of_language]
    facts = [f"base model: {base_model}", *_facts(recipe, run_folder)]
    run_folder.write("scores.jsonl", jsonl(map(asdict, rows)).encode())
    if not (run_folder.path / CURVES).is_file():
        from adamergex import plots  # matplotlib takes as long to import as a finished run to look at

        logs = {name: read_jsonl(run_folder.path / "adapters" / name / LOG) for name in _adapters(recipe)}
        run_folder.write(CURVES, plots.training_curves(logs))
    run_folder.write("report.md", report.markdown(recipe.name, tables, facts, CURVES).encode())
    return rows


def _adapters(recipe: Recipe) -> list[str]:
    """The names of all adapters that a run trains."""
    names = [f"task-{recipe.source}", *(f"reference-{language}" for language in recipe.languages)]
    return names + ([f"task-{language}" for language in recipe.targets] if recipe.evaluate.ceiling else [])


def _facts(recipe: Recipe, run_folder: RunFolder) -> list[str]:
    facts = []
    if recipe.scored is not None:
        facts.append(
            f"scored on the {recipe.evaluate.split} split; Wilson intervals, exact McNemar tests against t = 0"
        )
        for language in recipe.targets:
            scoring = json.loads((run_folder.path / f"predictions/{language}/adamergex" / SCORING).read_bytes())
            if scoring["shortened"]:
                facts.append(f"{language}: {scoring['shortened']:,} prompts were too long and lost a part of a column")
    for language in recipe.languages:
        cleaned = _cleaning(run_folder.path, language) if recipe.reference.task is None else ""
        facts.append(f"reference task of {language}: {reference_facts(recipe, run_folder.path, language)}{cleaned}")
    for name in _adapters(recipe):
        losses = [row["loss"] for row in read_jsonl(run_folder.path / "adapters" / name / LOG)]
        few = max(1, len(losses) // 10)
        first, last = sum(losses[:few]) / few, sum(losses[-few:]) / few
        facts.append(
            f"{name}: {len(losses)} steps, training loss {first:.3f} → {last:.3f} (mean of first and last tenth)"
            + _training_facts(json.loads((run_folder.path / "adapters" / name / TRAINING).read_bytes()), name)
        )
    for language in recipe.targets:
        merged: dict[str, Any] = json.loads((run_folder.path / "merged" / language / "adamergex" / MERGE).read_bytes())
        parts = [f"t = {merged['scale']}"]
        if merged["r"]:
            parts.append(f"r = {merged['r']}")
        if merged["discarded"]:
            parts.append("discarded energy {:.2%} (worst module {:.2%})".format(*merged["discarded"]))
        if merged["drift"] is not None:
            parts.append(f"A drift {merged['drift']:.3f}")
        space = f" in {merged['space']} space" if merged["r"] else ""
        facts.append(f"merged for {language}{space}: {', '.join(parts)}")
    return [*facts, f"seed {recipe.seed}; " + ", ".join(" ".join(pair) for pair in versions().items())]


def _training_facts(training: dict[str, Any], name: str) -> str:
    """Held-out loss or perplexity, and what was not as usual."""
    said = ""
    heldout = training["heldout"]
    if heldout is not None:
        said += f"; held-out perplexity {_perplexity(heldout['before'])} → {_perplexity(heldout['after'])}"
        if name.startswith("reference-") and learned_nothing(heldout):
            said += f" ({LEARNED_NOTHING})"
    if training.get("shortened"):
        said += f"; {training['shortened']:,} items were longer than the model reads and lost the end of a column"
    if training["packed"]:
        said += "; packed"
    return said


def learned_nothing(heldout: dict[str, float]) -> bool:
    """Whether a training hardly lowered the loss on text that it had not seen."""
    return not heldout["after"] < heldout["before"] - _LEARNED


def _perplexity(loss: float) -> str:
    return f"{math.exp(loss):.2f}" if loss < 50 else f"e^{loss:.0f}"
