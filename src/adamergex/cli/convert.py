"""`adamergex convert`: an adapter's weights as safetensors."""

from pathlib import Path
from typing import Annotated

import typer

from adamergex.storage.files import expanded
from adamergex.terminal import say


def convert(
    folder: Annotated[
        Path,
        typer.Argument(
            readable=False, metavar="DIR", help="A PEFT folder with adapter_model.bin, or shards.", show_default=False
        ),
    ],
    output: Annotated[
        Path, typer.Option(readable=False, metavar="DIR", help="The folder to write.", show_default=False)
    ],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an adapter that is there.")] = False,
) -> None:
    """Write an adapter's weights as safetensors; of a pickle tensors alone are read, and no code is run.

    adamergex convert old-lora --output old-lora-safetensors
    """
    from adamergex.adapters.conversion import convert as written

    read = written(expanded(folder), output, overwrite)
    say(f"{'converted':20} {', '.join(read)}")
    say(f"{'adapter':20} {output}")
