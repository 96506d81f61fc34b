"""`adamergex evaluate`: adapters side by side without a recipe, and all methods of a recipe."""

import contextlib
import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from typer.testing import CliRunner, Result

from adamergex.cli.main import app
from adamergex.errors import AdapterError, DataError, RecipeError
from adamergex.inference.settings import Evaluate
from adamergex.inference.systems import NAMES
from adamergex.pipeline.evaluation_plan import Comparison
from adamergex.pipeline.run import run
from adamergex.recipes import loading
from adamergex.scoring.results import Scores, rows
from adamergex.storage import files
from adamergex.storage.checkpoints import PACKAGED
from tests import zoo
from tests.inference.test_vllm import SETTINGS, made


def evaluate(*arguments: str) -> Result:
    done = CliRunner().invoke(app, ["evaluate", *arguments])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


@pytest.fixture
def run_of(own_data: Callable[..., Path]) -> Path:
    """A run on the tiny model with every method that needs no choice of structure."""
    path = own_data(evaluate={"methods": list(NAMES), "shots": 2, "max_new_tokens": 8})
    loaded = loading.load(str(path), [])
    run(loaded, folder=path.parent, output=path.parent / "run")
    return path


def test_all_methods_stand_side_by_side_and_adapters_score_the_same_without_the_recipe(
    run_of: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of.parent / "run"
    scores = [json.loads(line) for line in (run / "scores.jsonl").read_text().splitlines()]
    assert [row["method"] for row in scores] == list(NAMES)
    report = (run / "report.md").read_text()
    for label in ("base model, 2 examples", "base model, XLT prompt", "es reference adapter", "DARE-TIES (t = 0.5)"):
        assert f"| {label} |" in report
    assert (run / "report.html").read_text().count("<table>") >= 1
    merged = {name: files.sha256(run / f"merged/es/{name}/adapter_model.safetensors") for name in NAMES[5:11]}
    assert len(set(merged.values())) == len(merged)
    plan = (run / "merged/es/ties/merge.yaml").read_text()
    assert "method: ties" in plan
    assert "density: 0.2" in plan
    assert "reference-source" not in plan.split("inputs:")[1]
    out = run_of.parent / "scores"
    arguments = ["--task", str(run_of), "--language", "es", "--output", str(out)]
    arguments += ["--adapter", f"t0={run / 'adapters/task-en'}", "--adapter", str(run / "merged/es/adamergex")]
    monkeypatch.chdir(run_of.parent)
    done, again = evaluate(*arguments), evaluate(*arguments)
    assert "done before" in again.stdout
    assert "vs t0" in done.stdout
    assert "merging" not in done.stdout
    for name, of_run in (("base", "base"), ("t0", "source-adapter"), ("adamergex", "adamergex")):
        ours = files.read_jsonl(out / f"predictions/recipe/es/{name}/predictions.jsonl")
        assert ours == files.read_jsonl(run / f"predictions/es/{of_run}/predictions.jsonl")


def on(model: Path, folder: Path, seed: int, **settings: Any) -> Path:
    """An adapter with random weights for a model in a folder, as PEFT writes it."""
    base = transformers.AutoModelForCausalLM.from_pretrained(model)
    adapted = peft.get_peft_model(base, zoo.lora(**settings))
    generator = torch.Generator().manual_seed(seed)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    adapted.save_pretrained(folder)
    return folder


def test_adapters_score_in_any_order_what_they_score_alone(
    own_data: Callable[..., Path], tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = own_data()
    monkeypatch.chdir(path.parent)
    several: list[dict[str, Any]] = [
        {"modules_to_save": ["lm_head"]},
        {},
        {"layers_to_transform": [1], "r": 3},
        {"exclude_modules": ["down_proj"], "modules_to_save": ["embed_tokens"]},
    ]
    given = [f"{n}={on(tiny_model, path.parent / f'adapter-{n}', n, **settings)}" for n, settings in enumerate(several)]

    def predictions(output: str, adapters: list[str]) -> dict[str, bytes]:
        options = [option for one in adapters for option in ("--adapter", one)]
        evaluate("--task", str(path), "--language", "es", *options, "--output", output)
        names = ["base", *(one.partition("=")[0] for one in adapters)]
        return {n: Path(output, f"predictions/recipe/es/{n}/predictions.jsonl").read_bytes() for n in names}

    together = predictions("together", given)
    assert len(set(together.values())) == 5
    assert predictions("reversed", given[::-1]) == together
    for one in given:
        alone = predictions(f"alone-{one[0]}", [one])
        assert alone == {name: together[name] for name in alone}


def test_adapters_that_name_different_base_models_are_refused_and_another_one_is_warned_of(
    own_data: Callable[..., Path], tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = own_data()
    monkeypatch.chdir(path.parent)
    one, other, silent = (on(tiny_model, path.parent / name, 1) for name in ("one", "other", "silent"))

    def name(folder: Path, **facts: str | None) -> None:
        config = json.loads((folder / "adapter_config.json").read_text()) | facts
        (folder / "adapter_config.json").write_text(json.dumps(config))

    arguments = ["--task", str(path), "--language", "es", "--adapter", str(one), "--adapter", str(other)]
    copied = path.parent / "copied"
    shutil.copytree(tiny_model, copied)
    name(other, base_model_name_or_path=str(copied))
    # By name, as merging compares them: nothing tells that the weights are the same.
    refused = f"base model differs: one was trained on {tiny_model}, other on {copied}; evaluate each with its own"
    for more in ([], ["--base-model", str(tiny_model)]):
        with pytest.raises(AdapterError, match=re.escape(refused)) as caught:
            evaluate(*arguments, *more, "--output", "refused")
        assert "set base_model_name_or_path alike in adapter_config.json" in str(caught.value)
        assert "\n" not in str(caught.value)
    name(other, base_model_name_or_path=str(tiny_model), revision="abc")
    with pytest.raises(AdapterError, match="revision of the base model differs: one was trained on main, other on abc"):
        evaluate(*arguments, "--output", "refused")
    assert not list(path.parent.glob("refused/*/*"))

    name(one, base_model_name_or_path="someone/else")
    name(other, base_model_name_or_path="someone/else", revision=None)
    name(silent, base_model_name_or_path=None)
    done = evaluate(*arguments, "--adapter", str(silent), "--base-model", str(tiny_model), "--output", "warned")
    report = Path("warned/report.html").read_text()
    for said in (
        f"one was trained on someone/else, and is scored on {tiny_model}; are the weights the same?",
        f"silent does not say which base model it was trained on; it is scored on {tiny_model}",
    ):
        assert said in " ".join(done.stderr.split())
        assert said in report
    # A link leads to the folder itself.
    (path.parent / "linked").symlink_to(tiny_model)
    name(one, base_model_name_or_path=str(path.parent / "linked"))
    done = evaluate(*arguments[:6], "--base-model", str(tiny_model), "--output", "same-folder")
    assert "was trained on" not in done.stdout


def test_what_evaluate_is_given_wrongly_is_one_line(own_data: Callable[..., Path], tmp_path: Path) -> None:
    common = ["--language", "sw", "--output", str(tmp_path / "out"), "--base-model", PACKAGED]
    with pytest.raises(RecipeError, match="xcoppa: no such benchmark; .* did you mean xcopa"):
        evaluate("--task", "xcoppa", *common)
    with pytest.raises(AdapterError, match=r"nowhere: no such folder; expected a PEFT adapter folder"):
        evaluate("--task", "xcopa", "--adapter", "a=nowhere", *common)
    with pytest.raises(RecipeError, match="baseline t0: expected one of base"):
        evaluate("--task", "xcopa", "--baseline", "t0", *common)
    with pytest.raises(RecipeError, match="length-normalization: .* 'none', 'tokens' or 'characters'"):
        evaluate("--task", "xcopa", "--length-normalization", "words", *common)
    with pytest.raises(RecipeError, match="metric: .* 'accuracy', 'macro_f1' or 'balanced_accuracy'"):
        evaluate("--task", "xcopa", "--metric", "f1", *common)
    with pytest.raises(RecipeError, match="task xcopa: metric: macro_f1 is for labels .* choices name columns"):
        evaluate("--task", "xcopa", "--metric", "macro_f1", *common)
    with pytest.raises(RecipeError, match="'swa hili' is not a language code"):
        evaluate("--task", "xcopa", *common[2:], "--language", "swa hili")
    with pytest.raises(DataError, match="mgsm: has no dev split"):
        evaluate("--task", "mgsm", "--split", "dev", *common)
    with pytest.raises(RecipeError, match="base-model: missing"):
        evaluate("--task", "xcopa", *common[:4])
    assert not (tmp_path / "out").exists()


def test_adapters_may_be_called_like_the_methods_of_a_recipe(
    own_data: Callable[..., Path], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = own_data(), tmp_path / "scores"
    names = ("few-shot", "ceiling", "source-adapter", "adamergex", "xlt")
    adapters = {name: made(tiny_model, SETTINGS["a"], tmp_path / name) for name in names}
    given = [part for name, folder in adapters.items() for part in ("--adapter", f"{name}={folder}")]
    monkeypatch.chdir(path.parent)
    common = ["--task", str(path), "--language", "es", "--base-model", str(tiny_model), "--output", str(out)]
    done = evaluate(*common, *given)
    found = {row["method"]: row for row in files.read_jsonl(out / "scores.jsonl")}
    assert {name: row["role"] for name, row in found.items()} == {"base": "base"} | dict.fromkeys(names, "adapter")
    # None of them is a ceiling, and none was merged.
    assert all(row["gap_closed"] is None for row in found.values())
    assert "merging" not in done.stdout
    assert "gap closed" not in done.stdout


@pytest.mark.parametrize("config", [b"", b"[]", b"null", b"\xff\xfe", b"[" * 100_000])
def test_a_configuration_that_is_none_is_one_line(tiny_model: Path, tmp_path: Path, config: bytes) -> None:
    folder = made(tiny_model, SETTINGS["a"], tmp_path / "a")
    (folder / "adapter_config.json").write_bytes(config)
    with pytest.raises(AdapterError):
        evaluate("--task", "xcopa", "--language", "sw", "--adapter", str(folder), "--output", str(tmp_path / "o"))


@pytest.mark.parametrize("name", ["base", "../elsewhere", ""])
def test_an_adapter_cannot_be_called_what_the_base_model_is(
    own_data: Callable[..., Path], tiny_model: Path, tmp_path: Path, name: str
) -> None:
    adapter = made(tiny_model, SETTINGS["a"], tmp_path / "a")
    says = f"adapter {name}=.*: {name!r} is no name for an adapter; use letters, .*, not base"
    with pytest.raises(RecipeError, match=says):
        evaluate(
            "--task", "xcopa", "--language", "sw", "--adapter", f"{name}={adapter}", "--output", str(tmp_path / "o")
        )
    with pytest.raises(RecipeError, match=says):
        Comparison(str(tiny_model), {name: adapter}, "base", {}, ["es"], Evaluate())
    assert not (tmp_path / "o").exists()


def test_the_average_knows_translations_wherever_they_stand() -> None:
    gains = {"es": (1, 1, 1, 0, 0, 0), "sw": (0, 0, 0, 1, 1, 1)}
    scores = {code: {"t0": Scores([0] * 6), "a": Scores(of)} for code, of in gains.items()}
    labels = {code: {"t0": "t0", "a": "a"} for code in gains}

    def p_value(**named: str) -> float:
        found = rows("accuracy", labels, scores, "t0", {}, named)[-1].p_value
        assert found is not None
        return found

    # The same three items gained in both languages; six of one language each.
    assert p_value(es="abcdef", sw="defabc") == 2 / 2**3
    assert p_value(es="abcdef", sw="ghijkl") == 2 / 2**6


def test_the_harness_files_its_numbers_in_the_same_report(
    own_data: Callable[..., Path], tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("lm_eval")
    path = own_data()
    folder = path.parent / "own"
    folder.mkdir()
    rows = [{"q": f"item {i}:", "a": ["yes", "no"], "gold": i % 2} for i in range(4)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "own.yaml").write_text(
        "task: own_task\ndataset_path: json\n"
        f"dataset_kwargs: {{data_files: {{test: {folder / 'rows.jsonl'}}}}}\n"
        "test_split: test\noutput_type: multiple_choice\ndoc_to_text: '{{q}}'\ndoc_to_choice: '{{a}}'\n"
        "doc_to_target: gold\nmetric_list: [{metric: acc}]\n"
    )
    out = path.parent / "scores"
    arguments = ["--task", str(path), "--language", "es", "--base-model", str(tiny_model), "--output", str(out)]
    monkeypatch.chdir(path.parent)
    evaluate(*arguments, "--harness", "own_task", "--harness-folder", str(folder))
    [row] = files.read_jsonl(out / "harness/base/harness.jsonl")
    assert (row["task"], row["metric"]) == ("own_task", "acc,none")
    assert f"| own_task · base | acc,none | {row['value']:.4f} |" in (out / "report.md").read_text()


def test_a_killed_evaluation_goes_on_within_its_predictions(
    own_data: Callable[..., Path], tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = own_data()
    rows = "".join(json.dumps({"text": f"item {i}", "label": ("pos", "neg")[i % 2]}) + "\n" for i in range(150))
    (path.parent / "data/test.es.jsonl").write_text(rows)
    command = [sys.executable, "-u", "-m", "adamergex", "evaluate", "--task", str(path), "--language", "es"]
    command += ["--base-model", str(tiny_model), "--batch-size", "1"]
    killed = path.parent / "killed"
    # Tiny operations on several threads wait for each other.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    process = subprocess.Popen([*command, "--output", str(killed)], cwd=path.parent, stdout=subprocess.DEVNULL)
    journal = None
    while process.poll() is None and (journal is None or journal.stat().st_size < 2000):
        # Folders come and go meanwhile.
        with contextlib.suppress(FileNotFoundError):
            journal = next(killed.glob(".work/scratch/predictions/recipe/es/base@/*/answers-*"), None)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert journal is not None
    answered = len(journal.read_bytes().splitlines())
    assert 0 < answered < 150
    for output in ("killed", "whole"):
        subprocess.run(
            [*command, "--output", str(path.parent / output)], cwd=path.parent, check=True, capture_output=True
        )
    place = "predictions/recipe/es/base/predictions.jsonl"
    assert (killed / place).read_bytes() == (path.parent / "whole" / place).read_bytes()
    assert not [path for path in killed.glob(".work/**/*") if path.is_file()]
