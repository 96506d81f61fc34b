"""Adapters that are named, not opened: folders first, then the hub; what is downloaded, and each refusal in one line."""

import json
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

import adamergex
from adamergex.adapters.location import locate, short
from adamergex.errors import AdaMergeXError, AdapterError, NetworkError
from adamergex.storage.hub import HubName, parse
from tests import zoo
from tests.stand_in_for_the_hub import TOKEN, Files, Hub


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Those of an adapter, as PEFT writes them."""
    zoo.train(zoo.llama, zoo.lora(), tmp_path / "written", 1)
    return {name: (tmp_path / "written" / name).read_bytes() for name in ("adapter_config.json", WEIGHTS)}


WEIGHTS = "adapter_model.safetensors"


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("me/sst2-lora", HubName("me/sst2-lora")),
        ("me/sst2-lora@v1", HubName("me/sst2-lora", "v1")),
        ("me/sst2@refs/pr/1:sw", HubName("me/sst2", "refs/pr/1", "sw")),
        ("me/sst2:a/b/", HubName("me/sst2", None, "a/b")),
        ("adapters", None),
        ("./me/x", None),
        ("/me/x", None),
        ("a/b/c", None),
        ("me/x:../y", None),
        ("me/x:a//b", None),
        ("~/x", None),
        ("me/x@:y", None),
    ],
)
def test_names_are_read_as_places_on_the_hub(name: str, place: HubName | None) -> None:
    assert parse(name) == place
    if place is not None:
        assert parse(str(place)) == place


def test_an_adapter_of_the_hub_is_the_one_that_was_put_there(hub: Hub, files: Files, tmp_path: Path) -> None:
    other = {WEIGHTS: (zoo.train(zoo.llama, zoo.lora(), tmp_path / "o", 2) / WEIGHTS)}
    first = hub.put("me/x", files)
    hub.put("me/x", {WEIGHTS: other[WEIGHTS].read_bytes()})
    loaded, before = adamergex.load("me/x"), adamergex.load(f"me/x@{first}")
    for adapter, folder in ((loaded, tmp_path / "o"), (before, tmp_path / "written")):
        expected = adamergex.load(folder)
        assert adapter.tensors.keys() == expected.tensors.keys()
        assert all(torch.equal(adapter.tensors[name], expected.tensors[name]) for name in expected.tensors)
    assert before.origin == f"me/x@{first}"
    assert short("me/x@v1:sw") == "sw"
    assert short("me/x@v1") == "x"


def test_a_folder_of_that_name_comes_first(
    hub: Hub, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.put("me/x", files)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "me/x").mkdir(parents=True)
    assert locate("me/x").folder == Path("me/x")
    with pytest.raises(AdapterError, match="me/x: not a PEFT adapter folder"):
        adamergex.load("me/x")
    assert not hub.asked
    assert locate("me/x@main").repository is not None


def test_nothing_but_json_and_safetensors_is_downloaded(hub: Hub, files: Files) -> None:
    harmful = {
        "adapter_model.bin": b"pickle",
        "modeling_x.py": b"code",
        "training_args.bin": b"pickle",
        "README.md": b"",
    }
    hub.put("me/x", files | harmful)
    location = locate("me/x", optional=["adamergex.json"])
    assert sorted(path.name for path in location.folder.iterdir()) == ["adapter_config.json", WEIGHTS]
    downloaded = {line.rpartition("/")[2] for line in hub.asked if "/resolve/" in line}
    assert downloaded == {"adapter_config.json", WEIGHTS}


def test_what_is_pinned_is_not_asked_for_twice(hub: Hub, files: Files) -> None:
    commit = hub.put("me/x", {f"a/{name}": content for name, content in files.items()})
    location = locate("me/x:a")
    assert location.pinned == f"me/x@{commit}:a"
    hub.asked.clear()
    assert locate(location.pinned) == location
    assert not hub.asked


def test_offline_the_cache_is_read_and_nothing_is_asked(
    hub: Hub, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.put("me/x", files)
    online = locate("me/x")
    hub.asked.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert locate("me/x", optional=["adamergex.json"]) == online
    with pytest.raises(
        AdapterError, match=r"^me/y: no such folder here, and HF_HUB_OFFLINE is set, and it was not dow"
    ):
        locate("me/y")
    assert not hub.asked


def refused(name: str, kind: type[AdaMergeXError]) -> str:
    with pytest.raises(kind) as error:
        locate(name)
    assert type(error.value) is kind
    assert "\n" not in str(error.value)
    return str(error.value)


def test_each_refusal_is_one_line(hub: Hub, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.put("me/x", {f"sw/{name}": content for name, content in files.items()})
    hub.put("me/gated", files, gated=True)
    hub.put("me/pickled", {"adapter_config.json": b"{}", "adapter_model.bin": b"pickle"})
    assert refused("me/y", AdapterError).startswith(
        "me/y: no such folder here, and the hub has no repository me/y, or a p"
    )
    assert "me/x has no revision v9" in refused("me/x@v9:sw", AdapterError)
    assert "no adapter at its top; there are some in sw: write me/x:sw" in refused("me/x", AdapterError)
    assert "no adapter in en/; there are some in sw: write me/x:sw" in refused("me/x:en", AdapterError)
    assert f"me/gated is gated; ask for access at {hub.endpoint}/me/gated" in refused("me/gated", AdapterError)
    assert "adapter_model.bin, a pickle, which is not downloaded" in refused("me/pickled", AdapterError)
    assert "no name for a repository" in refused("me/x--y", AdapterError)
    monkeypatch.setenv("HF_TOKEN", "hf_of_nobody")
    assert "the hub answers 401" in refused("me/x:sw", AdapterError)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert locate("me/gated").repository is not None
    hub.broken = {"me/x": 500}
    assert "the hub answers 500, as the test wants it; try again later" in refused("me/x:sw", NetworkError)
    hub.broken = {"me/x": 403}
    assert "the hub answers 403" in refused("me/x:sw", AdapterError)


def test_a_hub_that_does_not_answer_is_the_networks_fault(
    hub: Hub, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nobody listens on port 9.
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "the hub (http://127.0.0.1:9) does not answer" in refused("me/x", NetworkError)
    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    hub.put("me/x", files)
    online = locate("me/x")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert locate("me/x") == online


def test_a_config_is_json_all_the_same(hub: Hub, files: Files) -> None:
    hub.put("me/x", files | {"adapter_config.json": json.dumps({"peft_type": "VERA"}).encode()})
    with pytest.raises(AdapterError, match=r"^me/x@.*VERA"):
        adamergex.load("me/x")
