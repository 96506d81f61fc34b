"""The tokens that end sequences and fill them up."""

from typing import Any


def end_of_sequence(tokenizer: Any) -> int | None:
    """The token that ends a sequence and keeps documents apart: `eos`, or `sep` where an encoder has no `eos`."""
    return tokenizer.sep_token_id if tokenizer.eos_token_id is None else tokenizer.eos_token_id


def padding(tokenizer: Any) -> int:
    """What sequences are filled up with."""
    pad: int | None = tokenizer.pad_token_id
    return end_of_sequence(tokenizer) if pad is None else pad  # type: ignore[return-value]
