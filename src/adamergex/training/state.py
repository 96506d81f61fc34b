"""The checkpoint of a training, in one file: a training resumed from it ends with the same bytes."""

import io
import math
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from adamergex.distributed import Processes
from adamergex.storage.files import storage, write_synced


class Clock:
    """Says when the next checkpoint is due."""

    def __init__(self, seconds: float):
        self._seconds, self._last = seconds, time.monotonic()

    def is_due(self) -> bool:
        """Whether so many seconds have gone by; the count begins anew when they have."""
        now = time.monotonic()
        if now - self._last < self._seconds:
            return False
        self._last = now
        return True


class Best:
    """The adapter with the lowest held-out loss so far.

    Attributes:
        loss: in nats.
        step: that it was measured after; 0 before the first measurement.
        worse: how many measurements there were since.
        tensors: the parameters then.
    """

    def __init__(
        self, loss: float = math.inf, step: int = 0, worse: int = 0, tensors: list[torch.Tensor] | None = None
    ):
        self.loss, self.step, self.worse, self.tensors = loss, step, worse, tensors or []

    def see(self, loss: float, step: int, parameters: list[torch.nn.Parameter]) -> None:
        """Take note of a measurement."""
        if loss < self.loss:
            tensors = [parameter.detach().clone() for parameter in parameters]
            self.loss, self.step, self.worse, self.tensors = loss, step, 0, tensors
        else:
            self.worse += 1

    def restore(self, parameters: list[torch.nn.Parameter]) -> None:
        """Set the parameters to the best ones, if any were measured."""
        for parameter, tensor in zip(parameters, self.tensors or parameters, strict=True):
            parameter.data.copy_(tensor)

    def as_dict(self) -> dict[str, Any]:
        """The attributes."""
        return {"loss": self.loss, "step": self.step, "worse": self.worse, "tensors": self.tensors}


class State:
    """Parameters, optimizer, scheduler, loss scale and random numbers of one training, saved and loaded as a whole.

    Args:
        parameters: the adapter's.
        optimizer: of them.
        scheduler: of its learning rate.
        accelerator: has the loss scale of fp16.
        path: the file; None to save nothing.
        processes: the first one writes, all read.
        warn: told in a line that the file is damaged, and dropped.
    """

    def __init__(
        self,
        parameters: list[torch.nn.Parameter],
        optimizer: Any,
        scheduler: Any,
        accelerator: Accelerator,
        path: Path | None,
        processes: Processes,
        warn: Callable[[str], None],
    ):
        self._parameters, self._optimizer, self._scheduler = parameters, optimizer, scheduler
        self._scaler, self._path, self._processes, self._warn = accelerator.scaler, path, processes, warn

    def save(self, facts: dict[str, Any]) -> None:
        """Write the file, beside its place and then renamed. Raises StorageError where the disk does not take it."""
        if self._path is None:
            return
        random = self._processes.gathered(_random_state())
        if not self._processes.is_first:
            return
        state = {
            "parameters": [parameter.detach().cpu() for parameter in self._parameters],
            "optimizer": self._optimizer.state_dict(),
            "scheduler": self._scheduler.state_dict(),
            "scaler": self._scaler.state_dict() if self._scaler is not None else None,
            "random": random,
            "facts": facts,
        }
        partial = self._path.with_suffix(".partial")
        with storage(self._path):
            try:
                # torch's own writer hides why a disk does not take it.
                content = io.BytesIO()
                torch.save(state, content)
                write_synced(partial, content.getbuffer())
                partial.replace(self._path)
            finally:
                partial.unlink(missing_ok=True)

    def load(self) -> dict[str, Any] | None:
        """Restore the state from the file, and return the facts that it was saved with; None where there is no whole file."""
        if self._path is None or not self._processes.first_does(self._is_whole):
            return None
        state = torch.load(self._path, map_location="cpu", weights_only=True)
        for parameter, tensor in zip(self._parameters, state["parameters"], strict=True):
            parameter.data.copy_(tensor)
        self._optimizer.load_state_dict(state["optimizer"])
        self._scheduler.load_state_dict(state["scheduler"])
        if self._scaler is not None and state["scaler"] is not None:
            self._scaler.load_state_dict(state["scaler"])
        _set_random_state(state["random"][self._processes.rank % len(state["random"])])
        facts: dict[str, Any] = state["facts"]
        return facts

    def _is_whole(self) -> bool:
        """Whether the file is there, and what was written; one that is not is removed."""
        assert self._path is not None  # Whoever asks has looked.
        with storage(self._path):
            if not self._path.is_file():
                return False
            try:
                # torch reads an archive without a look at its checksums.
                with zipfile.ZipFile(self._path) as archive:
                    damage = archive.testzip()
            except OSError:
                raise
            except Exception as error:  # whatever bytes that are no archive lead to
                damage = str(error)
            if damage is not None:
                self._path.unlink()
                self._warn(f"{self._path}: the checkpoint is damaged and dropped ({damage}); the training begins anew")
        return damage is None


def _random_state() -> list[torch.Tensor]:
    """Of torch's generators: the CPU's, then those of the GPUs."""
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [])]


def _set_random_state(state: list[torch.Tensor]) -> None:
    torch.set_rng_state(state[0])
    # With another number of GPUs the training is resumed all the same, with other dropout masks.
    if torch.cuda.is_available() and len(state) - 1 == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state[1:])
