"""Sums over the vocabulary, piece by piece, and the gradient that is written over the logits."""

import pytest
import torch
from torch.nn import functional

from adamergex.models import likelihood

torch.manual_seed(0)
LOGITS = 5 * torch.randn(7, 300, dtype=torch.float64)
# Some positions predict several tokens, the same one among them; one predicts none.
AT = torch.tensor([0, 1, 1, 1, 3, 4, 5, 6, 6])
LABELS = torch.tensor([3, 9, 9, 40, 299, 0, 1, 2, 7])


@pytest.mark.parametrize("cached", [1, 700, 1 << 20], ids=["a row at a time", "two rows", "all at once"])
def test_the_loss_and_its_gradient_are_pytorch_s(cached: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likelihood, "_CACHED", cached)
    plain = LOGITS.clone().requires_grad_()
    expected = functional.cross_entropy(plain[AT], LABELS, reduction="sum")
    (0.5 * expected).backward()
    hidden = LOGITS.clone().requires_grad_()
    loss = likelihood.cross_entropy(hidden * 1.0, AT, LABELS)
    (0.5 * loss).backward()
    assert abs(loss.item() - expected.item()) < 1e-12 * expected.item()
    assert plain.grad is not None
    assert hidden.grad is not None
    assert torch.allclose(hidden.grad, plain.grad, rtol=0, atol=1e-14)


def test_the_gradient_takes_no_memory_beside_the_logits() -> None:
    logits = LOGITS.clone().requires_grad_() * 1.0
    places: list[int] = []
    logits.register_hook(lambda grad: places.append(grad.data_ptr()))
    likelihood.cross_entropy(logits, AT, LABELS).backward()
    assert places == [logits.data_ptr()]


def test_log_likelihoods_are_pytorch_s() -> None:
    found = likelihood.log_likelihoods(LOGITS, AT, LABELS)
    assert torch.allclose(found, LOGITS.log_softmax(-1)[AT, LABELS], rtol=0, atol=1e-13)
    everything = likelihood.log_likelihoods(LOGITS, torch.zeros(300, dtype=torch.int64), torch.arange(300))
    assert abs(everything.exp().sum().item() - 1) < 1e-12
