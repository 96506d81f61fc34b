"""The quickstart's work, ours against the way the paper's scripts do it, on the same examples.

    python benchmarks/quickstart.py                 # a quarter of the steps and items, about a quarter of an hour
    python benchmarks/quickstart.py --part 1        # all of them

The paper's way: a plain Hugging Face Trainer with PEFT, which computes logits at every position and pads
shuffled batches to their longest sequence; the model is loaded anew for every stage; a test item is answered
by generating up to 16 tokens, one item at a time, as the paper's multiple-choice scripts do. Ours: what
`adamergex run quickstart` does. Both train on the same examples with the same labelled positions, steps, batch
size and optimizer settings, in processes of their own, one after the other. "Whole quickstart" adds up its
stages, without calibration and self-training:
4 trainings, 4 evaluations (one of them of the base model, which does not know when to stop), and the
model loads between them, each kind measured once and scaled by 1 / part.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PHASES = ("load", "task", "reference", "evaluate base", "evaluate adapter")
COUNTS = {"ours": (1, 2, 2, 1, 3), "paper": (9, 2, 2, 1, 3)}
# What the paper's scripts set for multiple choice.
NEW_TOKENS = 16


def examples(part: float) -> dict[str, Any]:
    """The quickstart's recipe and a part of its training examples and test items, in its two languages."""
    import numpy as np

    from adamergex.data import corpus, sources
    from adamergex.models import encode, families
    from adamergex.recipes import loading
    from adamergex.storage import checkpoints
    from adamergex.tasks.items import read_items
    from adamergex.training import objectives

    recipe = loading.load("quickstart")
    target = recipe.targets[0]
    checkpoint = checkpoints.resolve(recipe.base_model)
    tokenizer = families.load_tokenizer(checkpoint)
    items = read_items(recipe.task, recipe.task.train, Path(), "en")
    test = read_items(recipe.task, recipe.task.test, Path(), target)  # type: ignore[arg-type]
    reference = recipe.reference
    texts = sources.texts(recipe.reference_source(target), Path(), target, reference.text)
    body = reference.window - objectives.overhead("causal", tokenizer)
    request = corpus.Request(target, reference.budget.tokens, None, body, reference.heldout, recipe.seed)
    with tempfile.TemporaryDirectory() as folder:
        corpus.build(texts, tokenizer, Path(folder), request, name=target)
        windows = objectives.Windows(
            np.load(Path(folder) / "windows.npy"), reference, "causal", tokenizer, recipe.seed, 0
        )

    def few(rows: list[Any], multiple: int) -> list[Any]:
        return rows[: max(multiple, round(part * len(rows) / multiple) * multiple)]

    train = recipe.train
    return {
        "recipe": recipe,
        "checkpoint": checkpoint,
        "task": encode.for_training(tokenizer, few(items, train.task.batch_size))[0],
        "reference": few([windows[i] for i in range(len(windows))], train.reference.batch_size),
        "test": few(test, 1),
    }


def touched(model: Any) -> Any:
    """The model with its weights read: loading maps the file, and the first use would pay for the reading."""
    for parameter in model.parameters():
        parameter.data.sum()
    return model


def timed(seconds: dict[str, float], phase: str, work: Callable[[], Any]) -> Any:
    began = time.perf_counter()
    result = work()
    seconds[phase] = time.perf_counter() - began
    return result


def ours(data: dict[str, Any]) -> dict[str, Any]:
    """What the pipeline does, phase by phase."""
    from adamergex.inference.predict import PredictionRequest, predict
    from adamergex.models.device import keep_freed_memory
    from adamergex.models.resident import ResidentModel
    from adamergex.training.train import train

    recipe = data["recipe"]
    seconds: dict[str, float] = {}
    losses: dict[str, list[float]] = {}
    keep_freed_memory()
    resident = timed(seconds, "load", lambda: ResidentModel(data["checkpoint"], recipe.dtype, recipe.adapter))
    touched(resident.model)
    for kind, schedule in (("reference", recipe.train.reference), ("task", recipe.train.task)):
        of_kind = data[kind]
        rate = {"learning_rate": recipe.learning_rate}
        trained = timed(seconds, kind, lambda: train(resident, lambda _: of_kind, recipe.train, schedule, 0, **rate))  # noqa: B023
        losses[kind] = [row["loss"] for row in trained.log]

    def scored() -> Any:
        return predict(
            resident,
            PredictionRequest(data["test"], "choice", recipe.targets[0], batch_size=recipe.evaluate.batch_size),
        )

    with resident.without_adapter():
        timed(seconds, "evaluate base", scored)
    found = timed(seconds, "evaluate adapter", scored)
    return {
        "seconds": seconds,
        "losses": losses,
        "correct": [bool(prediction.scores["accuracy"]) for prediction in found],
    }


