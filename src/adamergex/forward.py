"""Logits only where they are needed, for every family of models.

The output embedding of a multilingual model is large: at a vocabulary of 262,144 it costs more than
the rest of Gemma-3-270M at every position. Hidden states are therefore gathered at the positions
that carry a label before they enter it, by a hook, so that whatever a model does around its output
embedding (soft-capping, scaling, a bias) still happens, in its own code.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from adamergex.errors import ModelError
from adamergex.examples import Example
from adamergex.families import Kind


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
    model: torch.nn.Module, examples: Sequence[Example], pad: int, kind: Kind = "causal", packed: bool = False
) -> tuple[Tensor, Tensor]:
    """Logits at every target of every example, in order, and what belongs there.

    Args:
        model: of the given kind.
        examples: one batch.
        pad: fills sequences up; never predicted, never seen by what is.
        kind: how the model predicts.
        packed: causal models only: all sequences in one row, by position ids that begin anew with each. The model
            must understand them (`can_pack`).

    Returns:
        float32 logits (n, vocabulary or classes) and int64 labels (n,), n the number of predictions.
    """
    device = next(model.parameters()).device
    if kind == "classes":
        ids, mask = _padded([example.ids for example in examples], pad, device)
        logits = model(input_ids=ids, attention_mask=mask).logits
        return logits.float(), torch.tensor([example.labels[0] for example in examples], device=device)
    inputs, row, column = _packed(examples) if packed else _rows(examples, pad, kind)
    moved: dict[str, Any] = {name: tensor.to(device) for name, tensor in inputs.items()}
    if kind != "masked":
        moved["use_cache"] = False
    with logits_only_at(model, row.to(device), column.to(device)):
        logits = model(**moved).logits[0]
    labels = [example.labels or [example.ids[target] for target in example.targets] for example in examples]
    return logits.float(), torch.tensor(list(chain.from_iterable(labels)), device=device)


def _rows(examples: Sequence[Example], pad: int, kind: Kind) -> tuple[dict[str, Tensor], Tensor, Tensor]:
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


def _packed(examples: Sequence[Example]) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """All sequences of a batch in one row, without padding; where position ids begin anew, so does attention."""
    ids = [token for example in examples for token in example.ids[:-1]]
    positions = [position for example in examples for position in range(len(example.ids) - 1)]
    column, start = [], 0
    for example in examples:
        column += [start + target - 1 for target in example.targets]
        start += len(example.ids) - 1
    inputs = {"input_ids": torch.tensor([ids]), "position_ids": torch.tensor([positions])}
    return inputs, torch.zeros(len(column), dtype=torch.int64), torch.tensor(column)


def can_pack(model: torch.nn.Module) -> bool:
    """Whether packed sequences see nothing of each other: one is tried, behind another and alone."""
    vocabulary = _output_embedding(model).weight.shape[0]
    first, second = (
        Example([(start + 7 * i) % vocabulary for i in range(12)], list(range(1, 12))) for start in (1, vocabulary // 2)
    )
    try:
        with torch.no_grad():
            together = target_logits(model, [first, second], 0, packed=True)[0][11:]
            alone = target_logits(model, [second], 0)[0]
    except (TypeError, ValueError):  # the model takes no position ids
        return False
    # Half precision rounds; seeing the other sequence changes everything.
    return bool((together - alone).norm() < 0.02 * alone.norm())


def _padded(sequences: Sequence[list[int]], pad: int, device: Any = None) -> tuple[Tensor, Tensor]:
    """Sequences filled up on the right, int64 (batch, longest), and the mask of what is theirs."""
    width = max(map(len, sequences))
    ids = [sequence + [pad] * (width - len(sequence)) for sequence in sequences]
    mask = [[1] * len(sequence) + [0] * (width - len(sequence)) for sequence in sequences]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)
