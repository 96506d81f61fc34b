"""The arms of `training.py`, each in a process of its own: ours, a plain Trainer, TRL.

    python benchmarks/training_arms.py '{"do": "ours", …}'      # as training.py calls it; the last line is JSON

Every arm starts from the same adapter, reads the same examples in the same order in the same batches, predicts the same
positions and makes the same optimizer steps: AdamW, cosine schedule, gradients clipped at norm 1, float32 adapters.
"""

import importlib
import json
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import metadata
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import torch
import transformers
from training_data import SEED, in_order, prepare, read

from adamergex.models import adapter_setup
from adamergex.models.adapter_settings import Lora
from adamergex.models.device import keep_freed_memory
from adamergex.models.encoded import EncodedExample
from adamergex.models.resident import ResidentModel, load_tokenizer
from adamergex.storage import checkpoints
from adamergex.training.settings import Schedule, Train
from adamergex.training.train import Step, train

LEARNING_RATE = 2e-4
LORA = Lora(r=8, alpha=16)


def operations(model: Any, examples: list[EncodedExample]) -> float:
    """Floating-point operations that a training step cannot do without, summed over the examples.

    Counted: products of matrices alone, two operations for a multiplication and an addition. Of a frozen matrix the
    forward pass and the gradient of its input, each 2 · entries for each token (of the output embedding: for each
    predicted position); of a LoRA matrix the gradient of itself, too; attention within what is seen (causal: half the
    square; a sliding window is not taken into account), scores and values, once forward and twice backward. Not
    counted: padding, logits that no loss reads, anything computed again, what is not a product of matrices. All arms
    have the same numerator, so that what they do in vain lowers their share.
    """
    base = model.get_base_model()
    head = base.get_output_embeddings()
    frozen = adapter = 0
    for name, module in base.named_modules():
        if isinstance(module, torch.nn.Linear) and module is not head:
            if ".lora_" in name:
                adapter += module.weight.numel()
            else:
                frozen += module.weight.numel()
    config = base.config
    width = config.num_attention_heads * (
        getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    )
    total = 0.0
    for example in examples:
        tokens = len(example.ids) - 1
        total += (4 * frozen + 6 * adapter) * tokens
        total += 3 * 4 * width * config.num_hidden_layers * tokens * (tokens + 1) / 2
        total += 4 * head.weight.numel() * example.predictions
    return total


class Clock:
    """The end of every step, once the device is done with it; on the wall, and in seconds of the process's threads."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.spent: list[float] = []

    def tick(self) -> None:
        """A step has ended."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())
        self.spent.append(time.process_time())


