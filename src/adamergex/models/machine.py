"""The machine that a model would run on: its device, memory and cores."""

from dataclasses import dataclass

import psutil
import torch

from adamergex.models.device import default_device


@dataclass(frozen=True)
class Machine:
    """What there is to compute with.

    Attributes:
        device: cuda or cpu, as runs use it.
        name: of the device; empty for a CPU.
        device_memory: of the GPU, in bytes; None without one.
        memory: of the machine, in bytes.
        free_memory: of that, what is available now, in bytes.
        cores: that this process may use.
    """

    device: str
    name: str
    device_memory: int | None
    memory: int
    free_memory: int
    cores: int

    @property
    def model_memory(self) -> int:
        """The memory that a model has to fit into, in bytes."""
        return self.memory if self.device_memory is None else self.device_memory


def machine() -> Machine:
    """Look at this machine."""
    memory, device = psutil.virtual_memory(), default_device()
    name, device_memory = "", None
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        name, device_memory = properties.name, properties.total_memory
    process = psutil.Process()
    cores = len(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else psutil.cpu_count() or 1
    return Machine(device.type, name, device_memory, memory.total, memory.available, cores)


def memory_in_use(device: torch.device) -> int:
    """Memory in use, in MiB: of the device if it is a GPU, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) >> 20
    return int(psutil.Process().memory_info().rss) >> 20
