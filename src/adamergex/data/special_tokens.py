"""Encoding of text, and the special tokens that begin, end and pad sequences."""

from collections.abc import Sequence
from typing import Any

from adamergex.errors import ModelError


def end_of_sequence(tokenizer: Any) -> int | None:
    """The token that ends a sequence and separates documents: `eos`, or `sep` where an encoder has no `eos`."""
    return tokenizer.sep_token_id if tokenizer.eos_token_id is None else tokenizer.eos_token_id


def padding(tokenizer: Any) -> int:
    """The token that sequences are padded with."""
    pad: int | None = tokenizer.pad_token_id
    return end_of_sequence(tokenizer) if pad is None else pad  # type: ignore[return-value]


def text_tokens(tokenizer: Any, texts: Sequence[str], target: bool = False) -> list[list[int]]:
    """Encode texts without special tokens; used alike for plain text, prompts and answers.

    What looks like a special token in a text is encoded as text: `<s>` may be the HTML tag for struck-out text.

    Args:
        tokenizer: the model's.
        texts: to encode.
        target: encode as targets of an encoder-decoder (`text_target`), which some tokenizers encode differently.

    Raises:
        ModelError: its vocabulary lacks what it would write for a part of a text that it does not know.
    """
    if not texts:
        return []
    try:
        encoded: list[list[int]] = tokenizer(
            **{"text_target" if target else "text": list(texts)},
            add_special_tokens=False,
            split_special_tokens=True,
            return_attention_mask=False,
            verbose=False,
        )["input_ids"]
    except Exception as error:
        # Of this very type are those of `tokenizers`, about its settings; others are defects.
        if type(error) is not Exception:
            raise
        raise ModelError(f"base_model {tokenizer.name_or_path}: its tokenizer cannot encode a text: {error}") from error
    special = {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}
    special.discard(tokenizer.unk_token_id)
    return [ids if special.isdisjoint(ids) else _spelled(tokenizer, ids, special) for ids in encoded]


def _spelled(tokenizer: Any, ids: list[int], special: set[int]) -> list[int]:
    """Encode special tokens within a text as text: Unigram vocabularies (XLM-R, T5) contain them as pieces."""
    model = tokenizer.backend_tokenizer.model
    spelled: list[int] = []
    for token in ids:
        text = tokenizer.convert_ids_to_tokens(token)
        parts = (text[:1], text[1:]) if token in special else ()
        spelled += [piece.id for part in parts for piece in model.tokenize(part)] or [token]
    return spelled


def around(tokenizer: Any, target: bool = False) -> tuple[list[int], list[int]]:
    """The special tokens before and after a text: those that the tokenizer itself adds, and no others.

    This is the rule for how every sequence begins: prompts in training and in scoring, windows of the reference task,
    and what a decoder writes. A tokenizer that knows a beginning-of-sequence token and does not add it (GPT-2, BLOOM)
    gets none: that is how transformers, vLLM and lm-evaluation-harness read a prompt when the adapter is used.

    Args:
        tokenizer: the model's.
        target: around the target of an encoder-decoder.
    """
    name = "text_target" if target else "text"
    bare, whole = (tokenizer(**{name: "a"}, add_special_tokens=added)["input_ids"] for added in (False, True))
    begin = next((i for i in range(len(whole)) if whole[i : i + len(bare)] == bare), 0)
    return whole[:begin], whole[begin + len(bare) :]
