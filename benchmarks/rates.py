"""At which learning rates does each kind of adapter learn a task, and carry it to another language?

    python benchmarks/rates.py --work WORK                     # (IA)³ and prefixes; what is done is not done again
    python benchmarks/rates.py --work WORK --structures lora
    python benchmarks/rates.py --work WORK --structures ia3 --rates 0.03 --merge    # with reference adapters at that rate

Voice commands in English are learned as in the quickstart; dev items of English and of a target language are scored, the
target's calibrated to the source's label shares, too. Test items are not looked at. Prints a table.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from study import BASE_MODEL, commands

RATES = {"lora": (1e-4, 2e-4, 4e-4, 8e-4), "ia3": (3e-3, 1e-2, 3e-2, 1e-1), "prefix": (1e-2, 3e-2, 1e-1, 3e-1, 1.0)}


def measured(structure: str, rate: float, work: Path, language: str, items: int, merge: bool) -> list[str]:
    """Accuracy in percent on English dev items, and on the target's: raw and calibrated.

    With `merge` also what R gained on held-out text of the target language, in nats a token, and the merge's accuracy.
    """
    import adamergex
    from adamergex.recipes.recipe import Recipe

    found = commands(work, work / "data", language)
    dev = {"files": f"{work.resolve()}/data/{{language}}.dev.jsonl", "limit": items}
    recipe: dict[str, Any] = {
        "name": f"{structure}-{rate:g}", "base_model": BASE_MODEL, "targets": [language],
        "adapter": {"structure": structure},
        "task": found["task"] | {"overlap": "allow", "train": f"{work.resolve()}/data/{{language}}.train.jsonl", "dev": dev},
        # Where nothing is merged, plain text is read because a run does.
        "reference": found["reference"] | ({} if merge else {"tokens": 1024}),
        "train": {"learning_rate": rate, "task": {"epochs": found["epochs"]}, "reference": {"epochs": 1, "batch_size": 4}},
        "evaluate": {"split": "dev", "methods": ["source-adapter", *["adamergex"] * merge]},
    }  # fmt: skip
    output = work / recipe["name"]
    adamergex.run(Recipe.model_validate(recipe), folder=work, output=output)
    adapters = {"t0": output / "adapters" / "task-en"}
    adapters |= {"merged": output / "merged" / language / "adamergex"} if merge else {}
    task = {"task": str(output / "recipe.yaml")}
    scored = output / ("scores-merged" if merge else "scores")
    rows = adamergex.evaluate(adapters, task, ["en", language], scored, split="dev", baseline="t0")
    by_name = {(row.method, row.language): row for row in rows if not row.average}
    scores = [by_name["t0", "en"].score]
    for name in adapters:
        other = by_name[name, language]
        scores += [other.score, other.others["calibrated_accuracy"]]
    shown = [f"{100 * score:.1f}" for score in scores]
    if merge:
        loss = json.loads((output / "adapters" / f"reference-{language}" / "training.json").read_text())["heldout"]
        shown.append(f"{loss['before'] - loss['after']:.2f}")
    return shown


def main() -> None:
    """Measure what is asked for, and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--structures", nargs="+", choices=RATES, default=["ia3", "prefix"])
    parser.add_argument("--language", default="sl")
    parser.add_argument("--items", type=int, default=150, help="dev items of each language")
    parser.add_argument("--rates", nargs="+", type=float, help="in place of those of the structure")
    parser.add_argument("--merge", action="store_true", help="train reference adapters, too, and merge at t = 0.5")
    options = parser.parse_args()
    language, merge = options.language, options.merge
    head = ["structure", "learning rate", "en", language, f"{language}, calibrated"]
    head += ["merged", "merged, calibrated", "R gained"] if merge else []
    print(f"| {' | '.join(head)} |\n|---{'|---:' * (len(head) - 1)}|", flush=True)
    for structure in options.structures:
        for rate in options.rates or RATES[structure]:
            scores = measured(structure, rate, options.work, language, options.items, merge)
            print(f"| {structure} | {rate:g} | {' | '.join(scores)} |", flush=True)


if __name__ == "__main__":
    main()
