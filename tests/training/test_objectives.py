"""What the reference task hides and predicts, token by token."""

import numpy as np
import pytest
import transformers
from tokenizers.processors import TemplateProcessing

from adamergex.errors import ModelError
from adamergex.models.encoded import EncodedExample
from adamergex.models.families import Family
from adamergex.training.objectives import Windows, overhead
from adamergex.training.reference_task import Reference
from tests.conftest import byte_tokenizer

BODY = list(range(100, 140))
BOS, EOS, MASK = 1, 2, 259


def tokenizer(*more: str) -> transformers.PreTrainedTokenizerFast:
    """With nothing more as causal models have it; with a mask token as BERT's and BART's, else as T5's."""
    made = byte_tokenizer()
    ends = [("<bos>", BOS), ("<eos>", EOS)]
    if "<mask>" in more:
        made.add_special_tokens({"mask_token": "<mask>", "cls_token": "<bos>", "sep_token": "<eos>"})
        around(made, "<bos> $A <eos>", ends)
    elif more:
        made.add_tokens(list(more), special_tokens=True)
        around(made, "$A <eos>", ends)
    return made


def around(made: transformers.PreTrainedTokenizerFast, template: str, tokens: list[tuple[str, int]]) -> None:
    made.backend_tokenizer.post_processor = TemplateProcessing(single=template, special_tokens=tokens)


def windows(family: Family, made: transformers.PreTrainedTokenizerFast, epoch: int = 0, **settings: object) -> Windows:
    reference = Reference.model_validate({"corpus": "text.{language}.txt", "window": 64} | settings)
    return Windows(
        np.array([BODY, BODY, [*BODY[:20], EOS, *BODY[21:]]], np.int32), reference, family, made, 0, epoch, 0
    )


SENTINELS = tokenizer(*(f"<extra_id_{i}>" for i in range(20)))
FIRST = SENTINELS.get_vocab()["<extra_id_0>"]


def test_causal_predicts_every_token_behind_the_first() -> None:
    made = windows("causal", tokenizer())
    assert made[0] == EncodedExample([BOS, *BODY], list(range(1, 41)), id="window 0")
    assert made.width == 41 == len(made[0].ids)


def test_sampled_positions_are_seeded_new_in_each_epoch_and_never_the_first() -> None:
    first, again, later = (windows("causal", tokenizer(), epoch, positions=5) for epoch in (0, 0, 1))
    assert [first[i] for i in range(3)] == [again[i] for i in range(3)]
    assert all(len(set(first[i].targets)) == 5 and min(first[i].targets) >= 1 for i in range(3))
    assert first[0].targets != first[1].targets != later[1].targets
    assert {t for e in range(40) for t in windows("causal", tokenizer(), e, positions=5)[0].targets} == set(
        range(1, 41)
    )


@pytest.mark.parametrize("completion", [1, 7, 39])
def test_prefix_predicts_the_completion_alone(completion: int) -> None:
    made = windows("causal", tokenizer(), objective="prefix", completion=completion)[0]
    assert made.ids == [BOS, *BODY]
    assert [made.ids[target] for target in made.targets] == BODY[40 - completion :]


def test_prefix_of_a_decoder_reads_the_prompt_in_its_encoder() -> None:
    made = windows("seq2seq", SENTINELS, objective="prefix", completion=3)[0]
    assert made.source == (*BODY[:37], EOS)
    assert made.ids == [0, *BODY[37:]]
    assert made.targets == [1, 2, 3]


def test_masked_hides_the_share_and_keeps_what_was_there() -> None:
    hidden = kept = random = 0
    for epoch in range(200):
        made = windows("encoder", tokenizer("<mask>"), epoch)[2]
        text = [BOS, *BODY[:20], EOS, *BODY[21:], EOS]
        assert len(made.targets) == 6  # 15 % of the 39 that are text.
        assert 21 not in made.targets
        assert made.labels == tuple(text[i] for i in made.targets)
        assert [token for i, token in enumerate(made.ids) if i not in made.targets] == [
            token for i, token in enumerate(text) if i not in made.targets
        ]
        hidden += sum(made.ids[i] == MASK for i in made.targets)
        kept += sum(made.ids[i] == text[i] for i in made.targets)
        random += sum(made.ids[i] not in (MASK, text[i]) for i in made.targets)
    assert [hidden / 1200, kept / 1200, random / 1200] == pytest.approx([0.8, 0.1, 0.1], abs=0.03)


def restored(source: tuple[int, ...], written: list[int]) -> list[int]:
    """T5's source with the written spans in the sentinels' places."""
    spans: dict[int, list[int]] = {}
    for token in written:
        if FIRST <= token < FIRST + 20:
            spans[token] = []
        else:
            spans[max(spans)].append(token)
    return [token for place in source for token in spans.get(place, [place])]


def test_span_corruption_hides_spans_that_fit_back_in() -> None:
    lengths, covered = [], 0
    for epoch in range(100):
        made = windows("seq2seq", SENTINELS, epoch, noise=0.3, span=3.0)[0]
        assert made.ids[0] == 0
        assert made.ids[-1] == made.source[-1] == EOS
        assert made.targets == list(range(1, len(made.ids)))
        written = made.ids[1:-2]
        assert made.ids[-2] == FIRST + 4
        assert restored(made.source[:-1], written) == BODY
        sentinels = [token for token in made.source if token >= FIRST]
        assert sentinels == list(range(FIRST, FIRST + 4)) == [token for token in written if token >= FIRST]
        covered += len(written) - 4
        lengths.append(made.source.index(FIRST))
    assert covered == 100 * 12
    assert len(set(lengths)) > 3


def test_a_model_with_one_mask_token_writes_the_whole_text() -> None:
    made = windows("seq2seq", tokenizer("<mask>"), noise=0.3)[0]
    assert made.ids == [0, BOS, *BODY, EOS]
    assert made.source.count(MASK) == 4
    assert len(made.source) == 1 + 28 + 4 + 1


def test_mt5_spells_its_sentinels_otherwise() -> None:
    made = tokenizer(*(f"▁<extra_id_{i}>" for i in range(20)))
    assert windows("seq2seq", made, noise=0.3)[0].ids[1] == made.get_vocab()["▁<extra_id_0>"]


def test_a_tokenizer_that_can_hide_nothing_is_refused() -> None:
    with pytest.raises(ModelError, match="neither sentinels"):
        windows("seq2seq", tokenizer())
    with pytest.raises(ModelError, match="no mask token"):
        windows("encoder", tokenizer())


def test_what_is_not_text_in_a_window_is_counted() -> None:
    made = tokenizer("<mask>")
    assert [overhead(family, made) for family in ("causal", "seq2seq", "encoder")] == [1, 2, 2]
    assert [overhead("causal", tokenizer()), overhead("seq2seq", SENTINELS)] == [1, 1]


def test_windows_begin_as_the_tokenizer_begins_a_text_and_not_with_whatever_it_knows() -> None:
    made = tokenizer()
    around(made, "$A", [])
    assert made.bos_token_id == BOS
    assert overhead("causal", made) == 0
    for made_of in (windows("causal", made), windows("causal", made, objective="prefix", completion=3)):
        assert made_of[0].ids == BODY
