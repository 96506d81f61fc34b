"""Small files of a model on the hub: which requests are made for them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import EntryNotFoundError
from huggingface_hub.file_download import _CACHED_NO_EXIST

from adamergex.storage.hub import small_files

Requests = list[str]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Requests]:
    """A hub that has `config.json` only, and what its cache knows of a model."""

    def offer(cached: dict[str, Any], answers: bool = True) -> Requests:
        requests: Requests = []

        def ask(client: huggingface_hub.HfApi, name: str, **more: Any) -> None:
            requests.append(name)
            if not answers:
                raise ConnectionError("nobody there")

        def download(name: str, file: str, **more: Any) -> str:
            requests.append(file)
            if file != "config.json":
                raise EntryNotFoundError(file)
            return str(tmp_path / file)

        monkeypatch.setattr(huggingface_hub.HfApi, "model_info", ask)
        monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
        monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda name, file: cached.get(file))
        return requests

    return offer


def test_what_the_cache_knows_is_not_asked(tmp_path: Path, hub: Callable[..., Requests]) -> None:
    requests = hub({"config.json": str(tmp_path / "config.json"), "chat_template.jinja": _CACHED_NO_EXIST})
    assert small_files("a/b", "config.json", ["chat_template.jinja"]) == tmp_path
    assert requests == []


def test_a_hub_is_asked_once_whether_it_answers(tmp_path: Path, hub: Callable[..., Requests]) -> None:
    requests = hub({})
    assert small_files("a/b", "config.json", ["x.json", "y.json"]) == tmp_path
    assert requests == ["a/b", "config.json", "x.json", "y.json"]


def test_without_the_hub_what_is_cached_does(tmp_path: Path, hub: Callable[..., Requests]) -> None:
    requests = hub({"config.json": str(tmp_path / "config.json")}, answers=False)
    assert small_files("a/b", "config.json", ["x.json"]) == tmp_path
    assert requests == ["a/b"]
    requests = hub({"config.json": _CACHED_NO_EXIST}, answers=False)
    with pytest.raises(ConnectionError):
        small_files("a/b", "config.json")
    assert requests == ["a/b"]
