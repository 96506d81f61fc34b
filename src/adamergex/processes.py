"""The processes of a run: one, or several that `accelerate launch` started.

Every process walks through all stages. What is trained is trained by all of them together; everything else
is made by the first one while the others wait.
"""

import os
from collections.abc import Callable
from datetime import timedelta
from functools import cached_property
from typing import Any, TypeVar

from adamergex.errors import ModelError

T = TypeVar("T")
# While one process builds a corpus or scores, the others wait; it must not look like a failure.
_PATIENCE = timedelta(days=7)


class Processes:
    """How many processes there are and which one this is, from the environment that the launcher sets.

    Attributes:
        count: how many.
        rank: this one's number, from 0.
    """

    def __init__(self) -> None:
        self.count = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and speaks to the user."""
        return self.rank == 0

    @cached_property
    def _group(self) -> Any:
        """The process group; torch is imported only where there is one.

        Raises:
            ModelError: Accelerate is set up for something that this package does not do.
        """
        import accelerate

        group = accelerate.PartialState(timeout=_PATIENCE)
        kind = str(os.environ.get("ACCELERATE_USE_FSDP") or os.environ.get("ACCELERATE_USE_DEEPSPEED") or "false")
        if group.num_processes != self.count or kind.lower() == "true":
            raise ModelError(
                f"accelerate launch: expected {self.count} processes that each hold the whole base model, got "
                f"{group.distributed_type}; FSDP and DeepSpeed, which split it, are not supported: use quantization, "
                "gradient_checkpointing and micro_batch where memory is short"
            )
        return group

    def wait(self) -> None:
        """Until all processes are here."""
        if self.count > 1:
            self._group.wait_for_everyone()

    def agreed(self, value: T) -> T:
        """The first process's value, on every process."""
        if self.count == 1:
            return value
        import accelerate.utils

        self._group.wait_for_everyone()
        return accelerate.utils.broadcast_object_list([value])[0]  # type: ignore[no-any-return]

    def gathered(self, value: T) -> list[T]:
        """Every process's value, in the order of their ranks, on every process."""
        if self.count == 1:
            return [value]
        import accelerate.utils

        _ = self._group
        return accelerate.utils.gather_object([value])  # type: ignore[no-any-return]

    def first_does(self, work: Callable[[], None]) -> None:
        """Work of the first process; the others wait, and fail where it fails.

        Raises:
            Exception: what `work` raised, on every process.
        """
        problem: Exception | None = None
        if self.is_first:
            try:
                work()
            except Exception as error:
                problem = error
        problem = self.agreed(problem)
        if problem is not None:
            raise problem
