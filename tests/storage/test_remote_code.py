"""Python code that comes with a model or a tokenizer runs where the user has said so, and nowhere else."""

import ast
import io
import json
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import transformers.dynamic_module_utils

from adamergex.cli import main
from adamergex.data import sources
from adamergex.data.settings import Source
from adamergex.errors import DataError, ModelError, RecipeError
from adamergex.inference import usage
from adamergex.inference.settings import Evaluate
from adamergex.models import families
from adamergex.models.adapter_settings import Lora
from adamergex.models.families import load_tokenizer
from adamergex.models.resident import ResidentModel
from adamergex.storage.checkpoints import Checkpoint, auto_map, model_at_hand, resolve
from adamergex.tasks.task import Task
from tests import stand_in_for_vllm

SOURCE = Path(__file__).parents[2] / "src" / "adamergex"
# What runs code of a model's, a tokenizer's or a data set's repository; vLLM's and the harness's models among it.
LOADERS = ("from_pretrained", "from_config", "load_dataset", "LLM", "HFLM")
ALLOWED = "allow it with trust_remote_code: true beside base_model in the recipe, or with --trust-remote-code"
CODE = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
Path({mark!r}).touch()
class OwnConfig(LlamaConfig):
    model_type = "own"
class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig
class OwnTokenizer(PreTrainedTokenizerFast):
    pass
