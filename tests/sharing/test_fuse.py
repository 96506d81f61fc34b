"""A fused model computes what the base model with its adapter does, from the folder that transformers loads."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from torch import Tensor

import adamergex
from adamergex.adapters.adapter import load
from adamergex.errors import AdapterError, ModelError, RecipeError, StorageError
from adamergex.inference import usage
from adamergex.inference.settings import Evaluate
from adamergex.sharing import fused_folder
from adamergex.sharing.fuse import fuse
from adamergex.storage.checkpoints import resolve
from adamergex.tasks.task import Task
from tests import families, zoo
from tests.stand_in_for_the_hub import Hub

TASKS = {"causal": "CAUSAL_LM", "seq2seq": "SEQ_2_SEQ_LM", "encoder": "FEATURE_EXTRACTION"}
TOKENS = torch.arange(3, 23)[None]


def logits(model: Any, tokens: Tensor = TOKENS) -> Tensor:
    inputs = {"input_ids": tokens}
    if getattr(model.config, "is_encoder_decoder", False):
        inputs["decoder_input_ids"] = tokens[:, :6]
    with torch.no_grad():
        found: Tensor = model.eval()(**inputs).logits
    return found


def noisy(model: Any, config: peft.PeftConfig, folder: Path) -> tuple[Tensor, Tensor]:
    """Save an adapter with random weights: logits of the model without and with it, float32."""
    before = logits(model)
    adapted = peft.get_peft_model(model, config)
    generator = torch.Generator().manual_seed(5)
    for name, parameter in adapted.named_parameters():
        if parameter.requires_grad:
            noise = 0.2 * torch.randn(parameter.shape, generator=generator)
            parameter.data = parameter.data * (1 + noise) if "ia3_l" in name else parameter.data + noise
    adapted.save_pretrained(folder)
    return before, logits(adapted)


def fused(adapter: str | Path, output: Path, **settings: Any) -> dict[str, Any]:
    dtype = settings.pop("dtype", None)
    overwrite = settings.get("overwrite", False)
    return fused_folder.put(fused_folder.prepared(adapter, output, **settings), output, dtype, overwrite=overwrite)


@pytest.mark.parametrize("structure", ["lora", "ia3"])
@pytest.mark.parametrize("name", families.MODELS)
def test_logits_are_those_of_the_base_model_with_the_adapter(name: str, structure: str, tmp_path: Path) -> None:
    base, family = families.save(name, tmp_path / "base"), families.FAMILY.get(name, "causal")
    model = families.AUTO[family].from_pretrained(base)
    linear = sorted(
        {n.rpartition(".")[2] for n, m in model.named_modules() if type(m).__name__ in ("Linear", "Conv1D")}
    )
    modules: list[str] = [module for module in linear if module not in ("lm_head", "decoder", "dense")]
    settings: dict[str, Any] = {"target_modules": modules, "task_type": TASKS[family]}
    config: peft.PeftConfig = peft.LoraConfig(r=2, lora_alpha=3, **settings)
    if structure == "ia3":
        config = peft.IA3Config(feedforward_modules=[], **settings)
    config.base_model_name_or_path = str(base)
    before, wanted = noisy(model, config, tmp_path / "adapter")
    facts = fused(tmp_path / "adapter", tmp_path / "fused", base_model=str(base))
    assert facts["dtype"] == "float32"
    assert not facts["untied"]
    found = logits(getattr(transformers, facts["auto_class"]).from_pretrained(tmp_path / "fused"))
    assert (wanted - before).abs().max() > 0.1
    assert (found - wanted).abs().max() <= 1e-5 * max(1.0, float(wanted.abs().max()))
    # What else a folder of a model has.
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "fused")
    assert tokenizer("ab").input_ids == families.tokenizer(name)("ab").input_ids
    generation = [folder / "generation_config.json" for folder in (base, tmp_path / "fused")]
    assert len({file.read_bytes() if file.exists() else b"" for file in generation}) == 1
    assert len({path.stat().st_mode for path in (tmp_path / "fused").iterdir()}) == 1
    assert "base_model_relation" in (tmp_path / "fused/README.md").read_text()


@pytest.mark.parametrize("name", [n for n in zoo.ADDITIVE if n not in ("classifier", "fan_in_fan_out")])
def test_whatever_a_lora_folder_holds_is_folded_in(name: str, tmp_path: Path) -> None:
    make, config = zoo.ADDITIVE[name]
    zoo.base(make).float().save_pretrained(tmp_path / "base")  # type: ignore[operator]
    folder = zoo.train(make, config(), tmp_path / "adapter", 1)
    found = fuse(load(folder), resolve(str(tmp_path / "base")))
    wanted = zoo.logits(zoo.loaded(make, folder))
    # Oracle and base in float64.
    found.model.save_pretrained(tmp_path / "fused")
    again = type(found.model).from_pretrained(tmp_path / "fused", dtype=torch.float64, experts_implementation="eager")
    torch.testing.assert_close(zoo.logits(again), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "config",
    [
        zoo.lora(use_dora=True),
        peft.IA3Config(
            target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"], task_type="CAUSAL_LM"
        ),
    ],
    ids=["DoRA", "(IA)³ with what enters a layer"],
)
def test_what_multiplies_is_folded_in(config: peft.PeftConfig, tmp_path: Path) -> None:
    zoo.base(zoo.llama).float().save_pretrained(tmp_path / "base")  # type: ignore[operator]
    folder = zoo.train(zoo.llama, config, tmp_path / "adapter", 1)
    wanted = zoo.logits(zoo.loaded(zoo.llama, folder))
    assert (wanted - zoo.logits(zoo.base(zoo.llama))).abs().max() > 0.01
    found = fuse(load(folder), resolve(str(tmp_path / "base"))).model
    torch.testing.assert_close(zoo.logits(found.double()), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("target", ["embed_tokens", "lm_head"])
@pytest.mark.parametrize("whole", [False, True])
def test_tied_embeddings_are_two_matrices_where_the_adapter_changes_one(
    target: str, whole: bool, tmp_path: Path
) -> None:
    base = families.save("gemma3", tmp_path / "base")
    model = transformers.AutoModelForCausalLM.from_pretrained(base)
    assert model.config.tie_word_embeddings
    chosen = (
        {"target_modules": ["q_proj"], "modules_to_save": [target]} if whole else {"target_modules": ["q_proj", target]}
    )
    _, wanted = noisy(model, peft.LoraConfig(r=2, task_type="CAUSAL_LM", **chosen), tmp_path / "adapter")
    facts = fused(tmp_path / "adapter", tmp_path / "fused", base_model=str(base))
    assert facts["untied"]
    assert json.loads((tmp_path / "fused/config.json").read_text())["tie_word_embeddings"] is False
    found = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "fused")
    torch.testing.assert_close(logits(found), wanted, rtol=1e-5, atol=1e-5)
    assert not torch.equal(found.get_input_embeddings().weight, found.get_output_embeddings().weight)


def test_embeddings_that_an_architecture_always_ties_are_refused(tmp_path: Path) -> None:
    base = families.save("t5", tmp_path / "base")
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(base)
    config = peft.LoraConfig(r=2, target_modules=["q", "lm_head"], task_type="SEQ_2_SEQ_LM")
    noisy(model, config, tmp_path / "adapter")
    with pytest.raises(ModelError, match=r"always one matrix in T5ForConditionalGeneration.*use it with PEFT"):
        fused(tmp_path / "adapter", tmp_path / "fused", base_model=str(base))
    assert not (tmp_path / "fused").exists()
    assert not list(tmp_path.glob(".partial*"))


def test_the_base_models_dtype_is_kept_and_what_rounding_costs_is_said(tmp_path: Path) -> None:
    base = families.save("llama", tmp_path / "base")
    model = transformers.AutoModelForCausalLM.from_pretrained(base)
    model.to(torch.bfloat16).save_pretrained(base)
    whole = model.float()
    before = whole.model.layers[0].self_attn.q_proj.weight.detach().clone()
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], layers_to_transform=[0], task_type="CAUSAL_LM")
    noisy(whole, config, tmp_path / "adapter")
    update = next(
        iter([load(tmp_path / "adapter").update(m) for m in load(tmp_path / "adapter").schema.products])
    ).dense()

    facts = fused(tmp_path / "adapter", tmp_path / "fused", base_model=str(base))
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "fused", dtype="auto")
    assert facts["dtype"] == "bfloat16"
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.bfloat16}
    stored = loaded.model.layers[0].self_attn.q_proj.weight
    # Rounded once, after a sum in float32.
    assert torch.equal(stored, (before + update.float()).to(torch.bfloat16))
    error = (stored.double() - (before.double() + update)).norm() / update.norm()
    assert facts["rounding"] == pytest.approx(float(error), rel=1e-3)
    assert facts["rounding"] > 0
    wide = fused(tmp_path / "adapter", tmp_path / "wide", base_model=str(base), dtype="float32")
    assert wide["rounding"] == 0
    loud = fused_folder.warnings(facts | {"rounding": 0.4})
    assert "changes the weights by 40%" in loud[0]
    assert fused_folder.warnings(wide) == []


def test_a_classifier_is_what_autopeft_loads(tmp_path: Path) -> None:
    base = families.save("xlm-r", tmp_path / "base")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(base, num_labels=3)
    config = peft.LoraConfig(r=2, target_modules=["query"], modules_to_save=["classifier"], task_type="SEQ_CLS")
    config.base_model_name_or_path = str(base)
    noisy(model, config, tmp_path / "adapter")
    wanted = peft.AutoPeftModelForSequenceClassification.from_pretrained(tmp_path / "adapter", num_labels=3)
    task = {
        "prompt": "{text}",
        "answer": "label",
        "choices": {"yes": "a", "no": "b", "so": "c"},
        "train": "x.jsonl",
    }
    described = usage.described(
        Task.model_validate(task), Evaluate(), "es", base_model=str(base), weights="sha256 x", dtype="float32"
    )
    usage.write(tmp_path / "adapter", described)
    facts = fused(tmp_path / "adapter", tmp_path / "fused", base_model=str(base))
    assert facts["auto_class"] == "AutoModelForSequenceClassification"
    found = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "fused")
    assert found.config.id2label == {0: "yes", 1: "no", 2: "so"}
    torch.testing.assert_close(logits(found), logits(wanted), rtol=1e-5, atol=1e-5)
    rows = [f"row {number}" for number in range(9)]
    answers, of_adapter = (
        adamergex.predictor(tmp_path / "fused")(rows),
        adamergex.predictor(tmp_path / "adapter", base_model=str(base))(rows),
    )
    assert [label for label, _ in answers] == [label for label, _ in of_adapter]
    assert [p for _, p in answers] == pytest.approx([p for _, p in of_adapter], abs=1e-5)


def test_added_tokens_are_kept_with_their_tokenizer(tmp_path: Path) -> None:
    base = families.save("gemma3", tmp_path / "base")
    model = transformers.AutoModelForCausalLM.from_pretrained(base)
    model.resize_token_embeddings(303)
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    _, wanted = noisy(model, config, tmp_path / "adapter")
    tokenizer = families.tokenizer("gemma3")
    tokenizer.add_tokens([f"<new_{number}>" for number in range(44)])
    tokenizer.save_pretrained(tmp_path / "adapter")
    fused(tmp_path / "adapter", tmp_path / "fused", base_model=str(base))
    found = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "fused")
    assert found.config.vocab_size == 303
    torch.testing.assert_close(logits(found), wanted, rtol=1e-5, atol=1e-5)
    last = torch.tensor([[1, 302, 5]])
    with torch.no_grad():
        want = peft.PeftModel.from_pretrained(_resized(base, 303), tmp_path / "adapter")(last).logits
    torch.testing.assert_close(logits(found, last), want, rtol=1e-5, atol=1e-5)
    assert transformers.AutoTokenizer.from_pretrained(tmp_path / "fused").convert_tokens_to_ids("<new_43>") == 302


def _resized(base: Path, rows: int) -> Any:
    model = transformers.AutoModelForCausalLM.from_pretrained(base)
    model.resize_token_embeddings(rows)
    return model


@pytest.mark.parametrize("peft_type", ["prefix", "p-tuning"])
def test_prompts_are_refused(peft_type: str, tmp_path: Path) -> None:
    config: peft.PeftConfig = peft.PrefixTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM")
    if peft_type == "p-tuning":
        config = peft.PromptEncoderConfig(num_virtual_tokens=2, task_type="CAUSAL_LM", encoder_hidden_size=8)
    zoo.train(zoo.llama, config, tmp_path / "adapter", 1)
    zoo.base(zoo.llama).float().save_pretrained(tmp_path / "base")  # type: ignore[operator]
    with pytest.raises(AdapterError, match=r"is in no weight of the model.*with PEFT"):
        fused(tmp_path / "adapter", tmp_path / "fused", base_model=str(tmp_path / "base"))


def test_what_does_not_fit_is_refused_with_one_line(tmp_path: Path) -> None:
    base = families.save("llama", tmp_path / "base")
    model = transformers.AutoModelForCausalLM.from_pretrained(base)
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    noisy(model, config, tmp_path / "adapter")
    other = families.save("gpt2", tmp_path / "gpt2")
    with pytest.raises(ModelError, match="gpt2|q_proj"):
        fused(tmp_path / "adapter", tmp_path / "fused", base_model=str(other))
    shallow = families.LLAMA | {"num_hidden_layers": 1}
    transformers.LlamaForCausalLM(transformers.LlamaConfig(**shallow)).save_pretrained(tmp_path / "shallow")
    with pytest.raises(ModelError, match=r"layers\.1\.self_attn\.q_proj.* has no place in"):
        fused(tmp_path / "adapter", tmp_path / "fused", base_model=str(tmp_path / "shallow"))
    for output, says in ((tmp_path / "adapter", "would replace the adapter"), (base, "would replace the base model")):
        with pytest.raises(StorageError, match=says):
            fused(tmp_path / "adapter", output, base_model=str(base), overwrite=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("")
    with pytest.raises(StorageError, match=r"add --overwrite"):
        fused(tmp_path / "adapter", tmp_path / "mine", base_model=str(base))
    with pytest.raises(StorageError, match=r"is no fused model \(notes\.txt\)"):
        fused(tmp_path / "adapter", tmp_path / "mine", base_model=str(base), overwrite=True)
    fused(tmp_path / "adapter", tmp_path / "fused", base_model=str(base))
    fused(tmp_path / "adapter", tmp_path / "fused", base_model=str(base), overwrite=True)
    assert not list(tmp_path.glob(".*"))


def test_a_run_is_fused_and_answers_the_same(own_data: Callable[..., Path], tmp_path: Path) -> None:
    path = own_data(evaluate={"methods": ["source-adapter", "adamergex"]})
    run = tmp_path / "run"
    adamergex.run(path, output=run)
    command = [sys.executable, "-m", "adamergex", "fuse", str(run), "--output", str(tmp_path / "whole")]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"HF_HUB_OFFLINE": "1"}, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    shutil.move(tmp_path / "whole", tmp_path / "moved")
    rows = [f"test {number} bueno" for number in range(12)]
    answers, wanted = (adamergex.predictor(place)(rows) for place in (tmp_path / "moved", run))
    assert [label for label, _ in answers] == [label for label, _ in wanted]
    assert [p for _, p in answers] == pytest.approx([p for _, p in wanted], abs=1e-5)
    base = adamergex.load(run / "adapters/task-en").config["base_model_name_or_path"]
    tensors = {p: (tmp_path / "moved" / p).is_file() for p in ("model.safetensors", "fuse.json", usage.FILE)}
    assert all(tensors.values())
    with pytest.raises(RecipeError, match="is a whole model"):
        adamergex.predictor(tmp_path / "moved", base_model=base)
    assert "Know before use" not in (tmp_path / "moved/README.md").read_text()
    done = subprocess.run(command[:-1], capture_output=True, text=True, check=False)
    assert done.returncode == 2


def test_an_adapter_of_the_hub_is_fused(hub: Hub, tmp_path: Path) -> None:
    base = families.save("llama", tmp_path / "base")
    model = transformers.AutoModelForCausalLM.from_pretrained(base)
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    noisy(model, config, tmp_path / "adapter")
    files = {f"sw/{path.name}": path.read_bytes() for path in (tmp_path / "adapter").iterdir()}
    commit = hub.put("me/news", files)
    facts, wanted = (
        fused(place, tmp_path / name, base_model=str(base))
        for place, name in (("me/news:sw", "hub"), (tmp_path / "adapter", "local"))
    )
    assert facts["sha256"] == wanted["sha256"]
    assert facts["adapter"] == f"me/news@{commit}:sw"
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("hub", "local")]
    assert weights[0] == weights[1]
