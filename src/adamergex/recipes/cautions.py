"""What a recipe's data make one wonder about before anything is trained; none of it stops a run."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from adamergex.models.families import context_of, load_tokenizer
from adamergex.recipes.recipe import Recipe
from adamergex.storage.checkpoints import Checkpoint
from adamergex.tasks.items import Item
from adamergex.tasks.task import Task, same_words

Role = Literal["learned", "scored", "other"]
# Items whose tokens are counted.
_COUNTED = 200
# The part of an item's id behind its file's name: a line, or a place in a list.
_PLACE = re.compile(r"(:\d+|\[\d+\])$")


@dataclass(frozen=True)
class Split:
    """Labelled items of a task in one language.

    Attributes:
        name: what they are called in messages.
        items: in their order.
        role: whether the task is learned from them, they are scored, or neither.
    """

    name: str
    items: Sequence[Item]
    role: Role = "other"


def of_items(task: Task, splits: Sequence[Split]) -> list[str]:
    """What is odd about a task's items: a line each.

    Args:
        task: of the items.
        splits: all of them.
    """
    labels = tuple(task.choices or ())
    found: list[str] = []
    learned = [split for split in splits if split.role == "learned"]
    known = {label for split in learned for label in _labels(split.items, labels)}
    for split in splits:
        found += _twice(split)
        found += _spaces(split)
        counts = Counter(_labels(split.items, labels))
        if len(counts) == 1 and len(split.items) > 1:
            found.append(f"{split.name}: all {len(split.items):,} items have the label {next(iter(counts))!r}")
        unseen = {label: count for label, count in counts.items() if label not in known}
        if split.role == "scored" and learned and unseen:
            listed = ", ".join(f"{label} ({count:,})" for label, count in unseen.items())
            found.append(
                f"{split.name}: {sum(unseen.values()):,} of {len(split.items):,} items have labels that {learned[0].name} has none "
                f"of, and that are not learned: {listed}"
            )
    return found


def of_lengths(recipe: Recipe, checkpoint: Checkpoint, splits: Iterable[Split]) -> list[str]:
    """Which items are mostly longer than the model reads, a line for each split. Of many items some are counted.

    Args:
        recipe: whose `train.max_length` counts, too.
        checkpoint: the base model, or those of its files that are at hand.
        splits: of its items.

    Raises:
        ModelError: the model's configuration or tokenizer cannot be read.
    """
    limits = [limit for limit in (recipe.train.max_length, context_of(checkpoint)) if limit is not None]
    if not limits or not (checkpoint.folder / "tokenizer.json").is_file():
        return []
    found, tokenizer = [], None
    for split in splits:
        texts = [
            "".join((*(said for _, said in item.turns), item.prompt, item.answer))
            for item in split.items[:: max(1, len(split.items) // _COUNTED)]
        ]
        # No text has more tokens than bytes, whatever its tokenizer: most data are not tokenized here.
        if sum(len(text.encode()) > min(limits) for text in texts) * 2 <= len(texts):
            continue
        tokenizer = tokenizer or load_tokenizer(checkpoint)
        long = sum(
            len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]) > min(limits) for text in texts
        )
        if long * 2 > len(texts):
            found.append(
                f"{split.name}: about {long / len(texts):.0%} of the items are longer than the {min(limits):,} tokens that are read "
                f"of one ({'train.max_length' if recipe.train.max_length == min(limits) else 'the model’s context'}); the longest "
                "column of each loses its end"
            )
    return found


def _labels(items: Iterable[Item], labels: Sequence[str]) -> list[str]:
    """The right label of each item; none where answers are written."""
    return [labels[item.choices.index(item.answer)] for item in items] if labels else []


def _twice(split: Split) -> Iterator[str]:
    """Items that contradict each other, and those that stand in two files."""
    by_prompt: Mapping[object, list[Item]] = defaultdict(list)
    for item in split.items:
        by_prompt[(item.turns, same_words(item.prompt), item.text_pair, item.choices)].append(item)
    contradicting, copied = list[tuple[Item, Item]](), list[tuple[Item, Item]]()
    for alike in by_prompt.values():
        for later in alike[1:]:
            first = alike[0]
            if set(later.golds).isdisjoint(first.golds):
                contradicting.append((first, later))
            elif _PLACE.sub("", later.id) != _PLACE.sub("", first.id):
                copied.append((first, later))
    for pairs, what in (
        (contradicting, "have another answer than the same prompt has before"),
        (copied, "stand in two files"),
    ):
        if pairs:
            one, other = pairs[0]
            yield f"{split.name}: {len(pairs):,} of {len(split.items):,} items {what}, such as {one.id} and {other.id}"


def _spaces(split: Split) -> Iterator[str]:
    """Prompts that end in a space before answers that begin with one."""
    count = sum(
        not item.chat and item.prompt.endswith((" ", "\t")) and item.answer.startswith((" ", "\t"))
        for item in split.items
    )
    if count:
        yield (
            f"{split.name}: {count:,} of {len(split.items):,} prompts end in a space, and their answers begin with one, which makes "
            "other tokens than models know: remove it from task.prompt, or write separator: ''"
        )
