"""What is compared is computed in float32, whatever the weights: nearly equal choices are not equal ones."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from torch.utils._python_dispatch import TorchDispatchMode

from adamergex.inference import choices
from adamergex.inference.predict import PredictionRequest, predict
from adamergex.models import encode
from adamergex.models import target_logits as module
from adamergex.models.adapter_settings import Lora
from adamergex.models.encoded import EncodedExample
from adamergex.models.resident import ResidentModel
from adamergex.models.target_logits import float32_logits, target_logits
from adamergex.storage.checkpoints import Checkpoint
from adamergex.tasks.items import Item
from tests.families import save

SMALL = {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
LLAMA = SMALL | {"intermediate_size": 48, "num_key_value_heads": 2, "initializer_range": 0.5}
# What a model does behind its output embedding, in float64.
AFTER: dict[str, tuple[transformers.PretrainedConfig, Callable[[torch.Tensor], torch.Tensor]]] = {
    "llama": (transformers.LlamaConfig(**LLAMA), lambda logits: logits),
    "gemma 2, soft-capped": (
        transformers.Gemma2Config(**LLAMA, head_dim=8, final_logit_softcapping=3.0),
        lambda logits: 3 * (logits / 3).tanh(),
    ),
    "cohere, scaled": (
        transformers.CohereConfig(**LLAMA, logit_scale=0.3, pad_token_id=0),
        lambda logits: 0.3 * logits,
    ),
    "phi, with a bias": (
        transformers.PhiConfig(**SMALL, intermediate_size=48, initializer_range=0.5),
        lambda logits: logits,
    ),
}
EXAMPLES = [EncodedExample([1, 5, 9, 33, 2, 8, 40, 41], [3, 5, 7]), EncodedExample([1, 60, 61], [1, 2])]


def halved(config: transformers.PretrainedConfig, dtype: torch.dtype = torch.bfloat16) -> Any:
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
    head = model.get_output_embeddings()
    if head.bias is not None:
        head.bias.data.normal_()
    return model


def exact(head: Any, hidden: torch.Tensor) -> torch.Tensor:
    """The output embedding in float64, with an adapter where it has one."""
    base = getattr(head, "base_layer", head)
    found = hidden.double() @ base.weight.double().T
    if base.bias is not None:
        found += base.bias.double()
    if hasattr(head, "lora_A"):
        down, up = head.lora_A["default"].weight, head.lora_B["default"].weight
        found += hidden.double() @ down.double().T @ up.double().T * head.scaling["default"]
    return found


def seen(head: torch.nn.Module, run: Callable[[], Any]) -> tuple[torch.Tensor, Any]:
    """What an output embedding is given while something runs, and what that returns."""
    given: list[torch.Tensor] = []
    handle = head.register_forward_hook(lambda part, args, out: given.append(args[0]))
    with torch.inference_mode():
        result = run()
    handle.remove()
    return given[0], result


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("kind", AFTER)
def test_logits_are_those_of_float32_products_and_so_is_what_the_model_does_behind_them(
    kind: str, dtype: torch.dtype
) -> None:
    config, after = AFTER[kind]
    model = halved(config, dtype)
    head = model.get_output_embeddings()
    hidden, (logits, *_) = seen(head, lambda: target_logits(model, EXAMPLES, 0, compared=True))
    assert hidden.dtype == dtype
    right = after(exact(head, hidden[0]))
    assert logits.dtype == torch.float32
    assert (logits - right).abs().max() < 2e-5
    # The weights' own type is off by a hundred times as much, and is what a training step takes.
    with torch.no_grad():
        rounded, *_ = target_logits(model, EXAMPLES, 0)
    assert (rounded - right).abs().max() > 1e-3
    assert "forward" not in vars(head)


def test_an_adapter_on_the_output_embedding_is_added_in_float32() -> None:
    torch.manual_seed(0)
    settings = peft.LoraConfig(
        r=2, target_modules=["q_proj", "lm_head"], task_type="CAUSAL_LM", init_lora_weights=False
    )
    model = peft.get_peft_model(halved(AFTER["llama"][0]), settings).eval()
    head = model.get_base_model().lm_head
    hidden, (logits, *_) = seen(head, lambda: target_logits(model, EXAMPLES, 0, compared=True))
    assert (logits - exact(head, hidden[0])).abs().max() < 2e-5


@pytest.mark.parametrize("more", [{"modules_to_save": ["lm_head"]}, {"trainable_token_indices": [3, 5]}], ids=str)
def test_other_adapters_on_the_output_embedding_give_float32_logits_too(more: dict[str, Any]) -> None:
    torch.manual_seed(0)
    tied = transformers.LlamaConfig(**LLAMA, tie_word_embeddings="trainable_token_indices" in more)
    model = halved(tied)
    settings = peft.LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM", **more)
    model = peft.get_peft_model(model, settings).eval()
    weight = model.get_base_model().get_output_embeddings()
    hidden, (logits, *_) = seen(weight, lambda: target_logits(model, EXAMPLES, 0, compared=True))
    plain = next(parameter for parameter in weight.parameters() if parameter.shape == (97, 32))
    assert (logits - hidden[0].double() @ plain.double().T).abs().max() < 2e-5


class _Largest(TorchDispatchMode):
    """The largest float32 tensor that anything makes."""

    size = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor) and made.dtype == torch.float32:
            self.size = max(self.size, made.numel())
        return made


def test_there_is_never_a_float32_copy_of_the_whole_embedding(monkeypatch: pytest.MonkeyPatch) -> None:
    model = halved(AFTER["llama"][0])
    with torch.no_grad():
        at_once, *_ = target_logits(model, EXAMPLES, 0, compared=True)
        monkeypatch.setattr(module, "_CACHED", 7 * 32)
        with _Largest() as largest:
            by_pieces, *_ = target_logits(model, EXAMPLES, 0, compared=True)
    # Of the logits of five positions, not of 97 rows of 32 weights.
    assert largest.size <= 5 * 97
    assert torch.allclose(at_once, by_pieces, rtol=0, atol=2e-5)


def test_nearly_equal_choices_are_told_apart(nearly_equal: ResidentModel) -> None:
    items = [Item(str(i), f"{'question ' * (i % 3)}{i}:", "a", ("a", "b"), golds=("a",)) for i in range(24)]
    a, b = (nearly_equal.tokenizer.encode(letter)[-1] for letter in "ab")
    head = nearly_equal.model.get_base_model().lm_head
    right, rounded = [], []
    for item in items:
        ids = torch.tensor([nearly_equal.tokenizer.encode(item.prompt)])
        hidden, output = seen(head, partial(nearly_equal.model, ids))
        logits = exact(head, hidden[0, -1])
        right.append("ab"[int(logits[b] > logits[a])])
        rounded.append(float(output.logits[0, -1, a] - output.logits[0, -1, b]))
    # In bfloat16 they tie, and the first would have it.
    assert rounded.count(0.0) > 12
    assert {"a", "b"} == set(right)
    found = predict(nearly_equal, PredictionRequest(items, "choice", "en"))
    assert [prediction.prediction for prediction in found] == right


def test_a_classification_head_in_bfloat16_gives_float32_logits(tmp_path: Path) -> None:
    for name in ("xlm-r", "bert"):
        checkpoint = Checkpoint(name, save(name, tmp_path / name), name)
        resident = ResidentModel(checkpoint, "bfloat16", Lora(r=2), kind="classes", classes=3)
        resident.start(0)
        items = [Item(str(i), f"text {i}", "x", ("x", "y", "z")) for i in range(5)]
        head = resident.model.get_base_model().classifier
        hidden, logits = seen(
            head, partial(choices.class_logits, resident, encode.classified(resident.tokenizer, items))
        )
        active = head.modules_to_save[head.active_adapters[0]]
        x = hidden.double() if name == "bert" else hidden[:, 0].double()
        for layer in [active] if name == "bert" else [active.dense, active.out_proj]:
            x = x @ layer.weight.double().T + layer.bias.double()
            x = x.tanh() if layer is getattr(active, "dense", None) else x
        assert torch.allclose(torch.tensor(logits, dtype=torch.float64), x, rtol=0, atol=1e-5)


def test_float32_models_are_left_alone() -> None:
    model = halved(AFTER["llama"][0], torch.float32)
    with float32_logits(model):
        assert "forward" not in vars(model.lm_head)
