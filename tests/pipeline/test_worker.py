"""What a worker holds: one base model for everything that needs it."""

from pathlib import Path

import pytest

from adamergex.errors import ModelError
from adamergex.models.adapter_settings import Lora, Prefix
from adamergex.pipeline.resolve import base_model
from adamergex.pipeline.worker import Options, Worker
from adamergex.storage.checkpoints import resolve


def test_a_model_that_answers_is_the_one_that_is_trained(tiny_model: Path) -> None:
    checkpoint = resolve(str(tiny_model))
    model, lora = base_model(checkpoint, "float32"), Lora(r=3, target_modules=["q_proj"])
    worker = Worker({checkpoint.fingerprint: checkpoint}, options=Options(adapter=lora))
    assert worker.resident(model, "task") is worker.resident(model, "task", settings=lora)
    assert worker.resident(model, "task") is worker.resident(model, "text", settings=lora)
    assert worker.resident(model, "task", settings=Prefix(structure="prefix")).context_behind(20) == 1004


def test_a_model_that_is_not_here_is_said(tiny_model: Path) -> None:
    checkpoint = resolve(str(tiny_model))
    with pytest.raises(ModelError, match="is not on this machine"):
        Worker({}).resident(base_model(checkpoint, "float32"), "task")


def test_work_is_done_once_for_each_key() -> None:
    worker, done = Worker({}), list[str]()
    for key in ("a", "b", "a"):
        worker.once(key, lambda key=key: done.append(key))  # type: ignore[misc]
    assert done == ["a", "b"]
