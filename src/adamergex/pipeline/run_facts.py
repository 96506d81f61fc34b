"""What a run's report says of its trainings, corpora and merges, a line each, from the folders of its stages."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from adamergex.execution.run_folder import RunFolder
from adamergex.pipeline.planned import Planned
from adamergex.pipeline.stages import checks, choose, corpus, items, merge, predict, train
from adamergex.pipeline.stages.given import GivenParams
from adamergex.recipes.recipe import Recipe
from adamergex.reporting.report import layouts
from adamergex.scoring.results import TESTS
from adamergex.training import self_training


def facts(recipe: Recipe, planned: Planned, folder: RunFolder) -> list[str]:
    """The lines, in the order in which things happen.

    Args:
        recipe: of the run.
        planned: whose stages are all done.
        folder: of the run.
    """
    lines = []
    if planned.cells:
        lines.append(f"scored on the {recipe.evaluate.split} split, and compared with t = 0; {TESTS}")
    if recipe.task.chat:
        lines.append(recipe.task.in_chat)
    lines += data(planned, folder)
    if planned.further:
        lines += _of_seeds([str(of_seed.seed) for of_seed in planned.seeds], scored=bool(planned.cells))
    # What is asked, and in which layout, is the same with every seed.
    scorings = {cell: predict.facts(folder.place(cell.predictions)) for cell in planned.cells}
    for cell, found in scorings.items():
        if cut := found["shortened"]:
            lines.append(f"{cell.language}, {cell.system}: {cut:,} prompts were too long and lost a part of a column")
    lines += layouts("scoring", scorings.values())
    for language, id in planned.references.items():
        place = folder.place(id)
        cleaned = _cleaning(corpus.manifest(place)) if recipe.reference.task is None else ""
        lines.append(f"reference task of {language}: {merge.reference_sentence(place)}{cleaned}")
    for name, id in planned.given.items():
        params = planned.stages[id].params
        assert isinstance(params, GivenParams)  # Nothing else is given.
        lines.append(
            f"{name}: taken, not trained, from {params.place} (SHA-256 {params.weights}); on what it was trained is not known "
            "here, so that scored items may have been among it"
        )
    references = {
        planned.named(of_seed, f"reference-{language}") for of_seed in planned.seeds for language in planned.references
    }
    lines += [f"{name}: {_training(folder.place(id), name in references)}" for name, id in planned.trained.items()]
    lines += layouts("training", [train.facts(folder.place(id)) for id in planned.trained.values()])
    for of_seed in planned.seeds:
        lines += _of_seed(planned, of_seed, folder)
    return lines if planned.further else [*lines, f"seed {recipe.seed}"]


def data(planned: Planned, folder: RunFolder) -> Iterator[str]:
    """What of the data was taken, left out, or seen although it is scored."""
    for id, stage in planned.stages.items():
        if stage.kind == "items":
            yield from items.facts(stage, folder.place(id))
        elif stage.kind == "overlap":
            yield from checks.facts(stage, folder.place(id))


def _of_seeds(seeds: list[str], scored: bool) -> list[str]:
    """What several seeds are for, and what of them is shown."""
    drawn = (
        f"adapters were trained and merged with the seeds {', '.join(seeds)}, each from a start of its own; what was drawn "
        f"from data (plain text, inputs without labels, examples) was drawn with seed {seeds[0]}, once for all, and the base "
        "model answered once"
    )
    shown = (
        f"scores are means over {len(seeds)} seeds ± their sample standard deviation (n − 1); items are what is sampled: each "
        "item's difference is averaged over the seeds, and the test flips the signs of these averages, an item, its "
        "translations and its answers with all seeds being one cluster; intervals are cluster bootstraps over items of scores "
        "averaged over the seeds. They stand in place of Wilson's and McNemar's, which the rows of each seed have, and do not "
        "say how other seeds would do"
    )
    delivered = f"delivered are the adapters of the first seed, {seeds[0]}"
    if not scored:
        return [drawn, delivered]
    return [drawn, shown, f"{delivered}; of that seed, too, are the answers that changed"]


def _of_seed(planned: Planned, of_seed: Planned, folder: RunFolder) -> Iterator[str]:
    """What was merged, chosen and refined with one seed."""
    for language, id in of_seed.merged.items():
        yield f"{planned.named(of_seed, f'merged for {language}')} with {_merge(folder.place(id))}"
    for language, id in of_seed.chosen.items():
        yield f"{planned.named(of_seed, f't for {language}')}: {choose.read(folder.place(id))['why']}"
    for language, id in of_seed.refined.items():
        yield f"{planned.named(of_seed, f'refined for {language}')}: {_refined(folder.place(id))}"


def _refined(place: Path) -> str:
    """From how many inputs what was learned, or why nothing was."""
    found = self_training.facts(place)
    said = self_training.sentence(found)
    return said if found["refused"] is not None else f"{said}; {_training(place, False)}"


def _cleaning(facts: dict[str, Any]) -> str:
    """What was found in a corpus that does not belong there, to append to a line."""
    found = {
        "near-duplicates dropped": facts["near_duplicates_dropped"],
        "lines of boilerplate dropped": facts["boilerplate_lines_dropped"],
        "documents in other languages dropped": facts["in_other_languages_dropped"],
    }
    if not facts["in_other_languages_dropped"]:
        found["documents in other languages"] = facts["in_other_languages"]
    parts = [f"{count:,} {what}" for what, count in found.items() if count]
    return f" ({', '.join(parts)}, of {facts['documents_read']:,} read)" if parts else ""


def _training(place: Path, is_reference: bool) -> str:
    """Steps and losses, and what was not as usual."""
    losses = [row["loss"] for row in train.log(place)]
    few = max(1, len(losses) // 10)
    first, last = sum(losses[:few]) / few, sum(losses[-few:]) / few
    summary = f"{len(losses)} steps, training loss {first:.3f} → {last:.3f} (mean of first and last tenth)"
    return summary + "".join(f"; {part}" for part in _unusual(train.facts(place), is_reference))


def _unusual(found: dict[str, Any], is_reference: bool) -> Iterator[str]:
    heldout = found["heldout"]
    if heldout is not None:
        nothing = f" ({train.LEARNED_NOTHING})" if is_reference and train.learned_nothing(heldout) else ""
        yield f"held-out perplexity {_perplexity(heldout['before'])} → {_perplexity(heldout['after'])}{nothing}"
    if found.get("shortened"):
        yield f"{found['shortened']:,} items were longer than the model reads and lost the end of a column"


def _perplexity(loss: float) -> str:
    return f"{math.exp(loss):.2f}" if loss < 50 else f"e^{loss:.0f}"


def _merge(place: Path) -> str:
    """The method, and what it came to."""
    merged = merge.figures(place)
    scale = merged["scale"]
    parts = [f"t = {scale:g}" if isinstance(scale, float | int) else "t by layer or module (merge.yaml)"]
    if merged["r"]:
        parts.append(f"r = {merged['r']}")
    if merged["discarded"]:
        parts.append("discarded energy {:.2%} (worst module {:.2%})".format(*merged["discarded"]))
    if merged["drift"] is not None:
        parts.append(f"A drift {merged['drift']:.3f}")
    return f"{merged['title']}: {', '.join(parts)}"
