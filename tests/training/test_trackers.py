"""Experiment trackers: what they are told, and that none of them ends a run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from accelerate import tracking

from adamergex.errors import RecipeError
from adamergex.pipeline.run import finish
from adamergex.progress import Silent
from adamergex.recipes import loading
from adamergex.training import trackers
from adamergex.training.trackers import Trackers


class Recording:
    """Stands in for a tracker of Accelerate's, and keeps what it is told."""

    runs: ClassVar[list["Recording"]] = []

    def __init__(self, project: str, **given: Any):
        self.project, self.given, self.logged = project, given, list[tuple[int, dict[str, float]]]()
        self.settings: dict[str, Any] = {}
        self.calls: list[str] = []

    def start(self) -> None:
        self.runs.append(self)
        self.calls.append("start")

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.settings = values

    def log(self, values: dict[str, float], step: int) -> None:
        self.logged.append((step, values))

    def finish(self) -> None:
        self.calls.append("finish")


class Failing(Recording):
    def log(self, values: dict[str, float], step: int) -> None:
        raise OSError("no route to host\nand more of it")


class Warned(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def warn(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    Recording.runs = []
    monkeypatch.setattr(trackers, "find_spec", lambda name: name)
    monkeypatch.setattr(tracking, "WandBTracker", Recording)
    monkeypatch.setattr(tracking, "TrackioTracker", Recording)


@pytest.mark.usefixtures("installed")
def test_each_training_is_a_run_with_its_curve_and_the_scores_are_one(own_data: Callable[..., Path]) -> None:
    path = own_data()
    output = path.parent / "run"
    finished = finish(loading.load(str(path), ["track=[wandb]"]), path.parent, output)
    by_name = {one.given["name"]: one for one in Recording.runs}
    trained = ["adapters/task-en", "adapters/reference-en", "adapters/reference-es", "adapters/task-es"]
    assert set(by_name) == {*trained, "scores"}
    for name in trained:
        rows = [json.loads(line) for line in (output / name / "training.jsonl").read_text().splitlines()]
        logged = by_name[name].logged
        assert [(step, values["loss"]) for step, values in logged] == [(row["step"], row["loss"]) for row in rows]
        assert by_name[name].calls == ["start", "finish"]
    one = by_name["adapters/task-en"]
    assert (one.project, one.given["dir"], one.settings["seed"]) == ("own", str(output), 0)
    ((step, scores),) = by_name["scores"].logged
    assert step == 0
    for row in finished.report.rows:
        assert scores[f"{row.language}/{row.method}/{row.metric}"] == row.score
    # Nothing is told twice.
    Recording.runs = []
    finish(loading.load(str(path), ["track=[wandb]"]), path.parent, output)
    assert Recording.runs == []


@pytest.mark.usefixtures("installed")
def test_a_tracker_that_fails_is_left_out_and_the_run_goes_on(
    own_data: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "WandBTracker", Failing)
    path, display = own_data(), Warned()
    finished = finish(
        loading.load(str(path), ["track=[wandb, trackio]"]), path.parent, path.parent / "run", display=display
    )
    assert finished.report.rows
    assert [line for line in display.lines if "wandb" in line] == [
        "wandb failed, and is left out from here on: no route to host"
    ]
    names = [(type(one), one.given["name"]) for one in Recording.runs]
    assert names.count((Failing, "adapters/task-en")) == 1
    assert len([one for one, _ in names if one is Failing]) == 1
    assert {name for one, name in names if one is Recording} >= {"adapters/task-en", "adapters/reference-es", "scores"}


def test_a_training_that_goes_on_has_its_steps_once_in_tensorboard(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for steps in ((1, 2, 3), (1, 2, 3, 4)):
        with Trackers(["tensorboard"], "own", tmp_path, pytest.fail).run("adapters/task-en") as log:
            for step in steps:
                log(step, {"loss": 1 / step})
    (events,) = [path for path in (tmp_path / "tensorboard").rglob("*") if path.is_file()]
    found = EventAccumulator(str(events)).Reload()
    assert [(one.step, round(1 / one.value)) for one in found.Scalars("loss")] == [(1, 1), (2, 2), (3, 3), (4, 4)]


def test_one_that_is_not_installed_is_named_before_anything_runs(
    own_data: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    path = own_data()
    with pytest.raises(RecipeError) as caught:
        finish(loading.load(str(path), ["track=[tensorboard, trackio]"]), path.parent, path.parent / "run")
    assert caught.value.problems == [
        "track: tensorboard is not installed; run: pip install 'adamergex[tensorboard]'",
        "track: trackio is not installed; run: pip install 'adamergex[trackers]'",
    ]
    assert not (path.parent / "run").exists()
    with pytest.raises(RecipeError, match="track"):
        loading.load(str(path), ["track=[sacred]"])


def test_nothing_is_opened_for_a_training_of_which_nothing_is_logged(tmp_path: Path) -> None:
    told: list[str] = []
    with Trackers(["wandb"], "p", tmp_path, told.append).run("adapters/a"):
        pass
    assert (told, list(tmp_path.iterdir())) == ([], [])
