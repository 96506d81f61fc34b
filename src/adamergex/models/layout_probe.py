"""Which batch layouts an architecture supports, tested on a small model.

Whether an architecture accepts a custom attention mask, or separates packed sequences, depends on its code, not on its
configuration, and a layout that it misreads gives plausible numbers. So each layout is tested: on a small model of the
same class and configuration, in float32, where a supported layout differs by rounding alone, and with sequences longer
than the model's attention windows. What a token attends to does not depend on the weights; they are random, so that
every attended token changes the logits.
"""

import copy
import math
import random
import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adamergex.models import prefix_sharing
from adamergex.models.encoded import EncodedExample
from adamergex.models.families import first_line
from adamergex.models.target_logits import BatchLayout, in_trees, laid_logits, packed, rows, text_config

# Names of settings that hold the attention window of a layer, in tokens.
_WINDOWS = re.compile(r"window|chunk|local_attention|block_size")
# The length of sequences where a model has no window, and the longest window that is tested.
_SHORTEST, _LONGEST = 64, 8192
# Of the small model: vocabulary size, width of feed-forward layers, number of layers unless it has more types of them.
_VOCABULARY, _WIDTH, _LAYERS = 128, 32, 6
_FEED_FORWARD = ("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size", "moe_intermediate_size")
_NAMES: dict[BatchLayout, str] = {
    "packed": "packed sequences",
    "shared": "shared beginnings",
    "rows": "one sequence a row",
}


@dataclass(frozen=True)
class LayoutChoice:
    """How the sequences of a batch are arranged, and why.

    Attributes:
        layout: see `target_logits`.
        reason: a clause for the report.
    """

    layout: BatchLayout
    reason: str

    def __str__(self) -> str:
        return f"{_NAMES[self.layout]} ({self.reason})"


def choose(model: torch.nn.Module, preferred: BatchLayout) -> LayoutChoice:
    """The preferred layout if a small float32 model of the same architecture gives the logits of single sequences with it.

    Args:
        model: a causal Hugging Face model, with or without PEFT around it; not called.
        preferred: packed or shared.
    """
    base: Any = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
    name, config = type(base).__name__, text_config(base)
    refused = f"{_NAMES[preferred]} were tried on a small float32 {name}"
    if preferred == "shared" and (used := getattr(config, "_attn_implementation", "eager")) not in ("eager", "sdpa"):
        return LayoutChoice("rows", f"{used} takes no mask of one's own")
    window = _window(config)
    if window > _LONGEST:
        return LayoutChoice("rows", f"a window of {window:,} tokens is longer than what is tried")
    try:
        small = _small(base, _length(window) + 1).to(next(base.parameters()).device)
        with torch.no_grad():
            error, leak = _errors(small, preferred, window)
    except Exception as problem:  # models raise all kinds of errors for input they do not support
        return LayoutChoice("rows", f"{refused}: {first_line(problem)}")
    if not error < leak / 10:
        return LayoutChoice(
            "rows", f"{refused} and changed its logits by {error:.1g}; one wrong token changes them by {leak:.1g}"
        )
    return LayoutChoice(
        preferred,
        f"tried on a small float32 {name} with sequences of {_length(window):,} tokens: logits as of single sequences "
        f"to {error:.0e}; one wrong token changes them by {leak:.0e}",
    )


def _window(config: Any) -> int:
    """The longest attention window of any layer, in tokens; 0 if none is shorter than the model's context."""
    context = getattr(config, "max_position_embeddings", None) or math.inf
    windows = [
        value
        for name, value in config.to_dict().items()
        if isinstance(value, int) and not isinstance(value, bool) and _WINDOWS.search(name) and value < context
    ]
    return max(windows, default=0)


def _length(window: int) -> int:
    """Tokens of a test sequence: a quarter more than the window."""
    return max(_SHORTEST, window + window // 4)


def _small(base: Any, context: int) -> Any:
    """A model of the same class in float32: a layer of each type, a small vocabulary, narrow feed-forward layers.

    Args:
        base: the model.
        context: the small one's `max_position_embeddings`; rows of several sequences are longer, as with the model
            itself.
    """
    config = copy.deepcopy(base.config)
    text = config.get_text_config()
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    depth = text.num_hidden_layers
    by_layer = {k: v for k, v in vars(text).items() if isinstance(v, list | tuple) and len(v) == depth}
    kinds = list(zip(*(map(str, values) for values in by_layer.values()), strict=True)) or [()] * depth
    layers = min(depth, max(_LAYERS, max(map(kinds.index, kinds)) + 1))
    for part in (getattr(config, key) for key in getattr(config, "sub_configs", {})):
        if part is not None and part is not text and hasattr(part, "num_hidden_layers"):
            part.num_hidden_layers = 1
    for key, values in by_layer.items():
        setattr(text, key, values[:layers])
    settings = {"num_hidden_layers": layers, "vocab_size": _VOCABULARY, "pad_token_id": None}
    settings |= {key: _WIDTH for key in _FEED_FORWARD if isinstance(getattr(text, key, None), int)}
    if getattr(text, "max_position_embeddings", None) is not None:
        settings["max_position_embeddings"] = context
    for key, value in settings.items():
        setattr(text, key, value)
    with torch.random.fork_rng(devices=[]):
        small = type(base)(config).float().eval()
    draw = torch.Generator().manual_seed(0)
    for parameter in small.parameters():
        if parameter.ndim > 1:
            parameter.data.normal_(generator=draw).div_(math.sqrt(parameter.shape[-1]))
    return small


def _errors(model: Any, layout: BatchLayout, window: int) -> tuple[float, float]:
    """The largest relative change of the logits of a prediction: by a layout, and by one wrong token (the control)."""
    draw = random.Random(0)
    length = _length(window)
    branch = length - max(window - 8, 2 * length // 3)

    def tokens(count: int) -> list[int]:
        return [draw.randrange(1, _VOCABULARY) for _ in range(count)]

    common = tokens(length - branch)
    sequences = [common + tokens(branch), common + tokens(branch), tokens(_SHORTEST // 2)]
    # The last token is only predicted.
    examples = [EncodedExample([*ids, 1], list(range(1, len(ids) + 1))) for ids in sequences]
    plain = torch.cat([_read(model, rows(some, 0)) for some in (examples[:2], examples[2:])])
    # Two sequences with a common prefix, and a third one, in one row, so that columns differ from position ids.
    grown = prefix_sharing.Trees()
    for number, (ids, alike) in enumerate(zip(sequences, (0, len(common), 0), strict=True)):
        grown.add(number, ids, alike, sum(map(len, sequences)))
    laid = packed(examples) if layout == "packed" else in_trees(grown, examples, 0, model)
    # The control: one of the tokens that the last four attend to is changed.
    wrong = list(sequences[1])
    wrong[7 * length // 8] ^= 1
    changed = _read(model, rows([EncodedExample([*wrong, 1], examples[1].targets)], 0))
    return _relative_error(_read(model, laid), plain), _relative_error(changed[-4:], plain[length : 2 * length][-4:])


def _read(model: Any, laid: Any) -> Tensor:
    """Logits of every prediction."""
    logits, at = laid_logits(model, laid)
    return logits[at]


def _relative_error(logits: Tensor, reference: Tensor) -> float:
    """The largest distance between the logits of a prediction and its reference, relative to the reference's norm."""
    return float(((logits - reference).norm(dim=-1) / reference.norm(dim=-1)).max())
