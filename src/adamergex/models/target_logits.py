"""Logits only where they are needed, for every family of models.

The output embedding of a multilingual model is large: at a vocabulary of 262,144 it costs more than
the rest of Gemma-3-270M at every position. Hidden states are therefore gathered at the positions
that carry a label before they enter it, by a hook; anything else that the model does around its output
embedding (soft-capping, scaling, a bias) still runs in its own code.
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
# Inputs of the forward pass; batch row and position of the hidden states that predict.
Laid = tuple[dict[str, Any], Tensor, Tensor]
# Logits of some positions, float32 (m, vocabulary or classes); for each prediction its row in them, and its label.
Predicted = tuple[Tensor, Tensor, Tensor]
# Assumed for models whose configuration has no `hidden_size`.
_HIDDEN = 1024
_HALF = (torch.bfloat16, torch.float16)
# Weights that are cast to float32 at once: 16 MiB of them stay in a processor's cache; a GPU needs larger chunks.
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
    """Within this context, linear layers with weights in half precision compute and return float32."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is functional.linear and (args[1] if len(args) > 1 else kwargs["weight"]).dtype in _HALF:
            return _float32_linear(*args, **kwargs)
        if func is functional.layer_norm:
            # Its input may be float32 by now, and it does not accept weights of another dtype.
            args = [_float32(arg) for arg in args]
            kwargs = {key: _float32(arg) for key, arg in kwargs.items()}
        return func(*args, **kwargs)


def _float32(value: Any) -> Any:
    """A tensor in float32; any other value as it is."""
    return value.float() if isinstance(value, Tensor) else value