"""


@pytest.fixture
def coded(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """The tiny model with code of its own, which leaves a file `ran` when it is run."""
    monkeypatch.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("HF_MODULES_CACHE", "transformers_modules"):
        for module in [key for key in sys.modules if key.split(".")[0] == name]:
            monkeypatch.delitem(sys.modules, module)

    def change(file: Path, **settings: Any) -> None:
        file.write_text(json.dumps(json.loads(file.read_text()) | settings))

    def make(what: str, model_type: str = "own") -> Path:
        folder = tmp_path / "coded"
        shutil.copytree(tiny_model, folder)
        (folder / "own.py").write_text(CODE.format(mark=str(tmp_path / "ran")))
        classes = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
        change(folder / "config.json", model_type=model_type, **({"auto_map": classes} if what == "model" else {}))
        if what == "tokenizer":
            named = {"AutoTokenizer": [None, "own.OwnTokenizer"]}
            change(folder / "tokenizer_config.json", tokenizer_class="OwnTokenizer", auto_map=named)
        return folder

    return make


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int | str | None:
    """The exit status of a command whose user answers every question with yes."""
    monkeypatch.setattr(sys, "argv", ["adamergex", *map(str, arguments)])
    monkeypatch.setattr(sys, "stdin", io.StringIO("yes\n" * 100))
    with pytest.raises(SystemExit) as ended:
        main.main()
    return ended.value.code


def adapter_of(model: Path, tiny_model: Path, folder: Path) -> Path:
    """An adapter that names a model as its base."""
    resident = ResidentModel(
        Checkpoint(str(model), tiny_model, "tiny"), "float32", Lora(r=2, target_modules=["q_proj"])
    )
    folder.mkdir()
    resident.adapter().save(folder)
    return folder


def command(name: str, model: Path, recipe: Path, tiny_model: Path) -> list[object]:
    here = recipe.parent
    if name == "corpus":
        source = [here / "data/text.es.txt", "--language", "es", "--tokenizer", model]
        return ["corpus", *source, "--tokens", 64, "--window", 16, "--output", here / "out"]
    if name == "evaluate":
        adapter = adapter_of(model, tiny_model, here / "adapter")
        return ["evaluate", "--task", recipe, "--language", "es", "--adapter", adapter, "--output", here / "out"]
    return [name, recipe, *(["--output", here / "out"] if name == "run" else [])]


@pytest.mark.parametrize(
    ("name", "what"),
    [(name, what) for name in ("run", "validate", "evaluate") for what in ("model", "tokenizer")]
    + [("corpus", "tokenizer")],
)
def test_nobody_is_asked_and_no_code_runs_unless_the_user_allows_it(
    name: str,
    what: str,
    coded: Callable[..., Path],
    own_data: Callable[..., Path],
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = coded(what)
    recipe = own_data(base_model=str(model))
    monkeypatch.chdir(recipe.parent)
    arguments = command(name, model, recipe, tiny_model)
    assert call(monkeypatch, *arguments) == 2
    assert not (recipe.parent / "ran").exists()
    said = capsys.readouterr()
    [line] = said.err.splitlines()
    assert line.startswith(f"error: base_model {model}: its ") or line.startswith(f"error: base_model {model}: does ")
    assert "own.Own" in line
    assert line.endswith(ALLOWED)
    assert "[y/N]" not in said.out
    if what == "model" or name == "corpus":
        assert call(monkeypatch, *arguments, "--trust-remote-code") == 0
        # To validate is to look, also where more is allowed.
        assert (recipe.parent / "ran").exists() == (name != "validate")


@pytest.mark.parametrize("what", ["model", "tokenizer"])
@pytest.mark.parametrize("name", ["plan", "fuse", "predict"])
def test_no_other_command_runs_code_either(
    name: str,
    what: str,
    coded: Callable[..., Path],
    own_data: Callable[..., Path],
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = coded(what)
    recipe = own_data(base_model=str(model))
    here = recipe.parent
    monkeypatch.chdir(here)
    if name != "plan":
        folder = adapter_of(model, tiny_model, here / "adapter")
        asked = Task.model_validate({"prompt": "{text}", "answer": "label", "choices": ["a", "b"], "train": "x.jsonl"})
        about = usage.described(asked, Evaluate(), "es", base_model=str(model), weights="?", dtype="float32")
        usage.write(folder, about)
    arguments = {"plan": [str(recipe)], "fuse": ["adapter"], "predict": ["adapter", "rows.csv"]}[name]
    (here / "rows.csv").write_text("text,of\na,1\nb,2\n")
    output = {"plan": "out", "fuse": "out", "predict": "out.jsonl"}[name]
    status = call(monkeypatch, name, *arguments, "--output", output)
    said = capsys.readouterr()
    assert not (here / "ran").exists()
    assert "[y/N]" not in said.out
    # A tokenizer is copied by fuse as it is, and not loaded.
    if (name, what) == ("fuse", "tokenizer"):
        assert status in (0, 2)
        return
    assert status == 2
    assert said.err.splitlines()[-1].endswith(ALLOWED)
    assert not (here / output).exists()


def test_a_script_beside_a_data_sets_files_does_not_run(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "mine.py").write_text(CODE.format(mark=str(tmp_path / "ran")))
    (folder / "train.jsonl").write_text('{"text": "a"}\n')
    with suppress(DataError):
        assert [row for _, row in sources.rows(Source(dataset=str(folder), split="train"), tmp_path, "en")] == [
            {"text": "a"}
        ]
    assert not (tmp_path / "ran").exists()


def test_a_run_with_a_models_own_code_says_so_and_depends_on_it(
    coded: Callable[..., Path], own_data: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = coded("model")
    recipe = own_data(base_model=str(model), trust_remote_code=True, evaluate={"methods": ["source-adapter"]})
    out = recipe.parent / "run"
    assert call(monkeypatch, "run", recipe, "--output", out) == 0
    allowed = "trust_remote_code: the Python code that comes with it was allowed to run"
    assert allowed in (out / "report.md").read_text()
    assert allowed in (out / "report.html").read_text()
    card = (out / "merged/es/adamergex/README.md").read_text()
    assert "was allowed to run (`trust_remote_code: true`)" in card
    assert f'from_pretrained("{model}", trust_remote_code=True)' in card
    assert json.loads((out / "merged/es/adamergex/merge.json").read_text())["trust_remote_code"] is True
    mark = out / "adapters/task-en/stage.json"
    before = mark.read_text()
    assert call(monkeypatch, "run", recipe, "--output", out) == 0
    assert mark.read_text() == before
    (model / "own.py").write_text((model / "own.py").read_text() + "\n# changed\n")
    assert call(monkeypatch, "run", recipe, "--output", out) == 0
    assert mark.read_text() != before


def test_an_evaluation_with_a_models_own_code_says_so(
    coded: Callable[..., Path], own_data: Callable[..., Path], tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, recipe = coded("model"), own_data()
    monkeypatch.chdir(recipe.parent)
    arguments = command("evaluate", model, recipe, tiny_model)
    assert call(monkeypatch, *arguments, "--trust-remote-code") == 0
    assert "trust_remote_code: the Python code that" in (recipe.parent / "out/report.md").read_text()


def test_the_task_of_a_recipe_does_not_bring_its_permission_along(
    coded: Callable[..., Path], own_data: Callable[..., Path], tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, recipe = coded("model"), own_data(trust_remote_code=True)
    monkeypatch.chdir(recipe.parent)
    assert call(monkeypatch, *command("evaluate", model, recipe, tiny_model)) == 2
    assert not (recipe.parent / "ran").exists()


def test_a_permission_is_yes_or_no_and_nothing_else(own_data: Callable[..., Path]) -> None:
    from adamergex.recipes import loading

    for word in ("yes", "1", "'true'"):
        with pytest.raises(RecipeError, match="trust_remote_code"):
            loading.load(str(own_data()), [f"trust_remote_code={word}"])


def test_what_transformers_knows_is_loaded_by_its_own_code(coded: Callable[..., Path], tmp_path: Path) -> None:
    """Old checkpoints name code for what the library has had since; it is no reason to refuse them."""
    checkpoint = resolve(str(coded("model", model_type="llama")))
    families.refuse_code(checkpoint)
    ResidentModel(checkpoint, "float32", Lora(target_modules=["q_proj"]))
    assert not (tmp_path / "ran").exists()


def test_permission_where_there_is_no_code_changes_nothing_that_is_made(
    coded: Callable[..., Path], tiny_model: Path
) -> None:
    assert resolve(str(tiny_model), True).fingerprint == resolve(str(tiny_model)).fingerprint
    model = str(coded("model"))
    assert resolve(model, True).fingerprint.startswith(resolve(model).fingerprint + " code sha256 ")
    assert " trust" not in resolve(model).described


def test_code_in_another_repository_counts_by_its_commit(
    coded: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    model = coded("model")
    config = json.loads((model / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "somebody/code--own.OwnConfig", "bad": "two\nlines"}
    (model / "config.json").write_text(json.dumps(config))
    assert auto_map(model) == {"config.json": ["somebody/code--own.OwnConfig"]}
    found = []
    for commit in ("abc", "abc", "def"):
        monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, commit=commit, **given: f"/x/{commit}")
        found.append(resolve(str(model), True).fingerprint)
    assert found[0] == found[1] != found[2]
    monkeypatch.undo()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="its code in somebody/code cannot be had"):
        resolve(str(model), True)


def test_vllm_is_given_the_users_word_and_no_other(
    coded: Callable[..., Path], own_data: Callable[..., Path], tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = stand_in_for_vllm.install(monkeypatch)
    recipe = own_data()
    monkeypatch.chdir(recipe.parent)
    common = ["evaluate", "--task", recipe, "--language", "es", "--base-model", tiny_model, "--backend", "vllm"]
    assert call(monkeypatch, *common, "--output", "no") == 0
    assert call(monkeypatch, *common, "--output", "yes", "--trust-remote-code") == 0
    assert [given["trust_remote_code"] for given in llm.given] == [False, True]
    assert call(monkeypatch, *common, "--output", "no", "--vllm", "trust_remote_code=true") == 2
    # vLLM looks at the configuration itself, and says so in words of its own.
    checkpoint = model_at_hand(str(coded("model")))
    assert checkpoint is not None
    error = RuntimeError("consider setting `trust_remote_code=True` in LLM or using the `--trust-remote-code` flag")
    assert str(families.does_not_load(checkpoint, "vLLM does not load it", error)).endswith(ALLOWED)


def test_a_tokenizer_with_code_that_is_allowed_loads(coded: Callable[..., Path], tmp_path: Path) -> None:
    model = str(coded("tokenizer"))
    with pytest.raises(ModelError, match="its tokenizer does not load: it needs Python code"):
        load_tokenizer(resolve(model))
    assert type(load_tokenizer(resolve(model, True))).__name__ == "OwnTokenizer"


def _calls(tree: ast.AST) -> list[ast.Call]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


def _name(node: ast.expr) -> str | None:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else None


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: path.stem)
def test_every_call_that_could_run_a_repositorys_code_says_whether_it_may(path: Path) -> None:
    tree = ast.parse(path.read_text())
    loading = [node for node in _calls(tree) if _name(node.func) in LOADERS]
    for node in loading:
        [word] = [ast.unparse(given.value) for given in node.keywords if given.arg == "trust_remote_code"]
        allowed = {"False"} if _name(node.func) == "load_dataset" else {"False", "checkpoint.trust_remote_code"}
        assert word.removeprefix("resident.") in allowed, f"{path.name}:{node.lineno}"
    # Not passed on to be called elsewhere, and not by another way in.
    used = [node for node in ast.walk(tree) if isinstance(node, ast.expr) and _name(node) in LOADERS]
    assert len(used) == len(loading)
    others = {"get_class_from_dynamic_module", "pipeline"}
    assert not [node.lineno for node in _calls(tree) if _name(node.func) in others]
