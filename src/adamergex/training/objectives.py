"""Training objectives on plain text: windows of tokens as examples of a reference task.

Each family learns what it was pre-trained with: causal language modelling (all positions of a window, or a
seeded sample), masked language modelling (arXiv 1810.04805, section 3.1) and span corruption (T5, arXiv
1910.10683, section 3.1.4; BART's text infilling, arXiv 1910.13461). `prefix` is the reference task of the
paper's own code: n−k tokens of a window are the prompt, k the completion, and only these are predicted.

Examples are made on access, so that a corpus of any size stays on the disk. What is masked depends on seed, epoch and
window alone.
"""

from typing import Any

import numpy as np

from adamergex.data.special_tokens import around, end_of_sequence
from adamergex.errors import ModelError
from adamergex.models.encoded import EncodedExample
from adamergex.models.families import Family
from adamergex.training.reference_task import Objective

# T5's spelling, and that of mT5's vocabulary.
_SENTINELS = ("<extra_id_{}>", "▁<extra_id_{}>")


def overhead(family: Family, tokenizer: Any) -> int:
    """How many tokens of a window are special tokens, at its start and end."""
    before, behind = around(tokenizer)
    return len(before) + (0 if family == "causal" else len(behind))


class Windows:
    """Windows of plain text as examples.

    Args:
        bodies: int32 (windows, tokens), without special tokens at the ends.
        reference: which objective, and its settings.
        family: of the model.
        tokenizer: the model's.
        seed: with `epoch`, determines what is masked.
        epoch: counted from 0; each masks other tokens.
        start: the token that a decoder starts with.

    Raises:
        ModelError: the tokenizer has no mask token or sentinels.
    """

    def __init__(
        self,
        bodies: np.ndarray,
        reference: Objective,
        family: Family,
        tokenizer: Any,
        seed: int,
        epoch: int,
        start: int | None = None,
    ):
        self._bodies, self._reference, self._tokenizer = bodies, reference, tokenizer
        self._family, self._seed, self._epoch = family, seed, epoch
        self._before, self._behind = around(tokenizer)
        self._begun = [] if start is None else [start, *around(tokenizer, target=True)[0]]
        self._sentinels: list[int] = []
        objective = reference.objective or {"causal": "causal", "seq2seq": "span", "encoder": "masked"}[family]
        self._make = {"causal": self._causal, "prefix": self._prefix, "masked": self._masked, "span": self._span}[
            objective
        ]
        if objective == "span":
            self._sentinels = _sentinels(tokenizer)
        if objective == "masked" and tokenizer.mask_token_id is None:
            raise ModelError("reference.objective: the tokenizer has no mask token; this is no masked language model")
        # Every example of an objective is about equally long.
        self.width = bodies.shape[1] + overhead(family, tokenizer)

    def __len__(self) -> int:
        return len(self._bodies)

    def __getitem__(self, index: int) -> EncodedExample:
        generator = np.random.default_rng([self._seed, self._epoch, index])
        return self._make(self._bodies[index].tolist(), generator, f"window {index}")

    def _causal(self, body: list[int], generator: np.random.Generator, name: str) -> EncodedExample:
        ids = [*self._before, *body]
        targets = list(range(1, len(ids)))
        positions = self._reference.positions
        if positions is not None and positions < len(targets):
            targets = sorted(generator.choice(targets, positions, replace=False).tolist())
        return EncodedExample(ids, targets, id=name)

    def _prefix(self, body: list[int], generator: np.random.Generator, name: str) -> EncodedExample:
        assert self._reference.completion is not None
        cut = len(body) - self._reference.completion
        if self._family == "seq2seq":
            ids = [*self._begun, *body[cut:]]
            source = (*self._before, *body[:cut], *self._behind)
            return EncodedExample(ids, list(range(1, len(ids))), source=source, id=name)
        ids = [*self._before, *body]
        return EncodedExample(ids, list(range(len(ids) - len(body) + cut, len(ids))), id=name)

    def _masked(self, body: list[int], generator: np.random.Generator, name: str) -> EncodedExample:
        """Of the chosen tokens 80 % are masked, 10 % replaced at random and 10 % left; all are predicted."""
        tokenizer = self._tokenizer
        ids = [*self._before, *body, *self._behind]
        begin = len(self._before)
        # Separators of documents are neither masked nor predicted.
        free = [i for i in range(begin, begin + len(body)) if ids[i] != end_of_sequence(tokenizer)]
        count = max(1, round(self._reference.noise * len(free)))
        chosen = sorted(generator.choice(free, min(count, len(free)), replace=False).tolist())
        labels = tuple(ids[i] for i in chosen)
        for i, how in zip(chosen, generator.random(len(chosen)), strict=True):
            if how < 0.8:
                ids[i] = tokenizer.mask_token_id
            elif how < 0.9:
                ids[i] = int(generator.integers(len(tokenizer)))
        return EncodedExample(ids, chosen, labels=labels, id=name)

    def _span(self, body: list[int], generator: np.random.Generator, name: str) -> EncodedExample:
        """T5 generates the masked spans, each after its sentinel; BART, which has one mask token, the whole text."""
        spans = _spans(len(body), self._reference.noise, self._reference.span, generator)
        if self._sentinels:
            spans = spans[: len(self._sentinels) - 1]
        source: list[int] = []
        written: list[int] = []
        at = 0
        for number, (begin, end) in enumerate(spans):
            sentinel = self._sentinels[number] if self._sentinels else self._tokenizer.mask_token_id
            source += [*body[at:begin], sentinel]
            written += [sentinel, *body[begin:end]]
            at = end
        source += body[at:]
        last = end_of_sequence(self._tokenizer)
        assert last is not None
        written = [*written, self._sentinels[len(spans)]] if self._sentinels else body
        ids = [*self._begun, *written, last]
        return EncodedExample(ids, list(range(1, len(ids))), source=(*self._before, *source, *self._behind), id=name)


def _sentinels(tokenizer: Any) -> list[int]:
    """T5's sentinels in their order, at most a hundred; none for a model with a mask token.

    Raises:
        ModelError: the tokenizer has neither.
    """
    known = tokenizer.get_vocab()
    sentinels = [known[name.format(i)] for i in range(100) for name in _SENTINELS if name.format(i) in known]
    if not sentinels and tokenizer.mask_token_id is None:
        raise ModelError(
            "reference.objective: the tokenizer has neither sentinels (<extra_id_0> …) nor a mask token for span "
            "corruption; use objective: prefix"
        )
    return sentinels


def _spans(length: int, noise: float, mean: float, generator: np.random.Generator) -> list[tuple[int, int]]:
    """T5's random spans: `noise` of all tokens, `mean` long on average, apart from each other, in order."""
    hidden = min(max(round(length * noise), 1), length - 1)
    count = min(max(round(hidden / mean), 1), hidden, length - hidden)

    def parts(total: int) -> np.ndarray:
        """`total` as a sum of `count` numbers of at least one, all such sums equally likely."""
        cuts = np.sort(generator.choice(total - 1, count - 1, replace=False)) + 1
        return np.diff(np.concatenate([[0], cuts, [total]]))

    shown, covered = parts(length - hidden), parts(hidden)
    ends = np.cumsum(shown + covered)
    return [(int(end - size), int(end)) for end, size in zip(ends, covered, strict=True)]
