"""What is said of a base model on the hub, of which a few small files are here."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from adamergex.models import chat
from adamergex.recipes import chats
from adamergex.storage.checkpoints import Checkpoint, model_at_hand
from adamergex.tasks.task import Task
from tests.chat_templates import QWEN3

TASKS = {"task": Task.model_validate({"prompt": "{text}", "answer": "label", "train": "x.jsonl", "chat": True})}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """A hub with one model, whose files are downloaded one by one."""

    def offer(files: dict[str, Any]) -> Path:
        def download(name: str, file: str, **more: Any) -> str:
            if name != "some/model" or file not in files:
                raise huggingface_hub.errors.EntryNotFoundError(file)
            content = files[file]
            (tmp_path / file).write_text(content if isinstance(content, str) else json.dumps(content))
            return str(tmp_path / file)

        monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
        monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *asked, **more: None)
        return tmp_path

    return offer


LLAMA = {"architectures": ["LlamaForCausalLM"]}
OFFERED: dict[str, tuple[dict[str, Any], bool, list[str]]] = {
    "a template of its own": (
        {"config.json": LLAMA, "tokenizer_config.json": {}, "chat_template.jinja": QWEN3},
        True,
        [],
    ),
    "among the tokenizer's": ({"config.json": LLAMA, "tokenizer_config.json": {"chat_template": QWEN3}}, True, []),
    "none": (
        {"config.json": LLAMA, "tokenizer_config.json": {}},
        False,
        [f"base_model some/model: {chat.NO_TEMPLATE}"],
    ),
    "nobody knows": ({"config.json": LLAMA}, False, []),
    "another family": (
        {"config.json": {"is_encoder_decoder": True}, "tokenizer_config.json": {"chat_template": QWEN3}},
        False,
        ["base_model some/model is of the seq2seq family. task: chat is for causal models; remove it"],
    ),
}


@pytest.mark.parametrize(("files", "may", "says"), OFFERED.values(), ids=OFFERED)
def test_what_small_files_tell(files: dict[str, Any], may: bool, says: list[str], hub: Callable[..., Path]) -> None:
    hub(files)
    assert chats.may_chat("some/model") == may
    found = model_at_hand("some/model", also=chat.FILES)
    assert found is not None
    assert chats.problems(found, TASKS) == says
    assert chats.problems(found, {"task": TASKS["task"].model_copy(update={"chat": False})}) == []


def test_what_a_whole_checkpoint_lacks_it_does_not_have(hub: Callable[..., Path]) -> None:
    folder = hub({"config.json": LLAMA})
    model_at_hand("some/model")
    assert chats.problems(Checkpoint("some/model", folder, "commit 1"), TASKS) == [
        f"base_model some/model: {chat.NO_TEMPLATE}"
    ]


def test_a_model_that_is_not_there_is_nobodys_problem_yet(hub: Callable[..., Path]) -> None:
    hub({})
    assert not chats.may_chat("some/model")
    assert not chats.may_chat("other/model")
