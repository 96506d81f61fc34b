"""`--json`: one document on standard output, with the keys that docs/commands.md names, and the same exit status."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adamergex.adapters.schema import STRUCTURES
from adamergex.cli import main
from tests import zoo

PAGE = (Path(__file__).parents[2] / "docs/commands.md").read_text("utf-8")


Call = Callable[..., tuple[int, str, str]]
Document = Callable[..., dict[str, Any]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Call the command line: its exit status, standard output and standard error."""

    def called(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["adamergex", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main.main()
        return int(caught.value.code or 0), *capsys.readouterr()

    return called


@pytest.fixture
def document(call: Call) -> Document:
    """Call it with `--json`: what standard output holds."""

    def called(*arguments: object, status: int = 0) -> dict[str, Any]:
        found, out, err = call(*arguments, "--json")
        assert (found, "error: " in err) == (status, status == 2)
        shown: dict[str, Any] = json.loads(out)
        assert all(f"`{key}`" in PAGE for key in shown)
        return shown

    return called


def named(part: str) -> set[str]:
    """The keys of the table of a command on the page, and of the sentence before it."""
    section = PAGE.split(f"**`{part}`**")[1].split("\n\n**")[0]
    return set(re.findall(r"`([a-z_0-9]+)`", section))


def test_a_recipes_problems_are_a_document(own_data: Callable[..., Path], call: Call, document: Document) -> None:
    path = own_data()
    found = document("validate", path)
    assert found["problems"] == []
    assert (found["recipe"], found["name"], found["source"], found["targets"]) == (str(path), "own", "en", ["es"])
    for command in ("validate", "plan"):
        shown = call(command, str(path), "--set", "seed=x", "--set", "merg.scale=1")[2].splitlines()
        wrong = document(command, path, "--set", "seed=x", "--set", "merg.scale=1", status=2)
        assert len(wrong["problems"]) == 2
        assert [f"error: {line}" for line in wrong["problems"]] == shown
        assert wrong.keys() == {"problems"}
    missing = document("validate", path, "--set", "task.train=absent.{language}.jsonl", status=2)
    assert "absent.en.jsonl: no such file" in missing["problems"][0]


def test_a_plan_is_the_table_for_programs(own_data: Callable[..., Path], call: Call, document: Document) -> None:
    path = own_data(evaluate={"methods": ["source-adapter"]})
    run = path.parent / "run"
    found = document("plan", path, "--output", run)
    assert (found["folder"], found["done"], found["problems"]) == (str(run), 0, [])
    lines = call("plan", str(path), "--output", str(run))[1].splitlines()
    assert [line.split()[0] for line in lines[:-1]] == [stage["id"] for stage in found["stages"]]
    assert {stage["status"] for stage in found["stages"]} == {"absent", "waiting"}
    assert set(found["stages"][0]) <= named("plan")
    by_id = {stage["id"]: stage for stage in found["stages"]}
    assert by_id["adapters/task-en"]["waits_for"] == ["data/task-en-train"]
    assert by_id["adapters/task-en"]["model"]
    assert by_id["adapters/task-en"]["memory"] > 0
    assert not by_id["data/task-en-train"]["model"]

    assert call("run", str(path), "--output", str(run))[0] == 0
    found = document("plan", path, "--output", run)
    assert found["done"] == len(found["stages"])
    changed = document("plan", path, "--output", run, "--set", "train.learning_rate=2e-2")
    task = next(stage for stage in changed["stages"] if stage["id"] == "adapters/task-en")
    assert task["status"] == "outdated"
    assert "learning_rate" in task["why"]


def test_what_is_in_adapters_is_a_document_with_the_keys_of_the_page(tmp_path: Path, document: Document) -> None:
    import peft

    keys = named("inspect")
    ia3 = peft.IA3Config(
        target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"], task_type="CAUSAL_LM"
    )
    configs = {
        "lora": zoo.lora(lora_bias=True, trainable_token_indices=[3]),
        "heads": zoo.lora(modules_to_save=["lm_head"]),
        "ia3": ia3,
        "prefix": peft.PrefixTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM"),
    }
    for name, config in configs.items():
        folder = zoo.train(zoo.llama, config, tmp_path / name, 1)
        found = document("inspect", folder)
        assert found["together"] is None
        assert found["problems"] == []
        about = found["adapters"][name]
        assert about.keys() <= keys, name
        assert about["structure"] in STRUCTURES.values()
    other = document("inspect", tmp_path / "lora", tmp_path / "heads")
    assert other["together"].keys() <= keys
    wrong = document("inspect", tmp_path / "nowhere", status=2)
    assert len(wrong["problems"]) == 1
    assert f"{tmp_path}/nowhere: no such folder; expected a PEFT adapter folder, such as" in wrong["problems"][0]


def test_every_key_that_the_page_names_for_adapters_is_one() -> None:
    package = Path(__file__).parents[2] / "src/adamergex"
    source = (package / "merging/inspection.py").read_text() + (package / "cli/merge.py").read_text()
    table = PAGE.split("**`inspect`**")[1].split("| key | |")[1].split("`together` has")[0]
    first = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    for key in (key for cell in first for key in re.findall(r"`([a-z_0-9]+)`", cell)):
        assert f'"{key}"' in source, key
