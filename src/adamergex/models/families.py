"""Which family a base model belongs to, and what its tokenizer must have for it. Loads no weights."""

import json
from collections.abc import Sequence
from typing import Any, Literal, Protocol

from adamergex.data.special_tokens import end_of_sequence
from adamergex.errors import ModelError
from adamergex.storage.checkpoints import Checkpoint, auto_map

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


class PromptReader(Protocol):
    """What prompts are made ready for: a resident model, or one that another engine holds.

    Attributes:
        tokenizer: the model's.
        kind: how the model predicts.
        pad: what sequences are filled up with.
        ends: the tokens that end what the model writes (`end_tokens`).
    """

    tokenizer: Any
    kind: Kind
    pad: int
    ends: tuple[int, ...]

    @property
    def context(self) -> int | None:
        """The longest sequence that the model takes, in tokens; None where nothing says so."""

    def context_behind(self, virtual_tokens: int) -> int | None:
        """The longest sequence that the model takes behind a prefix of so many virtual tokens; None as for `context`."""

    @property
    def decoder_start(self) -> int | None:
        """The token that a decoder's sequences start with; None without a decoder."""


def family(checkpoint: Checkpoint) -> Family:
    """Causal language model, sequence-to-sequence model or encoder.

    Raises:
        ModelError: the configuration cannot be read.
    """
    config = _config(checkpoint)
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


def has_head(checkpoint: Checkpoint, labels: Sequence[str], outputs: int) -> bool:
    """Whether a checkpoint brings a trained classification head for a task: as many outputs, and its labels in its order.

    A head that it does not bring is drawn at random, and what it says before it is trained means nothing.

    Args:
        checkpoint: of an encoder.
        labels: of the task, in order.
        outputs: how many the head has to have.

    Raises:
        ModelError: the configuration cannot be read.
    """
    config = _config(checkpoint)
    names = config.get("id2label")
    if not str((config.get("architectures") or [""])[0]).endswith("ForSequenceClassification"):
        return False
    if not isinstance(names, dict):
        return int(config.get("num_labels", 2)) == outputs
    theirs = [str(names[key]).casefold() for key in sorted(names, key=int)]
    if len(theirs) != outputs:
        return False
    # transformers calls what nobody named LABEL_0, LABEL_1 …
    unnamed = all(name.startswith("label_") for name in theirs)
    return unnamed or outputs != len(labels) or theirs == [label.casefold() for label in labels]


def _config(checkpoint: Checkpoint) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((checkpoint.folder / "config.json").read_bytes())
    except (OSError, ValueError) as error:
        raise ModelError(f"base_model {checkpoint.name}: its config.json cannot be read: {error}") from error
    return found


def load_tokenizer(checkpoint: Checkpoint) -> Any:
    """The model's tokenizer.

    Raises:
        ModelError: it does not load, needs code that may not be run, or has no token that ends a sequence.
    """
    import transformers

    transformers.logging.set_verbosity_error()
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            checkpoint.folder, trust_remote_code=checkpoint.trust_remote_code
        )
    except Exception as error:  # the library raises whatever its readers raise
        raise does_not_load(checkpoint, "its tokenizer does not load", error) from error
    if end_of_sequence(tokenizer) is None:
        raise ModelError(
            f"base_model {checkpoint.name}: its tokenizer has no end-of-sequence token, which answers end with"
        )
    return tokenizer


def refuse_code(checkpoint: Checkpoint) -> None:
    """See that the model and its tokenizer load without code that may not be run, as far as their files are there.

    Raises:
        ModelError: one of them does not.
    """
    named = {} if checkpoint.trust_remote_code else auto_map(checkpoint.folder)
    # transformers takes a class of its own where it has one; only where one is named is it worth its time to be asked.
    if "config.json" in named:
        import transformers

        try:
            transformers.AutoConfig.from_pretrained(checkpoint.folder, trust_remote_code=False)
        except ValueError as error:
            raise does_not_load(checkpoint, "its configuration does not load", error) from error
    if "tokenizer_config.json" in named:
        load_tokenizer(checkpoint)


def end_tokens(checkpoint: Checkpoint, tokenizer: Any) -> tuple[int, ...]:
    """The tokens that end what a model writes: the checkpoint's own, and the one that answers are learned with.

    A checkpoint names one or several (`[1, 106]`, the second `<end_of_turn>`) in its `generation_config.json`, or
    else in its `config.json`.

    Raises:
        ModelError: one of the files cannot be read.
    """
    found: list[int] = []
    for name in ("generation_config.json", "config.json"):
        try:
            config = json.loads((checkpoint.folder / name).read_bytes())
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise ModelError(f"base_model {checkpoint.name}: its {name} cannot be read: {error}") from error
        given = config.get("eos_token_id", (config.get("text_config") or {}).get("eos_token_id"))
        found = found or ([given] if isinstance(given, int) else list(given or ()))
    end = end_of_sequence(tokenizer)
    return tuple(dict.fromkeys(found if end is None else [end, *found]))


def greedy(config: Any, ends: Sequence[int], pad: int) -> Any:
    """How a model writes: at each step the likeliest token, until one that ends the text.

    A checkpoint's own `generation_config.json` may ask for samples, beams, a penalty on what stands in the prompt.
    `generate` takes whatever it is not told from there, so that this has to stand in its place.

    Args:
        config: the model's, which names what a decoder starts with.
        ends: the tokens that end a text.
        pad: stands behind them.

    Returns:
        A `transformers.GenerationConfig`.
    """
    import transformers

    start = getattr(config, "decoder_start_token_id", None)
    if getattr(config, "is_encoder_decoder", False) and start is None:
        start = pad
    return transformers.GenerationConfig(
        do_sample=False, num_beams=1, eos_token_id=list(ends), pad_token_id=pad, decoder_start_token_id=start
    )


def does_not_load(checkpoint: Checkpoint, what: str, error: Exception) -> ModelError:
    """Why a base model or a part of it does not load, by what the library said; where it wants to run code, what allows it.

    Args:
        checkpoint: of the model.
        what: does not load, in words.
        error: the library's.
    """
    reason = first_line(error)
    # Both transformers and vLLM name the argument where code beside the model is all that would load it.
    if "trust_remote_code" in str(error) and not checkpoint.trust_remote_code:
        named = sorted({one for names in auto_map(checkpoint.folder).values() for one in names})
        reason = (
            f"it needs Python code that comes with it ({', '.join(named)}), which is not run; if you have read it and trust "
            "it, allow it with trust_remote_code: true beside base_model in the recipe, or with --trust-remote-code"
        )
    return ModelError(f"base_model {checkpoint.name}: {what}: {reason}")


def first_line(error: Exception) -> str:
    """An error of a library in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
