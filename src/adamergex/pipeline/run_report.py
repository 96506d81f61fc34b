"""The results of a run's stages, read back as rows and facts, and written as its report."""

import importlib.metadata
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from adamergex.execution.run_folder import MARK, RunFolder
from adamergex.inference.systems import METHODS
from adamergex.merging import methods
from adamergex.recipes.recipe import Recipe, method_settings
from adamergex.reporting import report
from adamergex.reporting.report import Example, Report
from adamergex.scoring.results import TESTS, Role, Row, Scores, rows
from adamergex.scoring.systems import START
from adamergex.storage.files import jsonl, read_jsonl

# The files in the folders of stages.
ITEMS, MANIFEST, LOG, TRAINING = "items.jsonl", "manifest.json", "training.jsonl", "training.json"
CURVES, PAGE, HARNESS = "training.png", "report.html", "harness.jsonl"
MERGE, PREDICTIONS, SCORING = "merge.json", "predictions.jsonl", "scoring.json"
# A reference adapter that lowered the held-out loss by less than this, in nats, learned next to nothing.
_LEARNED = 0.01
# Answers that differ from the start's, shown for each method and language.
_EXAMPLES = 10
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


def write_report(recipe: Recipe, base_model: str, run_folder: RunFolder) -> list[Row]:
    """Write scores.jsonl, report.md and report.html, and return the rows.

    Args:
        recipe: of a run whose stages are all done.
        base_model: what the report says of it (`Checkpoint.described`).
        run_folder: where the results lie.
    """
    found = _report(recipe, base_model, run_folder)
    run_folder.write("scores.jsonl", jsonl(map(asdict, found.rows)).encode())
    if not (run_folder.path / CURVES).is_file():
        from adamergex.reporting import figures  # matplotlib takes as long to import as a finished run to look at

        run_folder.write(CURVES, figures.training_curves(found.curves))
    run_folder.write("report.md", report.markdown(found, CURVES).encode())
    if not (run_folder.path / PAGE).is_file():
        from adamergex.reporting import html

        run_folder.write(PAGE, html.page(found).encode())
    return list(found.rows)


def _report(recipe: Recipe, base_model: str, run_folder: RunFolder) -> Report:
    languages = recipe.targets if recipe.scored is not None else []
    items = {
        language: read_jsonl(run_folder.path / f"data/task-{language}-{recipe.evaluate.split}" / ITEMS)
        for language in languages
    }
    predictions: dict[str, dict[str, Any]] = {
        language: {
            method: read_jsonl(run_folder.path / f"predictions/{language}/{method}" / PREDICTIONS)
            for method in recipe.evaluate.methods
        }
        for language in languages
    }
    labels: dict[str, dict[str, str]] = {
        language: {m: _label(recipe, m, language) for m in recipe.evaluate.methods} for language in languages
    }
    corpora = (
        {}
        if recipe.reference.task
        else {
            language: json.loads((run_folder.path / f"data/corpus-{language}" / MANIFEST).read_bytes())
            for language in recipe.languages
        }
    )
    return Report(
        title=recipe.name,
        source=recipe.source,
        start="t = 0",
        rows=scored(predictions, labels, START, items, {m: _role(recipe, m) for m in METHODS}) if languages else [],
        examples=[
            example
            for language in languages
            for example in differing(
                language,
                labels[language],
                {item["id"]: item["prompt"] for item in items[language]},
                predictions[language],
                START,
            )
        ],
        facts=[f"base model: {base_model}", *_facts(recipe, run_folder)],
        curves={name: read_jsonl(run_folder.path / "adapters" / name / LOG) for name in _adapters(recipe)},
        corpora=corpora,
        harness=read_jsonl(run_folder.path / HARNESS) if (run_folder.path / HARNESS).is_file() else [],
        versions=versions(),
        hashes=_hashes(recipe, run_folder),
    )


def scored(
    predictions: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]],
    labels: Mapping[str, Mapping[str, str]],
    start: str,
    items: Mapping[str, Sequence[Mapping[str, Any]]],
    roles: Mapping[str, Role],
) -> list[Row]:
    """Predictions as rows.

    Args:
        predictions: language → method → its answers, in the order of the items.
        labels: language → method → what a reader calls it.
        start: the method that the others are compared with.
        items: language → its items.
        roles: method → what it is, where it is more than an adapter.
    """
    first = next(iter(next(iter(predictions.values())).values()))[0]
    metric, *others = first["scores"]
    scores = {
        language: {
            method: Scores(
                [row["scores"][metric] for row in answers],
                sum(not row["readable"] for row in answers),
                {name: fmean(row["scores"][name] for row in answers) for name in others},
            )
            for method, answers in of.items()
        }
        for language, of in predictions.items()
    }
    # Items that were read before they had a `doc_id` go by their place.
    named = {
        language: [item.get("doc_id") or str(place) for place, item in enumerate(of)] for language, of in items.items()
    }
    return rows(metric, labels, scores, start, roles, named)


