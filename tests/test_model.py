"""Logits only where they are needed are the same logits, on every kind of output embedding."""

from pathlib import Path

import pytest
import torch
import transformers
from torch.nn import functional

from adamergex.checkpoints import Checkpoint
from adamergex.errors import ModelError
from adamergex.model import Example, Workbench, batches_by_length, target_logits
from adamergex.recipe import AdapterSettings

SMALL = {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
LLAMA = SMALL | {"intermediate_size": 48, "num_key_value_heads": 2}
CONFIGS = {
    "llama": transformers.LlamaConfig(**LLAMA),
    "qwen2": transformers.Qwen2Config(**LLAMA),
    "mistral with a sliding window": transformers.MistralConfig(**LLAMA, sliding_window=4),
    "gemma 2 with soft-capped logits": transformers.Gemma2Config(
        **LLAMA, head_dim=8, final_logit_softcapping=3.0, sliding_window=4
    ),
    "gemma 3": transformers.Gemma3TextConfig(**LLAMA, head_dim=8, sliding_window=4),
    "cohere with scaled logits": transformers.CohereConfig(**LLAMA, logit_scale=0.3, pad_token_id=0),
    "gpt 2": transformers.GPT2Config(vocab_size=97, n_embd=32, n_layer=2, n_head=4),
    "gpt neox": transformers.GPTNeoXConfig(**SMALL, intermediate_size=48),
    "bloom, with ALiBi": transformers.BloomConfig(vocab_size=97, hidden_size=32, n_layer=2, n_head=4),
    "phi, with a bias on the logits": transformers.PhiConfig(**SMALL, intermediate_size=48),
    "opt": transformers.OPTConfig(**SMALL, ffn_dim=48, word_embed_proj_dim=32),
}
EXAMPLES = [
    Example([1, 5, 9, 33, 2, 8, 40, 41], [3, 7]),
    Example([1, 60, 61], [1, 2]),
    Example([1, 7, 7, 7, 12], [4]),
]


def plain_loss(model: torch.nn.Module) -> torch.Tensor:
    """Hugging Face's own loss over the padded batch, with a mask and labels of −100."""
    width = max(len(example.ids) for example in EXAMPLES)
    ids = torch.tensor([e.ids + [0] * (width - len(e.ids)) for e in EXAMPLES])
    mask = torch.tensor([[1] * len(e.ids) + [0] * (width - len(e.ids)) for e in EXAMPLES])
    labels = torch.full_like(ids, -100)
    for row, example in enumerate(EXAMPLES):
        labels[row, example.targets] = ids[row, example.targets]
    return model(input_ids=ids, attention_mask=mask, labels=labels).loss


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_loss_equals_the_plain_forward_pass(kind: str) -> None:
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(CONFIGS[kind]).eval()
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    ours = functional.cross_entropy(*target_logits(model, EXAMPLES, pad=0))
    plain = plain_loss(model)
    assert abs(ours.item() - plain.item()) < 1e-5
    one, other = (torch.autograd.grad(loss, next(model.parameters()))[0] for loss in (ours, plain))
    assert torch.allclose(one, other, atol=1e-5)


def test_only_the_positions_with_labels_reach_the_output_embedding() -> None:
    model = transformers.AutoModelForCausalLM.from_config(CONFIGS["llama"])
    seen = []
    model.lm_head.register_forward_hook(lambda module, args, output: seen.append(tuple(output.shape)))
    target_logits(model, EXAMPLES, pad=0)
    assert seen == [(1, 5, 97)]


def test_all_adapters_of_a_run_start_from_the_same_a(workbench: Workbench) -> None:
    workbench.start(0)
    first = workbench.adapter()
    for parameter in workbench.trainable():
        parameter.data.normal_()
    torch.manual_seed(99)
    workbench.start(0)
    second = workbench.adapter()
    assert all(torch.equal(first.tensors[name], second.tensors[name]) for name in first.tensors)
    assert all(tensor.any() == (".lora_A." in name) for name, tensor in first.tensors.items())
    workbench.start(1)
    other = workbench.adapter().tensors
    assert not any(torch.equal(other[name], tensor) for name, tensor in first.tensors.items() if ".lora_A." in name)


def test_the_start_of_a_module_does_not_depend_on_the_other_modules(tiny_model: Path, workbench: Workbench) -> None:
    workbench.start(0)
    checkpoint = Checkpoint("tiny-llama", tiny_model, "tiny")
    alone = Workbench(checkpoint, "float32", AdapterSettings(r=2, alpha=4, target_modules=["v_proj"]))
    alone.start(0)
    of_all = workbench.adapter().tensors
    assert all(torch.equal(tensor, of_all[name]) for name, tensor in alone.adapter().tensors.items())


def test_a_target_module_that_matches_nothing_is_named(tiny_model: Path) -> None:
    with pytest.raises(ModelError, match="query matches no module of tiny; it has .*q_proj"):
        Workbench(Checkpoint("tiny", tiny_model, ""), "float32", AdapterSettings(target_modules=["q_proj", "query"]))


def test_a_model_that_does_not_load_is_one_line(tmp_path: Path, tiny_model: Path) -> None:
    for file in tiny_model.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"not a model")
    with pytest.raises(ModelError, match="^base_model broken: does not load: ") as caught:
        Workbench(Checkpoint("broken", tmp_path, ""), "float32", AdapterSettings())
    assert "\n" not in str(caught.value)


def test_batches_hold_like_lengths_and_every_example_once() -> None:
    examples = [Example([1] * length, []) for length in (3, 9, 4, 8, 2)]
    assert batches_by_length(examples, 2) == [[1, 3], [2, 0], [4]]
