"""The option `--device`."""

from typing import Annotated

import typer

from adamergex.models.device_names import DeviceName

DeviceOption = Annotated[
    DeviceName, typer.Option(help="Where models compute; auto: a CUDA or ROCm GPU where there is one, else the CPU.")
]
