"""Items as token sequences, encoded the same way for training and for scoring."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from adamergex.data.special_tokens import around, end_of_sequence, text_tokens
from adamergex.errors import DataError
from adamergex.models.chat import Rendered, prompt_tokens, prompts, whole_tokens
from adamergex.models.encoded import EncodedExample
from adamergex.models.families import Kind
from adamergex.tasks.items import Item


def sequences(tokenizer: Any, texts: Sequence[str | Rendered], kind: Kind = "causal") -> list[list[int]]:
    """Prompts as the tokens that a model reads (`around`); of chat, those that the template writes, and no others.

    No special tokens follow the prompt of a causal model, which continues it. An empty prompt becomes the
    beginning-of-sequence token, or end-of-sequence without one: a model needs at least one token.
    """
    chat = [text for text in texts if isinstance(text, Rendered)]
    if chat:
        return prompt_tokens(tokenizer, chat)
    before, behind = around(tokenizer)
    plain = [text for text in texts if isinstance(text, str)]
    whole = [[*before, *ids, *(behind if kind != "causal" else ())] for ids in text_tokens(tokenizer, plain)]
    first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else end_of_sequence(tokenizer)
    return [ids or [first] for ids in whole]


def answered(
    tokenizer: Any,
    prompts: Sequence[str | Rendered],
    answers: Sequence[str],
    kind: Kind = "causal",
    start: int | None = None,
    ended: bool = False,
) -> list[EncodedExample]:
    """Prompts and answers as examples, the answer's tokens being the targets.

    A causal model reads both as one text. The answer starts where the tokens of the whole differ from those of
    the prompt alone, so a token that spans both counts as the answer's. The first token of a sequence cannot be
    predicted, so where it would have to be (`Ans`, `wer`, and no BOS token) both are encoded separately.
    A sequence-to-sequence model reads the prompt in its encoder, and the answer after `start` in its decoder.

    Args:
        tokenizer: the model's.
        prompts: as `chat.prompts` makes them.
        answers: one for each.
        kind: how the model predicts.
        start: the token that a decoder starts with.
        ended: whether the end of the answer is a target, too: the end-of-sequence token, or what ends the assistant's turn.
    """
    if not prompts:
        return []
    # Many answers may share a prompt.
    unique = list(dict.fromkeys(prompts))
    alone = dict(zip(unique, sequences(tokenizer, unique, kind), strict=True))
    closing = end_of_sequence(tokenizer)
    end = [closing] if ended and closing is not None else []
    if kind == "seq2seq":
        assert start is not None
        begun, _ = around(tokenizer, target=True)
        written = text_tokens(tokenizer, [answer.strip() for answer in answers], target=True)
        decoded = [[start, *begun, *ids, *end] for ids in written]
        return [
            EncodedExample(ids, list(range(1, len(ids))), source=tuple(alone[prompt]))
            for prompt, ids in zip(prompts, decoded, strict=True)
        ]
    if isinstance(prompts[0], Rendered):
        chat = [prompt for prompt in prompts if isinstance(prompt, Rendered)]
        whole = whole_tokens(tokenizer, chat, answers, ended)
    else:
        begun, _ = around(tokenizer)
        texts = text_tokens(tokenizer, [f"{prompt}{answer}" for prompt, answer in zip(prompts, answers, strict=True)])
        whole = [[*begun, *text, *end] for text in texts]
    examples = []
    for prompt, answer, read in zip(prompts, answers, whole, strict=True):
        before, ids = alone[prompt], read
        begin = next(
            (i for i, (a, b) in enumerate(zip(before, ids, strict=False)) if a != b), min(len(before), len(ids))
        )
        if begin == 0:
            ids, begin = [*before, *text_tokens(tokenizer, [answer])[0], *end], len(before)
        examples.append(EncodedExample(ids, list(range(begin, len(ids)))))
    return examples


def classified(tokenizer: Any, items: Sequence[Item]) -> list[EncodedExample]:
    """Items for an encoder's head, labelled by the index of the right choice; not labelled without an answer.

    An item is the prompt alone; a pair of prompt and text, where all choices are about the same text (XNLI); or a pair
    of the prompt and each choice, where choices are sentences (XCOPA).
    """
    labels = [(item.choices.index(item.answer),) if item.answer else () for item in items]
    if not any(item.text_pair for item in items):
        prompts = sequences(tokenizer, [item.prompt for item in items], "classes")
        return [
            EncodedExample(ids, [], label, id=item.id) for ids, label, item in zip(prompts, labels, items, strict=True)
        ]
    encoded = iter(_pairs(tokenizer, [(item.prompt, second) for item in items for second in item.text_pair]))
    examples = []
    for label, item in zip(labels, items, strict=True):
        pairs = [next(encoded) for _ in item.text_pair]
        single = replace(pairs[0], labels=label, id=item.id)
        examples.append(single if len(pairs) == 1 else EncodedExample([], [], label, id=item.id, options=tuple(pairs)))
    return examples


def _pairs(tokenizer: Any, texts: Sequence[tuple[str, str]]) -> list[EncodedExample]:
    """Pairs of texts as one sequence each, with the tokenizer's special tokens before, between and after them."""
    whole = tokenizer("a", "b", return_token_type_ids=True)
    place = whole.sequence_ids()
    first, second = place.index(0), place.index(1)
    last, end = (len(place) - place[::-1].index(number) for number in (0, 1))
    before, between, behind = (whole["input_ids"][at] for at in (slice(first), slice(last, second), slice(end, None)))
    # Many pairs may share their first text.
    unique = list(dict.fromkeys(text for text, _ in texts))
    begun = {text: [*before, *ids, *between] for text, ids in zip(unique, text_tokens(tokenizer, unique), strict=True)}
    seconds = text_tokens(tokenizer, [text for _, text in texts])
    # BERT's tokenizer gives the two texts different token types, RoBERTa's does not.
    told = whole["token_type_ids"][second] == 1
    return [
        EncodedExample([*begun[text], *ids, *behind], [], second=len(begun[text]) if told else 0)
        for (text, _), ids in zip(texts, seconds, strict=True)
    ]