def differing(
    language: str,
    labels: Mapping[str, str],
    prompts: Mapping[str, str],
    predictions: Mapping[str, Sequence[Mapping[str, Any]]],
    start: str,
) -> list[Example]:
    """For each method up to ten answers that are not the start's; those that are scored otherwise come first."""
    found = []
    for method, label in labels.items():
        if method == start or start not in predictions:
            continue
        pairs = zip(predictions[method], predictions[start], strict=True)
        other = [(mine, first) for mine, first in pairs if mine["prediction"] != first["prediction"]]
        metric = next(iter(predictions[method][0]["scores"]))
        # Stable: gains and losses as they come, then what is as wrong as before.
        other.sort(key=lambda pair: pair[0]["scores"][metric] == pair[1]["scores"][metric])
        found += [
            Example(
                language,
                method,
                label,
                mine["id"],
                prompts[mine["id"]],
                tuple(mine["golds"]),
                first["prediction"],
                first["scores"][metric],
                mine["prediction"],
                mine["scores"][metric],
            )
            for mine, first in other[:_EXAMPLES]
        ]
    return found


def _label(recipe: Recipe, method: str, language: str) -> str:
    scale = method_settings(recipe, method).scale if method in methods.METHODS else ""
    return METHODS[method].label.format(source=recipe.source, target=language, scale=scale, shots=recipe.evaluate.shots)


def _role(recipe: Recipe, method: str) -> Role:
    """What a recipe's method is to the report."""
    if method == recipe.merge.method:
        return "merged"
    roles: dict[str, Role] = {"none": "base", "ceiling": "ceiling"}
    return roles.get(METHODS[method].adapter, "adapter")


def _hashes(recipe: Recipe, run_folder: RunFolder) -> dict[str, str]:
    """The fingerprints of what was merged and scored, by the folder's name."""
    names = [f"merged/{language}/{recipe.merge.method}" for language in recipe.targets]
    if recipe.scored is not None:
        names += [f"predictions/{language}/{m}" for language in recipe.targets for m in recipe.evaluate.methods]
    return {name: json.loads((run_folder.path / name / MARK).read_bytes())["fingerprint"] for name in names}


def _adapters(recipe: Recipe) -> list[str]:
    """The names of all adapters that a run trains."""
    names = [f"task-{recipe.source}", *(f"reference-{language}" for language in recipe.languages)]
    return names + ([f"task-{language}" for language in recipe.targets] if recipe.ceiling else [])


def _facts(recipe: Recipe, run_folder: RunFolder) -> list[str]:
    facts = []
    if recipe.scored is not None:
        facts.append(f"scored on the {recipe.evaluate.split} split, and compared with t = 0; {TESTS}")
        scorings = {
            (language, method): json.loads(
                (run_folder.path / f"predictions/{language}/{method}" / SCORING).read_bytes()
            )
            for language in recipe.targets
            for method in recipe.evaluate.methods
        }
        for (language, method), scoring in scorings.items():
            if cut := scoring["shortened"]:
                facts.append(f"{language}, {method}: {cut:,} prompts were too long and lost a part of a column")
        facts += report.layouts("scoring", scorings.values())
    for language in recipe.languages:
        cleaned = _cleaning(run_folder.path, language) if recipe.reference.task is None else ""
        facts.append(f"reference task of {language}: {reference_facts(recipe, run_folder.path, language)}{cleaned}")
    trainings = {
        name: json.loads((run_folder.path / "adapters" / name / TRAINING).read_bytes()) for name in _adapters(recipe)
    }
    for name, training in trainings.items():
        losses = [row["loss"] for row in read_jsonl(run_folder.path / "adapters" / name / LOG)]
        few = max(1, len(losses) // 10)
        first, last = sum(losses[:few]) / few, sum(losses[-few:]) / few
        facts.append(
            f"{name}: {len(losses)} steps, training loss {first:.3f} → {last:.3f} (mean of first and last tenth)"
            + _training_facts(training, name)
        )
    facts += report.layouts("training", trainings.values())
    for language in recipe.targets:
        folder = run_folder.path / "merged" / language / recipe.merge.method
        merged: dict[str, Any] = json.loads((folder / MERGE).read_bytes())
        parts = [f"t = {merged['scale']}"]
        if merged["r"]:
            parts.append(f"r = {merged['r']}")
        if merged["discarded"]:
            parts.append("discarded energy {:.2%} (worst module {:.2%})".format(*merged["discarded"]))
        if merged["drift"] is not None:
            parts.append(f"A drift {merged['drift']:.3f}")
        facts.append(f"merged for {language} with {merged['title']}: {', '.join(parts)}")
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
    return said


def learned_nothing(heldout: dict[str, float]) -> bool:
    """Whether a training hardly lowered the loss on text that it had not seen."""
    return not heldout["after"] < heldout["before"] - _LEARNED


def _perplexity(loss: float) -> str:
    return f"{math.exp(loss):.2f}" if loss < 50 else f"e^{loss:.0f}"
