"""One data set → one adapter, on the resident base model."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import transformers

from adamergex.adapter import Adapter
from adamergex.errors import ModelError
from adamergex.model import Example, Workbench
from adamergex.recipe import Schedule, Train

# Batches are cut from pools of this many batches, sorted by length: little padding, and still random.
_POOL = 16


@dataclass(frozen=True)
class Step:
    """One optimizer step: its number from 1, of how many, the mean loss in nats, the learning rate, and tokens read."""

    step: int
    steps: int
    loss: float
    learning_rate: float
    tokens: int


def train(
    workbench: Workbench,
    examples: Callable[[int], Sequence[Example]],
    settings: Train,
    schedule: Schedule,
    seed: int,
    on_step: Callable[[Step], None] = lambda step: None,
) -> Adapter:
    """Train an adapter from the run's seeded start.

    The result depends on the arguments alone, not on what the workbench held before.

    Args:
        workbench: its slot is overwritten.
        examples: the examples of an epoch, counted from 0; the same number in each.
        settings: optimizer settings.
        schedule: epochs and batch size.
        seed: of the start, the order and dropout.
        on_step: called after every step.

    Raises:
        ModelError: the loss or the adapter is no longer finite, or a sequence exceeds the model's context.
    """
    of_epoch = examples(0)
    longest = max(len(example.ids) for example in of_epoch)
    if workbench.context is not None and longest > workbench.context:
        raise ModelError(
            f"a training sequence has {longest} tokens, the model's context {workbench.context}; "
            "shorten the longest rows or lower reference.window"
        )
    workbench.start(seed)
    torch.manual_seed(seed)
    order = random.Random(seed)
    parameters = workbench.trainable()
    steps = schedule.epochs * -(-len(of_epoch) // schedule.batch_size)
    optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    scheduler = transformers.get_scheduler(
        settings.schedule, optimizer, num_warmup_steps=round(settings.warmup_ratio * steps), num_training_steps=steps
    )
    workbench.model.train()
    step = 0
    for epoch in range(schedule.epochs):
        if epoch > 0:
            of_epoch = examples(epoch)
        for batch in _batches(of_epoch, schedule.batch_size, order):
            chosen = [of_epoch[i] for i in batch]
            loss = workbench.loss(chosen)
            step += 1
            if not torch.isfinite(loss):
                raise ModelError(f"the loss is {loss.item()} at step {step} of {steps}; lower train.learning_rate")
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm)
            rate = scheduler.get_last_lr()[0]
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad(set_to_none=True)
            on_step(Step(step, steps, loss.item(), rate, sum(len(example.ids) for example in chosen)))
    workbench.model.eval()
    if not all(torch.isfinite(parameter).all() for parameter in parameters):
        raise ModelError(f"the adapter is not finite after the last of {steps} steps; lower train.learning_rate")
    return workbench.adapter()


def _batches(examples: Sequence[Example], size: int, order: random.Random) -> list[list[int]]:
    """All indices once, in random batches of like lengths, in random order."""
    indices = list(range(len(examples)))
    order.shuffle(indices)
    batches = []
    for start in range(0, len(indices), size * _POOL):
        pool = sorted(indices[start : start + size * _POOL], key=lambda i: len(examples[i].ids))
        batches += [pool[i : i + size] for i in range(0, len(pool), size)]
    order.shuffle(batches)
    return batches
