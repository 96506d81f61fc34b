"""What is to be answered, as a user names it → jobs, checked before a model is loaded. Imports no torch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from adamergex.data import formats
from adamergex.errors import RecipeError
from adamergex.inference import journal_folder
from adamergex.inference.row_file import FOUND, STANDARD, Looked, Reading, RowFile
from adamergex.inference.rows_calibration import Calibrating, Wish
from adamergex.inference.usage import Usage
from adamergex.storage.outputs import refuse_link, resolved

PREDICTION, PROBABILITY, READABLE = "prediction", "probability", "readable"


def added(usage: Usage) -> dict[str, type]:
    """The columns of an answer, in their order, and the type of their values.

    `prediction`; for labels its `probability`, and `p(LABEL)` of each label; for numbers whether one was `readable`.
    """
    columns: dict[str, type] = {PREDICTION: str}
    if usage.task.labels:
        columns |= {PROBABILITY: float} | {f"p({label})": float for label in usage.task.labels}
    elif usage.task.kind == "number":
        columns[READABLE] = bool
    return columns


@dataclass(frozen=True)
class Job:
    """Rows, and where they go with their answers.

    Attributes:
        rows: to be answered.
        output: the file; None for standard output.
        overwrite: whether a file that is there already is replaced.
        looked: what a look at the rows has shown; None where they can be read only once.
    """

    rows: RowFile
    output: Path | None
    overwrite: bool = False
    looked: Looked | None = None

    @property
    def ending(self) -> str:
        """The ending of the output that is its format."""
        return ".jsonl" if self.output is None else _ending(self.output)

    @property
    def name(self) -> str:
        """Of the output, for messages."""
        return "standard output" if self.output is None else str(self.output)


def prepared(
    usage: Usage,
    names: Sequence[str],
    output: str | None,
    wish: Wish,
    *,
    reading: Reading = FOUND,
    overwrite: bool = False,
    limit: int | None = None,
) -> list[Job]:
    """Look at all files before a model is loaded.

    Args:
        usage: of the adapter.
        names: files, or `-` for standard input.
        output: the file to write, or `-`; None for one beside each input.
        wish: of calibration.
        reading: how files are read.
        overwrite: whether a file that is there already is replaced.
        limit: of rows, the first ones of each file.

    Raises:
        DataError: a file is missing, or a row is not as it should be.
        RecipeError: an option is not what is expected, or an output exists.
        StorageError: an output is a symbolic link.
    """
    if len(set(names)) < len(names):
        raise RecipeError([f"{next(name for name in names if names.count(name) > 1)}: is given twice"])
    if len(names) > 1 and (output is not None or STANDARD in names):
        raise RecipeError(["--output and standard input are for one file; give one, or leave out --output"])
    jobs = []
    for name in names:
        rows = RowFile(name, usage.task, reading, limit)
        wish.check(usage, not rows.is_standard)
        job = Job(rows, _output(rows, output, overwrite), overwrite)
        if not rows.is_standard:
            job = replace(job, looked=rows.look(added(usage), job.ending == ".parquet"))
            assert job.looked is not None
            Calibrating(usage, wish, job.looked.count).sentence()
        jobs.append(job)
    return jobs


def _ending(path: Path) -> str:
    """The ending of a file that can be written. Raises RecipeError where it is of no such format."""
    found = formats.ending(path)
    if found not in formats.WRITTEN:
        expected = [one for one in formats.KINDS if one in formats.WRITTEN]
        raise RecipeError(
            [f"--output {path}: unknown format; expected one of {', '.join(expected)}, or {formats.COMPRESSED}"]
        )
    return found


def _output(rows: RowFile, given: str | None, overwrite: bool) -> Path | None:
    """Where a file's rows go. Raises RecipeError where they cannot."""
    if given == STANDARD or (given is None and rows.is_standard):
        return None
    path = Path(given) if given is not None else _beside(rows)
    resolved(path)
    refuse_link(path)
    journal_folder.clear(path)
    ending = _ending(path)
    if rows.is_standard and formats.parts(ending)[0] != ".jsonl":
        raise RecipeError([f"--output {path}: rows of standard input are JSON lines; expected .jsonl, or .jsonl.gz"])
    if path.is_dir():
        raise RecipeError([f"--output {path}: is a folder; expected a file"])
    if path.exists() and not rows.is_standard and path.samefile(rows.path):
        raise RecipeError([f"--output {path}: is the file of the rows; give another one"])
    if not overwrite:
        refuse_to_replace(path)
    return path


def refuse_to_replace(path: Path) -> None:
    """Check that there is no file yet. Raises RecipeError where there is."""
    if path.exists():
        raise RecipeError([f"{path}: exists already; give another --output, or replace it with --overwrite"])


def _beside(rows: RowFile) -> Path:
    """`reviews.predictions.csv` for `reviews.csv`; plain text, which has no columns, becomes JSON lines."""
    name = rows.path.name[: -len(rows.ending)]
    return rows.path.with_name(f"{name}.predictions{'.jsonl' if rows.is_text else rows.ending}")
