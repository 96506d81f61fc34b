"""The arms of `evaluation.py`, each in a process of its own: ours, one prompt at a time, lm-evaluation-harness.

    python benchmarks/evaluation_arms.py '{"arm": "ours", …}'   # as evaluation.py calls it; the last line is JSON

Every arm loads the same model with the same adapter and answers the same prompts, strings made once by
`adamergex.tasks.items`; reading them and loading the model are not timed.
"""

import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from adamergex.inference import generation
from adamergex.inference.predict import PredictionRequest, predict
from adamergex.models.adapter_settings import Lora
from adamergex.models.device import keep_freed_memory
from adamergex.models.resident import ResidentModel
from adamergex.storage import checkpoints
from adamergex.tasks import presets
from adamergex.tasks.items import Item, read_items
from adamergex.tasks.task import AnswerKind, Task

LORA = Lora(r=8, alpha=16)
SEED = 42
# What is answered to an item: a log-likelihood for each choice, or a text.
Answer = list[float] | str
# Answers items.
Arm = Callable[[Sequence[Item]], list[Answer]]


def read(job: dict[str, Any]) -> tuple[list[Item], AnswerKind]:
    """The first items of a benchmark's test split in the wording of its language, and how they are answered."""
    name, _, language = job["task"].partition("-")
    task = Task.model_validate(presets.filled({"benchmark": name, "data": job["data"], "prompts": "target"}))
    if task.test is None:
        raise SystemExit(f"{name}: has no test split")
    source = task.test.model_copy(update={"limit": job["items"]})
    return read_items(task, source, Path(), language), task.answer_kind


def ours(resident: ResidentModel, kind: AnswerKind, job: dict[str, Any]) -> Arm:
    """What `adamergex run` does, at the batch size that it has where a recipe does not set one."""
    keep_freed_memory()

    def answers(items: Sequence[Item]) -> list[Answer]:
        questions = PredictionRequest(items, kind, "en", max_new_tokens=job["new_tokens"])
        found = predict(resident, questions)
        return [list(row.choices) if kind == "choice" else row.written for row in found]

    return answers


def one_at_a_time(resident: ResidentModel, kind: AnswerKind, job: dict[str, Any]) -> Arm:
    """A plain forward pass for each choice, or a plain `generate` for each prompt, which ends with the sequence."""
    tokenizer, model = resident.tokenizer, resident.model.eval()

    def likelihood(prompt: str, choice: str) -> float:
        before = len(tokenizer(prompt)["input_ids"])
        ids = tokenizer(prompt + choice, return_tensors="pt")["input_ids"].to(model.device)
        log_p = model(input_ids=ids).logits[0, before - 1 : -1].float().log_softmax(-1)
        return float(log_p.gather(1, ids[0, before:, None]).double().sum())

    def written(prompt: str) -> str:
        ids = tokenizer(prompt, return_tensors="pt").to(model.device)
        output = model.generate(**ids, max_new_tokens=job["new_tokens"], do_sample=False, pad_token_id=resident.pad)
        text: str = tokenizer.decode(output[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)
        return text

    def answers(items: Sequence[Item]) -> list[Answer]:
        with torch.inference_mode():
            if kind == "choice":
                return [[likelihood(item.prompt, choice) for choice in item.choices] for item in items]
            return [written(item.prompt) for item in items]

    return answers


def _task(items: Sequence[Item], kind: AnswerKind, new_tokens: int, folder: Path) -> dict[str, Any]:
    """Items as a task of lm-evaluation-harness: the same prompts, and the same choices or the same end."""
    rows = [{"prompt": item.prompt, "choices": item.choices, "answer": item.answer} for item in items]
    data = folder / "items.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task: dict[str, Any] = {
        "task": "same",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}, "cache_dir": str(folder / "cache")},
        "test_split": "test",
        "doc_to_text": "{{prompt}}",
        "target_delimiter": "",
    }
    if kind == "choice":
        right = "{{choices.index(answer)}}"
        return task | {"output_type": "multiple_choice", "doc_to_choice": "choices", "doc_to_target": right,
                       "metric_list": [{"metric": "acc"}]}  # fmt: skip
    until = {"until": ["\n\n"], "max_gen_toks": new_tokens, "do_sample": False}
    return task | {"output_type": "generate_until", "generation_kwargs": until, "doc_to_target": "{{answer}}",
                   "metric_list": [{"metric": "exact_match"}]}  # fmt: skip


def harness(resident: ResidentModel, kind: AnswerKind, job: dict[str, Any]) -> Arm:
    """lm-evaluation-harness on the same model: its evaluation alone, without looking for tasks or loading data."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    logging.getLogger("lm_eval").setLevel(logging.CRITICAL)
    manager = TaskManager(include_path=None, include_defaults=False)
    tokenizer = resident.tokenizer
    model = HFLM(resident.model, tokenizer=tokenizer, backend="causal", batch_size=job["batch"])
    loaded: dict[int, Any] = {}

    def answers(items: Sequence[Item]) -> list[Answer]:
        found = lm_eval.evaluate(model, loaded[len(items)], bootstrap_iters=0)["samples"]["same"]
        rows = [row["resps"] for row in sorted(found, key=lambda row: row["doc_id"])]
        return [[r[0][0] for r in row] if kind == "choice" else row[0][0] for row in rows]

    items, _ = read(job)
    with tempfile.TemporaryDirectory() as folder:
        for part in {job["warmup"], len(items)}:
            (place := Path(folder, str(part))).mkdir()
            loaded[part] = manager.load([_task(items[:part], kind, job["new_tokens"], place)])
            # Its data set lies in memory from here on.
            for task in loaded[part]["tasks"].values():
                task.dataset = {split: rows.to_list() for split, rows in task.dataset.items()}
    return answers


ARMS: dict[str, Callable[[ResidentModel, AnswerKind, dict[str, Any]], Arm]] = {
    "ours": ours,
    "one at a time": one_at_a_time,
    "lm-evaluation-harness": harness,
}
PACKAGES = {"ours": "adamergex", "one at a time": "transformers", "lm-evaluation-harness": "lm_eval"}


def memory() -> int:
    """The most memory that was in use, in MiB: of the GPU where there is one, else resident."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() >> 20
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) >> 10


def main() -> None:
    job = json.loads(sys.argv[1])
    items, kind = read(job)
    resident = ResidentModel(checkpoints.resolve(job["model"]), "float32", LORA)
    resident.start(SEED)
    arm = ARMS[job["arm"]](resident, kind, job)
    arm(items[: job["warmup"]])
    began, spent = time.perf_counter(), time.process_time()
    found = arm(items)
    seconds, spent = time.perf_counter() - began, time.process_time() - spent
    answers = [generation.completion(answer, kind) if isinstance(answer, str) else answer for answer in found]
    ends = [len(resident.tokenizer.encode(a, add_special_tokens=False)) for a in answers if isinstance(a, str)]
    facts = {
        "seconds": seconds,
        "spent": spent,
        "answers": answers,
        "written": sum(ends),
        "sequences": sum(max(1, len(item.choices)) for item in items),
        "memory": memory(),
        "version": metadata.version(PACKAGES[job["arm"]]),
        "machine": f"torch {torch.__version__}, {torch.get_num_threads()} threads",
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
