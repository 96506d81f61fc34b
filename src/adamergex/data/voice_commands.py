"""Commands to a smart home and what they ask for, in some sixty languages: the templates of `home-assistant-intents`, rendered.

Source: https://github.com/home-assistant/intents (Apache-2.0), written by speakers of each language; a template such as
    `(turn|switch) on [the] {area} lights` stands for many commands. `hassil` parses them.
A row: {"text": "switch on the studio lights", "intent": "turn on"}

Rendering is ours: a seeded walk through each template. Which split a command is in depends on its words alone, so that
one which reads the same in two languages is in the same split of both.
"""

import hashlib
import itertools
import json
import random
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from adamergex.errors import DataError

if TYPE_CHECKING:
    from hassil.expression import Expression
    from hassil.intents import Intents, SlotList

# What the templates call an intent → what it is called here.
INTENTS = {
    "HassTurnOn": "turn on",
    "HassTurnOff": "turn off",
    "HassLightSet": "set light",
    "HassClimateGetTemperature": "get temperature",
    "HassClimateSetTemperature": "set temperature",
    "HassGetWeather": "get weather",
    "HassGetCurrentTime": "get time",
    "HassGetCurrentDate": "get date",
    "HassMediaNext": "next track",
    "HassMediaPrevious": "previous track",
    "HassMediaPause": "pause",
    "HassMediaUnpause": "resume",
    "HassStartTimer": "start timer",
    "HassCancelTimer": "cancel timer",
    "HassIncreaseTimer": "increase timer",
    "HassTimerStatus": "timer status",
}
COMMANDS = 100  # of an intent, at most
# Names that a home's owner gives, which are the same in every language.
_OWN = {
    "area": ("Studio", "Loft", "Atelier"),
    "floor": ("Lobby",),
    "name": ("Hue", "Sonos", "Tado", "Roomba", "Nanoleaf"),
}
# Of ten commands, four are for training, two for choosing, four for scoring.
_SPLITS = ("train",) * 4 + ("dev",) * 2 + ("test",) * 4
_ATTEMPTS = 20 * COMMANDS
_DEPTH = 40


class _OpenEndedError(Exception):
    """A template has a place for anything at all, or one that nothing is known to stand in."""


def rows(templates: str, language: str, split: str) -> Iterator[dict[str, Any]]:
    """The commands of a split.

    Args:
        templates: the JSON text that the package holds for a language.
        language: its code; another one is another random walk.
        split: train, dev or test.

    Raises:
        DataError: there is no such split.
    """
    if split not in _SPLITS:
        raise DataError(f"home-assistant-intents: has no split {split!r}; it has train, dev, test")
    from hassil.intents import Intents

    intents = Intents.from_dict(json.loads(templates))
    found: dict[str, dict[str, str]] = {name: _commands(intents, name, language) for name in INTENTS}
    # What two intents have in common has no answer.
    counts: dict[str, int] = {}
    for key in itertools.chain.from_iterable(found.values()):
        counts[key] = counts.get(key, 0) + 1
    kept = [
        (hashlib.sha256(key.encode()).digest(), {"text": text, "intent": INTENTS[name]})
        for name, commands in found.items()
        for key, text in commands.items()
        if counts[key] == 1
    ]
    for digest, row in sorted(kept, key=lambda pair: pair[0]):
        if _SPLITS[int.from_bytes(digest[-4:], "big") % len(_SPLITS)] == split:
            yield row


def _commands(intents: "Intents", name: str, language: str) -> dict[str, str]:
    """The commands of an intent by what tells them apart, its templates in turn."""
    drawn = random.Random(f"{language} {name}")
    commands: dict[str, str] = {}
    sentences = [
        (sentence.expression, {**intents.expansion_rules, **data.expansion_rules})
        for data in (intents.intents[name].data if name in intents.intents else ())
        for sentence in data.sentences
    ]
    lists: Mapping[str, SlotList] = intents.slot_lists
    for expression, rules in itertools.islice(itertools.cycle(sentences), _ATTEMPTS):
        try:
            text = " ".join(_rendered(expression, rules, lists, drawn).split())
        except _OpenEndedError:
            continue
        if key := re.sub(r"[\W_]+", " ", text).casefold().strip():
            commands.setdefault(key, text)
        if len(commands) == COMMANDS:
            break
    return commands


def _rendered(
    expression: "Expression",
    rules: Mapping[str, Any],
    lists: Mapping[str, "SlotList"],
    drawn: random.Random,
    depth: int = 0,
) -> str:
    """One of the texts that a template stands for. Raises _OpenEndedError where it stands for any text."""
    from hassil import expression as kinds
    from hassil.intents import RangeSlotList, TextSlotList

    def inner(some: "Expression") -> str:
        return _rendered(some, rules, lists, drawn, depth + 1)

    if depth > _DEPTH:
        raise _OpenEndedError
    text: str | None = None
    match expression:
        case kinds.TextChunk():
            text = expression.original_text
        case kinds.Alternative():
            text = inner(drawn.choice(expression.items))
        case kinds.Permutation():
            text = " ".join(inner(item) for item in drawn.sample(expression.items, len(expression.items)))
        case kinds.Group():
            text = "".join(inner(item) for item in expression.items)
        case kinds.RuleReference() if expression.rule_name in rules:
            text = inner(rules[expression.rule_name].expression)
        case kinds.ListReference() if expression.list_name in _OWN:
            text = drawn.choice(_OWN[expression.list_name])
        case kinds.ListReference():
            match lists.get(expression.list_name):
                case TextSlotList() as texts if texts.values:
                    text = inner(drawn.choice(texts.values).text_in)
                case RangeSlotList() as numbers:
                    text = str(drawn.choice(list(numbers.get_numbers())))
    if text is None:
        raise _OpenEndedError
    return text
