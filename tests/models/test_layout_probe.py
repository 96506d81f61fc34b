"""Which layouts an architecture reads rightly is found out in float32, over its own windows, against layouts that leak."""

from typing import Any

import pytest
import torch
import transformers

from adamergex.models import layout_probe, prefix_sharing, target_logits
from adamergex.models.encoded import EncodedExample
from adamergex.models.layout_probe import choose
from adamergex.models.target_logits import in_trees, laid_logits, packed, rows

SMALL = {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
LLAMA = SMALL | {"intermediate_size": 48, "num_key_value_heads": 2, "pad_token_id": 96}
GPT_NEO = transformers.GPTNeoConfig(
    vocab_size=97, hidden_size=32, num_layers=2, num_heads=4, attention_types=[[["global", "local"], 1]]
)
# The families that the documentation names, and those whose attention is something of its own: whether they can be
# packed, and whether they can share beginnings.
FAMILIES: dict[str, tuple[transformers.PretrainedConfig, bool, bool]] = {
    "llama": (transformers.LlamaConfig(**LLAMA), True, True),
    "qwen 2": (transformers.Qwen2Config(**LLAMA), True, True),
    "qwen 3": (transformers.Qwen3Config(**LLAMA, head_dim=8), True, True),
    "mistral": (transformers.MistralConfig(**LLAMA, sliding_window=100), True, True),
    "gemma": (transformers.GemmaConfig(**LLAMA, head_dim=8), True, True),
    "gemma 2": (transformers.Gemma2Config(**LLAMA, head_dim=8, sliding_window=100), True, True),
    # As deep as the real one: its sixth layer is the first to see everything.
    "gemma 3": (
        transformers.Gemma3TextConfig(**(LLAMA | {"num_hidden_layers": 18}), head_dim=8, sliding_window=512),
        True,
        True,
    ),
    "gpt 2": (transformers.GPT2Config(vocab_size=97, n_embd=32, n_layer=2, n_head=4), True, True),
    "gpt neox": (transformers.GPTNeoXConfig(**SMALL, intermediate_size=48), True, True),
    "bloom": (transformers.BloomConfig(vocab_size=97, hidden_size=32, n_layer=2, n_head=4), False, False),
    # Its local attention counts places in the row.
    "gpt neo": (GPT_NEO, False, False),
    # Its positions follow from the mask.
    "opt": (transformers.OPTConfig(**SMALL, ffn_dim=48, word_embed_proj_dim=32), False, True),
    # A state runs through the row.
    "mamba": (transformers.MambaConfig(vocab_size=97, hidden_size=32, num_hidden_layers=2), False, False),
    # Layers see chunks of the row.
    "llama 4": (
        transformers.Llama4TextConfig(**LLAMA, head_dim=8, num_local_experts=2, attention_chunk_size=64),
        True,
        False,
    ),
}


def made(config: transformers.PretrainedConfig, dtype: torch.dtype = torch.float32) -> Any:
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(config, dtype=dtype).eval()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", FAMILIES)
def test_the_layouts_of_a_family_do_not_depend_on_the_weights_type(name: str, dtype: torch.dtype) -> None:
    config, can_pack, can_share = FAMILIES[name]
    model = made(config, dtype)
    before = torch.get_rng_state()
    found = {wanted: choose(model, wanted) for wanted in ("packed", "shared")}
    assert {wanted: choice.layout == wanted for wanted, choice in found.items()} == {
        "packed": can_pack,
        "shared": can_share,
    }
    # The report says why.
    for choice in found.values():
        assert f"float32 {type(model).__name__}" in str(choice)
        assert str(choice).startswith("one sequence a row" if choice.layout == "rows" else choice.layout)
    assert torch.equal(torch.get_rng_state(), before)


def test_gpt_neo_misreads_shared_beginnings_behind_its_window_and_packed_rows_behind_its_context() -> None:
    """What the layout that it does not get would do: nothing within 16 tokens, and much at its window of 256."""
    model = made(GPT_NEO)
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)

    def off(length: int) -> float:
        begun = [(7 * i) % 97 for i in range(length)]
        examples = [EncodedExample([*begun, *range(a, a + 30)], list(range(length, length + 30))) for a in (1, 40)]
        grown = prefix_sharing.Trees()
        grown.add(0, examples[0].ids[:-1], 0, 10**6)
        grown.add(1, examples[1].ids[:-1], length, 10**6)
        with torch.no_grad():
            (one, at), (other, its) = (
                laid_logits(model, laid) for laid in (in_trees(grown, examples, 0, model), rows(examples, 0))
            )
        return float((one[at] - other[its]).norm() / other[its].norm())

    assert off(8) < 1e-5
    assert off(250) > 0.02
    long = [EncodedExample([i % 97 for i in range(1500)], [1])] * 2
    with pytest.raises(RuntimeError, match="size of tensor"), torch.no_grad():
        laid_logits(model, packed(long))


def windows_by_place(seen: torch.Tensor, positions: torch.Tensor, model: Any) -> Any:
    """Masks whose windows count places in the row, as GPT-Neo's do, in place of positions."""
    places = torch.arange(positions.shape[1]).expand_as(positions)
    return REAL(seen, places, model)


def everything(seen: torch.Tensor, positions: torch.Tensor, model: Any) -> Any:
    """Masks that show all that stands before a token in its row."""
    return REAL(torch.ones_like(seen).tril(), positions, model)


REAL = target_logits._masks


@pytest.mark.parametrize("leaking", [windows_by_place, everything])
@pytest.mark.parametrize("window", [16, 500])
def test_a_layout_that_leaks_is_found_out_whatever_the_window(
    leaking: Any, window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = made(transformers.MistralConfig(**LLAMA, sliding_window=window), torch.bfloat16)
    assert choose(model, "shared").layout == "shared"
    monkeypatch.setattr(target_logits, "_masks", leaking)
    found = choose(model, "shared")
    assert found.layout == "rows"
    assert "shared beginnings were tried on a small float32 MistralForCausalLM and changed its logits" in found.reason


def test_a_model_that_the_trial_cannot_tell_anything_of_gets_single_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout_probe, "_errors", lambda *given: (0.0, 0.0))
    assert choose(made(FAMILIES["llama"][0]), "shared").layout == "rows"
    monkeypatch.setattr(layout_probe, "_errors", lambda *given: (float("nan"), 1.0))
    assert choose(made(FAMILIES["llama"][0]), "shared").layout == "rows"


def test_a_window_too_long_to_try_gets_single_rows() -> None:
    config = transformers.MistralConfig(**LLAMA, sliding_window=30_000, max_position_embeddings=100_000)
    found = choose(made(config), "shared")
    assert (found.layout, found.reason) == ("rows", "a window of 30,000 tokens is longer than what is tried")
    # A window that holds the whole context is none.
    config = transformers.MistralConfig(**LLAMA, sliding_window=30_000, max_position_embeddings=30_000)
    assert choose(made(config), "shared").layout == "shared"
