"""Items as token sequences, the same way for training and for scoring."""

from collections.abc import Sequence
from typing import Any

from adamergex.errors import DataError
from adamergex.examples import Example
from adamergex.families import Kind, end_of_sequence
from adamergex.tasks import Item


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
    """Items for a classification head: the prompt, and which of the choices is right."""
    prompts = tokenizer([item.prompt for item in items])["input_ids"]
    return [
        Example(ids, [], labels=(item.choices.index(item.answer),), id=item.id)
        for ids, item in zip(prompts, items, strict=True)
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
        longest: the most tokens that the model reads. Of a longer item, the longest column of the prompt loses its
            end, or its beginning where the prompt ends with it; the rest of the prompt and the answer stay whole.

    Returns:
        The examples, and how many of them were shortened.

    Raises:
        DataError: an item is too long without its longest column.
    """

    def encoded(items: Sequence[Item]) -> list[Example]:
        if kind == "classes":
            return classified(tokenizer, items)
        plain = answered(tokenizer, [item.prompt for item in items], [item.answer for item in items], kind, start)
        end = end_of_sequence(tokenizer)
        assert end is not None
        return [
            Example([*e.ids, end], [*e.targets, len(e.ids)], source=e.source, id=item.id)
            for e, item in zip(plain, items, strict=True)
        ]

    examples = encoded(items)
    if longest is None:
        return examples, 0
    long = [i for i, example in enumerate(examples) if _read(example, kind) > longest]
    for i in long:
        item = items[i]
        # Cutting may join tokens otherwise than before, so that it takes more than one look.
        while (excess := _read(examples[i], kind) - longest) > 0:
            item = _shortened(tokenizer, item, excess, longest)
            examples[i] = encoded([item])[0]
    return examples, len(long)


def _read(example: Example, kind: Kind) -> int:
    """The tokens that count against the model's context: encoder and decoder have one each."""
    return max(len(example.source), len(example.ids)) if kind == "seq2seq" else len(example.ids)


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
    keep = column[offsets[excess][0] :] if at_the_end else column[: offsets[-excess][0]].rstrip()
    return Item(
        item.id, item.prompt[:begin] + keep + item.prompt[end:], item.answer, item.choices, (begin, begin + len(keep))
    )
