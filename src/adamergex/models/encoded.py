"""Token sequences with their targets, and batches of them."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class EncodedExample:
    """One sequence.

    Attributes:
        ids: the tokens that the model reads; for a sequence-to-sequence model those of its decoder, start token first.
        targets: the positions in `ids` that are predicted: from the tokens before them (each at least 1), or from
            both sides with `labels`.
        labels: the original tokens at `targets`, which `ids` masks (masked language modelling), or one class for
            the whole sequence (classification, without targets); empty where `ids` itself has the targets' tokens.
        source: what the encoder of a sequence-to-sequence model reads.
        second: where in `ids` tokens of type 1 begin, those of the second text of a pair; 0 where all are of one type.
        options: in place of `ids`, one sequence for each choice; `labels` has the index of the right one.
        id: of the item or window, for messages.
    """

    ids: list[int]
    targets: list[int]
    labels: tuple[int, ...] = ()
    source: tuple[int, ...] = ()
    id: str = ""
    second: int = 0
    options: "tuple[EncodedExample, ...]" = ()

    @property
    def size(self) -> int:
        """Tokens that are read."""
        return len(self.ids) + len(self.source) + sum(option.size for option in self.options)

    @property
    def sequences(self) -> "tuple[EncodedExample, ...]":
        """Itself, or its options."""
        return self.options or (self,)

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence that is read."""
        return max(len(self.source), *(len(sequence.ids) for sequence in self.sequences))

    @property
    def predictions(self) -> int:
        """How many tokens or classes are predicted."""
        return len(self.targets) or len(self.labels)


class EncodedExamples(Protocol):
    """A sequence of examples, in memory or made when they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> EncodedExample: ...


# Batches are cut from pools of this many batches, sorted by length: little padding, and still random.
_POOL = 16


def sizes(examples: EncodedExamples) -> list[int]:
    """Tokens of each example; from `width` where all are equally long, without making the examples."""
    width: int | None = getattr(examples, "width", None)
    return [examples[i].size for i in range(len(examples))] if width is None else [width] * len(examples)


def random_batches(lengths: Sequence[int], size: int, seed: str) -> list[list[int]]:
    """All indices once, in random batches of similar lengths, in random order; the same for the same seed."""
    order = random.Random(seed)
    indices = list(range(len(lengths)))
    order.shuffle(indices)
    batches = []
    for start in range(0, len(indices), size * _POOL):
        pool = sorted(indices[start : start + size * _POOL], key=lambda i: lengths[i])
        batches += [pool[i : i + size] for i in range(0, len(pool), size)]
    order.shuffle(batches)
    return batches


def dealt(examples: list[EncodedExample], rank: int, count: int, size: int) -> list[tuple[list[EncodedExample], int]]:
    """A process's examples in micro-batches, each with its weight.

    All processes get equally many, since they run each together; a process without examples left gets one of weight 0.

    Args:
        examples: of all processes.
        rank: of the process.
        count: of processes.
        size: of a micro-batch.
    """
    share = examples[rank::count]
    parts = [share[i : i + size] for i in range(0, math.ceil(len(examples) / count), size)]
    return [(part, 1) if part else (examples[:1], 0) for part in parts]
