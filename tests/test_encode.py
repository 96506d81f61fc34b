"""Items as tokens: what is cut from a long prompt, and what never is."""

import pytest
import transformers

from adamergex.errors import DataError
from adamergex.models.encode import answered, fitted, for_training
from adamergex.models.encoded import Example
from adamergex.tasks.items import Item
from tests.conftest import byte_tokenizer

TOKENIZER = byte_tokenizer()


def item(text: str, template: str = "Review: {}\nSentiment:", answer: str = " good") -> Item:
    begin = template.index("{}")
    return Item("a:1", template.format(text), answer, longest_column=(begin, begin + len(text)))


def read(example: Example, tokenizer: transformers.PreTrainedTokenizerFast = TOKENIZER) -> str:
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
