"""Prompting: an item as it is, after few-shot examples, or in XLT's template."""

import random
from collections.abc import Sequence
from dataclasses import replace

import langcodes

from adamergex.language_tags import standard
from adamergex.tasks.conversations import Turn
from adamergex.tasks.items import Item
from adamergex.tasks.task import AnswerKind

# XLT's role and goal, by kind of answer.
_ROLES: dict[AnswerKind, tuple[str, str]] = {
    "choice": ("a natural language understanding", "choose one of the options"),
    "text": ("a natural language understanding", "obtain the answer"),
    "number": ("an arithmetic reasoning", "obtain a number answer"),
    "extraction": ("a question answering", "extract the answer from the text, in its own words"),
    "generation": ("a multilingual writing", "obtain the answer"),
}
# The separator after each few-shot example.
BETWEEN = "\n\n"
XLT_MARKER = "Answer:"
XLT_THEN = f"\n{XLT_MARKER}"
# Tokens to generate for retelling and reasoning before the answer.
XLT_TOKENS = 192


def few_shot(items: Sequence[Item], solved: Sequence[Item], shots: int, seed: int) -> list[Item]:
    """Items with few-shot examples before them, the same for all; where there are choices, the examples' labels are balanced.

    In chat they are turns of user and assistant.

    Args:
        items: to prompt for.
        solved: examples to sample from.
        shots: number of examples; fewer where there are fewer.
        seed: of the draw.
    """
    drawn = list(solved)
    random.Random(seed).shuffle(drawn)
    # Stable: the first of each label, then the second of each, and so on.
    turns: dict[str, int] = {}
    keyed = []
    for item in drawn:
        turn = turns[item.answer] = turns.get(item.answer, 0) + 1
        keyed.append((turn if item.choices else 0, item))
    chosen = [item for _, item in sorted(keyed, key=lambda pair: pair[0])][:shots]
    if any(item.chat for item in items):
        return [replace(item, turns=_behind_system(item.turns, chosen)) for item in items]
    before = "".join(f"{item.prompt}{item.answer}{BETWEEN}" for item in chosen)
    return [
        replace(item, prompt=before + item.prompt, longest_column=_moved(item.longest_column, len(before)))
        for item in items
    ]


def _behind_system(turns: tuple[Turn, ...], chosen: Sequence[Item]) -> tuple[Turn, ...]:
    """Few-shot examples as turns of user and assistant, between a system message and the rest of a conversation."""
    shown: list[Turn] = []
    for item in chosen:
        shown += [turn for turn in item.turns if turn[0] != "system"]
        shown += [("user", item.prompt), ("assistant", item.answer.strip())]
    system = turns[:1] if turns and turns[0][0] == "system" else ()
    return (*system, *shown, *turns[len(system) :])


def xlt(items: Sequence[Item], kind: AnswerKind, language: str) -> list[Item]:
    """Items in XLT's template (Huang et al., arXiv 2305.07004, figure 2): retell in English, reason, then answer.

    The model first generates up to `XLT_MARKER`; `answering` then appends that to the prompt.
    """
    role, goal = _ROLES[kind]
    head = f"I want you to act as {role} expert for {langcodes.get(standard(language)).display_name('en')}.\n"
    tail = (
        "\nYou should retell the request in English.\n"
        f"You should do step-by-step answer to {goal}.\n"
        "You should step-by-step answer the request.\n"
        f"You should tell me the answer in this format '{XLT_MARKER}'.\n\n"
    )
    prompted = []
    for item in items:
        listed = "".join(f"\nOption {n}: {choice.strip()}" for n, choice in enumerate(item.choices, 1))
        prompt = f"{head}Request: {item.prompt}{listed}{tail}"
        moved = _moved(item.longest_column, len(head) + len("Request: "))
        prompted.append(replace(item, prompt=prompt, longest_column=moved))
    return prompted


def answering(items: Sequence[Item], thoughts: Sequence[str]) -> list[Item]:
    """Items whose prompts continue with the model's reasoning, up to the marker that the answer follows.

    In chat, the assistant's turn does.
    """
    reasoned = [f"{thought.partition(XLT_MARKER)[0].strip()}{XLT_THEN}" for thought in thoughts]
    return [
        replace(
            item,
            **({"begun": so_far} if item.chat else {"prompt": item.prompt + so_far}),  # type: ignore[arg-type]
            answer=f" {item.answer.strip()}",
            choices=tuple(f" {choice.strip()}" for choice in item.choices),
        )
        for item, so_far in zip(items, reasoned, strict=True)
    ]


def _moved(span: tuple[int, int], by: int) -> tuple[int, int]:
    return span[0] + by, span[1] + by
