"""Which family a base model belongs to, and what its tokenizer must have for it. Loads no weights."""

import json
from typing import Any, Literal, Protocol

from adamergex.data.special_tokens import end_of_sequence
from adamergex.errors import ModelError
from adamergex.storage.checkpoints import Checkpoint

Family = Literal["causal", "seq2seq", "encoder"]
# How a model predicts: the next token, the decoder's next token, a hidden token, or a class for the sequence.
Kind = Literal["causal", "seq2seq", "masked", "classes"]
KINDS: dict[Family, dict[str, Kind]] = {
    "causal": {"task": "causal", "text": "causal"},
    "seq2seq": {"task": "seq2seq", "text": "seq2seq"},
    "encoder": {"task": "classes", "text": "masked"},
}
# What each family was pre-trained with, and what else it can learn from plain text.
OBJECTIVES: dict[Family, tuple[str, ...]] = {
    "causal": ("causal", "prefix"),
    "seq2seq": ("span", "prefix"),
    "encoder": ("masked",),
}


class Reads(Protocol):
    """What prompts are made ready for: a resident model, or one that another engine holds.

    Attributes:
        tokenizer: the model's.
        kind: how the model predicts.
        pad: what sequences are filled up with.
    """

    tokenizer: Any
    kind: Kind
    pad: int

    @property
    def context(self) -> int | None:
        """The longest sequence that the model takes, in tokens; None where nothing says so."""

    @property
    def decoder_start(self) -> int | None:
        """The token that a decoder's sequences start with; None without a decoder."""


def family(checkpoint: Checkpoint) -> Family:
    """Causal language model, sequence-to-sequence model or encoder.

    Raises:
        ModelError: the configuration cannot be read.
    """
    try:
        config = json.loads((checkpoint.folder / "config.json").read_bytes())
    except (OSError, ValueError) as error:
        raise ModelError(f"base_model {checkpoint.name}: its config.json cannot be read: {error}") from error
    if config.get("is_encoder_decoder"):
        return "seq2seq"
    architecture = str((config.get("architectures") or [""])[0])
    if architecture.endswith(("ForMaskedLM", "ForPreTraining", "ForSequenceClassification")):
        return "encoder"
    if architecture.endswith("Model") and not architecture.endswith("LMHeadModel"):
        # The bare body was saved: what its kind was trained for decides.
        from transformers.models.auto import modeling_auto as auto

        kind = config.get("model_type")
        masked, causal = auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES, auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        return "encoder" if kind in masked and ("bert" in str(kind) or kind not in causal) else "causal"
    return "causal"


def load_tokenizer(checkpoint: Checkpoint) -> Any:
    """The model's tokenizer.

    Raises:
        ModelError: it does not load, or has no token that ends a sequence.
    """
    import transformers

    transformers.logging.set_verbosity_error()
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint.folder)
    except Exception as error:  # the library raises whatever its readers raise
        raise ModelError(f"base_model {checkpoint.name}: its tokenizer does not load: {first_line(error)}") from error
    if end_of_sequence(tokenizer) is None:
        raise ModelError(
            f"base_model {checkpoint.name}: its tokenizer has no end-of-sequence token, which answers end with"
        )
    return tokenizer


def first_line(error: Exception) -> str:
    """An error of a library in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
