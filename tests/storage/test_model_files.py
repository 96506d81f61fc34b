"""Configurations of base models that others wrote."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from adamergex.data.special_tokens import text_tokens
from adamergex.errors import ModelError
from adamergex.models.families import load_tokenizer
from adamergex.storage import checkpoints, model_files


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([], "its config.json is no object with keys"),
        ({"num_hidden_layers": 10**9}, "its config.json: num_hidden_layers is 1,000,000,000; expected at most 2,000"),
        ({"text_config": {"n_layer": 10**9}}, "its config.json: n_layer is 1,000,000,000; expected at most 2,000"),
        ({"vocab_size": 10**30}, "its config.json: vocab_size is about 10^30; expected at most 1,099,511,627,776"),
        ({"architectures": 5}, "its config.json: architectures is no list of names"),
        ({"id2label": {"x": "y"}}, "its config.json: id2label is no object of names by number"),
        ({"text_config": []}, "its config.json: text_config is no object"),
        ({"eos_token_id": "x"}, "its config.json: eos_token_id is no token, or a list of them"),
    ],
)
def test_what_no_model_has_is_refused(content: Any, said: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(ModelError) as caught:
        model_files.configuration(tmp_path, "it")
    assert caught.value.problems == [f"base_model it: {said}"]


def test_it_is_refused_before_weights_are_hashed(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("[" * 5000)
    (tmp_path / "model.safetensors").mkdir()
    with pytest.raises(ModelError, match="its config.json cannot be read: nested too deeply"):
        checkpoints.resolve(str(tmp_path))
    assert model_files.configuration(tiny_model, "it")["num_hidden_layers"] == 2
    (tmp_path / "generation_config.json").write_text("[]")
    with pytest.raises(ModelError, match="its generation_config.json is no object with keys"):
        model_files.generation(tmp_path, "it")


def test_a_tokenizer_that_loads_and_encodes_nothing_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    settings = json.loads((folder / "tokenizer_config.json").read_bytes())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"model_max_length": ["x"]}))
    with pytest.raises(ModelError, match="its tokenizer does not load: '>' not supported between instances of"):
        load_tokenizer(checkpoints.resolve(str(folder)))


def test_a_tokenizer_that_has_no_token_for_what_it_does_not_know_encodes_the_rest(
    tiny_model: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    tokenizer = json.loads((folder / "tokenizer.json").read_bytes())
    tokenizer["model"]["unk_token"] = "absent"
    del tokenizer["model"]["vocab"]["z"]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    loaded = load_tokenizer(checkpoints.resolve(str(folder)))
    assert len(text_tokens(loaded, ["ab"])[0]) == 2
    said = r"model: its tokenizer cannot encode a text: Unk token `absent` not found in the vocabulary$"
    with pytest.raises(ModelError, match=said):
        text_tokens(loaded, ["ab", "az"])


def test_a_tokenizer_that_panics_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    tokenizer = json.loads((folder / "tokenizer.json").read_bytes())
    tokenizer["post_processor"]["special_tokens"] = {}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ModelError, match="its tokenizer does not load: no entry found for key$"):
        load_tokenizer(checkpoints.resolve(str(folder)))
