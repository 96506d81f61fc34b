"""Whole runs on a tiny model: what is written, what is skipped, and what a kill leaves behind."""

import errno
import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers

from adamergex.adapters import adapter
from adamergex.errors import RecipeError, StorageError
from adamergex.execution.run_folder import RunFolder
from adamergex.merging.merge import merge
from adamergex.pipeline.run import run as run_recipe
from adamergex.progress import Silent
from adamergex.recipes import loading
from adamergex.storage import files

STAGES = [
    "data/task-es-test",
    "data/task-en-train",
    "data/task-es-train",
    "checks/overlap-es",
    "adapters/task-en",
    "data/corpus-en",
    "adapters/reference-en",
    "data/corpus-es",
    "adapters/reference-es",
    "merged/es/adamergex",
    "predictions/es/adamergex",
    "calibration/es/adamergex",
    "predictions/es/base",
    "calibration/es/base",
    "predictions/es/source-adapter",
    "calibration/es/source-adapter",
    "adapters/task-es",
    "predictions/es/ceiling",
    "calibration/es/ceiling",
    "delivered/es",
]
MERGED = ["merged/es/adamergex", "predictions/es/adamergex", "calibration/es/adamergex", "delivered/es"]


class Seen(Silent):
    """Remembers which stages were made."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.skipped: list[str] = []

    def stage(self, name: str) -> None:
        if name.startswith("["):
            self.made.append(name.split()[1])

    def skip(self, name: str) -> None:
        self.skipped.append(name.split()[1])


def run(path: Path, *overrides: str, output: str = "run") -> tuple[Sequence[Any], Seen]:
    seen = Seen()
    loaded = loading.load(str(path), overrides)
    return run_recipe(loaded, folder=path.parent, output=path.parent / output, display=seen), seen


def contents(folder: Path, pattern: str = "**/*") -> dict[str, bytes]:
    """Every file but those that say how long a step took and how much memory there was."""
    files = [
        path
        for path in folder.glob(pattern)
        if path.is_file() and path.name not in (".lock", ".files.json", "training.png", "report.html")
    ]
    found = {str(path.relative_to(folder)): path.read_bytes() for path in files}
    for name, content in found.items():
        if name.endswith("training.jsonl"):
            rows = [json.loads(line) for line in content.splitlines()]
            found[name] = json.dumps([row | {"seconds": 0, "memory": 0} for row in rows]).encode()
        if name.endswith("stage.json"):
            mark = json.loads(content)
            mark["files"].pop("training.jsonl", None)
            found[name] = json.dumps(mark).encode()
    return found


def test_a_run_does_every_stage_once_and_a_second_run_none(
    own_data: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = own_data()
    rows, seen = run(path)
    assert seen.made == STAGES
    before = contents(path.parent / "run")

    def refuse(*args: object) -> None:
        raise AssertionError("the base model was loaded for a finished run")

    monkeypatch.setattr("adamergex.models.resident.ResidentModel.__init__", refuse)
    again, seen = run(path)
    assert (seen.made, seen.skipped) == ([], STAGES)
    assert again == rows
    assert contents(path.parent / "run") == before


def test_rows_and_files_say_the_same(own_data: Callable[..., Path]) -> None:
    path = own_data()
    rows, _ = run(path)
    folder = path.parent / "run"
    assert [row.method for row in rows] == ["base", "source-adapter", "adamergex", "ceiling"]
    assert [json.loads(line)["score"] for line in (folder / "scores.jsonl").read_text().splitlines()] == [
        r.score for r in rows
    ]
    for row in rows:
        lines = (folder / "predictions/es" / row.method / "predictions.jsonl").read_text().splitlines()
        assert sum(json.loads(line)["scores"]["accuracy"] for line in lines) == row.score * row.items
        assert len(lines) == row.items == 8
    text = (folder / "report.md").read_text()
    assert "merged (t = 0.5)" in text
    assert re.search(r"es: merging changed accuracy by [+-]\d+\.\d points", text)
    # How sequences lay in a batch, once for all trainings and once for all scorings, and why.
    for what in ("training", "scoring"):
        (said,) = re.findall(rf"sequences of a batch in {what}: (.*)", text)
        assert said.startswith("shared beginnings (tried on a small float32 LlamaForCausalLM")


def test_the_merged_folder_is_the_merge_of_the_three_and_loads_in_peft(
    own_data: Callable[..., Path], tiny_model: Path
) -> None:
    path = own_data()
    run(path)
    folder = path.parent / "run"
    merged = adapter.load(folder / "merged/es/adamergex")
    names = ("task-en", "reference-es", "reference-en")
    task, target, source = (adapter.load(folder / "adapters" / name) for name in names)
    expected = merge(task, target, source, 0.5, rank=2)
    assert all(torch.equal(merged.tensors[name], expected.tensors[name]) for name in expected.tensors)
    base = transformers.AutoModelForCausalLM.from_pretrained(tiny_model)
    loaded = peft.PeftModel.from_pretrained(base, folder / "merged/es/adamergex")
    assert loaded.peft_config["default"].r == 2
    card = (folder / "merged/es/adamergex/README.md").read_text()
    assert card.startswith("---\nbase_model: ")
    for stage in ("task-en", "reference-es", "reference-en"):
        assert files.sha256(folder / "adapters" / stage / adapter.WEIGHTS) in card


def test_adapters_of_a_run_share_their_start(own_data: Callable[..., Path]) -> None:
    """With a learning rate of nearly nothing, all adapters are the start they were trained from."""
    path = own_data()
    run(path, "train.learning_rate=1e-30")
    folder = path.parent / "run" / "adapters"
    task, *others = [
        adapter.load(folder / name).tensors for name in ("task-en", "reference-en", "reference-es", "task-es")
    ]
    assert all(torch.equal(task[name], other[name]) for other in others for name in task if ".lora_A." in name)


@pytest.mark.parametrize(
    ("override", "made"),
    [
        ("merge.scale=0.1", MERGED),
        # It is no row of the table; its bias is estimated all the same.
        ("merge.method=factor-space", [name.replace("adamergex", "factor-space") for name in MERGED]),
        ("merge.rank=exact", MERGED),
        ("evaluate.methods=[base, source-adapter, adamergex]", ["checks/overlap-es"]),
        (
            "reference.positions=4",
            ["adapters/reference-en", "adapters/reference-es", *MERGED],
        ),
    ],
)
def test_a_change_redoes_what_it_touches_and_no_more(
    own_data: Callable[..., Path], override: str, made: list[str]
) -> None:
    path = own_data()
    run(path)
    _, seen = run(path, override)
    assert seen.made == made


def test_changed_data_is_noticed(own_data: Callable[..., Path]) -> None:
    path = own_data()
    run(path)
    test = path.parent / "data/test.es.jsonl"
    test.write_text(test.read_text().replace("test 0", "test zero"))
    _, seen = run(path)
    assert seen.made == [
        "data/task-es-test",
        "checks/overlap-es",
        *(name for name in STAGES if name.startswith(("predictions", "calibration"))),
    ]


def test_without_labelled_items_the_adapter_is_still_made(own_data: Callable[..., Path]) -> None:
    path = own_data()
    rows, seen = run(path, "task.test=null", "evaluate.methods=[base]")
    assert rows == []
    assert seen.made == ["data/task-en-train", *STAGES[4:10], "delivered/es"]


def test_answers_without_choices_are_generated(own_data: Callable[..., Path]) -> None:
    path = own_data()
    rows, _ = run(path, "task.choices=null", "evaluate.max_new_tokens=4")
    assert all(row.items == 8 for row in rows)


KILL_AT = [
    "adapters/task-en: begins",
    "adapters/reference-en: done",
    "merged/es/adamergex: begins",
    "predictions/es/base: begins",
]


def test_killed_runs_end_with_the_bytes_of_an_undisturbed_one(own_data: Callable[..., Path]) -> None:
    """SIGKILL at several moments, one after the other, in one run folder."""
    path = own_data()
    run(path, output="undisturbed")
    command = [sys.executable, "-u", "-m", "adamergex", "run", str(path), "--output", str(path.parent / "killed")]
    for moment in KILL_AT:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert process.stdout is not None
        for line in process.stdout:
            if moment in line:
                break
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, moment
    _, seen = run(path, output="killed")
    assert "adapters/task-en" in seen.skipped
    assert "predictions/es/base" in seen.made
    assert contents(path.parent / "killed") == contents(path.parent / "undisturbed")


def test_what_a_kill_leaves_half_written_is_not_taken_for_done(own_data: Callable[..., Path]) -> None:
    path = own_data()
    run(path)
    folder = path.parent / "run"
    expected = contents(folder)
    # Killed between building and renaming, between the two renames, and before the mark was written.
    work = folder / ".work/partial/adapters"
    (work / "task-en").mkdir(parents=True)
    (work / "reference-es").mkdir()
    (folder / "adapters/task-en").rename(work / "task-en/new")
    (folder / "adapters/reference-es").rename(work / "reference-es/old")
    (folder / "merged/es/adamergex/stage.json").unlink()
    lost = contents(folder, "merged/es/adamergex/*")
    _, seen = run(path)
    assert seen.made == ["adapters/task-en", "adapters/reference-es", "merged/es/adamergex"]
    # What has no list of its files may be anybody's.
    assert contents(folder) == expected | {f"set-aside/{name}": content for name, content in lost.items()}


def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(
    own_data: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = own_data()

    folder = path.parent / "run"

    def full(self: object, *args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(folder / "there"))

    with monkeypatch.context() as patch:
        patch.setattr("adamergex.pipeline.stages.items.write_jsonl", full)
        with pytest.raises(StorageError, match="run/there: no space left on the disk"):
            run(path)
    # A thread may have made the corpora by then.
    left = {name for name in contents(folder) if not name.startswith("data/corpus-")}
    # How the run stood when it ended stays, for `adamergex status`.
    assert left == {"recipe.yaml", ".work/events.jsonl"}
    assert not (folder / ".work/partial").exists()
    with monkeypatch.context() as patch:
        patch.setattr("adamergex.adapters.tensor_file._write_all", full)
        with pytest.raises(StorageError, match="no space left on the disk"):
            run(path)
    assert not (folder / "adapters").exists()
    names = {entry.name for entry in folder.iterdir()}
    assert names == {".files.json", ".lock", ".work", "checks", "data", "recipe.yaml"}
    _, seen = run(path)
    assert [name for name in seen.made if "corpus" not in name] == [name for name in STAGES[4:] if "corpus" not in name]


def test_a_full_rank_merge_leaves_later_trainings_alone(own_data: Callable[..., Path]) -> None:
    """The slot goes to rank 6 for the exact merge, and back to rank 2 for the ceiling."""
    path = own_data()
    run(path)
    rows, _ = run(path, "merge.rank=exact", output="exact")
    assert [row.method for row in rows][-1] == "ceiling"
    assert adapter.load(path.parent / "exact/merged/es/adamergex").config["r"] == 6
    pattern = "adapters/*/adapter_*"
    assert contents(path.parent / "exact", pattern) == contents(path.parent / "run", pattern)


def test_a_moved_base_model_is_another_base_model(own_data: Callable[..., Path], tiny_model: Path) -> None:
    path = own_data()
    run(path)
    shutil.copytree(tiny_model, path.parent / "moved")
    _, seen = run(path, f"base_model={path.parent / 'moved'}")
    assert "adapters/task-en" in seen.made
    assert "merged/es/adamergex" in seen.made


def test_the_report_of_other_settings_does_not_outlive_a_cut_off_run(
    own_data: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = own_data()
    run(path)
    assert (path.parent / "run/report.md").exists()

    def interrupt(*args: object, **more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("adamergex.training.train.train", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(path, "train.learning_rate=1e-5")
    assert not (path.parent / "run/report.md").exists()


def test_two_runs_do_not_share_a_folder(own_data: Callable[..., Path]) -> None:
    path = own_data()
    with RunFolder(path.parent / "run").held(), pytest.raises(StorageError, match="another run is at work"):
        run(path)


def test_every_data_problem_is_reported_before_anything_runs(own_data: Callable[..., Path]) -> None:
    path = own_data()
    (path.parent / "data/text.es.txt").write_text("\n\n")
    (path.parent / "data/test.es.jsonl").write_text('{"text": "x", "label": "neutral"}\n')
    (path.parent / "data/train.en.jsonl").unlink()
    with pytest.raises(RecipeError) as caught:
        run(path)
    text = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 3
    assert "train.en.jsonl: no such file" in text
    assert "test.es.jsonl:1: unknown label 'neutral'; task.choices has pos, neg" in text
    assert "corpus of es: holds no text" in text
    assert not (path.parent / "run").exists()


def test_training_items_are_not_scored_on(own_data: Callable[..., Path]) -> None:
    path = own_data()
    (path.parent / "data/train.es.jsonl").write_text((path.parent / "data/test.es.jsonl").read_text())
    with pytest.raises(RecipeError, match="8 of 8 scored items stand in train, too"):
        run(path)


def test_a_corpus_below_the_budget_is_refused_with_the_number_that_fits(own_data: Callable[..., Path]) -> None:
    path = own_data()
    with pytest.raises(RecipeError, match=r"set reference\.tokens to \d+"):
        run(path, "reference.tokens=100000")
    # Nothing was trained in vain.
    assert not (path.parent / "run/adapters").exists()
