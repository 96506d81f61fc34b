"""Log-likelihoods over large vocabularies, for the training loss and for the scores of choices.

Logits are as large as the vocabulary: n positions of Gemma 3 take a megabyte each. A copy in newly mapped memory
costs as much time as the model's output embedding, so none is made: sums over the vocabulary are taken a few rows at a
time, which stay in the processor's cache, and the gradient overwrites the logits.
"""

from typing import Any

import torch
from torch import Tensor

# Values in the rows that are summed at once: 4 MiB of float32. A GPU needs fewer, larger chunks.
_CACHED, _ON_GPU = 1 << 20, 1 << 28


def _pieces(logits: Tensor) -> int:
    """Rows to work on at once."""
    return max(1, (_ON_GPU if logits.is_cuda else _CACHED) // logits.shape[1])


def _log_partition(logits: Tensor) -> Tensor:
    """Log Σ exp of every row, (m,)."""
    return torch.cat([part.logsumexp(-1) for part in logits.split(_pieces(logits))])


def log_likelihoods(logits: Tensor, at: Tensor, tokens: Tensor) -> Tensor:
    """Log p of tokens, in nats.

    Args:
        logits: float32 (m, vocabulary), of m positions.
        at: int64 (n,), the row of `logits` that each token is read from.
        tokens: int64 (n,).

    Returns:
        float64 (n,) in main memory, so that logits which differ in their last bit still give different values; Apple's GPUs
        have no float64.
    """
    return logits[at, tokens].cpu().double() - _log_partition(logits)[at].cpu().double()


def cross_entropy(logits: Tensor, at: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy summed over all predictions, in nats: a scalar. Its backward pass overwrites the logits.

    Args:
        logits: float32 (m, vocabulary or classes), of m positions; overwritten by the backward pass.
        at: int64 (n,), the row of `logits` that each prediction is read from.
        labels: int64 (n,).
    """
    total: Tensor = _CrossEntropy.apply(logits, at, labels)
    return total


class _CrossEntropy(torch.autograd.Function):
    """The sum, and its gradient in place: softmax times the number of predictions of a row, less one at each label."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, at: Tensor, labels: Tensor) -> Tensor:
        partition = _log_partition(logits)
        ctx.save_for_backward(logits, partition, at, labels)
        return (partition[at] - logits[at, labels]).sum()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        logits, partition, at, labels = ctx.saved_tensors
        (grad,) = grads
        weights = torch.bincount(at, minlength=len(logits)).to(logits) * grad
        size = _pieces(logits)
        for part, log_sum, weight in zip(logits.split(size), partition.split(size), weights.split(size), strict=True):
            part.sub_(log_sum[:, None]).exp_().mul_(weight[:, None])
        logits.index_put_((at, labels), -grad.expand(len(at)), accumulate=True)
        return logits, None, None
