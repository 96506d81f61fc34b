"""One data set → one adapter, on the resident base model, by one process or several."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from adamergex.adapters.adapter import Adapter
from adamergex.distributed import Processes
from adamergex.errors import ModelError
from adamergex.models.encoded import EncodedExample, EncodedExamples, dealt, random_batches, sizes
from adamergex.models.layout_probe import LayoutChoice
from adamergex.models.machine import memory_in_use
from adamergex.models.resident import ResidentModel
from adamergex.training.settings import Schedule, Train
from adamergex.training.state import Best, Clock, State


@dataclass(frozen=True)
class Step:
    """One optimizer step.

    Attributes:
        step: its number from 1.
        steps: of how many.
        loss: mean over the step's predictions, in nats.
        learning_rate: that the step was made with.
        tokens: read, padding not counted, over all processes.
        seconds: it took.
        memory: resident memory of this process, or of its GPU, at most so far; in MiB.
    """

    step: int
    steps: int
    loss: float
    learning_rate: float
    tokens: int
    seconds: float
    memory: int


@dataclass(frozen=True)
class Trained:
    """What a training made.

    Attributes:
        adapter: of the last step, or with early stopping of the step with the lowest held-out loss.
        log: a row for every step: the fields of Step.
        heldout: mean held-out loss in nats before and after, and how many predictions it is over; None without any.
        best_step: the step that the adapter is from.
        layout: how sequences were arranged in batches, and why.
    """

    adapter: Adapter
    log: list[dict[str, Any]]
    heldout: dict[str, float] | None
    best_step: int
    layout: LayoutChoice


def train(
    resident: ResidentModel,
    examples: Callable[[int], EncodedExamples],
    settings: Train,
    schedule: Schedule,
    seed: int,
    *,
    learning_rate: float = 2e-4,
    heldout: EncodedExamples | None = None,
    on_step: Callable[[Step], None] = lambda step: None,
    on_resumed: Callable[[list[Step]], None] = lambda steps: None,
    checkpoint: Path | None = None,
    processes: Processes | None = None,
    warn: Callable[[str], None] = lambda text: None,
) -> Trained:
    """Train an adapter from the run's seeded initial weights.

    The result depends on the arguments alone: not on the adapter that was loaded before, nor on a checkpoint, and on
    the number of processes only by rounding.

    Args:
        resident: its adapter is overwritten.
        examples: the examples of an epoch, counted from 0; the same number in each.
        settings: optimizer settings.
        schedule: epochs and batch size.
        seed: of initial weights, order and dropout.
        learning_rate: the peak of the schedule.
        heldout: examples to measure the loss on, before and after.
        on_step: called after every step.
        on_resumed: called once, with the steps that an earlier process did, where there are any.
        checkpoint: a file to resume from if it exists, and to write regularly.
        processes: that train together.
        warn: told in a line that the checkpoint is damaged, and the training begins anew.

    Raises:
        ModelError: the loss or the adapter is no longer finite, or a sequence exceeds the model's context.
    """
    told = on_step, on_resumed
    return _Training(
        resident, examples, settings, schedule, seed, learning_rate, heldout, told, checkpoint, processes, warn
    ).run()


class _Training:
    """The state of one training, between its steps."""

    def __init__(
        self,
        resident: ResidentModel,
        examples: Callable[[int], EncodedExamples],
        settings: Train,
        schedule: Schedule,
        seed: int,
        learning_rate: float,
        heldout: EncodedExamples | None,
        told: tuple[Callable[[Step], None], Callable[[list[Step]], None]],
        checkpoint: Path | None,
        processes: Processes | None,
        warn: Callable[[str], None],
    ):
        self.resident, self.examples, self.settings, self.schedule = resident, examples, settings, schedule
        self.seed, self.heldout, (self.on_step, self.on_resumed) = seed, heldout, told
        self.processes = processes or Processes()
        self.of_epoch = examples(0)
        self.lengths = sizes(self.of_epoch)
        self._check_lengths([] if heldout is None else sizes(heldout))
        resident.model.eval()
        resident.start(seed)
        self.layout = resident.layout(settings.packing)
        torch.manual_seed(seed)
        self.parameters = resident.trainable()
        for parameter in self.parameters:
            parameter.grad = None  # An interrupted training may have left some.
        self.of_one_epoch = math.ceil(len(self.lengths) / schedule.batch_size)
        self.steps = schedule.epochs * self.of_one_epoch
        # Accelerate's state is global and keeps the first precision; a later training may have another.
        AcceleratorState._reset_state()
        self.accelerator = Accelerator(cpu=resident.device.type == "cpu", mixed_precision=settings.precision or "no")
        self._prepare(learning_rate)
        self.state = State(
            self.parameters, self.optimizer, self.scheduler, self.accelerator, checkpoint, self.processes, warn
        )
        self.clock = Clock(settings.checkpoint_seconds)
        self.save_is_due = False
        self.log: list[dict[str, Any]] = []
        self.best = Best()
        self.before: float | None = None

    def _prepare(self, learning_rate: float) -> None:
        """The optimizer, and the model as all processes share it."""
        settings, model = self.settings, self.resident.model
        optimizer = torch.optim.AdamW(self.parameters, lr=learning_rate, weight_decay=settings.weight_decay)
        # A sharded model needs no DistributedDataParallel.
        self.model = model if self.processes.split_the_model else self.accelerator.prepare(model)
        self.optimizer = self.accelerator.prepare(optimizer)
        # The scheduler is stepped here, once for each optimizer step, however many processes there are.
        self.scheduler = transformers.get_scheduler(
            settings.schedule,
            optimizer,
            num_warmup_steps=round(settings.warmup_ratio * self.steps),
            num_training_steps=self.steps,
        )
        if settings.gradient_checkpointing:
            base = model.get_base_model()
            base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})

    def _check_lengths(self, heldout: list[int]) -> None:
        if self.resident.kind == "classes":
            # Labelled items were made to fit, and one may have a sequence for each choice.
            return
        longest, context = max([*self.lengths, *heldout]), self.resident.context
        if self.resident.kind == "seq2seq":
            # Encoder and decoder have a context each; labelled items were made to fit.
            first = self.of_epoch[0]
            longest = max(len(first.source), len(first.ids) - 1)
        if context is not None and longest > context:
            raise ModelError(
                f"a training sequence has {longest} tokens, the model's context {context}; lower reference.window"
            )

    def run(self) -> Trained:
        """All steps that are not done yet."""
        done = self.state.load()
        if done is not None:
            self.log, self.best, self.before = done["log"], Best(**done["best"]), done["before"]
        elif self.heldout is not None and len(self.heldout):
            self.before = self._heldout_loss()
        if self.log:
            self.on_resumed([Step(**row) for row in self.log])
        step = len(self.log)
        self.resident.model.train()
        epoch, batches = -1, []
        while step < self.steps and not self._stopped():
            if step // self.of_one_epoch != epoch:
                epoch = step // self.of_one_epoch
                self.of_epoch = self.examples(epoch) if epoch else self.of_epoch
                batches = random_batches(self.lengths, self.schedule.batch_size, f"{self.seed} {epoch}")
            self._step(step + 1, [self.of_epoch[i] for i in batches[step % self.of_one_epoch]])
            step += 1
            self._measure(step)
            if self.save_is_due and step < self.steps:
                self._save()
        return self._end(step)

    def _step(self, number: int, batch: list[EncodedExample]) -> None:
        """One optimizer step: gradients of the mean over all predictions of the batch, whoever computes them."""
        began = time.monotonic()
        total = sum(example.predictions for example in batch)
        *parts, last = dealt(batch, self.processes.rank, self.processes.count, self.settings.micro_batch or len(batch))
        mean = 0.0
        for part, weight in parts:
            with self.accelerator.no_sync(self.model):
                mean += self._backward(part, weight / total)
        mean += self._backward(last[0], last[1] / total)
        if self.processes.split_the_model:
            # As DistributedDataParallel does for a model that is not sharded.
            self.processes.average([parameter.grad for parameter in self.parameters if parameter.grad is not None])
        # Saving is done together: the first process's clock counts.
        gathered = self.processes.gathered((mean, self.clock.is_due()))
        loss, self.save_is_due = sum(share for share, _ in gathered), gathered[0][1]
        if not math.isfinite(loss):
            ids = ", ".join(example.id for example in batch[:8]) + (" …" if len(batch) > 8 else "")
            raise ModelError(
                f"the loss is {loss} at step {number} of {self.steps} (examples {ids}); lower train.learning_rate"
            )
        self.accelerator.clip_grad_norm_(self.parameters, self.settings.max_grad_norm)
        rate = self.scheduler.get_last_lr()[0]
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad()
        tokens = sum(example.size for example in batch)
        seconds = round(time.monotonic() - began, 4)
        step = Step(number, self.steps, loss, rate, tokens, seconds, memory_in_use(self.resident.device))
        self.log.append(asdict(step))
        self.on_step(step)

    def _backward(self, part: list[EncodedExample], weight: float) -> float:
        """Add a part's gradients, and return its share of the loss."""
        with self.accelerator.autocast():
            loss = self.resident.loss(part, self.model, self.layout.layout) * weight
        # Processes average their gradients; multiplying by their number gives the sum.
        self.accelerator.backward(loss * self.processes.count)
        return float(loss.detach())

    def _measure(self, step: int) -> None:
        """With early stopping: the held-out loss every so often, and the best adapter so far."""
        stopping = self.settings.early_stopping
        if stopping is None or self.heldout is None or not len(self.heldout):
            return
        if step % stopping.every == 0 or step == self.steps:
            self.best.see(self._heldout_loss(), step, self.parameters)
            self.resident.model.train()

    def _stopped(self) -> bool:
        stopping = self.settings.early_stopping
        return stopping is not None and self.best.worse >= stopping.patience

    def _heldout_loss(self) -> float:
        """Mean loss over the predictions of all held-out examples."""
        assert self.heldout is not None
        examples = [self.heldout[i] for i in range(len(self.heldout))]
        size = self.settings.micro_batch or self.schedule.batch_size
        self.resident.model.eval()
        loss = 0.0
        with torch.no_grad(), self.accelerator.autocast():
            for part, weight in dealt(examples, self.processes.rank, self.processes.count, size):
                loss += weight * float(self.resident.loss(part, layout=self.layout.layout))
        return sum(self.processes.gathered(loss)) / sum(example.predictions for example in examples)

    def _save(self) -> None:
        self.state.save({"log": self.log, "best": self.best.as_dict(), "before": self.before})

    def _end(self, step: int) -> Trained:
        self.best.restore(self.parameters)
        model = self.resident.model
        if self.settings.gradient_checkpointing:
            model.get_base_model().gradient_checkpointing_disable()
        model.eval()
        self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        self.accelerator.free_memory()
        if not all(torch.isfinite(parameter).all() for parameter in self.parameters):
            raise ModelError(f"the adapter is not finite after step {step} of {self.steps}; lower train.learning_rate")
        heldout = None
        if self.before is not None and self.heldout is not None:
            after = self.best.loss if self.best.step else self._heldout_loss()
            predictions = sum(self.heldout[i].predictions for i in range(len(self.heldout)))
            heldout = {"before": self.before, "after": after, "predictions": predictions}
        return Trained(self.resident.adapter(), self.log, heldout, self.best.step or step, self.layout)
