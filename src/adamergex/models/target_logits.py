"""Logits only where they are needed, for every family of models.

The output embedding of a multilingual model is large: at a vocabulary of 262,144 it costs more than
the rest of Gemma-3-270M at every position. Hidden states are therefore gathered at the positions
that carry a label before they enter it, by a hook, so that whatever a model does around its output
embedding (soft-capping, scaling, a bias) still happens, in its own code.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import chain
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from adamergex.errors import ModelError
from adamergex.models import prefix_sharing
from adamergex.models.encoded import EncodedExample
from adamergex.models.families import Kind

BatchLayout = Literal["rows", "packed", "shared"]
# What a model is given; row and column of the hidden states that predict.
Laid = tuple[dict[str, Any], Tensor, Tensor]
# Logits of some positions, float32 (m, vocabulary or classes); for each prediction its row of them, and its label.
Predicted = tuple[Tensor, Tensor, Tensor]
# Of models that do not say how many hidden units they have.
_HIDDEN = 1024
_HALF = (torch.bfloat16, torch.float16)
# Weights that are widened to float32 at once: 16 MiB of them stay in a processor's cache; a GPU wants larger pieces.
_CACHED, _ON_GPU = 1 << 22, 1 << 27


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


class _Float32Head(TorchFunctionMode):
    """Within this context, matrix products with weights in half precision are float32, and so is what comes of them."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is functional.linear and (args[1] if len(args) > 1 else kwargs["weight"]).dtype in _HALF:
            return _float32_linear(*args, **kwargs)
        if func is functional.layer_norm:
            # What enters it may be float32 by now, and it takes no weights of another type.
            args = [_widened(given) for given in args]
            kwargs = {key: _widened(given) for key, given in kwargs.items()}
        return func(*args, **kwargs)


def _widened(given: Any) -> Any:
    """A tensor in float32; anything else as it is."""
    return given.float() if isinstance(given, Tensor) else given