def for_training(
    tokenizer: Any, items: Sequence[Item], kind: Kind = "causal", start: int | None = None, longest: int | None = None
) -> tuple[list[EncodedExample], int]:
    """Items as training examples; what ends the answer is learned, too (`answered`).

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
    answers = [item.answer for item in items]
    examples = answered(tokenizer, prompts(tokenizer, items), answers, kind, start, ended=True)
    return [replace(example, id=item.id) for example, item in zip(examples, items, strict=True)], shortened


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
            end, or its beginning where the prompt ends with it; the rest of the prompt and the answer stay whole. The
            longest of an item's choices must fit, too.
        written: maximal tokens of a generated answer, which then counts in place of the item's own.

    Returns:
        The items, and how many of them were shortened.

    Raises:
        DataError: an item is too long without its longest column.
    """
    result = list(items)
    if longest is None:
        return result, 0

    def taken(items: Sequence[Item]) -> list[int]:
        if kind == "classes":
            return [example.longest for example in classified(tokenizer, items)]
        asked = prompts(tokenizer, items)
        if written is not None:
            more = 0 if kind != "causal" else written
            return [len(ids) + more for ids in sequences(tokenizer, asked, kind)]
        pairs = [
            (prompt, answer)
            for prompt, item in zip(asked, items, strict=True)
            for answer in item.choices or (item.answer,)
        ]
        read = answered(tokenizer, [prompt for prompt, _ in pairs], [answer for _, answer in pairs], kind, start, True)
        # Encoder and decoder have a context each.
        lengths = iter([max(len(e.source), len(e.ids)) for e in read])
        return [max(next(lengths) for _ in item.choices or (item.answer,)) for item in items]

    long = [(i, length) for i, length in enumerate(taken(result) if result else []) if length > longest]
    for i, length in long:
        excess = length - longest
        # The shortened text may be tokenized differently, so its length is measured again.
        while excess > 0:
            result[i] = _shortened(tokenizer, result[i], excess, longest)
            excess = taken([result[i]])[0] - longest
    return result, len(long)


def _shortened(tokenizer: Any, item: Item, excess: int, longest: int) -> Item:
    """The item without the last `excess` tokens of its longest column; the first ones where the prompt ends with it."""
    begin, end = item.longest_column
    column = item.prompt[begin:end]
    offsets = tokenizer(
        column, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True, verbose=False
    )["offset_mapping"]
    if len(offsets) <= excess:
        raise DataError(
            f"{item.id}: longer than {longest} tokens even without the text of its longest column; "
            "raise train.max_length, or shorten the prompt's template or the answer"
        )
    # The answer depends most on the text right before it.
    at_the_end = not item.prompt[end:].strip()
    # Byte tokens of one character have equal offsets: at least that character is removed.
    keep = column[max(offsets[excess - 1][1], 1) :] if at_the_end else column[: offsets[-excess][0]].rstrip()
    prompt = item.prompt[:begin] + keep + item.prompt[end:]
    return replace(item, prompt=prompt, longest_column=(begin, begin + len(keep)))
