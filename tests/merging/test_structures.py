"""Every structure: merged from PEFT's folders, loaded by PEFT again, against an oracle in float64.

The oracle for updates that are sums does not know what LoRA is: PEFT folds each adapter into the base model, and the
weights that come out are added and subtracted, all parameters of the model alike.
"""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch

import adamergex
from adamergex.errors import AdapterError, MergeError
from tests import zoo

T = 0.6


def folded(make: Callable[[], zoo.Model], folder: Path) -> dict[str, torch.Tensor]:
    """The model's weights with an adapter in them."""
    return dict(zoo.loaded(make, folder).merge_and_unload().state_dict())


def close(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-6) -> bool:
    return float((found - expected).norm()) <= tolerance * float(expected.norm())


@pytest.mark.parametrize("case", zoo.ADDITIVE)
def test_a_merged_update_computes_what_the_dense_sum_does(case: str, tmp_path: Path) -> None:
    make, config = zoo.ADDITIVE[case]
    folders = zoo.three(make, config, tmp_path)
    task, target, source = (adamergex.load(folder, lazy=True) for folder in folders)
    adamergex.merge(task, target, source, scale=T).save(tmp_path / "merged")

    oracle = zoo.base(make)
    of_task, of_target, of_source = (folded(make, folder) for folder in folders)
    heads = [name.removeprefix("base_model.model.") for name in task.schema.heads]
    oracle.load_state_dict(
        {
            name: of_task[name] if name in heads else of_task[name] + T * (of_target[name] - of_source[name])
            for name in of_task
        }
    )
    expected = zoo.logits(oracle)
    assert close(zoo.logits(zoo.loaded(make, tmp_path / "merged")), expected)
    # The merge is seen at all: it is neither the task adapter nor the base model.
    assert not close(zoo.logits(zoo.loaded(make, folders[0])), expected, 1e-3)
    assert not close(zoo.logits(zoo.base(make)), expected, 1e-3)


@pytest.mark.parametrize("case", ["plain", "rslora", "both patterns, rslora", "embedding", "fan_in_fan_out", "experts"])
def test_a_truncated_update_is_the_best_of_its_rank(case: str, tmp_path: Path) -> None:
    make, config = zoo.ADDITIVE[case]
    task, target, source = map(adamergex.load, zoo.three(make, config, tmp_path))
    merged = adamergex.merge(task, target, source, scale=T, rank=2)
    for module in task.schema.products:
        exact = task.update(module).dense() + T * (target.update(module).dense() - source.update(module).dense())
        sigma = torch.linalg.svdvals(exact)
        lost = float(sigma[..., 2:].square().sum() / sigma.square().sum())
        error = float((merged.update(module).dense() - exact).square().sum() / exact.square().sum())
        assert error == pytest.approx(lost, abs=1e-6)
        assert merged.discarded_energy[module] == pytest.approx(lost, abs=1e-9)


@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (zoo.llama, {"target_modules": ["q_proj", "down_proj"]}),
        (zoo.gpt2, {"target_modules": ["c_attn"], "fan_in_fan_out": True}),
        (zoo.t5, {"target_modules": ["q", "wo"], "task_type": "SEQ_2_SEQ_LM"}),
    ],
)
def test_dora_merges_its_update_by_addition_and_its_magnitude_by_multiplication(
    make: Callable[[], zoo.Model], settings: dict[str, Any], tmp_path: Path
) -> None:
    folders = zoo.three(make, lambda: zoo.lora(use_dora=True, **settings), tmp_path)
    task, target, source = map(adamergex.load, folders)
    adamergex.merge(task, target, source, scale=T).save(tmp_path / "merged")
    oracle = zoo.base(make)
    for module in task.schema.products:
        layer: Any = oracle.get_submodule(module)
        transposed = bool(settings.get("fan_in_fan_out"))
        weight = layer.weight.data.mT if transposed else layer.weight.data
        updates = [adapter.update(module).dense() for adapter in (task, target, source)]
        name = f"base_model.model.{module}.lora_magnitude_vector"
        m_task, m_target, m_source = (adapter.tensors[name].double() for adapter in (task, target, source))
        direction = weight + updates[0] + T * (updates[1] - updates[2])
        magnitude = m_task * (1 + T * (m_target / m_source - 1))
        weight = magnitude[:, None] * direction / direction.norm(dim=1, keepdim=True)
        layer.weight.data = weight.mT if transposed else weight
    assert close(zoo.logits(zoo.loaded(make, tmp_path / "merged")), zoo.logits(oracle))


