"""Settings of others that PEFT would end at, deep within: refused in a line, whichever command opens the adapter."""

import json
from pathlib import Path
from typing import Any

import peft
import pytest

from adamergex.adapters import adapter, peft_settings
from adamergex.adapters.conversion import convert
from adamergex.errors import AdapterError
from tests import zoo


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return zoo.train(zoo.llama, zoo.lora(), tmp_path_factory.mktemp("adapter") / "a", 1)


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("lora_dropout", "x", "a number from 0, less than 1"),
        ("lora_dropout", 1.5, "a number from 0, less than 1"),
        ("task_type", "X", "one of CAUSAL_LM, SEQ_2_SEQ_LM, SEQ_CLS, TOKEN_CLS, QUESTION_ANS, FEATURE_EXTRACTION"),
        ("task_type", [1], "one of CAUSAL_LM, SEQ_2_SEQ_LM, SEQ_CLS, TOKEN_CLS, QUESTION_ANS, FEATURE_EXTRACTION"),
        ("bias", "x", "one of none, all, lora_only"),
        ("layer_replication", [[0, 10**9]], "a list of [first, end], of 2,000 layers at most"),
        ("layer_replication", 3, "a list of [first, end], of 2,000 layers at most"),
        ("layers_to_transform", "x", "numbers of layers, less than 2,000"),
        ("trainable_token_indices", "x", "a list of tokens' numbers, or such lists by the names of embeddings"),
        ("megatron_config", "os", "an object"),
        ("use_dora", "yes", "true or false"),
        ("init_lora_weights", {}, "true, false, or the name of a way"),
    ],
)
def test_a_setting_of_another_kind_is_refused(key: str, value: Any, wanted: str) -> None:
    config = {"peft_type": "LORA", "r": 2, key: value}
    with pytest.raises(AdapterError) as caught:
        peft_settings.check(config)
    assert caught.value.problems == [f"adapter_config.json: {key} is {json.dumps(value)}; expected {wanted}"]


def test_a_prefix_that_started_at_zero_passes() -> None:
    peft_settings.check(
        {"peft_type": "PREFIX_TUNING", "init_weights": peft.PrefixTuningConfig(init_weights="zero").init_weights}
    )


def test_every_configuration_of_peft_passes(folder: Path) -> None:
    peft_settings.check(json.loads((folder / "adapter_config.json").read_bytes()))
    assert adapter.configuration(folder, "a")["r"] == 2


def test_a_conversion_opens_the_same_door(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    config = json.loads((folder / "adapter_config.json").read_bytes()) | {"target_modules": 5}
    (tmp_path / "a/adapter_config.json").write_text(json.dumps(config))
    weights = (folder / "adapter_model.safetensors").read_bytes()
    (tmp_path / "a/adapter_model-00001-of-00001.safetensors").write_bytes(weights)
    with pytest.raises(AdapterError, match="target_modules is neither a list of names nor a regular expression"):
        convert(tmp_path / "a", tmp_path / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