def _float32_linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:  # noqa: A002
    """A linear layer in float32, without gradient; its weights are widened a piece at a time, never all of them."""
    flat = input.reshape(-1, input.shape[-1]).float()
    found = torch.empty(len(flat), len(weight), dtype=torch.float32, device=flat.device)
    size = max(1, (_ON_GPU if weight.is_cuda else _CACHED) // weight.shape[1])
    for start in range(0, len(weight), size):
        found[:, start : start + size] = flat @ weight[start : start + size].float().T
    if bias is not None:
        found += bias.float()
    return found.view(*input.shape[:-1], len(weight))


@contextmanager
def float32_logits(model: torch.nn.Module) -> Iterator[None]:
    """Within this context, and without gradients, logits are computed in float32 whatever the weights are.

    A logit of 20 in bfloat16 is a multiple of an eighth: what is nearly as likely would be equally likely, and the
    first label would have it. Only what turns hidden states into logits is computed otherwise.

    Args:
        model: a Hugging Face model with an output embedding or a classification head, with or without PEFT around it.
    """
    inner: Any = getattr(model, "module", model)
    base = inner.get_base_model() if hasattr(inner, "get_base_model") else inner
    embedding = base.get_output_embeddings() if hasattr(base, "get_output_embeddings") else None
    body = getattr(base, base.base_model_prefix, None)
    heads = [embedding] if embedding is not None else [part for part in base.children() if part is not body]
    patched = [head for head in heads if any(parameter.dtype in _HALF for parameter in head.parameters())]

    def widened(forward: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            with _Float32Head():
                return forward(*args, **kwargs)

        return call

    before = [head.__dict__.get("forward") for head in patched]
    for head in patched:
        head.forward = widened(head.forward)
    try:
        yield
    finally:
        for head, forward in zip(patched, before, strict=True):
            del head.forward
            if forward is not None:
                head.forward = forward


def target_logits(
    model: torch.nn.Module,
    examples: Sequence[EncodedExample],
    pad: int,
    kind: Kind = "causal",
    layout: BatchLayout = "rows",
    compared: bool = False,
) -> Predicted:
    """Logits at every target of every example, and what belongs there.

    Args:
        model: of the given kind.
        examples: one batch.
        pad: fills sequences up; never predicted, never seen by what is.
        kind: how the model predicts.
        layout: how the sequences of a causal model lie in the batch. `rows`: one a row. `packed`: all in one row,
            kept apart by position ids that begin anew. `shared`: what sequences begin with alike, such as the prompt
            of several answers, is computed once a row, where that is less work. Which of them a model can is found out
            by `layout_probe.choose`.
        compared: whether logits are to be compared with each other (`float32_logits`): without gradients. A training
            step leaves the output embedding in the weights' type; sums over the vocabulary are float32 in any case.

    Returns:
        float32 logits (m, vocabulary or classes); int64 (n,), for each of the n predictions in order, the row of the
        logits that it is read from: a position that several sequences share is computed once; int64 labels (n,).
    """
    device = next(model.parameters()).device
    if kind == "classes":
        read = _classified(examples, pad, getattr(model, "module", model))
        # One number for each class of a sequence, or for each sequence of an item: either way a number for each choice.
        with float32_logits(model) if compared else nullcontext():
            logits = model(**{name: tensor.to(device) for name, tensor in read.items()}).logits.view(len(examples), -1)
        labels = torch.tensor([example.labels[0] for example in examples], device=device)
        return logits.float(), torch.arange(len(labels), device=device), labels
    laid = _shared(examples, pad, model) if layout == "shared" else None
    if laid is None:
        laid = packed(examples) if layout == "packed" else rows(examples, pad, kind)
    with float32_logits(model) if compared else nullcontext():
        logits, at = laid_logits(model, laid, kind)
    given = [example.labels or [example.ids[target] for target in example.targets] for example in examples]
    labels = torch.tensor(list(chain.from_iterable(given)), device=device)
    return logits, at, labels


def laid_logits(model: torch.nn.Module, laid: Laid, kind: Kind = "causal") -> tuple[Tensor, Tensor]:
    """Logits where a batch that lies in a certain way predicts: float32 (m, vocabulary), and each prediction's row of them."""
    inputs, row, column = laid
    device = next(model.parameters()).device
    moved: dict[str, Any] = {name: _to(given, device) for name, given in inputs.items()}
    if kind != "masked":
        moved["use_cache"] = False
    places, at = torch.unique(torch.stack((row, column)), dim=1, return_inverse=True)
    with logits_only_at(model, *places.to(device)):
        return model(**moved).logits[0].float(), at.to(device)


def rows(examples: Sequence[EncodedExample], pad: int, kind: Kind = "causal") -> Laid:
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


def _classified(examples: Sequence[EncodedExample], pad: int, model: Any) -> dict[str, Tensor]:
    """What a model with a classification head is given; the two texts of a pair by number where it tells them apart."""
    sequences = [sequence for example in examples for sequence in example.sequences]
    ids, mask = _padded([sequence.ids for sequence in sequences], pad)
    inputs = {"input_ids": ids, "attention_mask": mask}
    if any(sequence.second for sequence in sequences) and getattr(model.config, "type_vocab_size", 0) > 1:
        place = torch.arange(ids.shape[1])
        begin = torch.tensor([sequence.second or len(sequence.ids) for sequence in sequences])
        inputs["token_type_ids"] = (place >= begin[:, None]).long() * mask
    return inputs


def packed(examples: Sequence[EncodedExample]) -> Laid:
    """All sequences of a batch in one row, without padding; where position ids begin anew, so does attention."""
    ids = [token for example in examples for token in example.ids[:-1]]
    positions = [position for example in examples for position in range(len(example.ids) - 1)]
    column, start = [], 0
    for example in examples:
        column += [start + target - 1 for target in example.targets]
        start += len(example.ids) - 1
    inputs = {"input_ids": torch.tensor([ids]), "position_ids": torch.tensor([positions])}
    return inputs, torch.zeros(len(column), dtype=torch.int64), torch.tensor(column)


def _shared(examples: Sequence[EncodedExample], pad: int, model: torch.nn.Module) -> Laid | None:
    """Several sequences in a row, and what some of them begin with alike only once; None where it is not worth it."""
    hidden = getattr(text_config(model), "hidden_size", None) or _HIDDEN
    grown = prefix_sharing.grow([example.ids[:-1] for example in examples], hidden)
    return None if grown is None else in_trees(grown, examples, pad, model)


def in_trees(grown: prefix_sharing.Trees, examples: Sequence[EncodedExample], pad: int, model: torch.nn.Module) -> Laid:
    """A batch whose sequences, without their last tokens, stand in prefix_sharing."""
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

    config = text_config(model)
    window, kinds = getattr(config, "sliding_window", None), set(getattr(config, "layer_types", None) or ())
    if window is None or kinds == {"full_attention"} or not getattr(config, "use_sliding_window", True):
        return added(seen)
    near = added(seen & (positions[:, :, None] - positions[:, None, :] < window))
    return {"full_attention": added(seen), "sliding_attention": near} if "full_attention" in kinds else near


def text_config(model: torch.nn.Module) -> Any:
    """The configuration of the part that reads text."""
    return getattr(model, "module", model).config.get_text_config()  # type: ignore[operator, union-attr]


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
