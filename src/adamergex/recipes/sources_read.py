"""What is told of how a recipe's labelled data are read: lines within quotes, samples, languages that stand for others."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from adamergex.data import tables
from adamergex.data.files import paths
from adamergex.data.formats import kind
from adamergex.data.readers import format_of
from adamergex.data.settings import Source
from adamergex.tasks import benchmarks, loading
from adamergex.tasks.task import Task


def told(used: Iterable[tuple[Task, Source, str]], folder: Path) -> list[str]:
    """What is told of sources, a line each, each once.

    Args:
        used: a task, one of its sources, and the language that it is read in.
        folder: what relative paths are relative to.

    Raises:
        DataError: a file is missing or malformed.
    """
    return list(dict.fromkeys(line for task, source, language in used for line in _of(task, source, language, folder)))


def _of(task: Task, source: Source, language: str, folder: Path) -> Iterator[str]:
    name = loading.name(source, language)
    if source.benchmark is not None and (note := benchmarks.find(source.benchmark).note(language)):
        yield note
    if source.limit is not None:
        yield f"{name}: {loading.limited(source, task.answer if task.choices else None)}"
    filled = source.in_language(language)
    for path in paths(filled, folder) if source.files else ():
        if kind(path) in (".csv", ".tsv"):
            rows, lines = tables.lines_in_quotes(path, format_of(filled))
            if rows != lines:
                yield (
                    f"{path}: {rows:,} rows, its header among them, stand on {lines:,} lines, as line breaks stand in quotes; where "
                    "quotes are characters of the text, write quotes: false"
                )