IA3: dict[str, tuple[Callable[[], zoo.Model], dict[str, Any]]] = {
    "llama": (zoo.llama, {"target_modules": ["k_proj", "v_proj", "down_proj"], "feedforward_modules": ["down_proj"]}),
    "gpt2": (
        zoo.gpt2,
        {"target_modules": ["c_attn", "mlp.c_proj"], "feedforward_modules": ["mlp.c_proj"], "fan_in_fan_out": True},
    ),
    "t5": (
        zoo.t5,
        {"target_modules": ["k", "v", "wo"], "feedforward_modules": ["wo"], "task_type": "SEQ_2_SEQ_LM"},
    ),
    "xlmr": (
        zoo.xlmr,
        {
            "target_modules": ["key", "value", "output.dense"],
            "feedforward_modules": ["output.dense"],
            "task_type": "SEQ_CLS",
        },
    ),
}


def ia3(**settings: Any) -> peft.IA3Config:
    return peft.IA3Config(**{"task_type": "CAUSAL_LM"} | settings)


@pytest.mark.parametrize("case", IA3)
def test_ia3_scales_weights_by_the_merged_vectors(case: str, tmp_path: Path) -> None:
    make, settings = IA3[case]
    folders = zoo.three(make, lambda: ia3(**settings), tmp_path)
    task, target, source = map(adamergex.load, folders)
    adamergex.merge(task, target, source, scale=T).save(tmp_path / "merged")
    oracle = zoo.base(make)
    for name in task.tensors:
        path = name.removeprefix("base_model.model.")
        l_task, l_target, l_source = (adapter.tensors[name].double() for adapter in (task, target, source))
        if not path.endswith(".ia3_l"):
            oracle.get_parameter(path).data = l_task  # The head.
            continue
        layer: Any = oracle.get_submodule(path.removesuffix(".ia3_l"))
        vector = l_task * (1 + T * (l_target / l_source - 1))
        # (out, 1) scales outputs, and with them the bias; (1, in) scales inputs. GPT-2 keeps weights as (in, out).
        layer.weight.data *= vector.mT if settings.get("fan_in_fan_out") else vector
        if vector.shape[1] == 1 and layer.bias is not None:
            layer.bias.data *= vector[:, 0]
    assert close(zoo.logits(zoo.loaded(make, tmp_path / "merged")), zoo.logits(oracle))
    assert not close(zoo.logits(zoo.loaded(make, folders[0])), zoo.logits(oracle), 1e-3)


def test_ia3_refuses_divisors_near_zero_and_can_keep_the_tasks_values(tmp_path: Path) -> None:
    make, settings = IA3["llama"]
    task, target, source = map(adamergex.load, zoo.three(make, lambda: ia3(**settings), tmp_path))
    name = "base_model.model.model.layers.1.mlp.down_proj.ia3_l"
    source.tensors[name][0, :3] = torch.tensor([0.0, 1e-4, -1e-4])
    with pytest.raises(
        MergeError, match=r"within 2\^-10 of zero in 3 values of 1 modules, 3 of them in model.layers.1"
    ):
        adamergex.merge(task, target, source, scale=T)
    merged = adamergex.merge(task, target, source, scale=T, near_zero="keep-task")
    found, l_task, l_target, l_source = (a.tensors[name].double()[0] for a in (merged, task, target, source))
    assert torch.equal(found[:3], l_task[:3])
    assert close(found[3:], (l_task * (1 + T * (l_target / l_source - 1)))[3:])
    assert "the task's values were kept there" in merged.warnings[0]


PROMPTS: dict[str, tuple[Callable[[], zoo.Model], Any, dict[str, Any]]] = {
    "llama": (zoo.llama, peft.PrefixTuningConfig, {"task_type": "CAUSAL_LM"}),
    "llama, projected": (zoo.llama, peft.PrefixTuningConfig, {"task_type": "CAUSAL_LM", "prefix_projection": True}),
    "gpt2": (zoo.gpt2, peft.PrefixTuningConfig, {"task_type": "CAUSAL_LM"}),
    "t5": (zoo.t5, peft.PrefixTuningConfig, {"task_type": "SEQ_2_SEQ_LM"}),
    "p-tuning": (zoo.llama, peft.PromptEncoderConfig, {"task_type": "CAUSAL_LM", "encoder_hidden_size": 8}),
    "prompt tuning": (zoo.llama, peft.PromptTuningConfig, {"task_type": "CAUSAL_LM"}),
    "p-tuning, t5": (zoo.t5, peft.PromptEncoderConfig, {"task_type": "SEQ_2_SEQ_LM", "encoder_hidden_size": 8}),
}


