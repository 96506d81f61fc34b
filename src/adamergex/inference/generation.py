"""Greedy generation for batches of prompts, each until its answer has ended (`families.greedy`)."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
import transformers
from torch import Tensor

from adamergex.models.chat import assistant_turn
from adamergex.models.families import PromptReader
from adamergex.models.resident import ResidentModel
from adamergex.tasks.items import Item
from adamergex.tasks.task import AnswerKind

# Kinds of answers that are one line.
_LINES = ("text", "extraction")


def completion(text: str, kind: AnswerKind, chat: bool = False) -> str:
    """What a model wrote in answer, without what it went on to write: a line, or where it reasons, a paragraph.

    An answer of kind `text` or `extraction` is the first line that is not empty; of the others it ends at an empty
    line, after which models tend to write another question. In chat it ends with the assistant's turn.
    """
    lines = text.strip().splitlines()
    if kind in _LINES:
        return lines[0].strip() if lines else ""
    if chat:
        return text.strip()
    return "\n".join(lines[: next((i for i, line in enumerate(lines) if not line.strip()), len(lines))]).strip()


def may_end(tokenizer: Any, token: int, until: str | None) -> bool:
    """Whether an answer may end with a token: what there is need not be decoded for others."""
    return until is not None or _breaks(tokenizer, token)


def has_ended(text: str, kind: AnswerKind, until: str | None, chat: bool = False) -> bool:
    """Whether what was written so far holds the answer's end; in chat, that of several lines is a token (`ends`)."""
    end = until or ("\n" if kind in _LINES else None if chat else "\n\n")
    return end is not None and end in text.lstrip()


def ends(reader: PromptReader, items: Sequence[Item]) -> tuple[int, ...]:
    """The tokens that end what is written in answer: the model's, and in chat the one that ends the assistant's turn."""
    if not any(item.chat for item in items):
        return reader.ends
    return tuple(dict.fromkeys((*reader.ends, assistant_turn(reader.tokenizer).token)))


class _Ended(transformers.StoppingCriteria):
    """Which sequences of a batch have ended."""

    def __init__(self, tokenizer: Any, kind: AnswerKind, start: int, until: str | None, chat: bool = False):
        self._tokenizer, self._kind, self._start, self._until, self._chat = tokenizer, kind, start, until, chat
        self._done: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Any, **more: Any) -> Tensor:
        if self._done is None:
            self._done = torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
        for row, token in enumerate(input_ids[:, -1].tolist()):
            if not self._done[row] and may_end(self._tokenizer, token, self._until):
                text = self._tokenizer.decode(input_ids[row, self._start :], skip_special_tokens=True)
                self._done[row] = has_ended(text, self._kind, self._until, self._chat)
        return self._done


@lru_cache(maxsize=4096)
def _breaks(tokenizer: Any, token: int) -> bool:
    """Whether there is a line break in a token. Asked of those that are written alone: a vocabulary is large."""
    return "\n" in tokenizer.decode([token])


def written(tokenizer: Any, ids: Sequence[int], ending: Sequence[int]) -> str:
    """What a model wrote, up to the first token that ends it; special tokens left out."""
    end = next((i for i, token in enumerate(ids) if token in ending), len(ids))
    text: str = tokenizer.decode(list(ids[:end]), skip_special_tokens=True)
    return text


def generate(
    resident: ResidentModel,
    batch: Sequence[list[int]],
    kind: AnswerKind,
    longest: int,
    until: str | None = None,
    ending: Sequence[int] | None = None,
    chat: bool = False,
) -> list[str]:
    """What the model writes after each prompt, special tokens left out, what follows the answer not.

    Args:
        resident: the model, with the adapter to evaluate.
        batch: prompts, as `encode.sequences` makes them.
        kind: of answer; see `completion` for where it ends.
        longest: the most tokens that are written.
        until: text that ends an answer in place of that.
        ending: tokens that end an answer; the model's by default.
        chat: whether prompts are in a chat template.
    """
    ending = resident.ends if ending is None else ending
    tokenizer, both = resident.tokenizer, resident.kind == "seq2seq"
    width = max(map(len, batch))
    filling = [[0] * (width - len(ids)) for ids in batch]

    # A causal model continues from the last token: its prompts are padded on the left.
    def padded(ids: list[int], padding: list[int]) -> list[int]:
        return ids + padding if both else padding + ids

    ids = torch.tensor([padded(row, [resident.pad] * len(zeros)) for row, zeros in zip(batch, filling, strict=True)])
    mask = torch.tensor([padded([1] * len(row), zeros) for row, zeros in zip(batch, filling, strict=True)])
    device = resident.model.device
    # A decoder's output begins with what it starts with, which may be what ends a text, too.
    start = 1 if both else width
    output = resident.model.generate(
        input_ids=ids.to(device),
        attention_mask=mask.to(device),
        max_new_tokens=longest,
        eos_token_id=list(ending),
        stopping_criteria=transformers.StoppingCriteriaList([_Ended(tokenizer, kind, start, until, chat)]),
    )
    return [written(tokenizer, ids, ending) for ids in output[:, start:].tolist()]
