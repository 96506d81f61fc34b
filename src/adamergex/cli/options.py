"""Options of several commands."""

from typing import Annotated

import typer

from adamergex.models.device_names import DeviceName

DeviceOption = Annotated[
    DeviceName, typer.Option(help="Where models compute; auto: a CUDA or ROCm GPU where there is one, else the CPU.")
]
StoreOption = Annotated[
    str | None,
    typer.Option(
        metavar="STORE",
        envvar="ADAMERGEX_STORE",
        help="A folder, or a URL such as s3://bucket/path: finished stages are taken from it and put there.",
        show_default=False,
    ),
]