def paper(data: dict[str, Any]) -> dict[str, Any]:
    """A plain Trainer, a fresh model for every stage, one test item at a time."""
    import peft
    import torch
    import transformers

    recipe, checkpoint = data["recipe"], data["checkpoint"]
    seconds: dict[str, float] = {}
    losses: dict[str, list[float]] = {}
    transformers.logging.set_verbosity_error()
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint.folder, trust_remote_code=False)

    def load() -> Any:
        return touched(
            transformers.AutoModelForCausalLM.from_pretrained(
                checkpoint.folder, trust_remote_code=False, dtype=torch.float32
            )
        )

    def collate(rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        width = max(len(row["ids"]) for row in rows)

        def padded(key: str, filler: int) -> torch.Tensor:
            return torch.tensor([row[key] + [filler] * (width - len(row[key])) for row in rows])

        return {
            "input_ids": padded("ids", tokenizer.pad_token_id),
            "attention_mask": padded("mask", 0),
            "labels": padded("labels", -100),
        }

    def trained(kind: str, schedule: Any) -> Any:
        rows = []
        for example in data[kind]:
            labels = [token if i in set(example.targets) else -100 for i, token in enumerate(example.ids)]
            rows.append({"ids": example.ids, "mask": [1] * len(example.ids), "labels": labels})
        settings = recipe.adapter
        torch.manual_seed(0)
        lora = peft.LoraConfig(
            r=settings.r,
            lora_alpha=settings.alpha,
            target_modules=settings.target_modules,
            task_type="CAUSAL_LM",
        )
        model = peft.get_peft_model(load(), lora)
        with tempfile.TemporaryDirectory() as folder:
            arguments = transformers.TrainingArguments(
                output_dir=folder,
                per_device_train_batch_size=schedule.batch_size,
                num_train_epochs=schedule.epochs,
                learning_rate=recipe.learning_rate,
                lr_scheduler_type=recipe.train.schedule,
                warmup_steps=recipe.train.warmup_ratio,
                logging_steps=1,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                remove_unused_columns=False,
            )
            trainer = transformers.Trainer(model, arguments, data_collator=collate, train_dataset=rows)
            trainer.train()
            losses[kind] = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        return model.eval()

    def answer(model: Any, item: Any) -> bool:
        ids = tokenizer(item.prompt, return_tensors="pt")
        output = model.generate(**ids, max_new_tokens=NEW_TOKENS, do_sample=False)[0, ids["input_ids"].shape[1] :]
        return tokenizer.decode(output, skip_special_tokens=True).strip() == item.answer.strip()

    timed(seconds, "load", load)
    timed(seconds, "reference", lambda: trained("reference", recipe.train.reference))
    model = timed(seconds, "task", lambda: trained("task", recipe.train.task))
    for kind in ("reference", "task"):
        # Loading is a phase of its own.
        seconds[kind] -= seconds["load"]
    with model.disable_adapter():
        timed(seconds, "evaluate base", lambda: [answer(model, item) for item in data["test"]])
    correct = timed(seconds, "evaluate adapter", lambda: [answer(model, item) for item in data["test"]])
    return {"seconds": seconds, "losses": losses, "correct": correct}


def measure(arm: str, part: float) -> dict[str, Any]:
    """Run one arm in a process of its own."""
    command = [sys.executable, __file__, "--arm", arm, "--part", str(part)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(output.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", type=float, default=0.25, help="share of the steps and items, 0..1")
    parser.add_argument("--arm", choices=sorted(COUNTS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.arm:
        result = {"ours": ours, "paper": paper}[arguments.arm](examples(arguments.part))
        result["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(json.dumps(result))
        return
    results = {arm: measure(arm, arguments.part) for arm in ("ours", "paper")}
    print(f"{'':28}{'ours':>10}{'paper':>10}{'ratio':>8}")
    whole = dict.fromkeys(results, 0.0)
    for number, phase in enumerate(PHASES):
        one, other = (results[arm]["seconds"][phase] for arm in ("ours", "paper"))
        scale = 1 if phase == "load" else 1 / arguments.part
        print(f"{phase + ', s':28}{one:10.1f}{other:10.1f}{other / one:8.2f}")
        for arm, result in results.items():
            whole[arm] += COUNTS[arm][number] * scale * result["seconds"][phase]
    print(f"{'whole quickstart, s':28}{whole['ours']:10.1f}{whole['paper']:10.1f}{whole['paper'] / whole['ours']:8.2f}")
    peaks = [results[arm]["peak"] / 2**20 for arm in ("ours", "paper")]
    print(f"{'peak resident memory, GiB':28}{peaks[0]:10.1f}{peaks[1]:10.1f}{peaks[1] / peaks[0]:8.2f}")
    for kind in ("task", "reference"):
        last = [results[arm]["losses"][kind] for arm in ("ours", "paper")]
        few = max(1, len(last[0]) // 4)
        ends = [sum(losses[-few:]) / few for losses in last]
        print(f"{kind + ': steps':28}{len(last[0]):10}{len(last[1]):10}")
        print(f"{kind + ': loss, last quarter':28}{ends[0]:10.3f}{ends[1]:10.3f}")
    scores = [100 * sum(results[arm]["correct"]) / len(results[arm]["correct"]) for arm in ("ours", "paper")]
    print(f"{'accuracy of t = 0, %':28}{scores[0]:10.1f}{scores[1]:10.1f}")


if __name__ == "__main__":
    main()
