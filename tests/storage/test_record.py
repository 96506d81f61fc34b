"""An adapter of a run is held against the list of its files wherever it is loaded."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import adamergex
from adamergex.adapters.adapter import CONFIG, WEIGHTS
from adamergex.errors import AdapterError
from adamergex.inference import usage
from adamergex.inference.settings import Evaluate
from adamergex.storage import record
from adamergex.tasks.task import Task
from tests import zoo

TASK = {"prompt": "{text}:", "answer": "label", "choices": {"a": "a", "b": "b"}, "train": "x.jsonl"}


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    folder = zoo.train(zoo.llama, zoo.lora(), tmp_path / "adapter", 1)
    about: dict[str, Any] = {"base_model": "nowhere", "weights": "none", "dtype": "float32"}
    usage.write(folder, usage.described(Task.model_validate(TASK), Evaluate(), "es", **about))
    record.written(folder, (), {"stage": {}, "key": "", "made_of": {}})
    return folder


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG, record.MARK])
def test_an_adapter_that_is_not_what_the_run_wrote_is_not_loaded(name: str, adapter: Path) -> None:
    assert adamergex.load(adapter).schema.structure == "LoRA"
    flip(adapter / name)
    what = record.UNREADABLE if name == record.MARK else f"{name} is not what was written"
    with pytest.raises(AdapterError) as caught:
        adamergex.load(adapter, lazy=True)
    assert str(caught.value) == (
        f"{adapter}: is not what a run wrote there: {what}; run its recipe again with --verify, or remove stage.json if it "
        "was changed on purpose"
    )


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (flip, "adamergex.json is not what was written"),
        (lambda path: path.write_bytes(b"{"), r"adamergex.json has 1 bytes, [\d,]+ were written"),
        (Path.unlink, "adamergex.json: No such file or directory"),
    ],
    ids=["bit", "cut", "lost"],
)
def test_nor_is_it_asked_otherwise(damage: Callable[[Path], Any], what: str, adapter: Path) -> None:
    assert usage.read(adapter).language == "es"
    damage(adapter / usage.FILE)
    with pytest.raises(AdapterError, match=what):
        usage.read(adapter)


def test_an_adapter_without_a_list_is_anybodys(adapter: Path) -> None:
    (adapter / record.MARK).unlink()
    flip(adapter / WEIGHTS)
    assert adamergex.load(adapter).schema.structure == "LoRA"
