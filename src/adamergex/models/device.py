"""The device that a model runs on, and how its memory is allocated."""

import ctypes
import sys

import torch


def default_device() -> torch.device:
    """This process's GPU where there is one, else the CPU."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


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
