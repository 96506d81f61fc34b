"""Settings of training: schedule, optimizer, batches, precision."""

from typing import Literal

from pydantic import Field

from adamergex.storage.yaml_model import Section


class Schedule(Section):
    """Epochs and batch size of one kind of adapter."""

    epochs: int = Field(3, ge=1)
    batch_size: int = Field(16, ge=1, description="sequences per optimizer step, over all processes")


class ReferenceSchedule(Schedule):
    """That of the reference adapters: plain text is read once, whatever else is set."""

    epochs: int = Field(1, ge=1)


class EarlyStopping(Section):
    """Stop when the held-out loss no longer falls, and keep the best adapter."""

    every: int = Field(50, ge=1, description="optimizer steps between two measurements")
    patience: int = Field(3, ge=1, description="measurements without a new best before training stops")


class Train(Section):
    """AdamW with warm-up and decay; the defaults are the paper's."""

    learning_rate: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="2e-4 for LoRA, the paper's; 3e-2 for (IA)³, 3e-1 for prefixes"
    )
    schedule: Literal["cosine", "linear", "constant_with_warmup"] = "cosine"
    warmup_ratio: float = Field(0.05, ge=0, le=1)
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    task: Schedule = Schedule()
    reference: ReferenceSchedule = ReferenceSchedule()
    max_length: int | None = Field(
        None,
        ge=8,
        description="tokens of a labelled item; the longest column of a longer one is cut. The model's context",
    )
    micro_batch: int | None = Field(
        None, ge=1, description="sequences per forward pass and process, where batch_size needs too much memory"
    )
    precision: Literal["bf16", "fp16"] | None = Field(None, description="automatic mixed precision, for GPUs")
    gradient_checkpointing: bool = Field(False, description="compute activations twice to save memory")
    packing: bool = Field(False, description="several sequences in one row, which do not see each other")
    early_stopping: EarlyStopping | None = None
    checkpoint_seconds: float = Field(60, ge=0, description="time between two checkpoints of a training; 0: every step")
