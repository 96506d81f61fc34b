"""Plain text as reference-task examples: windows of tokens of the model's own tokenizer.

Documents are kept apart by the end-of-sequence token; a window never holds glued sentences of two
documents without it. Lengths are tokens, not characters or words, so languages without spaces work.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from adamergex.errors import DataError


@dataclass(frozen=True)
class Corpus:
    """Token windows of one language and the facts about them.

    Attributes:
        windows: equally long lists of token ids, each starting with the beginning-of-sequence token
            where the tokenizer has one.
        documents: how many documents the windows were cut from.
        characters: how many characters these documents have.
    """

    windows: list[list[int]]
    documents: int
    characters: int

    @property
    def tokens(self) -> int:
        """Tokens in all windows."""
        return sum(len(window) for window in self.windows)


def build(texts: Iterable[str], tokenizer: Any, *, tokens: int, window: int, seed: int, name: str) -> Corpus:
    """Cut shuffled documents into windows until the budget is met.

    Args:
        texts: documents; empty ones are passed over. Read only as far as the budget may need, at ten
            characters a token: that pool is shuffled.
        tokenizer: a Hugging Face tokenizer with an end-of-sequence token.
        tokens: the budget; the result has the largest multiple of `window` that is not above it.
        window: tokens per window.
        seed: of the shuffle.
        name: what to call the corpus in messages.

    Raises:
        DataError: the corpus has too few tokens for the budget, or the budget is below one window.
    """
    if tokens < window:
        raise DataError(
            f"reference.tokens is {tokens}, less than one window of {window}; raise it or lower reference.window"
        )
    bos = [tokenizer.bos_token_id] if tokenizer.bos_token_id is not None else []
    body = window - len(bos)
    wanted = tokens // window * body
    pool: list[str] = []
    characters = 0
    for text in texts:
        if text.strip():
            pool.append(text.strip())
            characters += len(pool[-1])
        if characters > 10 * tokens + 100_000:
            break
    random.Random(seed).shuffle(pool)
    stream: list[int] = []
    documents = characters = 0
    for text in pool:
        if len(stream) >= wanted:
            break
        stream += [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id]
        documents += 1
        characters += len(text)
    if not documents:
        raise DataError(f"{name}: the corpus is empty")
    if len(stream) < wanted:
        fitting = len(stream) // body * window
        raise DataError(
            f"{name}: the corpus has {len(stream):,} tokens, the budget is {tokens:,} for each language; "
            + (f"add text or set reference.tokens to {fitting}" if fitting else "add text")
        )
    windows = [bos + stream[start : start + body] for start in range(0, wanted, body)]
    return Corpus(windows, documents, characters)
