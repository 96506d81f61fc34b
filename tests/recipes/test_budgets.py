"""What `validate` finds of what a run would refuse after its first training: too little text, a base model that is not there."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adamergex.errors import RecipeError
from adamergex.pipeline.run import finish
from adamergex.recipes import loading, preflight
from adamergex.storage.checkpoints import MODULE, PACKAGED, missing, resolve
from tests.stand_in_for_the_hub import Hub


def problems(path: Path, *overrides: str) -> list[str]:
    """What `validate` says of a recipe."""
    try:
        preflight.check(loading.load(str(path), overrides), path.parent)
    except RecipeError as error:
        return error.problems
    return []


def test_too_little_text_is_found_before_anything_is_trained(own_data: Callable[..., Path]) -> None:
    path = own_data()
    assert problems(path) == []
    [english, spanish] = problems(path, "reference.tokens=4096")
    assert spanish.startswith("corpus of es: the corpus has ")
    assert "the budget is 4,096 for each language; " in english
    # The very message of the run, and what it proposes does.
    with pytest.raises(RecipeError) as refused:
        finish(loading.load(str(path), ["reference.tokens=4096"]), path.parent, path.parent / "run")
    assert refused.value.problems == [english, spanish]
    most = min(int(line.rpartition("reference.tokens to ")[2]) for line in (english, spanish))
    assert problems(path, f"reference.tokens={most}") == []
    assert problems(path, f"reference.tokens={2 * most}") != []
    assert problems(path, "reference={corpus: 'data/text.{language}.txt', characters: 900, window: 16}") == []
    assert (
        "set reference.characters to"
        in problems(path, "reference={corpus: 'data/text.{language}.txt', characters: 9000, window: 16}")[0]
    )
    # A reference task that is labelled has no such text.
    (path.parent / "data/text.es.txt").write_text(" \n")
    assert problems(path) == ["corpus of es: holds no text"]


def test_without_a_tokenizer_at_hand_only_what_is_sure_is_said(
    own_data: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = own_data()
    monkeypatch.setattr("adamergex.recipes.preflight.checkpoints.model_at_hand", lambda *given, **more: None)
    size = len((path.parent / "data/text.es.txt").read_bytes())
    assert not [line for line in problems(path, f"reference.tokens={size - 80}") if "corpus of es" in line]
    [line] = [line for line in problems(path, f"reference.tokens={size + 1}") if "corpus of es" in line]
    assert line.endswith(f"the budget is {size + 1:,} tokens for each language; add text or lower reference.tokens")


def test_a_base_model_that_is_not_there_is_found(own_data: Callable[..., Path], tmp_path: Path) -> None:
    path = own_data()
    (tmp_path / "empty").mkdir()
    shutil.copytree(json.loads(path.read_text())["base_model"], tmp_path / "weightless")
    (tmp_path / "weightless/model.safetensors").unlink()
    for name, says in (
        (str(tmp_path / "none"), "no such folder; expected a Hugging Face id, a folder, or package:"),
        (str(tmp_path / "empty"), "the folder has no config.json"),
        (str(tmp_path / "weightless"), "the folder has no weights; expected model.safetensors beside config.json"),
        ("package:other", "no package that is known here"),
    ):
        [line] = problems(path, f"base_model={name}")
        assert line.startswith(f"base_model {name}: {says}")
        with pytest.raises(Exception, match=says.partition(";")[0]):
            resolve(name)


def test_a_base_model_that_the_hub_has_not_is_told_from_a_hub_that_does_not_answer(
    own_data: Callable[..., Path], hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = own_data()
    [line] = problems(path, "base_model=user/none")
    assert "the hub has no repository user/none" in line
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/{revision}/{filename}")
    unseen = preflight.check(loading.load(str(path), ["base_model=user/none"]), path.parent).unreachable
    assert len(unseen) == 1
    assert unseen[0].startswith("base_model user/none: the hub (http://127.0.0.1:9) does not answer: ")


def test_the_packaged_model_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_spec(found: Any) -> Callable[[str], Any]:
        return lambda name: found

    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    monkeypatch.setattr("importlib.util.find_spec", find_spec(None))
    with pytest.raises(Exception, match="its package is not installed; run: pip install"):
        missing(PACKAGED)
    monkeypatch.setattr("importlib.util.find_spec", find_spec(object()))
    assert missing(PACKAGED) is None