@pytest.mark.parametrize("case", PROMPTS)
def test_prompts_go_through_the_map_between_the_references(case: str, tmp_path: Path) -> None:
    make, kind, settings = PROMPTS[case]
    folders = zoo.three(make, lambda: kind(num_virtual_tokens=3, **settings), tmp_path)
    task, target, source = map(adamergex.load, folders)
    merged = adamergex.merge(task, target, source, scale=T)
    merged.save(tmp_path / "merged")

    def blocks(adapter: adamergex.adapters.adapter.Adapter) -> torch.Tensor:
        """By PEFT's own words: view(tokens, layers · 2, heads, width / heads); the others by part of the model."""
        stored = adapter.tensors["prompt_embeddings"].double()
        if "tuning" in case:
            return stored.view(-1, 3, 16)
        return stored.view(3, adapter.config["num_layers"] * 2, -1).transpose(0, 1)

    p_task, p_target, p_source = map(blocks, (task, target, source))
    # The paper's form at t = 1, R·S⁺·T, by torch's own pseudo-inverse; S has full row rank, so that both agree.
    at_one = p_target @ torch.linalg.pinv(p_source) @ p_task
    assert close(blocks(merged), p_task + T * (at_one - p_task))
    assert len(merged.condition) == len(p_task)
    assert max(merged.condition.values()) == pytest.approx(float(torch.linalg.cond(p_source).max()), rel=1e-6)
    # PEFT reads the folder, and computes with what is in it.
    model = zoo.loaded(make, tmp_path / "merged")
    assert close(model.prompt_encoder["default"].embedding.weight.data, merged.tensors["prompt_embeddings"].double())
    found = zoo.logits(copy.deepcopy(model))
    model.prompt_encoder["default"].embedding.weight.data = task.tensors["prompt_embeddings"].double()
    assert not close(zoo.logits(model), found, 1e-3)


def test_a_prompt_is_the_tasks_at_scale_zero_and_with_equal_references_of_any_rank(tmp_path: Path) -> None:
    make, kind, settings = PROMPTS["llama"]
    task, target, source = map(
        adamergex.load, zoo.three(make, lambda: kind(num_virtual_tokens=12, **settings), tmp_path)
    )
    stored = task.tensors["prompt_embeddings"]
    assert torch.equal(adamergex.merge(task, target, source, scale=0).tensors["prompt_embeddings"], stored)
    # Twelve tokens of width eight: no full row rank, and still the identity.
    same = adamergex.merge(task, source, source, scale=T)
    assert torch.equal(same.tensors["prompt_embeddings"], stored)
    assert all(value == float("inf") for value in same.condition.values())


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (lambda: peft.VeraConfig(target_modules=["q_proj"], r=2), "VERA"),
        (lambda: peft.LoHaConfig(target_modules=["q_proj"], r=2), "LOHA"),
        (lambda: peft.LoKrConfig(target_modules=["q_proj"], r=2), "LOKR"),
        (lambda: peft.OFTConfig(target_modules=["q_proj"], oft_block_size=4), "OFT"),
        (lambda: peft.BOFTConfig(target_modules=["q_proj"], boft_block_size=4), "BOFT"),
        (lambda: peft.AdaLoraConfig(target_modules=["q_proj"], total_step=9), "ADALORA"),
        (lambda: peft.LNTuningConfig(target_modules=["input_layernorm"]), "LN_TUNING"),
        (lambda: peft.FourierFTConfig(target_modules=["q_proj"], n_frequency=4), "FOURIERFT"),
        (lambda: peft.HRAConfig(target_modules=["q_proj"], r=2), "HRA"),
        (lambda: peft.RandLoraConfig(target_modules=["q_proj"], r=2), "RANDLORA"),
        (lambda: peft.TrainableTokensConfig(target_modules=["embed_tokens"], token_indices=[1]), "TRAINABLE_TOKENS"),
    ],
)
def test_other_structures_are_refused_by_name(
    config: Callable[[], peft.PeftConfig], named: str, tmp_path: Path
) -> None:
    folder = zoo.train(zoo.llama, config(), tmp_path / "other", 1)
    with pytest.raises(AdapterError, match=rf'describes "{named}"; supported: LoRA \(LORA\), \(IA\)³ \(IA3\), prefix'):
        adamergex.load(folder)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"init_lora_weights": "pissa"}, "base weights that it changed"),
        ({"init_lora_weights": "olora"}, "base weights that it changed"),
        ({"use_qalora": True, "qalora_group_size": 4}, "pooled inputs"),
        ({"alora_invocation_tokens": [1, 2]}, "after its invocation tokens"),
    ],
)
def test_variants_whose_update_is_not_b_times_a_are_refused_with_the_reason(
    settings: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    model = peft.get_peft_model(zoo.base(zoo.llama).float(), zoo.lora(**settings))
    model.save_pretrained(tmp_path)
    with pytest.raises(AdapterError, match=reason):
        adamergex.load(tmp_path)
