"""At which learning rates does each kind of adapter learn a task, and carry it to another language?

    python benchmarks/rates.py --work WORK                     # (IA)³ and prefixes; what is done is not done again
    python benchmarks/rates.py --work WORK --structures lora

Voice commands in English are learned as in the quickstart; dev items of English and of a target language are scored, the
target's calibrated to the source's label shares, too. Test items are not looked at. Prints a table.
"""

import argparse
from pathlib import Path
from typing import Any

from study import BASE_MODEL, commands

RATES = {"lora": (1e-4, 2e-4, 4e-4, 8e-4), "ia3": (3e-3, 1e-2, 3e-2, 1e-1), "prefix": (1e-2, 3e-2, 1e-1, 3e-1)}


def measured(structure: str, rate: float, work: Path, language: str, items: int) -> list[float]:
    """Accuracy in percent on English dev items, and on the target's: raw and calibrated."""
    import adamergex
    from adamergex.recipes.recipe import Recipe

    found = commands(work, work / "data", language)
    dev = {"files": f"{work.resolve()}/data/{{language}}.dev.jsonl", "limit": items}
    recipe: dict[str, Any] = {
        "name": f"{structure}-{rate:g}", "base_model": BASE_MODEL, "targets": [language],
        "adapter": {"structure": structure},
        "task": found["task"] | {"overlap": "allow", "train": f"{work.resolve()}/data/{{language}}.train.jsonl", "dev": dev},
        # Nothing is merged; plain text is read because a run does.
        "reference": found["reference"] | {"tokens": 1024},
        "train": {"learning_rate": rate, "task": {"epochs": found["epochs"]}},
        "evaluate": {"split": "dev", "methods": ["source-adapter"]},
    }  # fmt: skip
    output = work / recipe["name"]
    adamergex.run(Recipe.model_validate(recipe), folder=work, output=output)
    task = {"task": str(output / "recipe.yaml")}
    rows = adamergex.evaluate(
        {"t0": output / "adapters" / "task-en"}, task, ["en", language], output / "scores", split="dev"
    )
    by_language = {row.language: row for row in rows if row.method == "t0" and not row.average}
    english, other = by_language["en"], by_language[language]
    return [100 * value for value in (english.score, other.score, other.others["calibrated_accuracy"])]


def main() -> None:
    """Measure what is asked for, and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--structures", nargs="+", choices=RATES, default=["ia3", "prefix"])
    parser.add_argument("--language", default="sl")
    parser.add_argument("--items", type=int, default=150, help="dev items of each language")
    options = parser.parse_args()
    language = options.language
    print(
        f"| structure | learning rate | en | {language} | {language}, calibrated |\n|---|---:|---:|---:|---:|",
        flush=True,
    )
    for structure in options.structures:
        for rate in RATES[structure]:
            scores = measured(structure, rate, options.work, language, options.items)
            print(f"| {structure} | {rate:g} | {' | '.join(f'{score:.1f}' for score in scores)} |", flush=True)


if __name__ == "__main__":
    main()
