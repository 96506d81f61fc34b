"""The processes of a run: one, or several that `accelerate launch` started.

Every process walks through all stages. What is trained is trained by all of them together; everything else
is made by the first one while the others wait.
"""

import atexit
import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from adamergex.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
# While one process builds a corpus or scores, the others wait; it must not look like a failure.
_PATIENCE = timedelta(days=7)


class Processes:
    """How many processes there are and which one this is, from the environment that the launcher sets.

    Attributes:
        count: how many.
        rank: this one's number, from 0.
        split_the_model: whether the base model is sharded over them, so that all must use it at once (`models.fsdp`).

    Raises:
        ModelError: the launcher was configured to shard the base model by other than FSDP2.
    """

    def __init__(self) -> None:
        self.count = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        self.split_the_model = _is_split() and self.count > 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and speaks to the user."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """This process's part of work that needs no other process, every count-th item; all items if the model is sharded."""
        return items if self.split_the_model else items[self.rank :: self.count]

    def joined(self, shares: list[list[T]], total: int) -> list[T]:
        """Results of the processes for their shares, in the order of the items.

        Args:
            shares: of each process (`gathered`).
            total: how many items there were.
        """
        return shares[0] if self.split_the_model else [shares[i % self.count][i // self.count] for i in range(total)]

    @cached_property
    def _group(self) -> Any:
        """The process group; torch is imported only where there is one."""
        import accelerate
        import torch

        # Without a GPU, Accelerate creates a process group only with cpu=True.
        group = accelerate.PartialState(cpu=not torch.cuda.is_available(), timeout=_PATIENCE)
        if group.num_processes != self.count:
            raise ModelError(
                f"{self.count} processes were started, but {group.num_processes} found each other; "
                "start them with accelerate launch or torchrun"
            )
        # A process group that is not destroyed may abort the process at exit.
        atexit.register(_leave)
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
        return accelerate.utils.broadcast_object_list([value])[0]

    def gathered(self, value: T) -> list[T]:
        """Every process's value, in the order of their ranks, on every process."""
        if self.count == 1:
            return [value]
        import accelerate.utils

        _ = self._group
        return accelerate.utils.gather_object([value])

    def average(self, tensors: "list[Tensor]") -> None:
        """Replace each tensor by its mean over all processes, in one all-reduce."""
        import accelerate.utils
        import torch

        means = accelerate.utils.reduce(torch.cat([tensor.flatten() for tensor in tensors]), "mean")
        for tensor, mean in zip(tensors, means.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))

    def first_does(self, work: Callable[[], T]) -> T:
        """What the first process's work returns, on every process; the others wait, and fail where it fails.

        Raises:
            Exception: what `work` raised, on every process.
        """
        value: T | None = None
        problem: Exception | None = None
        if self.is_first:
            try:
                value = work()
            except Exception as error:
                problem = error
        value, problem = self.agreed((value, problem))
        if problem is not None:
            raise problem
        return value  # type: ignore[return-value]  # The first process made it.


def _leave() -> None:
    import gc

    import torch

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    # What still holds a group would end its threads too late, when the interpreter is gone.
    gc.collect()


@cache
def _is_split() -> bool:
    """Whether Accelerate's launcher was told to use FSDP2. Raises ModelError where it was told something else."""

    def requested(engine: str) -> bool:
        return os.environ.get(f"ACCELERATE_USE_{engine}", "").lower() == "true"

    if requested("DEEPSPEED"):
        raise ModelError(
            "accelerate launch: DeepSpeed is not supported; FSDP splits the base model, too: distributed_type: FSDP and "
            "fsdp_version: 2 in Accelerate's configuration file"
        )
    if not requested("FSDP"):
        return False
    if os.environ.get("FSDP_VERSION", "1") != "2":
        raise ModelError(
            f"accelerate launch: FSDP version {os.environ.get('FSDP_VERSION', '1')}; expected 2: set fsdp_version: 2 in "
            "Accelerate's configuration file"
        )
    # Otherwise Accelerate and transformers would shard the model again, with the adapter.
    del os.environ["ACCELERATE_USE_FSDP"]
    return True
