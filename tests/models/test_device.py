"""Devices by name: what is not there is said before anything runs, and the name changes no result."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from adamergex.errors import ModelError, RecipeError
from adamergex.models import device as devices
from adamergex.pipeline.run import finish
from adamergex.recipes import loading


def test_names_are_devices_that_torch_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert devices.device("auto") == devices.device("cpu") == torch.device("cpu")
    for name in ("cuda", "mps"):
        with pytest.raises(ModelError, match=f"device {name}: torch .* finds none on this machine; it has cpu"):
            devices.device(name)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    # Apple's GPU is taken where it is asked for.
    assert (devices.device("mps").type, devices.device("auto").type) == ("mps", "cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert devices.device("cuda") == devices.device("auto") == torch.device("cuda", 1)


def test_a_recipe_s_device_is_checked_first_and_stands_in_no_key(
    own_data: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    path = own_data()
    with pytest.raises(RecipeError, match="device cuda: torch"):
        finish(loading.load(str(path), ["device=cuda"]), path.parent, path.parent / "run")
    assert not (path.parent / "run").exists()
    keys = []
    for name in ("auto", "cpu"):
        finish(loading.load(str(path), [f"device={name}"]), path.parent, path.parent / name)
        keys.append(
            {str(stage.relative_to(path.parent / name)): json.loads(stage.read_text())["key"]
             for stage in (path.parent / name).rglob("stage.json")}
        )  # fmt: skip
    assert keys[0] == keys[1]
