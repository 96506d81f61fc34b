"""Items as token sequences, the same way for training and for scoring."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from adamergex.data.special_tokens import end_of_sequence
from adamergex.errors import DataError
from adamergex.models.encoded import Example
from adamergex.models.families import Kind
from adamergex.tasks.items import Item


def answered(
    tokenizer: Any, prompts: Sequence[str], answers: Sequence[str], kind: Kind = "causal", start: int | None = None
) -> list[Example]:
    """Prompts and answers as examples, the answer's tokens being the targets; without what ends an answer.

    A causal model reads both as one text. The answer starts where the tokens of the whole part from those of
    the prompt alone, so a token that reaches over the seam counts as the answer's. A sequence-to-sequence model
    reads the prompt in its encoder, and the answer after `start` in its decoder.
    """
    if not prompts:
        return []
    alone = tokenizer(list(prompts))["input_ids"]
    if kind == "seq2seq":
        assert start is not None
        ending = tokenizer.eos_token_id
        written = tokenizer(text_target=[answer.strip() for answer in answers])["input_ids"]
        decoded = [[start, *(ids[:-1] if ids and ids[-1] == ending else ids)] for ids in written]
        return [
            Example(ids, list(range(1, len(ids))), source=tuple(prompt))
            for prompt, ids in zip(alone, decoded, strict=True)
        ]
    whole = tokenizer([prompt + answer for prompt, answer in zip(prompts, answers, strict=True)])["input_ids"]
    examples = []
    for before, after in zip(alone, whole, strict=True):
        ids = after[:-1] if after[-1] == tokenizer.eos_token_id else after
        begin = next(
            (i for i, (a, b) in enumerate(zip(before, ids, strict=False)) if a != b), min(len(before), len(ids))
        )
        examples.append(Example(ids, list(range(max(begin, 1), len(ids)))))
    return examples


def classified(tokenizer: Any, items: Sequence[Item]) -> list[Example]:
    """Items for an encoder's head, and which of the choices is right.

    The head reads the prompt alone; prompt and text as a pair, where all choices speak of the same text (XNLI); or the
    prompt with each choice as a pair, where choices are sentences of their own (XCOPA).
    """
    labels = [(item.choices.index(item.answer),) for item in items]
    if not any(item.text_pair for item in items):
        prompts = tokenizer([item.prompt for item in items])["input_ids"]
        return [Example(ids, [], of, id=item.id) for ids, of, item in zip(prompts, labels, items, strict=True)]
    encoded = iter(_pairs(tokenizer, [(item.prompt, second) for item in items for second in item.text_pair]))
    examples = []
    for of, item in zip(labels, items, strict=True):
        own = [next(encoded) for _ in item.text_pair]
        whole = replace(own[0], labels=of, id=item.id)
        examples.append(whole if len(own) == 1 else Example([], [], of, id=item.id, options=tuple(own)))
    return examples


def _pairs(tokenizer: Any, texts: Sequence[tuple[str, str]]) -> list[Example]:
    """Pairs of texts as one sequence each, with what the tokenizer puts before, between and behind them."""

    def bare(texts: Sequence[str]) -> list[list[int]]:
        # What looks like a special token in a text is text.
        ids: list[list[int]] = tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return ids

    whole = tokenizer("a", "b", return_token_type_ids=True)
    place = whole.sequence_ids()
    first, second = place.index(0), place.index(1)
    last, end = (len(place) - place[::-1].index(number) for number in (0, 1))
    before, between, behind = (whole["input_ids"][at] for at in (slice(first), slice(last, second), slice(end, None)))
    # Many second texts may stand behind one first text.
    unique = list(dict.fromkeys(one for one, _ in texts))
    begun = {one: [*before, *ids, *between] for one, ids in zip(unique, bare(unique), strict=True)}
    seconds = bare([other for _, other in texts])
    # BERT's tokenizer tells the two texts apart, RoBERTa's does not.
    told = whole["token_type_ids"][second] == 1
    return [
        Example([*begun[one], *ids, *behind], [], second=len(begun[one]) if told else 0)
        for (one, _), ids in zip(texts, seconds, strict=True)
    ]


def for_training(
    tokenizer: Any, items: Sequence[Item], kind: Kind = "causal", start: int | None = None, longest: int | None = None
) -> tuple[list[Example], int]:
    """Items as training examples; the end-of-sequence token that follows the answer is learned, too.

    Args:
        tokenizer: the model's.
        items: with a prompt and an answer each.
        kind: how the model predicts.
        start: the token that a decoder starts with.
        longest: the most tokens that the model reads; see `fitted`.

    Returns:
        The examples, and how many of them were shortened.

    Raises:
        DataError: an item is too long without its longest column.
    """
    items, shortened = fitted(tokenizer, items, kind, start, longest)
    if kind == "classes":
        return classified(tokenizer, items), shortened
    plain = answered(tokenizer, [item.prompt for item in items], [item.answer for item in items], kind, start)
    end = end_of_sequence(tokenizer)
    assert end is not None
    examples = [
        Example([*e.ids, end], [*e.targets, len(e.ids)], source=e.source, id=item.id)
        for e, item in zip(plain, items, strict=True)
    ]
    return examples, shortened


def fitted(
    tokenizer: Any,
    items: Sequence[Item],
    kind: Kind,
    start: int | None,
    longest: int | None,
    written: int | None = None,
) -> tuple[list[Item], int]:
    """Items that the model can read, cut the same way for training and for scoring.

    Args:
        tokenizer: the model's.
        items: with a prompt and an answer each.
        kind: how the model predicts.
        start: the token that a decoder starts with.
        longest: the most tokens that the model reads. Of a longer item, the longest column of the prompt loses its
            end, or its beginning where the prompt ends with it; the rest of the prompt and the answer stay whole. An
            item with choices has room for the longest of them.
        written: room for an answer that is generated, in tokens, in place of the item's own.

    Returns:
        The items, and how many of them were shortened.

    Raises:
        DataError: an item is too long without its longest column.
    """
    result = list(items)
    if longest is None:
        return result, 0

    def taken(items: Sequence[Item]) -> list[int]:
        prompts = [item.prompt for item in items]
        if kind == "classes":
            return [example.longest for example in classified(tokenizer, items)]
        if written is not None:
            more = 0 if kind != "causal" else written
            return [len(ids) + more for ids in tokenizer(prompts)["input_ids"]]
        answers = [max(item.choices or (item.answer,), key=len) for item in items]
        # What ends the answer takes a token, too. Encoder and decoder have a context each.
        return [max(len(e.source), len(e.ids) + 1) for e in answered(tokenizer, prompts, answers, kind, start)]

    long = [(i, length) for i, length in enumerate(taken(result) if result else []) if length > longest]
    for i, length in long:
        excess = length - longest
        # Cutting may join tokens otherwise than before, so that it takes more than one look.
        while excess > 0:
            result[i] = _shortened(tokenizer, result[i], excess, longest)
            excess = taken([result[i]])[0] - longest
    return result, len(long)


def _shortened(tokenizer: Any, item: Item, excess: int, longest: int) -> Item:
    """The item without the last `excess` tokens of its longest column; the first ones where the prompt ends with it."""
    begin, end = item.longest_column
    column = item.prompt[begin:end]
    offsets = tokenizer(column, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    if len(offsets) <= excess:
        raise DataError(
            f"{item.id}: longer than {longest} tokens even without the text of its longest column; "
            "raise train.max_length, or shorten the prompt's template or the answer"
        )
    # What stands right before the answer is what it most depends on.
    at_the_end = not item.prompt[end:].strip()
    # Bytes of one character have the same place: at least that character goes.
    keep = column[max(offsets[excess - 1][1], 1) :] if at_the_end else column[: offsets[-excess][0]].rstrip()
    prompt = item.prompt[:begin] + keep + item.prompt[end:]
    return replace(item, prompt=prompt, longest_column=(begin, begin + len(keep)))
