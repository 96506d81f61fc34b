"""Corpora that a thread makes while an adapter trains."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adamergex.data import corpus
from adamergex.errors import DataError
from adamergex.pipeline.run import run as run_recipe
from adamergex.progress import Silent
from adamergex.recipes import loading


class Waiting(Silent):
    """Holds the first step of the task's training until something has happened, and remembers what was begun."""

    def __init__(self, happened: Callable[[], bool]) -> None:
        self.happened, self.begun = happened, list[str]()
        self.seen = False

    def stage(self, name: str) -> None:
        if name.startswith("["):
            self.begun.append(name.split()[1])

    def step(self, done: int, total: int, tokens: int = 0, loss: float | None = None) -> None:
        if self.begun[-1] != "adapters/task-en" or self.seen:
            return
        until = time.monotonic() + 30
        while not (self.seen or time.monotonic() > until):
            self.seen = self.happened()
            time.sleep(0.01)


def run(path: Path, shown: Silent) -> None:
    loaded = loading.load(str(path), [])
    run_recipe(loaded, folder=path.parent, output=path.parent / "run", display=shown)


def test_corpora_are_made_while_the_task_is_learned(own_data: Callable[..., Path]) -> None:
    path = own_data()
    corpora = [path.parent / "run" / f"data/corpus-{language}/stage.json" for language in ("en", "es")]
    shown = Waiting(lambda: all(corpus.is_file() for corpus in corpora))
    run(path, shown)
    assert shown.seen


def test_a_corpus_that_fails_stops_the_run_before_the_next_adapter(
    own_data: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a file is changed after it was looked at."""

    path, real = own_data(), corpus.build

    def fails(texts: Any, tokenizer: Any, folder: Path, *more: Any, **options: Any) -> Any:
        if folder.is_relative_to(path.parent / "run"):
            raise DataError("corpus of en: the file was changed")
        return real(texts, tokenizer, folder, *more, **options)

    monkeypatch.setattr(corpus, "build", fails)
    shown = Waiting(lambda: threading.active_count() > 0)
    with pytest.raises(DataError, match="corpus of en: the file was changed"):
        run(path, shown)
    assert "adapters/reference-en" not in shown.begun
    assert not (path.parent / "run/.work/partial").exists()


def test_an_interrupted_run_stops_its_thread(own_data: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = own_data()
    reading = threading.Event()

    def endless(*args: object) -> object:
        reading.set()
        while True:
            yield f"paragraph {time.monotonic_ns()}"

    def interrupt() -> bool:
        if reading.is_set():
            raise KeyboardInterrupt
        return False

    # The look before the run reads the first text only.
    monkeypatch.setattr("adamergex.data.sources.texts", endless)
    monkeypatch.setattr("adamergex.data.corpus.build", lambda found, *args, **more: [None for _ in found])
    reading.clear()
    with pytest.raises(KeyboardInterrupt):
        run(path, Waiting(interrupt))
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("prefetch")]
    assert not (path.parent / "run/data/corpus-en").exists()
    assert not (path.parent / "run/.work/partial").exists()
