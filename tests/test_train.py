import math

import pytest
import torch

from adamergex.encode import for_training, windows_for_training
from adamergex.errors import ModelError
from adamergex.model import Example, Workbench
from adamergex.recipe import Schedule, Train
from adamergex.tasks import Item
from adamergex.train import Step, _batches, train

ITEMS = [Item(str(i), f"{'xyz' * (i % 4)} {i}:", (" yes", " no")[i % 2]) for i in range(12)]


def test_the_answer_and_the_end_of_sequence_are_learned_and_nothing_else(workbench: Workbench) -> None:
    example = for_training(workbench.tokenizer, [Item("1", "ab:", " yes")])[0]
    ids = workbench.tokenizer.encode("ab: yes")
    assert example.ids == [*ids, workbench.tokenizer.eos_token_id]
    assert example.targets == [4, 5, 6, 7, 8]


def test_training_depends_on_its_arguments_alone(workbench: Workbench) -> None:
    encoded = for_training(workbench.tokenizer, ITEMS)
    settings, schedule = Train(learning_rate=1e-2), Schedule(epochs=2, batch_size=4)
    first = train(workbench, lambda epoch: encoded, settings, schedule, 0)
    train(workbench, lambda epoch: encoded[:3], settings, schedule, 5)
    second = train(workbench, lambda epoch: encoded, settings, schedule, 0)
    assert all(torch.equal(first.tensors[name], second.tensors[name]) for name in first.tensors)
    third = train(workbench, lambda epoch: encoded, settings, schedule, 1)
    assert any(not torch.equal(first.tensors[name], third.tensors[name]) for name in first.tensors)


def test_training_learns(workbench: Workbench) -> None:
    steps: list[Step] = []
    encoded = for_training(workbench.tokenizer, ITEMS)
    train(
        workbench, lambda epoch: encoded, Train(learning_rate=2e-2), Schedule(epochs=15, batch_size=4), 0, steps.append
    )
    assert [step.step for step in steps] == list(range(1, 46))
    assert steps[-1].loss < steps[0].loss / 2


def test_the_first_step_is_adamw_written_out(workbench: Workbench) -> None:
    """One step of AdamW moves every B by the learning rate against the sign of its clipped gradient."""
    encoded = for_training(workbench.tokenizer, ITEMS)
    workbench.start(0)
    workbench.model.train()
    loss = workbench.loss(encoded)
    gradients = torch.autograd.grad(loss, workbench.trainable())
    workbench.model.eval()
    norm = math.sqrt(sum(float(g.square().sum()) for g in gradients))
    schedule = Train(learning_rate=1e-2, schedule="constant_with_warmup", warmup_ratio=0)
    trained = train(workbench, lambda epoch: encoded, schedule, Schedule(epochs=1, batch_size=12), 0)
    for (name, tensor), gradient in zip(trained.tensors.items(), gradients, strict=True):
        if "lora_B" in name:
            g = gradient / max(norm, 1.0)
            assert torch.allclose(tensor, -1e-2 * g / (g.abs() + 1e-8), atol=1e-5)


def test_sampled_positions_are_seeded_new_in_each_epoch_and_never_the_first() -> None:
    windows = [list(range(100, 120))] * 3
    first = windows_for_training(windows, 5, seed=0, epoch=0)
    assert first == windows_for_training(windows, 5, seed=0, epoch=0)
    assert all(len(set(example.targets)) == 5 and min(example.targets) >= 1 for example in first)
    assert len({tuple(example.targets) for example in first}) > 1
    assert first != windows_for_training(windows, 5, seed=0, epoch=1)
    assert windows_for_training(windows, None, 0, 0)[0].targets == list(range(1, 20))


def test_a_loss_that_is_not_finite_stops_with_the_step(workbench: Workbench) -> None:
    encoded = [Example([1, 5, 6], [2])]

    last = [name for name, _ in workbench.model.named_parameters() if "down_proj.lora_B" in name][-1]

    def spoil(step: Step) -> None:
        if step.step == 2:
            workbench.model.get_parameter(last).data.fill_(math.nan)

    with pytest.raises(ModelError, match=r"the loss is nan at step 3 of 40; lower train\.learning_rate"):
        train(workbench, lambda epoch: encoded, Train(), Schedule(epochs=40), 0, spoil)


def test_every_example_is_in_one_batch_of_an_epoch() -> None:
    import random

    examples = [Example([1] * (i % 7 + 1), []) for i in range(53)]
    batches = _batches(examples, 4, random.Random(0))
    assert sorted(i for batch in batches for i in batch) == list(range(53))
    padding = sum(max(len(examples[i].ids) for i in b) * len(b) - sum(len(examples[i].ids) for i in b) for b in batches)
    assert padding <= 12
