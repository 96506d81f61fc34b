"""The family of a base model, from its configuration, and its tokenizer. Loads no weights."""

import importlib.util
from collections.abc import Sequence
from typing import Any, Literal, Protocol

from adamergex.data.special_tokens import end_of_sequence
from adamergex.errors import ModelError
from adamergex.storage.checkpoints import Checkpoint, auto_map
from adamergex.storage.model_files import configuration, generation

Family = Literal["causal", "seq2seq", "encoder"]
# How a model predicts: the next token, the decoder's next token, a hidden token, or a class for the sequence.
Kind = Literal["causal", "seq2seq", "masked", "classes"]
KINDS: dict[Family, dict[str, Kind]] = {
    "causal": {"task": "causal", "text": "causal"},
    "seq2seq": {"task": "seq2seq", "text": "seq2seq"},
    "encoder": {"task": "classes", "text": "masked"},
}
# Objectives on plain text: what each family was pre-trained with, and what else it can be trained with.
OBJECTIVES: dict[Family, tuple[str, ...]] = {
    "causal": ("causal", "prefix"),
    "seq2seq": ("span", "prefix"),
    "encoder": ("masked",),
}


class PromptReader(Protocol):
    """What encoding prompts needs to know of a model: a resident one, or that of another engine.

    Attributes:
        tokenizer: the model's.
        kind: how the model predicts.
        pad: the padding token.
        ends: the tokens that end what the model writes (`end_tokens`).
    """

    tokenizer: Any
    kind: Kind
    pad: int
    ends: tuple[int, ...]

    @property
    def context(self) -> int | None:
        """The longest sequence that the model takes, in tokens; None if it has no limit."""

    def context_behind(self, virtual_tokens: int) -> int | None:
        """The longest sequence that the model takes after a prefix of so many virtual tokens; None as for `context`."""

    @property
    def decoder_start(self) -> int | None:
        """The token that a decoder's sequences start with; None without a decoder."""


def longest_item(reader: PromptReader, most: int | None, virtual_tokens: int) -> int | None:
    """The most tokens of a labelled item, in training and in scoring; None where nothing limits it.

    Args:
        reader: the model.
        most: what the user sets.
        virtual_tokens: of a prefix, which takes some of the model's context.
    """
    return min((limit for limit in (most, reader.context_behind(virtual_tokens)) if limit is not None), default=None)


def family(checkpoint: Checkpoint) -> Family:
    """Causal language model, sequence-to-sequence model or encoder.

    Raises:
        ModelError: the configuration cannot be read.
    """
    config = configuration(checkpoint.folder, checkpoint.name)
    if config.get("is_encoder_decoder"):
        return "seq2seq"
    architecture = str((config.get("architectures") or [""])[0])
    if architecture.endswith(("ForMaskedLM", "ForPreTraining", "ForSequenceClassification")):
        return "encoder"
    if architecture.endswith("Model") and not architecture.endswith("LMHeadModel"):
        # Saved without a head: the pre-training objective of its model type decides.
        from transformers.models.auto import modeling_auto as auto

        kind = config.get("model_type")
        masked, causal = auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES, auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        return "encoder" if kind in masked and ("bert" in str(kind) or kind not in causal) else "causal"
    return "causal"


def has_head(checkpoint: Checkpoint, labels: Sequence[str], outputs: int) -> bool:
    """Whether a checkpoint has a trained classification head for a task: as many outputs, and its labels in its order.

    Otherwise transformers initializes a head at random, whose predictions mean nothing before it is trained.

    Args:
        checkpoint: of an encoder.
        labels: of the task, in order.
        outputs: how many the head has to have.

    Raises:
        ModelError: the configuration cannot be read.
    """
    config = configuration(checkpoint.folder, checkpoint.name)
    names = config.get("id2label")
    if not str((config.get("architectures") or [""])[0]).endswith("ForSequenceClassification"):
        return False
    if not isinstance(names, dict):
        return int(config.get("num_labels", 2)) == outputs
    theirs = [str(names[key]).casefold() for key in sorted(names, key=int)]
    if len(theirs) != outputs:
        return False
    # Unnamed labels are LABEL_0, LABEL_1 … in transformers.
    unnamed = all(name.startswith("label_") for name in theirs)
    return unnamed or outputs != len(labels) or theirs == [label.casefold() for label in labels]


