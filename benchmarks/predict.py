"""`adamergex.predictor` beside a plain loop of transformers and PEFT, on the same rows with the same adapter.

    python benchmarks/predict.py runs/quickstart rows.jsonl            # a finished run, and rows that it can answer
    python benchmarks/predict.py runs/quickstart rows.jsonl --rows 200 --rounds 3

The loop answers one row at a time, with a forward pass for each choice (`PeftModel.from_pretrained`, logits, log-softmax,
sum over the choice's tokens). No bias is added on either side. Each arm runs in a process of its own, in turn with the
other; reading rows and loading the model are not timed. Printed are the median seconds of both and their ratio. It ends
with an error unless all answers are the same and all log-likelihoods less than 0.001 apart. For causal models and choices.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch

from adamergex.data import readers
from adamergex.inference import delivered, usage
from adamergex.inference.predictor import predictor
from adamergex.storage.checkpoints import resolve
from adamergex.tasks.items import Item, question

ARMS = ("ours", "plain loop")
APART = 1e-3
# Rows that are answered before the clock starts.
WARMUP = 4
# The label of each item, and the log-likelihoods of all of its choices, in nats.
Answers = list[tuple[str, Sequence[float]]]


def read(folder: Path, rows: str, count: int) -> list[Item]:
    asked = usage.read(folder).task
    if not asked.choices:
        raise SystemExit(f"{folder}: writes its answers; expected an adapter that chooses")
    located = readers.rows(Path(rows))
    return [question(asked, asked.labels, *row) for row, _ in zip(located, range(count), strict=False)]


def ours(folder: Path) -> Callable[[list[Item]], Answers]:
    """What `adamergex predict --raw` does."""
    loaded = predictor(folder, raw=True)
    return lambda items: [(answer.prediction, answer.scores) for answer in loaded.answers(items)[0]]


def plain_loop(folder: Path) -> Callable[[list[Item]], Answers]:
    """One row at a time, and a forward pass for each of its choices."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    used = usage.read(folder)
    place = resolve(used.base_model).folder
    tokenizer = AutoTokenizer.from_pretrained(place)
    base = AutoModelForCausalLM.from_pretrained(place, dtype=getattr(torch, used.dtype))
    model: Any = PeftModel.from_pretrained(base.to("cuda" if torch.cuda.is_available() else "cpu"), folder).eval()

    def likelihood(prompt: str, choice: str, ended: bool) -> float:
        before = len(tokenizer(prompt)["input_ids"])
        ids = tokenizer(prompt + choice)["input_ids"] + [tokenizer.eos_token_id] * ended
        read = torch.tensor([ids], device=model.device)
        log_p = model(input_ids=read).logits[0, before - 1 : -1].float().log_softmax(-1)
        return float(log_p.gather(1, read[0, before:, None]).double().sum())

    def answers(items: list[Item]) -> Answers:
        found: Answers = []
        for item in items:
            # Where one choice begins another, the end of an answer counts, or the longer one could never win.
            ended = any(long.startswith(short) for short, long in pairwise(sorted(item.choices)))
            scores = [likelihood(item.prompt, choice, ended) for choice in item.choices]
            found.append((used.task.labels[max(range(len(scores)), key=scores.__getitem__)], scores))
        return found

    return answers


def work(job: dict[str, Any]) -> None:
    """One arm, in the process that it has to itself; the last line is JSON."""
    folder = Path(job["folder"])
    items = read(folder, job["rows"], job["count"])
    arm = (ours if job["arm"] == "ours" else plain_loop)(folder)
    with torch.inference_mode():
        arm(items[:WARMUP])
        began = time.perf_counter()
        found = arm(items)
        seconds = time.perf_counter() - began
    machine = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    print(json.dumps({"seconds": seconds, "answers": found, "machine": f"{machine}, torch {torch.__version__}"}))


def measured(arm: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    job = {"arm": arm, "folder": str(folder), "rows": options.file, "count": options.rows}
    done = subprocess.run(
        [sys.executable, __file__, "--work", json.dumps(job)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{arm}: {done.stderr.strip().splitlines()[-1]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(found: Answers, other: Answers) -> float:
    """How far log-likelihoods lie apart at most. Ends with an error where answers differ."""
    apart = max(abs(a - b) for (_, x), (_, y) in zip(found, other, strict=True) for a, b in zip(x, y, strict=True))
    differing = [number for number, (x, y) in enumerate(zip(found, other, strict=True)) if x[0] != y[0]]
    if differing or apart >= APART:
        raise SystemExit(
            f"not the same: {len(differing)} of {len(found)} answers differ, log-likelihoods are {apart:.1e} apart"
        )
    return apart


def main() -> None:
    if sys.argv[1:2] == ["--work"]:
        work(json.loads(sys.argv[2]))
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="of a run, or of an adapter with its adamergex.json")
    parser.add_argument("file", help="rows")
    parser.add_argument("--language", help="where the run has several")
    parser.add_argument("--rows", type=int, default=200, help="the first so many")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    folder = delivered.find(options.run, options.language)
    rounds = [{arm: measured(arm, folder, options) for arm in ARMS} for _ in range(options.rounds)]
    apart = max(compare(of["ours"]["answers"], of["plain loop"]["answers"]) for of in rounds)
    seconds = {arm: median(of[arm]["seconds"] for of in rounds) for arm in ARMS}
    answers = rounds[0]["ours"]["answers"]
    print(f"{len(answers)} rows, {len(answers[0][1])} choices each; {rounds[0]['ours']['machine']}")
    for arm in ARMS:
        print(f"  {arm:10} {seconds[arm]:8.2f} s  {seconds[arm] / seconds['ours']:6.2f} times ours")
    print(f"  all answers the same, log-likelihoods at most {apart:.1e} apart")


if __name__ == "__main__":
    main()
