"""Which of several answers a model finds likeliest: by the log-likelihood of the whole answer, never by parsing."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch

from adamergex.models import likelihood
from adamergex.models.chat import prompts
from adamergex.models.encode import answered
from adamergex.models.encoded import EncodedExample
from adamergex.models.families import PromptReader
from adamergex.models.resident import ResidentModel
from adamergex.models.target_logits import BatchLayout, target_logits
from adamergex.tasks.items import Item

Normalization = Literal["none", "tokens", "characters"]


@dataclass(frozen=True)
class Options:
    """The choices of one item as sequences to read.

    Attributes:
        sequences: without those that are a prefix of another one, whose forward pass gives their logits, too.
        reads: for each choice, the index of its sequence.
        tokens: of each choice, without the prompt; with its end token where one choice is a prefix of another.
    """

    sequences: tuple[EncodedExample, ...]
    reads: tuple[int, ...]
    tokens: tuple[tuple[int, ...], ...]

    @property
    def size(self) -> int:
        """Tokens of the longest sequence."""
        return max(example.size for example in self.sequences)

    def whole(self, choice: int) -> list[int]:
        """The tokens of prompt and choice."""
        read = self.sequences[self.reads[choice]]
        return [*read.ids[: read.targets[0]], *self.tokens[choice]]


def options(reader: PromptReader, items: Sequence[Item], ending: str = "") -> list[Options]:
    """Encode the choices of items: prompt and choice together, as they are learned (`encode.answered`).

    Where one choice of an item begins another (` 1`, ` 10`), the end of an answer is a token of each of its choices:
    of ` 10`, every further token costs something, and without an end it could never win. What is compared then is
    how likely each is as the whole answer. Elsewhere no answer is a part of another and nothing is added: the scores
    are those of lm-evaluation-harness, a base model that never learned where an answer ends is not asked for it, and
    choices of one token are read at one position.

    Args:
        reader: the model that will read them.
        items: with choices.
        ending: what ends the answers of solved examples in the prompts, and by that the choices of a causal model;
            by default an answer ends as it is learned, with the end-of-sequence token or that of the assistant's turn.
    """
    encoded = _encoded(reader, items)
    nested = [number for number, choices in enumerate(encoded) if _one_begins_another(choices)]
    written = ending if reader.kind == "causal" else ""
    ended = _encoded(reader, [items[number] for number in nested], written, ended=not written)
    for number, choices in zip(nested, ended, strict=True):
        encoded[number] = choices
    return [_options(choices, reader.pad) for choices in encoded]


def _encoded(
    reader: PromptReader, items: Sequence[Item], ending: str = "", ended: bool = False
) -> list[list[EncodedExample]]:
    """The choices of every item, each after its prompt."""
    asked = prompts(reader.tokenizer, items)
    pairs = [(prompt, choice + ending) for prompt, item in zip(asked, items, strict=True) for choice in item.choices]
    each, choices = [prompt for prompt, _ in pairs], [choice for _, choice in pairs]
    encoded = iter(answered(reader.tokenizer, each, choices, reader.kind, reader.decoder_start, ended))
    return [[next(encoded) for _ in item.choices] for item in items]


def _one_begins_another(choices: Sequence[EncodedExample]) -> bool:
    """Whether the tokens of one choice are a prefix of another's."""
    # In sorted order, a prefix is right before a sequence that begins with it.
    ordered = sorted(choice.ids for choice in choices)
    return any(len(a) < len(b) and b[: len(a)] == a for a, b in pairwise(ordered))


def _options(choices: list[EncodedExample], pad: int) -> Options:
    # All are read from where the first of them parts from the prompt: a sum over the same text.
    start = min(len(choice.ids) - len(choice.targets) for choice in choices)
    kept: list[list[int]] = []
    for choice in sorted(choices, key=lambda choice: -len(choice.ids)):
        # The last token of a choice is predicted, never read.
        if not any(held[: len(choice.ids) - 1] == choice.ids[:-1] for held in kept):
            kept.append(choice.ids[:-1])
    places = [
        next(s for s, held in enumerate(kept) if held[: len(choice.ids) - 1] == choice.ids[:-1]) for choice in choices
    ]
    # The last token of an example is only predicted, so padding takes the place of any choice's.
    sequences = [
        EncodedExample(
            [*held, pad],
            list(range(start, max(len(c.ids) for c, at in zip(choices, places, strict=True) if at == s))),
            source=choices[0].source,
        )
        for s, held in enumerate(kept)
    ]
    return Options(
        tuple(sequences),
        tuple(places),
        tuple(tuple(choice.ids[start:]) for choice in choices),
    )


def log_likelihoods(resident: ResidentModel, batch: Sequence[Options], layout: BatchLayout) -> list[list[float]]:
    """Log p(choice | prompt) of every choice of every item of a batch, in nats, summed over the choice's tokens.

    Args:
        resident: the model, with the adapter to evaluate.
        batch: the items' choices; all are read in one forward pass, and a prompt once (`target_logits`).
        layout: the resident's.
    """
    examples = [example for item in batch for example in item.sequences]
    logits, rows, _ = target_logits(resident.model, examples, resident.pad, resident.kind, layout, True)
    first_of = [0]
    for example in examples:
        first_of.append(first_of[-1] + len(example.targets))
    target: list[int] = []
    token: list[int] = []
    owner: list[int] = []
    number = before = 0
    for item in batch:
        for sequence, ids in zip(item.reads, item.tokens, strict=True):
            first = first_of[before + sequence]
            target += range(first, first + len(ids))
            token += ids
            owner += [number] * len(ids)
            number += 1
        before += len(item.sequences)
    tokens = torch.tensor(token, device=logits.device)
    read = likelihood.log_likelihoods(logits, rows[torch.tensor(target, device=logits.device)], tokens)
    sums = iter(torch.zeros(number, dtype=torch.float64).index_add_(0, torch.tensor(owner), read).tolist())
    return [[next(sums) for _ in item.reads] for item in batch]


def class_logits(resident: ResidentModel, examples: Sequence[EncodedExample]) -> list[list[float]]:
    """Logits of a classification head: for each item of a batch, one for each choice."""
    logits, *_ = target_logits(resident.model, examples, resident.pad, "classes", compared=True)
    return logits.tolist()


def normalized(scores: Sequence[float], item: Item, tokens: Sequence[int], by: Normalization) -> list[float]:
    """Log-likelihoods per token or per character of the choice, white space around it apart; or as they are."""
    if by == "none":
        return list(scores)
    lengths = tokens if by == "tokens" else [len(choice.strip()) for choice in item.choices]
    return [score / length for score, length in zip(scores, lengths, strict=True)]
