"""Items and windows as token sequences, the same way for training and for scoring."""

import random
from collections.abc import Sequence
from typing import Any

from adamergex.model import Example
from adamergex.tasks import Item


def answered(tokenizer: Any, prompts: Sequence[str], answers: Sequence[str]) -> list[Example]:
    """Prompt and answer tokenised as one text; the answer's tokens are the targets.

    The answer starts where the tokens of the whole part from those of the prompt alone, so a token
    that reaches over the seam counts as the answer's.
    """
    if not prompts:
        return []
    alone = tokenizer(list(prompts))["input_ids"]
    whole = tokenizer([prompt + answer for prompt, answer in zip(prompts, answers, strict=True)])["input_ids"]
    examples = []
    for before, after in zip(alone, whole, strict=True):
        ids = after[:-1] if after[-1] == tokenizer.eos_token_id else after
        start = next(
            (i for i, (a, b) in enumerate(zip(before, ids, strict=False)) if a != b), min(len(before), len(ids))
        )
        examples.append(Example(ids, list(range(max(start, 1), len(ids)))))
    return examples


def for_training(tokenizer: Any, items: Sequence[Item]) -> list[Example]:
    """Items as training examples; the end-of-sequence token that follows the answer is learned, too."""
    examples = answered(tokenizer, [item.prompt for item in items], [item.answer for item in items])
    return [Example([*e.ids, tokenizer.eos_token_id], [*e.targets, len(e.ids)]) for e in examples]


def windows_for_training(windows: Sequence[list[int]], positions: int | None, seed: int, epoch: int) -> list[Example]:
    """Windows as training examples with all positions as targets, or a sample that is new in each epoch."""
    examples = []
    for index, window in enumerate(windows):
        targets = list(range(1, len(window)))
        if positions is not None and positions < len(targets):
            targets = sorted(random.Random(f"{seed} {epoch} {index}").sample(targets, positions))
        examples.append(Example(window, targets))
    return examples