def context_of(checkpoint: Checkpoint) -> int | None:
    """The longest sequence that a model has positions for by its configuration, in tokens; None where that names no limit.

    Raises:
        ModelError: the configuration cannot be read.
    """
    config = configuration(checkpoint.folder, checkpoint.name)
    config |= config.get("text_config") or {}
    limit = config.get("max_position_embeddings", config.get("n_positions"))
    return limit if isinstance(limit, int) else None


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
        # Settings of another kind load, and end the first text.
        tokenizer("a")
    except BaseException as error:  # transformers passes on all kinds of errors
        # A panic of what is written in Rust is no Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise does_not_load(checkpoint, "its tokenizer does not load", error) from error
    if end_of_sequence(tokenizer) is None:
        raise ModelError(
            f"base_model {checkpoint.name}: its tokenizer has no end-of-sequence token, which answers end with"
        )
    return tokenizer


def refuse_code(checkpoint: Checkpoint) -> None:
    """Check that the configuration and the tokenizer of a local checkpoint load without its own Python code.

    Raises:
        ModelError: one of them does not.
    """
    named = {} if checkpoint.trust_remote_code else auto_map(checkpoint.folder)
    # transformers prefers its own class to one named by `auto_map`; importing it takes time, so only ask where one is named.
    if "config.json" in named:
        import transformers

        try:
            transformers.AutoConfig.from_pretrained(checkpoint.folder, trust_remote_code=False)
        except ValueError as error:
            raise does_not_load(checkpoint, "its configuration does not load", error) from error
    if "tokenizer_config.json" in named:
        load_tokenizer(checkpoint)


def has_its_code(checkpoint: Checkpoint) -> bool:
    """Whether the Python code that a checkpoint's configuration names, if any, lies beside it."""
    named = auto_map(checkpoint.folder).get("config.json", [])
    own = {name.partition(".")[0] for name in named if "--" not in name}
    return all((checkpoint.folder / f"{module}.py").is_file() for module in own)


def runs_code(checkpoint: Checkpoint) -> bool:
    """Whether loading a checkpoint may run Python code that comes with it: that is permitted, and its files name some."""
    return checkpoint.trust_remote_code and bool(auto_map(checkpoint.folder))


def refuse_quantization(quantization: str | None) -> None:
    """Raises ModelError where weights are to be quantized, and what does it is not installed."""
    if quantization is not None and importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError(f"quantization: {quantization} needs bitsandbytes; run: pip install 'adamergex[quantized]'")


def end_tokens(checkpoint: Checkpoint, tokenizer: Any) -> tuple[int, ...]:
    """The tokens that end generation: the checkpoint's, and the tokenizer's end-of-sequence, which training appends.

    A checkpoint names one or several (`[1, 106]`, the second `<end_of_turn>`) in its `generation_config.json`, or
    else in its `config.json`.

    Raises:
        ModelError: one of the files cannot be read.
    """
    ends: list[int] = []
    for read in (generation, configuration):
        config = read(checkpoint.folder, checkpoint.name)
        value = config.get("eos_token_id", (config.get("text_config") or {}).get("eos_token_id"))
        ends = ends or ([value] if isinstance(value, int) else list(value or ()))
    end = end_of_sequence(tokenizer)
    return tuple(dict.fromkeys(ends if end is None else [end, *ends]))


def greedy(config: Any, ends: Sequence[int], pad: int) -> Any:
    """Greedy decoding until an end token, as a generation configuration.

    A checkpoint's own `generation_config.json` may ask for sampling, beams or a repetition penalty, and `generate` takes
    every setting that is not passed from there; so this one replaces it.

    Args:
        config: the model's, for `decoder_start_token_id`.
        ends: the tokens that end a text.
        pad: the padding token.

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


def does_not_load(checkpoint: Checkpoint, what: str, error: BaseException) -> ModelError:
    """The error for a base model or tokenizer that does not load, by the library's; with how to allow code that it needs.

    Args:
        checkpoint: of the model.
        what: what does not load, in words.
        error: the library's.
    """
    reason = first_line(error)
    # Both transformers and vLLM name the argument where code beside the model is all that would load it.
    if "trust_remote_code" in str(error) and not checkpoint.trust_remote_code:
        named = sorted({name for names in auto_map(checkpoint.folder).values() for name in names})
        reason = (
            f"it needs Python code that comes with it ({', '.join(named)}), which is not run; if you have read it and trust "
            "it, allow it with trust_remote_code: true beside base_model in the recipe, or with --trust-remote-code"
        )
    return ModelError(f"base_model {checkpoint.name}: {what}: {reason}")


def first_line(error: BaseException) -> str:
    """An error of a library in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
