"""`adamergex predict`: a run's adapter on rows without labels."""

from typing import Annotated

import typer

from adamergex.cli.options import DeviceOption
from adamergex.terminal import Terminal, interruptible


def predict(
    adapter: Annotated[
        str,
        typer.Argument(
            metavar="RUN|ADAPTER",
            help="The folder of a run, or of an adapter with its adamergex.json; or a published one, user/name on the hub.",
            show_default=False,
        ),
    ],
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE…",
            help="Rows: .csv, .tsv, .jsonl, .json, .parquet, .txt; - for standard input.",
            show_default=False,
        ),
    ],
    language: Annotated[
        str | None, typer.Option(metavar="CODE", help="Of the answers; needed where a run has several.")
    ] = None,
    task: Annotated[str | None, typer.Option(metavar="NAME", help="Of the run's; needed where it has several.")] = None,
    output: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Its ending is its format; - for standard output. By default FILE.predictions.EXT, beside FILE.",
        ),
    ] = None,
    calibrate: Annotated[
        bool | None,
        typer.Option(
            "--calibrate/--no-calibrate",
            help="Estimate the bias per label on the rows, without labels, or add the one saved with the adapter. By default on the "
            "rows, from 100 on.",
        ),
    ] = None,
    shares: Annotated[
        str | None,
        typer.Option(
            metavar="LABEL=SHARE,…",
            help="Label shares to calibrate to, or counts of a sample. By default the adapter's.",
        ),
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Add no bias.")] = False,
    columns: Annotated[
        str | None,
        typer.Option(metavar="COLUMN=NAME,…", help="What the prompt's columns are called in the files."),
    ] = None,
    delimiter: Annotated[
        str | None, typer.Option(metavar="CHAR", help="Of .csv and .tsv, where it is not found rightly.")
    ] = None,
    encoding: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of .csv, .tsv and .txt, where it is not found rightly.")
    ] = None,
    base_model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="In place of the one that the run had.")
    ] = None,
    device: DeviceOption = "auto",
    batch_size: Annotated[int, typer.Option(metavar="N", min=1, help="Sequences per forward pass.")] = 64,
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="Only the first N rows of each file.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an output that exists.")] = False,
    trust_remote_code: Annotated[
        bool,
        typer.Option("--trust-remote-code", help="Run Python code that comes with the base model; read it before."),
    ] = False,
) -> None:
    """Answer rows that have no labels; an interrupted command goes on where it was.

    adamergex predict runs/quickstart commands.csv
    """
    from adamergex.data import detection
    from adamergex.inference import delivered, usage
    from adamergex.inference.answer_jobs import prepared
    from adamergex.inference.row_file import Reading, named_columns
    from adamergex.inference.rows_calibration import Wish, stated
    from adamergex.progress import display

    folder = delivered.find(adapter, language, task)
    used = usage.read(folder)
    wish = Wish(calibrate, None if shares is None else stated(shares, used.task.labels), raw)
    detection.check_options(delimiter, encoding)
    names = {} if columns is None else named_columns(columns, used.task)
    reading = Reading(used.language, names, delimiter, encoding)
    jobs = prepared(used, files, output, wish, reading=reading, overwrite=overwrite, limit=limit)
    from adamergex.inference.answer_files import answer
    from adamergex.inference.predictor import predictor

    console = Terminal(stderr=True)
    again = all(job.looked is not None and job.output is not None for job in jobs)
    try:
        with interruptible("run the same command again to go on" * again), display(console) as shown:
            shown.stage(f"base model {base_model or used.base_model}")
            loaded = predictor(
                folder,
                base_model=base_model,
                batch_size=batch_size,
                device=device,
                trust_remote_code=trust_remote_code,
            )
            shown.end()
            for job in jobs:
                console.print(answer(loaded, job, wish, shown), soft_wrap=True)
    except BrokenPipeError:
        # Whoever read the output has seen enough.
        raise typer.Exit(1) from None