def _float32_linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:  # noqa: A002
    """A linear layer in float32, without gradient; its weights are cast in chunks, never all at once."""
    flat = input.reshape(-1, input.shape[-1]).float()
    output = torch.empty(len(flat), len(weight), dtype=torch.float32, device=flat.device)
    size = max(1, (_ON_GPU if weight.is_cuda else _CACHED) // weight.shape[1])
    for start in range(0, len(weight), size):
        output[:, start : start + size] = flat @ weight[start : start + size].float().T
    if bias is not None:
        output += bias.float()
    return output.view(*input.shape[:-1], len(weight))


@contextmanager
def float32_logits(model: torch.nn.Module) -> Iterator[None]:
    """Within this context, and without gradients, logits are computed in float32, even if the weights are in half precision.

    In bfloat16 a logit near 20 is a multiple of an eighth: answers of nearly equal likelihood would tie, and ties go to
    the first label. Only the output embedding or classification head is computed in float32.

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
    """Logits at every target of every example, and the labels.

    Args:
        model: a Hugging Face model of this kind, with or without PEFT around it.
        examples: one batch.
        pad: the padding token; never predicted, never attended to.
        kind: how the model predicts.
        layout: how the sequences of a causal model are arranged in the batch. `rows`: one sequence per row. `packed`:
            all in one row, separated by position ids that restart at 0. `shared`: a common prefix of several sequences,
            such as the prompt of several answers, is computed once per row, where that is less work.
            `layout_probe.choose` tests which of them a model supports.
        compared: whether logits will be compared with each other, which needs `float32_logits` and excludes gradients. A
            training step leaves the output embedding in the weights' dtype; sums over the vocabulary are always float32.

    Returns:
        float32 logits (m, vocabulary or classes); int64 (n,), for each of the n predictions in order, its row in the
        logits (a position that several sequences share is computed once); int64 labels (n,).
    """
    device = next(model.parameters()).device
    if kind == "classes":
        read = _classified(examples, pad, getattr(model, "module", model))
        # One number for each class of a sequence, or for each sequence of an item: either way a number for each choice.
        with float32_logits(model) if compared else nullcontext():
            logits = model(**{name: tensor.to(device) for name, tensor in read.items()}).logits.view(len(examples), -1)
        # Of inputs without labels there are none.
        labels = torch.tensor(
            [label for example in examples for label in example.labels], dtype=torch.int64, device=device
        )
        return logits.float(), torch.arange(len(labels), device=device), labels
    laid = _shared(examples, pad, model) if layout == "shared" else None
    if laid is None:
        laid = packed(examples) if layout == "packed" else rows(examples, pad, kind)
    with float32_logits(model) if compared else nullcontext():
        logits, at = laid_logits(model, laid, kind)
    per_example = [example.labels or [example.ids[target] for target in example.targets] for example in examples]
    labels = torch.tensor(list(chain.from_iterable(per_example)), device=device)
    return logits, at, labels


def laid_logits(model: torch.nn.Module, laid: Laid, kind: Kind = "causal") -> tuple[Tensor, Tensor]:
    """Logits at the predicting positions of an arranged batch, float32 (m, vocabulary), and each prediction's row in them."""
    inputs, row, column = laid
    device = next(model.parameters()).device
    moved: dict[str, Any] = {name: _to(value, device) for name, value in inputs.items()}
    if kind != "masked":
        moved["use_cache"] = False
    places, at = torch.unique(torch.stack((row, column)), dim=1, return_inverse=True)
    with logits_only_at(model, *places.to(device)):
        return model(**moved).logits[0].float(), at.to(device)


def rows(examples: Sequence[EncodedExample], pad: int, kind: Kind = "causal") -> Laid:
    """A padded batch: the inputs of the forward pass, and row and column of the hidden states that predict.

    Causal attention never sees padding on the right, so it needs no mask; bidirectional attention does.
    """
    ids, mask = _padded([example.ids for example in examples], pad)
    row = torch.tensor([i for i, example in enumerate(examples) for _ in example.targets])
    column = torch.tensor([target for example in examples for target in example.targets])
    if kind == "masked":
        return {"input_ids": ids, "attention_mask": mask}, row, column
    # The last token is only predicted, so it is not an input.
    if kind == "causal":
        return {"input_ids": ids[:, :-1]}, row, column - 1
    source, mask = _padded([list(example.source) for example in examples], pad)
    return {"input_ids": source, "attention_mask": mask, "decoder_input_ids": ids[:, :-1]}, row, column - 1


def _classified(examples: Sequence[EncodedExample], pad: int, model: Any) -> dict[str, Tensor]:
    """Inputs of a model with a classification head; with token type ids for pairs of texts, where it has them."""
    sequences = [sequence for example in examples for sequence in example.sequences]
    ids, mask = _padded([sequence.ids for sequence in sequences], pad)
    inputs = {"input_ids": ids, "attention_mask": mask}
    if any(sequence.second for sequence in sequences) and getattr(model.config, "type_vocab_size", 0) > 1:
        place = torch.arange(ids.shape[1])
        begin = torch.tensor([sequence.second or len(sequence.ids) for sequence in sequences])
        inputs["token_type_ids"] = (place >= begin[:, None]).long() * mask
    return inputs


def packed(examples: Sequence[EncodedExample]) -> Laid:
    """All sequences of a batch in one row, without padding; attention is restricted to where position ids restart."""
    ids = [token for example in examples for token in example.ids[:-1]]
    positions = [position for example in examples for position in range(len(example.ids) - 1)]
    column, start = [], 0
    for example in examples:
        column += [start + target - 1 for target in example.targets]
        start += len(example.ids) - 1
    inputs = {"input_ids": torch.tensor([ids]), "position_ids": torch.tensor([positions])}
    return inputs, torch.zeros(len(column), dtype=torch.int64), torch.tensor(column)


def _shared(examples: Sequence[EncodedExample], pad: int, model: torch.nn.Module) -> Laid | None:
    """Several sequences per row, their common prefixes only once; None where that saves too little."""
    hidden = getattr(text_config(model), "hidden_size", None) or _HIDDEN
    grown = prefix_sharing.grow([example.ids[:-1] for example in examples], hidden)
    return None if grown is None else in_trees(grown, examples, pad, model)


def in_trees(grown: prefix_sharing.Trees, examples: Sequence[EncodedExample], pad: int, model: torch.nn.Module) -> Laid:
    """A batch whose sequences, without their last tokens, are arranged in prefix trees (`prefix_sharing`)."""
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
    """Additive attention masks, (rows, 1, width, width), 0 where attended; by layer type where a model has several."""
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
    """The configuration of the text model, also of a multimodal one."""
    return getattr(model, "module", model).config.get_text_config()  # type: ignore[operator, union-attr]


def _to(value: Any, device: torch.device) -> Any:
    """A tensor, or a dictionary of tensors, on a device."""
    return {name: tensor.to(device) for name, tensor in value.items()} if isinstance(value, dict) else value.to(device)


def _dtype(model: torch.nn.Module) -> torch.dtype:
    """The dtype of the hidden states, and so of attention masks."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point() and not p.requires_grad), torch.float32)


def _padded(sequences: Sequence[list[int]], pad: int, device: Any = None) -> tuple[Tensor, Tensor]:
    """Sequences padded on the right, int64 (batch, longest), and their attention mask."""
    width = max(map(len, sequences))
    ids = [sequence + [pad] * (width - len(sequence)) for sequence in sequences]
    mask = [[1] * len(sequence) + [0] * (width - len(sequence)) for sequence in sequences]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)
