"""Items as tokens: what is cut from a long prompt, and what never is."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import transformers
from tokenizers import Tokenizer, models
from tokenizers.processors import TemplateProcessing

from adamergex.data.special_tokens import around, text_tokens
from adamergex.errors import DataError
from adamergex.inference.choices import options
from adamergex.models.encode import answered, classified, fitted, for_training, sequences
from adamergex.models.encoded import EncodedExample
from adamergex.tasks.items import Item
from adamergex.training.objectives import Windows
from adamergex.training.reference_task import Reference
from tests.conftest import byte_tokenizer, unigram_tokenizer

TOKENIZER = byte_tokenizer()


def item(text: str, template: str = "Review: {}\nSentiment:", answer: str = " good") -> Item:
    begin = template.index("{}")
    return Item("a:1", template.format(text), answer, longest_column=(begin, begin + len(text)))


def read(example: EncodedExample, tokenizer: transformers.PreTrainedTokenizerFast = TOKENIZER) -> str:
    return str(tokenizer.decode(example.ids, skip_special_tokens=True))


def test_a_long_column_loses_its_end_and_the_rest_stays_whole() -> None:
    text = "abcdefghij" * 10
    (example,), shortened = for_training(TOKENIZER, [item(text)], longest=60)
    kept = 60 - 2 - len("Review: \nSentiment: good")
    assert read(example) == f"Review: {text[:kept]}\nSentiment: good"
    assert len(example.ids) == 60
    assert [example.ids[target] for target in example.targets] == [*TOKENIZER.encode(" good")[1:], 2]
    assert shortened == 1


def test_a_column_at_the_end_of_the_prompt_loses_its_beginning() -> None:
    text = "abcdefghij" * 10
    (example,), _ = for_training(TOKENIZER, [item(text, "Go on: {}", "!")], longest=40)
    assert read(example) == f"Go on: {text[-(40 - 2 - 8) :]}!"


def test_a_cut_falls_between_characters() -> None:
    (example,), _ = for_training(TOKENIZER, [item("ก" * 40)], longest=80)
    kept = (80 - 2 - len("Review: \nSentiment: good")) // 3
    assert read(example) == f"Review: {'ก' * kept}\nSentiment: good"


def test_what_fits_is_not_touched() -> None:
    items = [item("short"), item("long " * 30)]
    whole, none = for_training(TOKENIZER, items)
    cut, one = for_training(TOKENIZER, items, longest=60)
    assert (none, one) == (0, 1)
    assert whole[0] == cut[0]
    assert len(whole[1].ids) > 60 == len(cut[1].ids)


def test_an_answer_is_never_cut() -> None:
    with pytest.raises(DataError, match="a:1: longer than 30 tokens even without the text of its longest column"):
        for_training(TOKENIZER, [item("x", answer=" " + "y" * 40)], longest=30)


def test_a_decoder_reads_the_answer_and_an_encoder_the_prompt() -> None:
    (example,), _ = for_training(TOKENIZER, [item("x")], "seq2seq", start=0)
    assert TOKENIZER.decode(example.source, skip_special_tokens=True) == "Review: x\nSentiment:"
    answer = TOKENIZER.encode("good")
    assert example.ids == [0, *answer, 2]
    assert example.targets == list(range(1, len(answer) + 2))


def test_a_classifier_reads_the_prompt_and_learns_the_number_of_its_choice() -> None:
    choices = (" good", " bad")
    items = [Item("1", "x:", " bad", choices), Item("2", "y:", " good", choices)]
    examples, _ = for_training(TOKENIZER, items, "classes")
    assert [(example.labels, example.targets, read(example)) for example in examples] == [
        ((1,), [], "x:"),
        ((0,), [], "y:"),
    ]


def test_a_token_over_the_seam_is_the_answer_s() -> None:
    (example,) = answered(TOKENIZER, ["ab"], ["cd"])
    assert [example.ids[target] for target in example.targets] == TOKENIZER.encode("cd")[1:]


@pytest.mark.parametrize("text", ["é nice film", "😀😀 nice film", "ก"])
def test_a_character_of_several_tokens_goes_whole(text: str) -> None:
    whole = for_training(TOKENIZER, [item(text, "{}", "!")])[0][0]
    for less in range(1, len(whole.ids) - 3):
        (example,), one = for_training(TOKENIZER, [item(text, "{}", "!")], longest=len(whole.ids) - less)
        assert one == 1
        assert text.endswith(read(example).removesuffix("!"))


def test_scoring_leaves_room_for_the_longest_choice_or_for_what_is_written() -> None:
    long = item("abcdefghij" * 10)
    chosen = Item(long.id, long.prompt, " a", (" a", " bbbbbbbb"), long.longest_column)
    (one,), _ = fitted(TOKENIZER, [chosen], "causal", None, 60)
    assert [len(TOKENIZER.encode(one.prompt + choice)) + 1 for choice in one.choices] == [53, 60]
    (free,), _ = fitted(TOKENIZER, [long], "causal", None, 60, written=20)
    assert len(TOKENIZER.encode(free.prompt)) == 40
    (read_whole,), _ = fitted(TOKENIZER, [chosen], "classes", None, 60)
    assert len(TOKENIZER.encode(read_whole.prompt)) == 60


def beginning(template: str) -> transformers.PreTrainedTokenizerFast:
    """A tokenizer that knows <bos> and <eos>, and puts around a text what the template says."""
    made = byte_tokenizer()
    known = [("<bos>", 1), ("<eos>", 2)]
    made.backend_tokenizer.post_processor = TemplateProcessing(single=template, special_tokens=known)
    return made


@pytest.mark.parametrize(
    ("template", "begun"), [("<bos> $A", [1]), ("$A", []), ("<bos> $A <eos>", [1]), ("$A <eos>", [])]
)
def test_all_sequences_begin_alike(template: str, begun: list[int]) -> None:
    """What is learned, what is scored, what is gone on from, and windows of plain text."""
    made = beginning(template)
    one = Item("a", "ab", "cd", ("cd", "xy"), golds=("cd",))
    text, answer = text_tokens(made, ["ab", "cd"])
    assert for_training(made, [one])[0][0].ids == [*begun, *text, *answer, 2]
    reader: Any = SimpleNamespace(tokenizer=made, kind="causal", pad=0, decoder_start=None)
    assert options(reader, [one])[0].whole(0) == [*begun, *text, *answer]
    assert sequences(made, ["ab"]) == [[*begun, *text]]
    reference = Reference.model_validate({"corpus": "text.{language}.txt", "window": 16})
    windows = Windows(np.array([text * 4], np.int32), reference, "causal", made, 0, 0)
    assert windows[0].ids == [*begun, *text * 4]
    assert windows.width == len(windows[0].ids)


def test_encoders_and_decoders_begin_and_end_as_their_tokenizer_does() -> None:
    made = beginning("<bos> $A <eos>")
    one = Item("a", "ab", "cd", ("cd", "xy"), golds=("cd",))
    text, answer = text_tokens(made, ["ab", "cd"])
    assert classified(made, [one])[0].ids == [1, *text, 2]
    (example,), _ = for_training(made, [one], "seq2seq", start=0)
    assert (example.source, example.ids) == ((1, *text, 2), [0, 1, *answer, 2])


def merging() -> transformers.PreTrainedTokenizerFast:
    """A tokenizer without a beginning of sequences, for which `Answer` is one token, and so are `Ans` and `wer`."""
    merges = [("A", "n"), ("An", "s"), ("w", "e"), ("we", "r"), ("Ans", "wer")]
    pieces = ["<eos>", *"Answera!", *(a + b for a, b in merges)]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>")


def test_the_first_token_of_a_sequence_is_never_predicted() -> None:
    made = merging()
    vocabulary = made.get_vocab()
    ans, wer, end, bang = (vocabulary[token] for token in ("Ans", "wer", "<eos>", "!"))
    assert made("Answer")["input_ids"] == [vocabulary["Answer"]]
    one = Item("a", "Ans", "wer", ("wer", "!"), golds=("wer",))
    (example,), _ = for_training(made, [one])
    assert example == EncodedExample([ans, wer, end], [1, 2], id="a")
    reader: Any = SimpleNamespace(tokenizer=made, kind="causal", pad=end, decoder_start=None)
    (of,) = options(reader, [one])
    assert of.tokens == ((wer,), (bang,))
    assert [of.whole(0), of.whole(1)] == [[ans, wer], [ans, bang]]
    # Behind another token it merges as it will.
    (behind,) = answered(made, ["!Ans"], ["wer"])
    assert behind == EncodedExample([bang, vocabulary["Answer"]], [1])
    # Where there is no prompt at all, what keeps documents apart stands before the answer.
    assert answered(made, [""], ["wer"]) == [EncodedExample([end, wer], [1])]
    assert sequences(made, [""]) == [[end]]


MARKUP = "a <s>b</s> <mask> <eos> c<bos>"


@pytest.mark.parametrize("made", [byte_tokenizer(), unigram_tokenizer()], ids=["bytes", "unigram"])
def test_text_that_looks_like_a_special_token_is_text(made: transformers.PreTrainedTokenizerFast) -> None:
    special = set(made.all_special_ids)
    (text,) = text_tokens(made, [MARKUP])
    assert special & set(made(MARKUP, add_special_tokens=False)["input_ids"])
    assert not special & set(text)
    whole = "".join(made.convert_ids_to_tokens(text))
    assert whole.replace("▁", "Ġ").lstrip("Ġ") == MARKUP.replace(" ", "Ġ")
    before, behind = around(made)
    begin = MARKUP.index("<s>b")
    one = Item("a", MARKUP, "<s>", ("<s>", "c"), (begin, len(MARKUP)), ("<s>",))
    assert classified(made, [one])[0].ids == [*before, *text, *behind]
    assert sequences(made, [MARKUP]) == [[*before, *text]]
    (example,), _ = for_training(made, [one])
    assert not special & set(example.ids[len(before) : -1])
    (example,), _ = for_training(made, [one], "seq2seq", start=1)
    assert not special & set(example.source[len(before) : len(example.source) - len(behind)])
    assert not special & set(example.ids[1 + len(before) : -1])
    (cut,), shortened = for_training(made, [one], longest=len(example.source) - 2)
    assert shortened == 1
    assert len(cut.ids) <= len(example.source) - 2
