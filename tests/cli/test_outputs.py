"""One rule for the output of every command: it is never a symbolic link; and what a killed `predict` leaves goes with the next."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from adamergex.adapters.adapter import WEIGHTS
from adamergex.cli import main
from adamergex.inference import journal_folder, usage
from adamergex.inference.settings import Evaluate
from adamergex.tasks.task import Task
from tests import zoo

TASK = {"prompt": "{text}:", "answer": "label", "choices": {"a": "a", "b": "b"}, "train": "x.jsonl"}
COMMANDS = {
    "merge": "merge --task TASK --reference-target TARGET --reference-source SOURCE --scale 1 --overwrite --output out",
    "corpus": "corpus text.txt --language es --tokenizer nowhere --tokens 500 --overwrite --output out",
    "convert": "convert PICKLE --overwrite --output out",
    "fuse": "fuse TASK --overwrite --output out",
    "predict": "predict TASK rows.csv --overwrite --output out.csv",
    "evaluate": "evaluate --base-model nowhere --adapter a=TASK --task recipe.yaml --language es --output out",
    "run": "run recipe.yaml --output out",
    "init": "init rows.csv --target es --overwrite --output out.yaml",
    "recipes": "recipes copy quickstart out.yaml",
}


@pytest.fixture
def call(
    own_data: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], tuple[int, str]]:
    """Call a command in a folder with all that it asks for: its status, and what it says on standard error."""
    own_data()
    (tmp_path / "text.txt").write_text("some text")
    (tmp_path / "rows.csv").write_text("text\none\n")
    monkeypatch.chdir(tmp_path)

    def called(command: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["adamergex", *command.split()])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main.main()
        return int(ended.value.code or 0), capsys.readouterr().err

    return called


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("adapters")
    made = zoo.three(zoo.llama, zoo.lora, folder)
    about: dict[str, Any] = {"base_model": "nowhere", "weights": "none", "dtype": "float32"}
    usage.write(made[0], usage.described(Task.model_validate(TASK), Evaluate(), "es", **about))
    pickled = folder / "pickled"
    pickled.mkdir()
    (pickled / "adapter_config.json").write_bytes((made[0] / "adapter_config.json").read_bytes())
    torch.save(safetensors.torch.load_file(made[0] / WEIGHTS), pickled / "adapter_model.bin")
    return dict(zip(("TASK", "TARGET", "SOURCE", "PICKLE"), map(str, (*made, pickled)), strict=True))


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_writes_through_a_link(
    name: str, call: Callable[[str], tuple[int, str]], adapters: dict[str, str], tmp_path: Path
) -> None:
    command = COMMANDS[name]
    for role, place in adapters.items():
        command = command.replace(role, place)
    output = command.rpartition(" ")[2]
    there = tmp_path / "there"
    if "." in output:
        there.write_text("precious")
    else:
        there.mkdir()
    (tmp_path / output).symlink_to("there")
    status, said = call(command)
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    assert (status, lines) == (
        2,
        [
            f"error: {output} is a symbolic link to there, and nothing is written through one; "
            "give what it leads to as --output, or another one"
        ],
    )
    assert os.readlink(tmp_path / output) == "there"
    assert there.read_text() == "precious" if there.is_file() else not list(there.iterdir())


@pytest.mark.parametrize(
    "left",
    [["finished", "key", "0.json", ".lock"], ["finished", ".lock"], ["finished"], []],
    ids=["everything", "no answers", "the mark", "nothing"],
)
def test_what_a_predict_killed_after_its_output_was_written_left_goes_with_the_next(
    left: list[str], call: Callable[[str], tuple[int, str]], adapters: dict[str, str], tmp_path: Path
) -> None:
    output = tmp_path / "out.csv"
    output.write_text("answers")
    journal_folder.of(output).mkdir()
    for name in left:
        (journal_folder.of(output) / name).touch()
    status, said = call(f"predict {adapters['TASK']} rows.csv --output out.csv")
    assert (status, "exists already" in said) == (2, True)
    assert not journal_folder.of(output).exists()
    assert output.read_text() == "answers"


@pytest.mark.parametrize("left", [["key", "0.json"], ["finished", "output", "0.json"]])
def test_answers_that_are_not_in_an_output_yet_are_kept(
    left: list[str], call: Callable[[str], tuple[int, str]], adapters: dict[str, str], tmp_path: Path
) -> None:
    output = tmp_path / "out.csv"
    output.write_text("older")
    journal_folder.of(output).mkdir()
    for name in left:
        (journal_folder.of(output) / name).write_text(json.dumps(name))
    assert call(f"predict {adapters['TASK']} rows.csv --output out.csv")[0] == 2
    assert sorted(path.name for path in journal_folder.of(output).iterdir()) == sorted(left)


def test_a_journal_says_that_it_is_of_no_use_before_it_goes(tmp_path: Path) -> None:
    output = tmp_path / "out.csv"
    with journal_folder.held(output) as folder:
        journal_folder.partial(folder).write_text("answers")
        (folder / "0.json").write_text("{}")
        journal_folder.put(folder, output)
        # As if it were killed here.
        assert sorted(path.name for path in folder.iterdir()) == [".lock", "0.json", "finished"]
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]
