"""Tiny models made on the spot: no test needs a network or a download."""

import atexit
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from huggingface_hub import constants
from huggingface_hub.utils import close_session
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from adamergex.models.adapter_settings import Lora
from adamergex.models.resident import ResidentModel
from adamergex.storage.checkpoints import Checkpoint
from adamergex.storage.files import cache_folder
from tests import stand_in_for_the_hub
from tests.stand_in_for_the_hub import Hub

# Shells start jobs in the background with interrupts ignored, and so would be the commands that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long stages took on a developer's machine changes what a plan says: tests have a cache of their own, in which what
# takes time to make is that of the user.
_CACHE = Path(tempfile.mkdtemp(prefix="adamergex-tests-"))
for _made in cache_folder().glob("*/"):
    (_CACHE / _made.name).symlink_to(_made.absolute())
os.environ["ADAMERGEX_CACHE"] = str(_CACHE)
atexit.register(shutil.rmtree, _CACHE, ignore_errors=True)

SETTINGS = Lora(r=2, alpha=4, target_modules=["q_proj", "v_proj", "down_proj"])


def byte_tokenizer(tokens: int = 259) -> transformers.PreTrainedTokenizerFast:
    """One token a byte, after <pad> 0, <bos> 1 and <eos> 2; a <bos> in front, as most causal models have it.

    Of fewer tokens it knows fewer bytes.
    """
    specials = ["<pad>", "<bos>", "<eos>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate((specials + alphabet)[:tokens])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>"
    )


def unigram_tokenizer() -> transformers.PreTrainedTokenizerFast:
    """As XLM-R's: its special tokens are pieces of the vocabulary, too, and the likeliest ones."""
    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    pieces = [(piece, 0.0) for piece in specials] + [(piece, -5.0) for piece in "▁abcs<>/mkeo"]
    backend = Tokenizer(models.Unigram(pieces, unk_id=3))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
    )


def save_model(model: torch.nn.Module, folder: Path) -> Path:
    model.save_pretrained(folder)  # type: ignore[operator]
    byte_tokenizer(model.get_input_embeddings().weight.shape[0]).save_pretrained(folder)  # type: ignore[operator]
    return folder


@pytest.fixture(autouse=True)
def nothing_measured() -> None:
    """What one test's run took leads no other test to expect something."""
    (_CACHE / "seconds.jsonl").unlink(missing_ok=True)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two layers with random weights."""
    return save_model(tiny_llama(7, 259), tmp_path_factory.mktemp("model") / "tiny-llama")


def tiny_llama(seed: int, vocabulary: int) -> transformers.LlamaForCausalLM:
    """A Llama of two layers with random weights; its first tokens are <pad>, <bos> and <eos>."""
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        initializer_range=0.2,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return transformers.LlamaForCausalLM(config)


@pytest.fixture(scope="session")
def resident(tiny_model: Path) -> ResidentModel:
    return ResidentModel(Checkpoint("tiny-llama", tiny_model, "tiny"), "float32", SETTINGS)


@pytest.fixture
def nearly_equal(tiny_model: Path) -> ResidentModel:
    """The model in bfloat16, with large logits, to which ` a` is a hair less likely than ` b` whatever was read."""
    found = ResidentModel(Checkpoint("tiny-llama", tiny_model, "tiny"), "bfloat16", SETTINGS)
    found.start(0)
    # What answers begin with: a token each.
    a, b = (found.tokenizer.encode(letter)[-1] for letter in "ab")
    weight = found.model.get_base_model().lm_head.weight.data
    weight.mul_(20)
    weight[b] = weight[a]
    weight[b, 0] += weight[b, 0].abs() / 64
    return found


@pytest.fixture
def own_data(tmp_path: Path, tiny_model: Path) -> Callable[..., Path]:
    """Write a whole recipe with its data for the tiny model; keyword arguments replace its sections."""
    return data_in(tmp_path, tiny_model)


def data_in(tmp_path: Path, tiny_model: Path) -> Callable[..., Path]:
    """As `own_data`, in any folder."""

    def write(**changes: Any) -> Path:
        words = {"en": ("good", "bad"), "es": ("bueno", "malo")}
        (tmp_path / "data").mkdir(exist_ok=True)
        for language, (good, bad) in words.items():
            for split, count in (("train", 6), ("test", 8)):
                rows = [
                    {"text": f"{split} {number} {(good, bad)[number % 2]}", "label": ("pos", "neg")[number % 2]}
                    for number in range(count)
                ]
                path = tmp_path / "data" / f"{split}.{language}.jsonl"
                path.write_text("".join(json.dumps(row) + "\n" for row in rows))
            text = "\n\n".join(f"{good} {bad} paragraph {number} of {language}" for number in range(40))
            (tmp_path / "data" / f"text.{language}.txt").write_text(text)
        recipe = {
            "name": "own",
            "base_model": str(tiny_model),
            "source": "en",
            "targets": ["es"],
            "task": {
                "prompt": "{text}:",
                "answer": "label",
                "choices": {"pos": "yes", "neg": "no"},
                "train": "data/train.{language}.jsonl",
                "test": "data/test.{language}.jsonl",
            },
            "reference": {"corpus": "data/text.{language}.txt", "tokens": 128, "window": 16, "positions": 5},
            "adapter": {"r": 2, "alpha": 4, "target_modules": ["q_proj", "v_proj"]},
            "train": {
                "learning_rate": 1e-2,
                "task": {"epochs": 2, "batch_size": 4},
                "reference": {"epochs": 1, "batch_size": 4},
            },
            "merge": {"scale": 0.5},
            "evaluate": {"methods": ["base", "source-adapter", "adamergex", "ceiling"]},
        }
        path = tmp_path / "recipe.yaml"
        path.write_text(json.dumps(recipe | changes))
        return path

    return write


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub of the test's own, which the hub's client asks, with an empty cache and without a token."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    with stand_in_for_the_hub.running() as hub:
        settings = {
            "ENDPOINT": hub.endpoint,
            "HUGGINGFACE_CO_URL_TEMPLATE": hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(tmp_path / "hub-cache"),
            "HF_TOKEN_PATH": str(tmp_path / "hub-token"),
            "HF_HUB_OFFLINE": False,
            "HF_HUB_DISABLE_XET": True,
        }
        for name, value in settings.items():
            monkeypatch.setattr(constants, name, value)
        yield hub
        close_session()
