"""`adamergex fuse`: a base model with an adapter folded in."""

import warnings as python_warnings
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from adamergex.cli.merge import ADAPTER
from adamergex.terminal import Terminal, interruptible, say


class Dtype(StrEnum):
    """What weights can be stored in."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


def fuse(
    adapter: Annotated[
        str, typer.Argument(metavar="RUN|ADAPTER", help=f"The folder of a run, or {ADAPTER}.", show_default=False)
    ],
    output: Annotated[
        Path, typer.Option(readable=False, metavar="DIR", help="The folder of the whole model.", show_default=False)
    ],
    language: Annotated[
        str | None, typer.Option(metavar="CODE", help="Of the adapter; needed where a run has several.")
    ] = None,
    task: Annotated[str | None, typer.Option(metavar="NAME", help="Of the run's; needed where it has several.")] = None,
    base_model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="In place of the one that the adapter names.")
    ] = None,
    dtype: Annotated[
        Dtype | None, typer.Option(help="To store weights in.  [default: the base model's]", show_default=False)
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a fused model that is there.")] = False,
    trust_remote_code: Annotated[
        bool,
        typer.Option("--trust-remote-code", help="Run Python code that comes with the base model; read it before."),
    ] = False,
) -> None:
    """Fold an adapter into its base model: a whole model, which needs no PEFT.

    adamergex fuse runs/quickstart --output model-sl
    """
    from adamergex.progress import display
    from adamergex.sharing import fused_folder

    # Notices of the libraries' own are not the user's business.
    python_warnings.filterwarnings("ignore")
    console = Terminal()
    with interruptible("nothing was written"), display(console) as shown:
        shown.stage("base model")
        request = fused_folder.prepared(
            adapter,
            output,
            language=language,
            task=task,
            base_model=base_model,
            overwrite=overwrite,
            trust_remote_code=trust_remote_code,
        )
        shown.end()
        shown.stage("fuse")
        facts = fused_folder.put(request, output, dtype, overwrite=overwrite)
        shown.end()
    for line in fused_folder.warnings(facts):
        say(f"warning: {line}", error=True)
    rows = {
        "base model": facts["base_model"],
        "adapter": f"{facts['adapter']}, {facts['structure']}",
        "dtype": facts["dtype"],
    }
    for key, value in (rows | {"fused model": output}).items():
        console.print(f"{key:20} {value}", soft_wrap=True)