def memory() -> int:
    """The most memory that was in use, in MiB: of the GPU where there is one, else resident."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() >> 20
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) >> 10


def touched(model: Any) -> None:
    """Read the weights: loading maps the file, and the first step would pay for the reading."""
    for parameter in model.parameters():
        parameter.data.sum()


def ours(job: dict[str, Any], examples: list[EncodedExample], clock: Clock) -> tuple[list[float], Any, str]:
    keep_freed_memory()
    resident = ResidentModel(checkpoints.resolve(job["model"]), job["dtype"], LORA)
    touched(resident.model)
    losses: list[float] = []

    def on_step(step: Step) -> None:
        clock.tick()
        losses.append(step.loss)

    settings = Train(packing=job["do"] == "ours, packed")
    made = train(resident, lambda _: examples, settings, Schedule(epochs=1, batch_size=job["batch"]), SEED,
                 learning_rate=LEARNING_RATE, on_step=on_step)  # fmt: skip
    version = metadata.version("adamergex")
    return (
        losses,
        resident.model,
        version if (made.layout.layout == "packed") == settings.packing else f"{version}, cannot pack this model",
    )


def peft_model(job: dict[str, Any]) -> Any:
    """The same LoRA on the same modules, from the same start."""
    import peft

    checkpoint = checkpoints.resolve(job["model"])
    transformers.utils.logging.disable_progress_bar()
    base = transformers.AutoModelForCausalLM.from_pretrained(
        checkpoint.folder, trust_remote_code=False, dtype=getattr(torch, job["dtype"])
    )
    model = adapter_setup.attach(base, adapter_setup.config(LORA, base, "causal", checkpoint.name), "default", "peft")
    for name, tensor in peft.get_peft_model_state_dict(model, save_embedding_layers=False).items():
        fresh = adapter_setup.start(name, tensor, SEED, 0.0)
        assert fresh is not None
        tensor.copy_(fresh)
    touched(model)
    return model


def options(job: dict[str, Any], folder: str, steps: int) -> dict[str, Any]:
    """Training arguments that both other arms share."""
    return {
        "output_dir": folder,
        "per_device_train_batch_size": job["batch"],
        "num_train_epochs": 1,
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "cosine",
        "warmup_steps": round(Train().warmup_ratio * steps),
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        # The examples come in the order in which ours reads them.
        "train_sampling_strategy": "sequential",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": not torch.cuda.is_available(),
        "bf16": False,
        "seed": SEED,
    }


def run(trainer: Any, clock: Clock) -> list[float]:
    """Train with a Trainer, and return the loss of every step."""

    class Ticking(transformers.TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.tick()

    trainer.add_callback(Ticking())
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def rows(job: dict[str, Any], examples: list[EncodedExample]) -> list[dict[str, list[int]]]:
    """Token ids and labels as a Trainer reads them: -100 where nothing is predicted."""
    made = []
    for example in chain.from_iterable(in_order(examples, job["batch"])):
        targets = set(example.targets)
        labels = [token if i in targets else -100 for i, token in enumerate(example.ids)]
        mask = [int(label != -100) for label in labels]
        made.append({"input_ids": example.ids, "labels": labels, "completion_mask": mask})
    return made


def plain(job: dict[str, Any], examples: list[EncodedExample], clock: Clock) -> tuple[list[float], Any, str]:
    """Hugging Face's Trainer with PEFT: logits at every position, batches padded to their longest sequence."""
    model, tokenizer = peft_model(job), load_tokenizer(checkpoints.resolve(job["model"]))
    data = [{key: row[key] for key in ("input_ids", "labels")} for row in rows(job, examples)]
    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(**options(job, folder, len(data) // job["batch"]))
        collator = transformers.DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=-100)
        trainer = transformers.Trainer(model, arguments, data_collator=collator, train_dataset=data)
        losses = run(trainer, clock)
    return losses, model, metadata.version("transformers")


def trl(job: dict[str, Any], examples: list[EncodedExample], clock: Clock) -> tuple[list[float], Any, str]:
    """TRL's SFTTrainer with the options that are fastest for it; `training.py` says what they are and why."""
    import datasets

    package = importlib.import_module("trl")
    datasets.disable_progress_bars()
    fields = package.SFTConfig.__dataclass_fields__
    # Since 1.15 "nll" never makes all logits; before, "chunked_nll" was the loss that does not.
    modern = fields["loss_type"].default == "nll"
    more: dict[str, Any] = {"loss_type": "nll" if modern else "chunked_nll"}
    if torch.cuda.is_available() and modern:
        with suppress(metadata.PackageNotFoundError):
            metadata.version("liger-kernel")
            more["use_liger_kernel"] = True
    data = datasets.Dataset.from_list(rows(job, examples))
    model = peft_model(job)
    with tempfile.TemporaryDirectory() as folder:
        arguments = package.SFTConfig(
            **options(job, folder, len(data) // job["batch"]),
            **more,
            max_length=None,
            completion_only_loss=True,
            gradient_checkpointing=False,
            activation_offloading=False,
            packing=False,
            padding_free=job["do"] == "TRL, padding-free",
            dataset_kwargs={"skip_prepare_dataset": True},
        )
        tokenizer = load_tokenizer(checkpoints.resolve(job["model"]))
        trainer = package.SFTTrainer(model, arguments, train_dataset=data, processing_class=tokenizer)
        losses = run(trainer, clock)
    return losses, model, package.__version__


def peak(job: dict[str, Any]) -> dict[str, Any]:
    """The most that a product of two matrices reached, in operations per second, with the threads of every arm."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    best = 0.0
    for size in (1024, 2048, 4096) if device == "cpu" else (4096, 8192):
        one, other = (torch.randn(size, size, dtype=getattr(torch, job["dtype"]), device=device) for _ in range(2))
        for _ in range(6):
            clock = Clock()
            clock.tick()
            torch.mm(one, other)
            clock.tick()
            best = max(best, 2 * size**3 / (clock.ends[1] - clock.ends[0]))
    facts = f"torch {torch.__version__}, {torch.get_num_threads()} threads"
    return {"peak": best, "machine": torch.cuda.get_device_name() if device == "cuda" else facts}


ARMS: dict[str, Callable[[dict[str, Any], list[EncodedExample], Clock], tuple[list[float], Any, str]]] = {
    "ours": ours,
    "ours, packed": ours,
    "plain Trainer": plain,
    "TRL": trl,
    "TRL, padding-free": trl,
}


def arm(job: dict[str, Any]) -> dict[str, Any]:
    """Train with one arm; each step after the warm-up is timed from the end of the one before."""
    examples, clock = read(job), Clock()
    losses, model, version = ARMS[job["do"]](job, examples, clock)
    timed = list(chain.from_iterable(in_order(examples, job["batch"])[job["warmup"] :]))
    return {
        "seconds": [end - begin for begin, end in pairwise(clock.ends[job["warmup"] - 1 :])],
        "spent": [end - begin for begin, end in pairwise(clock.spent[job["warmup"] - 1 :])],
        "tokens": sum(example.size for example in timed),
        "operations": operations(model, timed),
        "losses": losses,
        "memory": memory(),
        "version": version,
    }


def main() -> None:
    job = json.loads(sys.argv[1])
    if job["device"] == "cuda" and not torch.cuda.is_available():
        raise SystemExit("--device cuda: there is no GPU that torch can use")
    print(json.dumps({"prepare": prepare, "peak": peak}.get(job["do"], arm)(job)))


if __name__ == "__main__":
    main()
