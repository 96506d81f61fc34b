"""The option `--device`."""

from enum import StrEnum
from typing import Annotated

import typer


class Device(StrEnum):
    """Where models compute."""

    auto = "auto"
    cuda = "cuda"
    mps = "mps"
    cpu = "cpu"


DeviceOption = Annotated[
    Device, typer.Option(help="Where models compute; auto: a CUDA or ROCm GPU where there is one, else the CPU.")
]
