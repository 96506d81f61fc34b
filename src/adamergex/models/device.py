"""The device that a model runs on, and how its memory is allocated."""

import ctypes
import os
import platform
import sys
from pathlib import Path

import torch

from adamergex.errors import ModelError
from adamergex.models.device_names import DeviceName


def device(name: DeviceName) -> torch.device:
    """The device of a name; `auto` is this process's CUDA or ROCm GPU where there is one, else the CPU.

    Raises:
        ModelError: torch has no such device here.
    """
    if name == "auto":
        return default_device()
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available[name]:
        there = ", ".join(one for one, is_there in available.items() if is_there)
        raise ModelError(f"device {name}: torch {torch.__version__} finds none on this machine; it has {there}")
    return torch.device("cuda", torch.cuda.current_device()) if name == "cuda" else torch.device(name)


def default_device() -> torch.device:
    """This process's GPU where there is one, else the CPU."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def described(name: DeviceName) -> str:
    """A device by what its speed depends on: the name of the GPU, or of the processor with the number of threads."""
    try:
        found = device(name)
    except ModelError:
        return name
    if found.type == "cuda":
        return torch.cuda.get_device_name(found)
    return f"{_processor()}, {found.type}, {torch.get_num_threads()} threads"


def _processor() -> str:
    """The processor's name, or its architecture where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def gpus() -> list[str]:
    """This machine's GPUs as `CUDA_VISIBLE_DEVICES` calls them; of those that this process may see."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return visible.split(",")[:count] if visible else [str(number) for number in range(count)]


def keep_freed_memory() -> None:
    """Ask glibc to keep large freed blocks for the next step instead of returning them to the kernel.

    Logits over a large vocabulary take hundreds of megabytes, and a fresh mapping of that size costs a page
    fault for every 4 KiB: without this a training step on the CPU spends about a tenth of its time in them.
    Does nothing with another C library.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        m_trim_threshold, m_mmap_threshold = -1, -3
        mallopt(m_mmap_threshold, 1 << 30)
        mallopt(m_trim_threshold, (1 << 31) - 1)
