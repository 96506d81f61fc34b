"""What does self-training add? For each cell of the study, an adapter that learns from its teacher's surest answers.

    python benchmarks/study_refined.py --data DATA --work WORK                        # all cells that study.py left
    python benchmarks/study_refined.py --data DATA --work WORK --variants refined t0  # some variants

Inputs without labels are the cell's train split, which study.py scored: a teacher's answers are read from its result file,
calibrated and chosen as `refine` in a recipe does it, and one adapter is trained on them and the English items. Its scores of
all items stay in benchmarks/results/refined/CELL-SEED.npz. DATA as for study.py.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
from study import BASE_MODEL, CELLS, RESULTS, TASKS, read, scored_rows, write
from study_cells import REFINED, Cell, by_rule, calibrated, load

# Name → the teacher (the rule's is what is delivered without labels), its calibration, whether English items are learned, too.
VARIANTS = {
    "refined": ("rule", "part", True),
    "two rounds": ("refined", "part", True),
    "raw teacher": ("rule", "raw", True),
    "teacher T": ("t0", "part", True),
    "without source": ("rule", "part", False),
}


def refined(cell: Cell, variant: str, data: Path, work: Path) -> dict[str, np.ndarray]:
    """Train and score one variant in a cell: its log-likelihoods on dev and test items, and what it learned from."""
    import adamergex
    from adamergex.recipes.recipe import Recipe
    from adamergex.training.self_training import Refine, objection, surest

    teacher, calibration, with_source = VARIANTS[variant]
    folder = work / f"{cell.name}-{cell.seed}-{variant.replace(' ', '-')}"
    rows = folder / "data"
    found = TASKS[cell.task](data, rows, cell.language)
    scored = scored_rows(rows, cell.language)
    labels, column = found["task"]["choices"], found["task"]["answer"]
    inputs = cell.split == "train"
    log_scores = calibrated(cell, by_rule(cell) if teacher == "rule" else teacher, calibration, inputs)
    if reason := objection(log_scores.argmax(axis=1).tolist(), cell.prior.tolist(), labels):
        raise ValueError(f"{cell.name}: {reason}")
    pairs = surest(log_scores, Refine().share)
    unlabelled = [row for row, is_input in zip(scored, inputs, strict=True) if is_input]
    learned = [unlabelled[number] | {column: labels[label]} for number, label in pairs]
    is_right = [cell.gold[inputs][number] == label for number, label in pairs]
    write(rows / "learned.jsonl", [*(read(rows / "en.train.jsonl") if with_source else []), *learned])
    # The inputs that were learned from are answered, too: a second round reads these answers. They are never scored.
    files = {"train": "data/learned.jsonl", "test": "data/{language}.all.jsonl", "overlap": "allow"}
    recipe: dict[str, Any] = {
        "name": folder.name, "seed": cell.seed, "base_model": BASE_MODEL, "targets": [cell.language],
        "task": found["task"] | files,
        # Nothing is merged; plain text is read because a run does.
        "reference": found["reference"] | {"tokens": 1024},
        "train": {"learning_rate": 4e-4, "task": {"epochs": found["epochs"]}},
        "evaluate": {"methods": ["source-adapter"], "calibration": "none"},
    }  # fmt: skip
    start = time.perf_counter()
    adamergex.run(Recipe.model_validate(recipe), folder=folder, output=folder / "run")
    answers = read(folder / "run" / "predictions" / cell.language / "source-adapter" / "predictions.jsonl")
    seconds = time.perf_counter() - start
    print(
        f"{cell.name}, {variant}: {len(pairs)} of {len(unlabelled)} inputs, {100 * np.mean(is_right):.0f} % right, "
        f"{seconds:.0f} s",
        flush=True,
    )
    scores = np.array([line["choices"] for line in answers], dtype=np.float16)
    return {
        "scores": scores,
        "learned": np.array([len(unlabelled), len(pairs), sum(is_right)]),
        "seconds": np.array(seconds),
    }


def main() -> None:
    """Make what is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="holds sib200/ and text/")
    parser.add_argument("--work", type=Path, required=True, help="may be deleted at the end")
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=CELLS)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=["refined"])
    options = parser.parse_args()
    (RESULTS / REFINED).mkdir(exist_ok=True)
    for variant in options.variants:
        there = {cell.name: cell for cell in load(RESULTS)}
        for cell in (there[name] for name in options.cells if name in there):
            if variant not in cell.scores:
                path = RESULTS / REFINED / f"{cell.name}-{cell.seed}.npz"
                kept = dict(np.load(path)) if path.exists() else {}
                made = refined(cell, variant, options.data, options.work)
                kept |= {f"{what} {variant}": value for what, value in made.items()}
                np.savez_compressed(path, allow_pickle=False, **kept)


if __name__ == "__main__":
    main()
