"""Logits only where they are needed are the same logits, on every kind of output embedding."""

from typing import Any

import pytest
import torch
import transformers
from torch.nn import functional

from adamergex.inference.predict import _batches
from adamergex.models.encoded import EncodedExample, dealt, random_batches
from adamergex.models.families import Kind
from adamergex.models.layout_probe import choose
from adamergex.models.target_logits import target_logits

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
    EncodedExample([1, 5, 9, 33, 2, 8, 40, 41], [3, 7]),
    EncodedExample([1, 60, 61], [1, 2]),
    EncodedExample([1, 7, 7, 7, 12], [4]),
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


def predicted(*args: Any, **settings: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and label of every prediction."""
    logits, at, labels = target_logits(*args, **settings)
    return logits[at], labels


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_loss_equals_the_plain_forward_pass(kind: str) -> None:
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(CONFIGS[kind]).eval()
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    ours = functional.cross_entropy(*predicted(model, EXAMPLES, pad=0))
    plain = plain_loss(model)
    assert abs(ours.item() - plain.item()) < 1e-5
    one, other = (torch.autograd.grad(loss, next(model.parameters()))[0] for loss in (ours, plain))
    assert torch.allclose(one, other, atol=1e-5)


def test_only_the_positions_with_labels_reach_the_output_embedding() -> None:
    model = transformers.AutoModelForCausalLM.from_config(CONFIGS["llama"])
    seen = []
    model.lm_head.register_forward_hook(lambda module, args, output: seen.append(tuple(output.shape)))
    predicted(model, EXAMPLES, pad=0)
    assert seen == [(1, 5, 97)]


PACKABLE = {kind: "bloom" not in kind and "opt" not in kind for kind in CONFIGS}


def noisy(config: transformers.PretrainedConfig) -> Any:
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return model


@pytest.mark.parametrize("kind", CONFIGS)
def test_packed_sequences_see_nothing_of_each_other_where_the_model_can(kind: str) -> None:
    model = noisy(CONFIGS[kind])
    apart, labels = predicted(model, EXAMPLES, pad=0)
    assert (choose(model, "packed").layout == "packed") == PACKABLE[kind]
    if PACKABLE[kind]:
        packed, same = predicted(model, EXAMPLES, pad=0, layout="packed")
        assert torch.equal(labels, same)
        assert torch.allclose(
            functional.cross_entropy(packed, labels), functional.cross_entropy(apart, labels), atol=1e-5
        )
        assert torch.allclose(packed, apart, atol=1e-4)


ALIKE = [
    EncodedExample([1, 5, 9, 33, 2, 8, 40, 41], [3, 7]),
    EncodedExample([1, 5, 9, 33, 2, 61], [4, 5]),
    EncodedExample([1, 5, 9, 33, 2, 8, 12], [5, 6]),
    EncodedExample([1, 5, 9, 33, 2, 70, 71, 72, 73], [8]),
]


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_shared_beginning_computed_once_gives_the_same_loss_and_gradient_where_the_model_can(kind: str) -> None:
    model = noisy(CONFIGS[kind])
    able = "bloom" not in kind
    assert (choose(model, "shared").layout == "shared") == able
    if able:
        tokens = []
        handle = model.get_input_embeddings().register_forward_hook(lambda m, args, out: tokens.append(args[0].numel()))
        first = next(model.parameters())
        (plain, same), (shared, labels) = (predicted(model, ALIKE, 0, layout=way) for way in ("rows", "shared"))
        handle.remove()
        # Five tokens are shared by all and a sixth by two, whose one ends there; the last of each is not read.
        assert tokens == [4 * 8, 5 + 2 + 0 + 0 + 3]
        assert torch.equal(labels, same)
        assert torch.allclose(plain, shared, atol=1e-4)
        one, other = (
            torch.autograd.grad(functional.cross_entropy(logits, labels), first)[0] for logits in (plain, shared)
        )
        assert torch.allclose(one, other, atol=1e-4)


def test_prompts_with_several_answers_are_trees() -> None:
    """Two prompts that begin alike, with three answers each, two of which begin alike."""
    model = noisy(CONFIGS["llama"])
    seen = []
    model.get_input_embeddings().register_forward_hook(lambda module, args, out: seen.append(tuple(args[0].shape)))
    prompts = [[1, 5, 9, 10, 11, 12], [1, 5, 9, 20, 21, 22]]
    answers = [[30, 31, 32], [30, 31, 33, 34], [40, 41]]
    examples = [EncodedExample([*p, *a], list(range(6, 6 + len(a)))) for p in prompts for a in answers]
    shared, labels = predicted(model, examples, 0, layout="shared")
    plain, same = predicted(model, examples, 0)
    assert torch.equal(labels, same)
    assert torch.allclose(plain, shared, atol=1e-4)
    # 3 shared, then for each prompt 3 of its own, 30 31 33, and 40.
    assert seen == [(1, 3 + 2 * (3 + 3 + 1)), (6, 9)]
    # Of each prompt: behind it, behind 30, behind 31, behind 33, and behind 40.
    assert target_logits(model, examples, 0, layout="shared")[0].shape == (2 * 5, 97)


def test_sequences_that_begin_otherwise_share_nothing() -> None:
    model = noisy(CONFIGS["llama"])
    seen = []
    model.get_input_embeddings().register_forward_hook(lambda module, args, out: seen.append(tuple(args[0].shape)))
    examples = [EncodedExample([start, *range(20, 40)], [20]) for start in (3, 4, 5)]
    predicted(model, examples, 0, layout="shared")
    assert seen == [(3, 20)]


def test_long_sequences_share_their_beginning_in_several_rows() -> None:
    model = noisy(CONFIGS["llama"])
    seen = []
    model.get_input_embeddings().register_forward_hook(lambda module, args, out: seen.append(tuple(args[0].shape)))
    begun = [i % 90 + 3 for i in range(200)]
    examples = [EncodedExample([*begun, *((j * 7 + i) % 90 + 3 for i in range(100 + j))], [250]) for j in range(6)]
    shared, _ = predicted(model, examples, 0, layout="shared")
    plain, _ = predicted(model, examples, 0)
    assert torch.allclose(plain, shared, atol=1e-3)
    assert seen[0][0] == 2
    assert seen[0][1] <= 512
    assert seen[1] == (6, 304)


T5 = transformers.T5Config(
    vocab_size=97, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, decoder_start_token_id=0, dropout_rate=0
)
XLMR = transformers.XLMRobertaConfig(
    **SMALL, intermediate_size=48, num_labels=3, pad_token_id=0, bos_token_id=1, eos_token_id=2
)
BART = transformers.BartConfig(
    vocab_size=97,
    d_model=32,
    encoder_layers=2,
    decoder_layers=2,
    encoder_attention_heads=4,
    decoder_attention_heads=4,
    encoder_ffn_dim=48,
    decoder_ffn_dim=48,
    pad_token_id=0,
)
BOTH = [
    EncodedExample([0, 5, 9, 33], [1, 2, 3], source=(7, 8, 9, 10, 2)),
    EncodedExample([0, 60, 61], [1, 2], source=(11, 2)),
]


def mean(model: torch.nn.Module, examples: list[EncodedExample], kind: Kind) -> torch.Tensor:
    return functional.cross_entropy(*predicted(model, examples, 0, kind))


@pytest.mark.parametrize("config", [T5, BART], ids=["t5", "bart"])
def test_a_sequence_to_sequence_loss_equals_hugging_face_s(config: transformers.PretrainedConfig) -> None:
    torch.manual_seed(0)
    model = transformers.AutoModelForSeq2SeqLM.from_config(config).eval()
    source = torch.tensor([[7, 8, 9, 10, 2], [11, 2, 0, 0, 0]])
    labels = torch.tensor([[5, 9, 33], [60, 61, -100]])
    inputs = torch.tensor([[0, 5, 9], [0, 60, 61]])
    plain = model(input_ids=source, attention_mask=(source != 0).long(), decoder_input_ids=inputs, labels=labels).loss
    assert abs(mean(model, BOTH, "seq2seq").item() - plain.item()) < 1e-5


def test_a_masked_loss_equals_hugging_face_s() -> None:
    torch.manual_seed(0)
    model = transformers.AutoModelForMaskedLM.from_config(XLMR).eval()
    examples = [EncodedExample([1, 50, 51, 4, 2], [1, 3], labels=(8, 9)), EncodedExample([1, 52, 2], [1], labels=(10,))]
    ids = torch.tensor([[1, 50, 51, 4, 2], [1, 52, 2, 0, 0]])
    labels = torch.full_like(ids, -100)
    labels[0, 1], labels[0, 3], labels[1, 1] = 8, 9, 10
    plain = model(input_ids=ids, attention_mask=(ids != 0).long(), labels=labels).loss
    assert abs(mean(model, examples, "masked").item() - plain.item()) < 1e-5


def test_a_classification_loss_equals_hugging_face_s() -> None:
    torch.manual_seed(0)
    model = transformers.AutoModelForSequenceClassification.from_config(XLMR).eval()
    ids = torch.tensor([[1, 50, 51, 4, 2], [1, 52, 2, 0, 0]])
    examples = [EncodedExample([1, 50, 51, 4, 2], [], labels=(2,)), EncodedExample([1, 52, 2], [], labels=(0,))]
    plain = model(input_ids=ids, attention_mask=(ids != 0).long(), labels=torch.tensor([2, 0])).loss
    assert abs(mean(model, examples, "classes").item() - plain.item()) < 1e-6


def test_every_example_is_in_one_random_batch_of_like_lengths() -> None:
    lengths = [i % 7 + 1 for i in range(53)]
    batches = random_batches(lengths, 4, "0 0")
    assert sorted(i for batch in batches for i in batch) == list(range(53))
    assert sum(max(lengths[i] for i in b) * len(b) - sum(lengths[i] for i in b) for b in batches) <= 12
    assert batches == random_batches(lengths, 4, "0 0") != random_batches(lengths, 4, "0 1")


def test_batches_hold_like_lengths_and_every_example_once() -> None:
    examples = [EncodedExample([1] * length, []) for length in (3, 9, 4, 8, 2)]
    assert _batches([example.size for example in examples], [1] * 5, 2) == [[1, 3], [2, 0], [4]]


@pytest.mark.parametrize(("total", "count", "size"), [(7, 2, 2), (3, 4, 1), (8, 2, 4), (9, 4, 2)])
def test_every_example_is_dealt_once_and_every_process_has_as_many_parts(total: int, count: int, size: int) -> None:
    examples = [EncodedExample([1, n], [1]) for n in range(total)]
    hands = [dealt(examples, rank, count, size) for rank in range(count)]
    assert len({len(hand) for hand in hands}) == 1
    counted = [example.ids[1] for hand in hands for part, weight in hand for example in part if weight]
    assert sorted(counted) == list(range(total))
    assert all(0 < len(part) <= size for hand in hands for part, _ in hand)
