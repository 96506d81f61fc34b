"""What a loaded model can read: how long a sequence, and which token ids."""

from typing import Any

import torch

from adamergex.data.special_tokens import end_of_sequence, padding
from adamergex.errors import ModelError

# Special tokens that sequences are built with.
_BUILT_WITH = ("bos_token", "eos_token", "cls_token", "sep_token", "mask_token")


def positions(model: torch.nn.Module) -> int | None:
    """The longest sequence that a model has positions for, in tokens; None if its configuration has no limit.

    RoBERTa and its descendants number positions from `padding_idx + 1`: with `max_position_embeddings` 514 a sequence
    has at most 512 tokens.

    Args:
        model: a base model of transformers, without an adapter.
    """
    config: Any = model.config.get_text_config()  # type: ignore[operator, union-attr]
    limits = [getattr(config, "max_position_embeddings", None)]
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Embedding) and "position" in name.rpartition(".")[2]:
            first = 0 if module.padding_idx is None else module.padding_idx + 1
            limits += [module.num_embeddings - first] if first else []
    return min((limit for limit in limits if limit is not None), default=None)


def pad_token(model: torch.nn.Module, tokenizer: Any, name: str) -> int:
    """The token that batches are padded with: the tokenizer's, or end-of-sequence if the embedding has no row for that.

    Tokenizers often have a padding token that was added after the model was trained (id 32000 of 32000 rows). Padding is
    never predicted and never attended to, so any token will do. All other special tokens must have a row.

    Args:
        model: a base model of transformers.
        tokenizer: the model's.
        name: of the model, for messages.

    Raises:
        ModelError: the embedding has no row for a token of the tokenizer.
    """
    weight = getattr(model.get_input_embeddings(), "weight", None)  # type: ignore[operator]
    pad = padding(tokenizer)
    if weight is None:
        return pad
    rows = weight.shape[0]
    for kind in _BUILT_WITH:
        token = getattr(tokenizer, f"{kind}_id", None)
        if token is not None and token >= rows:
            raise ModelError(
                f"base_model {name}: its tokenizer's {kind} {getattr(tokenizer, kind)} is number {token}, its embedding has "
                f"{rows} rows; use the tokenizer that the model was trained with, or resize its embedding and train that"
            )
    if tokenizer.vocab_size > rows:
        raise ModelError(
            f"base_model {name}: its tokenizer has {tokenizer.vocab_size} tokens, its embedding {rows} rows; use the "
            "tokenizer that the model was trained with"
        )
    end = end_of_sequence(tokenizer)
    return pad if pad < rows or end is None else end
