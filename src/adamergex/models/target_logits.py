"""Logits only where they are needed, for every family of models.

The output embedding of a multilingual model is large: at a vocabulary of 262,144 it costs more than
the rest of Gemma-3-270M at every position. Hidden states are therefore gathered at the positions
that carry a label before they enter it, by a hook, so that whatever a model does around its output
embedding (soft-capping, scaling, a bias) still happens, in its own code.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, Literal

import torch
from torch import Tensor

from adamergex.errors import ModelError
from adamergex.models import prefix_sharing
from adamergex.models.encoded import Example
from adamergex.models.families import Kind

Layout = Literal["rows", "packed", "shared"]
# What a model is given; row and column of the hidden states that predict.
Laid = tuple[dict[str, Any], Tensor, Tensor]
# Logits of some positions, float32 (m, vocabulary or classes); for each prediction its row of them, and its label.
Predicted = tuple[Tensor, Tensor, Tensor]
# Of models that do not say how many hidden units they have.
_HIDDEN = 1024


def _output_embedding(model: torch.nn.Module) -> Any:
    """The module that turns hidden states into logits."""
    return getattr(model, "module", model).get_output_embeddings()  # type: ignore[operator]


@contextmanager
def logits_only_at(model: torch.nn.Module, row: Tensor, column: Tensor) -> Iterator[None]:
    """Within this context a forward pass returns logits of shape (1, n, vocabulary) at n positions.

    Args:
        model: any Hugging Face language model, with or without PEFT or DistributedDataParallel around it.
        row: int64 (n,), the batch row of each position.
        column: int64 (n,), the position in its row.

    Raises:
        ModelError: the forward pass did not go through the model's output embedding.
    """
    calls = 0

    def gather(module: torch.nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        nonlocal calls
        calls += 1
        return (args[0][row, column].unsqueeze(0), *args[1:])

    handle = _output_embedding(model).register_forward_pre_hook(gather)
    try:
        yield
    finally:
        handle.remove()
    if calls != 1:
        raise ModelError(
            f"{type(model).__name__}: the output embedding was used {calls} times in a forward pass; expected once"
        )


def target_logits(
    model: torch.nn.Module, examples: Sequence[Example], pad: int, kind: Kind = "causal", layout: Layout = "rows"
) -> Predicted:
    """Logits at every target of every example, and what belongs there.

    Args:
        model: of the given kind.
        examples: one batch.
        pad: fills sequences up; never predicted, never seen by what is.
        kind: how the model predicts.
        layout: how the sequences of a causal model lie in the batch. `rows`: one a row. `packed`: all in one row,
            kept apart by position ids that begin anew (`can_pack`). `shared`: what sequences begin with alike, such as
            the prompt of several answers, is computed once a row, where that is less work (`can_share`).

    Returns:
        float32 logits (m, vocabulary or classes); int64 (n,), for each of the n predictions in order, the row of the
        logits that it is read from: a position that several sequences share is computed once; int64 labels (n,).
    """
    device = next(model.parameters()).device
    if kind == "classes":
        read = _classified(examples, pad, getattr(model, "module", model))
        # One number for each class of a sequence, or for each sequence of an item: either way a number for each choice.
        logits = model(**{name: tensor.to(device) for name, tensor in read.items()}).logits.view(len(examples), -1)
        labels = torch.tensor([example.labels[0] for example in examples], device=device)
        return logits.float(), torch.arange(len(labels), device=device), labels
    laid = _shared(examples, pad, model) if layout == "shared" else None
    if laid is None:
        laid = _packed(examples) if layout == "packed" else _rows(examples, pad, kind)
    inputs, row, column = laid
    moved: dict[str, Any] = {name: _to(given, device) for name, given in inputs.items()}
    if kind != "masked":
        moved["use_cache"] = False
    places, at = torch.unique(torch.stack((row, column)), dim=1, return_inverse=True)
    with logits_only_at(model, *places.to(device)):
        logits = model(**moved).logits[0]
    given = [example.labels or [example.ids[target] for target in example.targets] for example in examples]
    labels = torch.tensor(list(chain.from_iterable(given)), device=device)
    return logits.float(), at.to(device), labels


def _rows(examples: Sequence[Example], pad: int, kind: Kind) -> Laid:
    """A padded batch: what the model is given, and row and column of the hidden states that predict.

    Causal attention sees nothing behind itself: padding on the right needs no mask. What reads both ways does.
    """
    ids, mask = _padded([example.ids for example in examples], pad)
    row = torch.tensor([i for i, example in enumerate(examples) for _ in example.targets])
    column = torch.tensor([target for example in examples for target in example.targets])
    if kind == "masked":
        return {"input_ids": ids, "attention_mask": mask}, row, column
    # The last token is only ever predicted: it is not read.
    if kind == "causal":
        return {"input_ids": ids[:, :-1]}, row, column - 1
    source, mask = _padded([list(example.source) for example in examples], pad)
    return {"input_ids": source, "attention_mask": mask, "decoder_input_ids": ids[:, :-1]}, row, column - 1


def _classified(examples: Sequence[Example], pad: int, model: Any) -> dict[str, Tensor]:
    """What a model with a classification head is given; the two texts of a pair by number where it tells them apart."""
    sequences = [sequence for example in examples for sequence in example.sequences]
    ids, mask = _padded([sequence.ids for sequence in sequences], pad)
    inputs = {"input_ids": ids, "attention_mask": mask}
    if any(sequence.second for sequence in sequences) and getattr(model.config, "type_vocab_size", 0) > 1:
        place = torch.arange(ids.shape[1])
        begin = torch.tensor([sequence.second or len(sequence.ids) for sequence in sequences])
        inputs["token_type_ids"] = (place >= begin[:, None]).long() * mask
    return inputs


def _packed(examples: Sequence[Example]) -> Laid:
    """All sequences of a batch in one row, without padding; where position ids begin anew, so does attention."""
    ids = [token for example in examples for token in example.ids[:-1]]
    positions = [position for example in examples for position in range(len(example.ids) - 1)]
    column, start = [], 0
    for example in examples:
        column += [start + target - 1 for target in example.targets]
        start += len(example.ids) - 1
    inputs = {"input_ids": torch.tensor([ids]), "position_ids": torch.tensor([positions])}
    return inputs, torch.zeros(len(column), dtype=torch.int64), torch.tensor(column)


def _shared(examples: Sequence[Example], pad: int, model: torch.nn.Module) -> Laid | None:
    """Several sequences in a row, and what some of them begin with alike only once; None where it is not worth it."""
    hidden = getattr(_text_config(model), "hidden_size", None) or _HIDDEN
    grown = prefix_sharing.grow([example.ids[:-1] for example in examples], hidden)
    if grown is None:
        return None
    positions = torch.tensor(grown.filled(grown.positions, 0))
    inputs: dict[str, Any] = {
        "input_ids": torch.tensor(grown.filled(grown.tokens, pad)),
        "position_ids": positions,
        "attention_mask": _masks(torch.from_numpy(grown.seen()), positions, model),
    }
    row = [grown.places[i][0] for i, example in enumerate(examples) for _ in example.targets]
    column = [grown.places[i][1][target - 1] for i, example in enumerate(examples) for target in example.targets]
    return inputs, torch.tensor(row), torch.tensor(column)


def _masks(seen: Tensor, positions: Tensor, model: torch.nn.Module) -> Any:
    """Masks as attention adds them, (rows, 1, width, width), 0 where a token is seen; by name where layers differ."""
    dtype = _dtype(model)

    def added(seen: Tensor) -> Tensor:
        return torch.zeros(seen.shape, dtype=dtype).masked_fill_(~seen, torch.finfo(dtype).min)[:, None]

    config = _text_config(model)
    window, kinds = getattr(config, "sliding_window", None), set(getattr(config, "layer_types", None) or ())
    if window is None or kinds == {"full_attention"} or not getattr(config, "use_sliding_window", True):
        return added(seen)
    near = added(seen & (positions[:, :, None] - positions[:, None, :] < window))
    return {"full_attention": added(seen), "sliding_attention": near} if "full_attention" in kinds else near


def _text_config(model: torch.nn.Module) -> Any:
    """The configuration of the part that reads text."""
    return getattr(model, "module", model).config.get_text_config()  # type: ignore[operator, union-attr]


def can_pack(model: torch.nn.Module) -> bool:
    """Whether packed sequences see nothing of each other: one is tried, behind another and alone."""
    return _alike(model, "packed")


def can_share(model: torch.nn.Module) -> bool:
    """Whether sequences can share a beginning: not where the attention takes no such mask, or no position ids."""
    config = _text_config(model)
    if getattr(config, "attention_chunk_size", None) is not None:
        return False
    return getattr(config, "_attn_implementation", "eager") in ("eager", "sdpa") and _alike(model, "shared")


def _alike(model: torch.nn.Module, layout: Layout) -> bool:
    """Whether two sequences give in a layout what they give apart."""
    vocabulary = _output_embedding(model).weight.shape[0]
    begun = [(3 + 5 * i) % vocabulary for i in range(8)]
    both = [
        Example([*begun, *((start + 7 * i) % vocabulary for i in range(8))], list(range(1, 16)))
        for start in (1, vocabulary // 2)
    ]
    try:
        with torch.no_grad():
            (together, at, _), (apart, own, _) = (target_logits(model, both, 0, layout=way) for way in (layout, "rows"))
    except (
        TypeError,
        ValueError,
        RuntimeError,
        IndexError,
        AttributeError,
    ):  # the model takes no position ids, or not such a mask
        return False
    # Half precision rounds; seeing the other sequence changes everything.
    return bool((together[at] - apart[own]).norm() < 0.02 * apart.norm())


def _to(given: Any, device: torch.device) -> Any:
    """A tensor, or a dictionary of some, on a device."""
    return {name: tensor.to(device) for name, tensor in given.items()} if isinstance(given, dict) else given.to(device)


def _dtype(model: torch.nn.Module) -> torch.dtype:
    """Of the hidden states: what a mask is added to."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point() and not p.requires_grad), torch.float32)


def _padded(sequences: Sequence[list[int]], pad: int, device: Any = None) -> tuple[Tensor, Tensor]:
    """Sequences filled up on the right, int64 (batch, longest), and the mask of what is theirs."""
    width = max(map(len, sequences))
    ids = [sequence + [pad] * (width - len(sequence)) for sequence in sequences]
    mask = [[1] * len(sequence) + [0] * (width - len(sequence)) for sequence in sequences]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)
