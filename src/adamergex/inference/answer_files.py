"""Files of rows → the same rows with answers: a chunk after the other, resumed where it was cut off, whole or not at all."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from adamergex import __version__
from adamergex.data import writers
from adamergex.data.formats import Row
from adamergex.errors import DataError
from adamergex.inference import journal_folder
from adamergex.inference.answer_jobs import PREDICTION, PROBABILITY, READABLE, Job, added, refuse_to_replace
from adamergex.inference.chunk_journal import Chunk, ChunkJournal
from adamergex.inference.predictor import Answer, Predictor
from adamergex.inference.row_file import CHUNK, Looked
from adamergex.inference.rows_calibration import Calibrating, Wish
from adamergex.inference.usage import Usage
from adamergex.progress import Display
from adamergex.storage.files import sha256, storage, sync
from adamergex.terminal import put


def filled(usage: Usage, answer: Answer, bias: np.ndarray | None) -> dict[str, Any]:
    """The columns of an answer; probabilities to six decimals."""
    labels = usage.task.labels
    if not labels:
        both = {PREDICTION: answer.prediction, READABLE: answer.readable}
        return {name: both[name] for name in added(usage)}
    label, values = answer.biased(labels, bias)
    probabilities = dict(zip(labels, (round(float(value), 6) for value in values), strict=True))
    row: dict[str, Any] = {PREDICTION: label, PROBABILITY: probabilities[label]}
    return row | {f"p({name})": value for name, value in probabilities.items()}


def answer(predictor: Predictor, job: Job, wish: Wish, display: Display, chunk: int = CHUNK) -> str:
    """Answer the rows of a job and write them, and say in a line what was done.

    Args:
        predictor: the adapter.
        job: of `answer_jobs.prepared`.
        wish: of calibration.
        display: where progress is shown.
        chunk: rows that are answered together.

    Raises:
        AdaMergeXError: a problem that the user can fix; there is no output then, and what was answered is kept beside it.
    """
    with _folder(job) as folder:
        return _Work(predictor, job, wish, display, chunk, folder).done()


@contextmanager
def _folder(job: Job) -> Iterator[Path]:
    """A folder for what is answered and for the output while it is written; beside the output, where it outlives a kill."""
    if job.output is None:
        with TemporaryDirectory() as temporary:
            yield Path(temporary)
        return
    with journal_folder.held(job.output) as folder:
        yield folder


class _Work:
    """One job at work."""

    def __init__(self, predictor: Predictor, job: Job, wish: Wish, display: Display, chunk: int, folder: Path):
        self._predictor, self._job, self._display = predictor, job, display
        self._chunk, self._folder = chunk, folder
        self._calibrating = Calibrating(predictor.usage, wish, job.looked.count if job.looked else None)
        self._raw = wish.raw
        self._count = self._shortened = 0

    def done(self) -> str:
        """Answer, write, and say what was done."""
        self._display.stage(self._job.name)
        if self._job.looked is not None and self._job.rows.is_text and self._job.looked.count == 1:
            self._display.warn(
                f"{self._job.rows.name} is a single paragraph, and so a single row; part rows by empty lines"
            )
        if self._job.looked is None:
            self._write(self._answered(None), self._saved())
        else:
            journal = ChunkJournal(self._folder, self._key(self._job.looked), self._display.warn)
            bias = self._own_bias(journal)
            self._write(self._answered(journal), bias)
        self._display.end()
        cut = f"; {self._shortened:,} were too long and lost a part of a column" if self._shortened else ""
        form = f" ({words})" if (words := self._job.rows.form_in_words) else ""
        return f"{self._job.name}: {self._count:,} rows{form}{cut}; {self._calibrating.sentence()}"

    def _key(self, looked: Looked) -> str:
        parts = [__version__, self._predictor.key, looked.digest, looked.count, self._job.rows.key, self._chunk]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def _saved(self) -> np.ndarray | None:
        return None if self._raw else self._predictor.usage.bias

    def _own_bias(self, journal: ChunkJournal) -> np.ndarray | None:
        """Answer all rows, and return the bias that will be added: theirs, the saved one, or none."""
        sample = self._calibrating.sample() if self._calibrating.on_rows else np.array([], np.int64)
        scores: list[tuple[float, ...]] = []
        start = 0
        for rows, chunk in self._answered(journal):
            first, behind = np.searchsorted(sample, [start, start + len(rows)])
            scores += [chunk.answers[number - start].scores for number in sample[first:behind]]
            start += len(rows)
        return self._calibrating.bias(scores) if scores else self._saved()

    def _answered(self, journal: ChunkJournal | None) -> Iterator[tuple[list[Row], Chunk]]:
        """All rows with their answers, as they are made or as the journal has them."""
        self._count = self._shortened = 0
        for number, rows in enumerate(self._job.rows.chunks(self._chunk)):
            found = journal.read(number, len(rows)) if journal else None
            if found is None:
                found = self._chunk_of(rows, number, journal)
            self._count += len(rows)
            self._shortened += found.shortened
            yield rows, found

    def _chunk_of(self, rows: list[Row], number: int, journal: ChunkJournal | None) -> Chunk:
        before = self._count
        total = self._job.looked.count if self._job.looked else 0
        items = [self._job.rows.item(location, row) for location, row in rows]
        begun = journal.begun(number) if journal else None
        found = Chunk(
            *self._predictor.answers(
                items, lambda done, of: self._display.step(before + done, max(total, before + of)), begun
            )
        )
        if journal:
            journal.write(number, found)
        return found

    def _write(self, answered: Iterator[tuple[list[Row], Chunk]], bias: np.ndarray | None) -> None:
        """Write all rows with their answers; to a file at once."""
        job, usage = self._job, self._predictor.usage
        columns = added(usage)
        with self._writing(columns) as write:
            for rows, chunk in answered:
                if job.looked is None:
                    job.rows.refuse_added(rows, columns)
                pairs = zip(rows, chunk.answers, strict=True)
                write([{**row, **filled(usage, answer, bias)} for (_, row), answer in pairs])

    @property
    def _delimiter(self) -> str | None:
        """Of a table: that of the rows, where they are one of the same ending."""
        return self._job.rows.form.delimiter if self._job.ending == self._job.rows.ending else None

    @contextmanager
    def _writing(self, columns: Mapping[str, type]) -> Iterator[writers.Write]:
        job = self._job
        if job.output is None:
            yield _to_standard_output
            return
        partial = journal_folder.partial(self._folder)
        looked = job.looked or Looked(0, (), "")
        schema = None if looked.schema is None else writers.extended(looked.schema, columns)
        with storage(job.output):
            names = (*looked.columns, *columns)
            with writers.writing(
                partial, job.ending, names, mark=looked.mark, schema=schema, delimiter=self._delimiter
            ) as write:
                yield write
            if job.looked is not None and sha256(job.rows.path) != looked.digest:
                raise DataError(f"{job.rows.name}: was changed while it was read; run the same command again")
            sync(partial)
            if not job.overwrite:
                # Somebody may have made it in the meantime.
                refuse_to_replace(job.output)
            journal_folder.put(self._folder, job.output)
            sync(job.output.parent)


def _to_standard_output(rows: writers.Rows) -> None:
    lines = BytesIO()
    writers.json_lines(lines, rows)
    put(lines.getvalue())
