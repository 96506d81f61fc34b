"""Adapters of every structure, as PEFT writes them, on models of a few thousand parameters."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from peft import LoraConfig

import adamergex
from adamergex.merging.merge import Merged

Model = torch.nn.Module


def llama() -> Model:
    config = transformers.LlamaConfig(
        vocab_size=40,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        attention_bias=True,
        initializer_range=0.3,
    )
    return transformers.LlamaForCausalLM(config)


def gpt2() -> Model:
    config = transformers.GPT2Config(
        vocab_size=40, n_embd=16, n_layer=2, n_head=4, initializer_range=0.3, bos_token_id=0, eos_token_id=0
    )
    return transformers.GPT2LMHeadModel(config)


def t5() -> Model:
    config = transformers.T5Config(vocab_size=40, d_model=16, d_kv=4, d_ff=24, num_layers=2, num_heads=4)
    return transformers.T5ForConditionalGeneration(config)


def xlmr() -> Model:
    config = transformers.XLMRobertaConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=24,
        num_labels=3,
        initializer_range=0.3,
    )
    return transformers.XLMRobertaForSequenceClassification(config)


def mixture() -> Model:
    config = transformers.Qwen3MoeConfig(
        vocab_size=40,
        hidden_size=16,
        intermediate_size=24,
        moe_intermediate_size=8,
        num_experts=4,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_experts_per_tok=2,
        head_dim=4,
        initializer_range=0.3,
        experts_implementation="eager",  # The faster ones know no float64.
    )
    return transformers.Qwen3MoeForCausalLM(config)


def base(make: Callable[[], Model]) -> Model:
    """The frozen model, always the same, in float64."""
    torch.manual_seed(0)
    return make().double().eval()


def lora(**settings: Any) -> LoraConfig:
    return LoraConfig(
        **{"r": 2, "lora_alpha": 3, "target_modules": ["q_proj", "down_proj"], "task_type": "CAUSAL_LM"} | settings
    )


# Every way in which PEFT writes a low-rank update that is a sum: the model, and how its adapters are set.
ADDITIVE: dict[str, tuple[Callable[[], Model], Callable[[], LoraConfig]]] = {
    "plain": (llama, lora),
    "rslora": (llama, lambda: lora(r=3, use_rslora=True)),
    "rank pattern": (llama, lambda: lora(rank_pattern={"down_proj": 5})),
    "alpha pattern": (llama, lambda: lora(alpha_pattern={r"layers\.1\.self_attn\.q_proj": 7})),
    "both patterns, rslora": (
        llama,
        lambda: lora(rank_pattern={"q_proj": 4}, alpha_pattern={"q_proj": 9}, use_rslora=True),
    ),
    "lora_bias": (llama, lambda: lora(target_modules=["q_proj"], lora_bias=True)),
    "all biases": (llama, lambda: lora(bias="all")),
    "biases of the modules": (llama, lambda: lora(target_modules=["q_proj", "v_proj"], bias="lora_only")),
    "embedding": (llama, lambda: lora(target_modules=["q_proj", "embed_tokens"])),
    "some layers": (llama, lambda: lora(layers_to_transform=[1], exclude_modules=["down_proj"])),
    "all linear": (llama, lambda: lora(target_modules="all-linear")),
    "trained tokens": (llama, lambda: lora(trainable_token_indices=[3, 5])),
    "fan_in_fan_out": (gpt2, lambda: lora(target_modules=["c_attn", "c_proj"], fan_in_fan_out=True)),
    "encoder and decoder": (t5, lambda: lora(target_modules=["q", "wo"], task_type="SEQ_2_SEQ_LM")),
    "classifier": (xlmr, lambda: lora(target_modules=["query", "output.dense"], task_type="SEQ_CLS")),
    "experts": (
        mixture,
        lambda: lora(target_modules=["q_proj"], target_parameters=["experts.gate_up_proj", "experts.down_proj"]),
    ),
    "one parameter, and an alpha for its module": (
        mixture,
        lambda: lora(target_modules=[], target_parameters=["experts.down_proj"], alpha_pattern={"experts": 30}),
    ),
    "one parameter with an alpha of its own": (
        mixture,
        lambda: lora(target_modules=[], target_parameters=["experts.down_proj"], alpha_pattern={"down_proj": 30}),
    ),
    "parameters without their module, beside modules of other ranks": (
        mixture,
        lambda: lora(
            target_modules=["q_proj"], target_parameters=["gate_up_proj", "down_proj"], rank_pattern={"q_proj": 4}
        ),
    ),
    "experts, rslora": (
        mixture,
        lambda: lora(target_modules=[], target_parameters=["experts.down_proj"], use_rslora=True),
    ),
}


def train(make: Callable[[], Model], config: peft.PeftConfig, folder: Path, seed: int) -> Path:
    """An adapter with random weights in place of trained ones, saved by PEFT."""
    model = peft.get_peft_model(base(make), config)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            scaled = "ia3_l" in name or "magnitude" in name
            parameter.data = parameter.data * (1 + 0.2 * noise) if scaled else parameter.data + 0.2 * noise
    model.float().save_pretrained(folder)
    return folder


def three(make: Callable[[], Model], config: Callable[[], peft.PeftConfig], folder: Path) -> list[Path]:
    """Task, target and source adapter."""
    return [train(make, config(), folder / name, seed) for seed, name in enumerate(("task", "target", "source"), 1)]


def merged(folders: list[Path], scale: float, **settings: Any) -> Merged:
    """Ours, of three folders."""
    task, target, source = map(adamergex.load, folders)
    return adamergex.merge(task, target, source, scale, **settings)


def loaded(make: Callable[[], Model], folder: Path) -> peft.PeftModel:
    """What PEFT makes of a folder, in float64."""
    return peft.PeftModel.from_pretrained(base(make), folder).double().eval()


def logits(model: Model) -> torch.Tensor:
    """Of a fixed input."""
    tokens = torch.arange(3, 23)[None] % 40
    inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    if getattr(model.config, "is_encoder_decoder", False):
        inputs["decoder_input_ids"] = tokens[:, :6]
    with torch.no_grad():
        return model(**inputs).logits
