"""Whether items fit into what a model reads of one, where no column of theirs is long enough to be cut, before anything is trained.

Run and validation say the same: what is too long by its size in bytes is encoded here as the run does it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from adamergex.data.settings import Source
from adamergex.inference.settings import NEW_TOKENS
from adamergex.models.adapter_settings import virtual_tokens
from adamergex.models.families import KINDS, Kind, configuration, family, load_tokenizer, longest_item
from adamergex.recipes import looked_at, overlaps
from adamergex.recipes.recipe import Recipe
from adamergex.scoring.systems import BEFORE_MERGED, Asking
from adamergex.storage.checkpoints import Checkpoint
from adamergex.tasks.items import Item
from adamergex.tasks.prompting import XLT_TOKENS
from adamergex.tasks.task import Task

# Bytes that special tokens, a template for chat, and XLT's template add at most.
_SPECIAL, _CHAT, _XLT = 64, 1024, 1024


@dataclass
class _Reader:
    """What encoding needs to know of a base model, from its files (`PromptReader`)."""

    tokenizer: Any
    kind: Kind
    context: int | None
    # Which token that is makes no sequence longer.
    decoder_start: int | None = 0
    pad: int = 0
    ends: tuple[int, ...] = ()

    def context_behind(self, virtual_tokens: int) -> int | None:
        """See PromptReader."""
        return None if self.context is None else self.context - virtual_tokens


def looks(recipe: Recipe, read: overlaps.Read, checkpoint: Checkpoint) -> Iterator[Callable[[], object]]:
    """Looks at what is learned and what is answered, each of which may raise DataError.

    Args:
        recipe: of the run.
        read: the items that were read.
        checkpoint: the base model, whose tokenizer is at hand.

    Raises:
        ModelError: the model's configuration or tokenizer cannot be read.
    """
    config = configuration(checkpoint.folder, checkpoint.name)
    context = (config | (config.get("text_config") or {})).get("max_position_embeddings")
    kind = KINDS[family(checkpoint)]["task"]
    reader = _Reader(None, kind, context if isinstance(context, int) else None)
    longest = longest_item(reader, recipe.train.max_length, virtual_tokens(recipe.adapter))
    if longest is None:
        return
    loaded: list[_Reader] = []

    def ready() -> _Reader:
        """With the tokenizer, which is loaded where something may be too long."""
        loaded.extend([] if loaded else [_Reader(load_tokenizer(checkpoint), kind, reader.context)])
        return loaded[0]

    for items in _learned(recipe, read):
        if some := _may_exceed(items, longest, 0):
            yield partial(_train, ready, some, longest)
    solved = _solved(recipe, read)
    for language, asking, items in _asked(recipe, read):
        shown = recipe.evaluate.shots * max(map(_bytes, solved[language]), default=0) if asking == "few-shot" else 0
        more = shown + (_written(recipe) if asking != "xlt" else _written(recipe) + XLT_TOKENS + _XLT)
        if some := _may_exceed(items, longest, more):
            yield partial(_ask, ready, recipe, language, asking, some, solved[language], longest)


def _train(ready: Callable[[], _Reader], items: Sequence[Item], longest: int) -> None:
    from adamergex.models.encode import fitted

    reader = ready()
    fitted(reader.tokenizer, items, reader.kind, reader.decoder_start, longest)


def _ask(
    ready: Callable[[], _Reader],
    recipe: Recipe,
    language: str,
    asking: Asking,
    items: list[Item],
    solved: Sequence[Item],
    longest: int,
) -> None:
    from adamergex.inference.answering import PromptSpec, build_prompts

    spec = PromptSpec(recipe.task, recipe.evaluate, language, asking, recipe.seed)
    build_prompts(ready(), spec, items, solved, longest)


def _of(read: overlaps.Read, source: Source | None, language: str) -> Sequence[Item]:
    return () if source is None else read.get((source.model_dump_json(), language), ())


def _learned(recipe: Recipe, read: overlaps.Read) -> Iterator[Sequence[Item]]:
    """What adapters are trained on, by source and language."""
    for task, source, language in looked_at.task_sources(recipe):
        is_given = source is recipe.task.train and language == recipe.source and recipe.adapters.task is not None
        if not is_given and _is_learned(recipe, task, source):
            yield overlaps.kept(recipe, read, _of(read, source, language))


def _is_learned(recipe: Recipe, task: Task, source: Source) -> bool:
    labelled = None if recipe.refine is None else recipe.refine.labelled
    dev = task.dev if recipe.train.early_stopping else None
    return source is task.train or source is labelled or (source is dev and dev is not None)


def _solved(recipe: Recipe, read: overlaps.Read) -> dict[str, Sequence[Item]]:
    """Target language → what few-shot examples are drawn from."""
    own = {language: _of(read, recipe.task.examples, language) for language in recipe.targets}
    learned = _of(read, recipe.task.train, recipe.source)
    return {language: overlaps.kept(recipe, read, some or learned) for language, some in own.items()}


def _asked(recipe: Recipe, read: overlaps.Read) -> Iterator[tuple[str, Asking, Sequence[Item]]]:
    """What is answered in each language, and how it is asked."""
    ways = dict.fromkeys(BEFORE_MERGED[name].asking if name in BEFORE_MERGED else "plain" for name in recipe.systems)
    for language in recipe.targets:
        for asking in ways:
            yield language, asking, _of(read, recipe.scored, language)
        for source in {one.model_dump_json(): one for one in (*recipe.inputs, recipe.refined_inputs) if one}.values():
            yield language, "plain", _of(read, source, language)


def _written(recipe: Recipe) -> int:
    """The most tokens that an answer takes behind its prompt, where it is written."""
    return 0 if recipe.task.choices else recipe.evaluate.max_new_tokens or NEW_TOKENS[recipe.task.answer_kind]


def _may_exceed(items: Sequence[Item], longest: int, more: int) -> list[Item]:
    """The items that may be too long even without the text of their longest column."""
    # No text has more tokens than bytes, whatever its tokenizer: most data are not tokenized here.
    return [item for item in items if _bytes(item, fixed=True) + more > longest]


def _bytes(item: Item, fixed: bool = False) -> int:
    """The bytes of an item with its answer; those that are never cut, where `fixed` is."""
    begin, end = item.longest_column if fixed else (0, 0)
    said = [item.prompt[:begin], item.prompt[end:], *(text for _, text in item.turns)]
    longest = (max((len(text.encode()) for text in texts), default=0) for texts in (
        (item.answer, *item.choices), item.text_pair,
    ))  # fmt: skip
    return sum(len(text.encode()) for text in said) + sum(longest) + _SPECIAL + _CHAT * item.chat
