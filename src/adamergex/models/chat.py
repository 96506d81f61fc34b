"""Items as conversations in a checkpoint's own chat template, rendered by transformers in jinja's sandbox.

This is where a chat prompt becomes text, for training, scoring and prediction alike; `encode` makes tokens of it.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from adamergex.data.special_tokens import end_of_sequence
from adamergex.errors import DataError, ModelError
from adamergex.storage.files import from_json, small
from adamergex.tasks.conversations import Role, Turn
from adamergex.tasks.items import Item

# Stands within the words for a special token in a row's text, and never reaches the tokenizer: a Unicode noncharacter.
_MARK = "\ufdd0"
# What a probe says, in words that no template treats in a way of their own.
_ANSWER, _SYSTEM, _QUESTION = "Sample answer", "Sample instruction", "Sample question"
# Today for every template that asks: results must not depend on the day. It is the day that Llama 3's template falls back to.
TODAY = date(2024, 7, 26)
# Answers are asked for directly; templates that know no such variable do not read it.
_VARIABLES = {"enable_thinking": False}
# The files of a checkpoint that may hold its template.
FILES = _JINJA, _CONFIG = ("chat_template.jinja", "tokenizer_config.json")
NO_TEMPLATE = (
    "its tokenizer has no chat template, which chat needs; choose an instruction-tuned checkpoint, or leave chat out"
)


@dataclass(frozen=True)
class Rendered:
    """A prompt in its chat template.

    Attributes:
        text: up to where the model answers; its special tokens are meant as such, but for those cut by marks.
        lead: what the template writes between that and an answer, such as Mistral's space.
        end: what ends an answer.
        is_begun: whether `text` ends within the assistant's turn, which answers continue as they are.
    """

    text: str
    lead: str
    end: str
    is_begun: bool = False


@dataclass(frozen=True)
class AssistantTurn:
    """How a template writes an assistant's turn.

    Attributes:
        lead: what stands between the generation prompt and the answer.
        end: what stands behind the answer, up to the special token that ends the turn; the end-of-sequence token where
            the template ends it with none.
        token: that token.
    """

    lead: str
    end: str
    token: int


def template_of(folder: Path) -> str | None:
    """The chat template among a checkpoint's files, as its tokenizer will have it; None where there is none.

    Raises:
        ModelError: a file cannot be read.
    """
    try:
        if (folder / _JINJA).is_file():
            return (folder / _JINJA).read_text("utf-8")
        if not (folder / _CONFIG).is_file():
            return None
        found = from_json(small(folder / _CONFIG)).get("chat_template")
        if isinstance(found, list):
            found = {one["name"]: one["template"] for one in found}
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise ModelError(f"{folder}: its chat template cannot be read: {error}") from error
    if isinstance(found, dict):
        found = found.get("default")
    return found if isinstance(found, str) else None


def digest(template: str) -> str:
    """SHA-256 of a chat template."""
    return hashlib.sha256(template.encode()).hexdigest()


def assistant_turn(tokenizer: Any) -> AssistantTurn:
    """How the tokenizer's template writes an assistant's turn. Raises ModelError where it does not render."""
    asked: list[Turn] = [("user", _QUESTION)]
    prompt, whole = _render(tokenizer, [asked], True)[0], _render(tokenizer, [[*asked, ("assistant", _ANSWER)]])[0]
    before, found, behind = whole.partition(_ANSWER)
    if not found:
        raise ModelError("the chat template leaves out what the assistant says")
    # A reasoning model's template opens a block in the prompt that it does not write around an answer.
    lead = before.removeprefix(prompt) if before.startswith(prompt) else ""
    ending = _special(tokenizer).search(behind)
    if ending is None:
        end = end_of_sequence(tokenizer)
        return AssistantTurn(lead, tokenizer.convert_ids_to_tokens(end), end)  # type: ignore[arg-type]
    return AssistantTurn(lead, behind[: ending.end()], tokenizer.convert_tokens_to_ids(ending[0]))


def prompts(tokenizer: Any, items: Sequence[Item]) -> list[str | Rendered]:
    """The prompts of items: their text, or where they are chat the conversation in the tokenizer's template.

    Raises:
        DataError: the template refuses the conversation of an item.
        ModelError: the tokenizer has no template, or it does not render.
    """
    if not any(item.chat for item in items):
        return [item.prompt for item in items]
    special, turn = _special(tokenizer), assistant_turn(tokenizer)
    said = [[(role, _cut(special, text)) for role, text in (*item.turns, ("user", item.prompt))] for item in items]
    try:
        texts = _render(tokenizer, said, True)
    except ModelError:
        texts = [_render_item(tokenizer, item, turns) for item, turns in zip(items, said, strict=True)]
    return [
        Rendered(f"{text}{turn.lead}{_cut(special, item.begun)}", "", turn.end, True)
        if item.begun
        else Rendered(text, turn.lead, turn.end)
        for item, text in zip(items, texts, strict=True)
    ]


def _render_item(tokenizer: Any, item: Item, turns: Sequence[Turn]) -> str:
    try:
        return _render(tokenizer, [turns], True)[0]
    except ModelError as error:
        raise DataError(f"{item.id}: {error}") from error


def prompt_tokens(tokenizer: Any, asked: Sequence[Rendered]) -> list[list[int]]:
    """The tokens of chat prompts; the template says how a sequence begins, and nothing is added to it."""
    return _tokens(tokenizer, [one.text for one in asked])


def whole_tokens(tokenizer: Any, asked: Sequence[Rendered], answers: Sequence[str], ended: bool) -> list[list[int]]:
    """The tokens of chat prompts with their answers.

    Args:
        tokenizer: the model's.
        asked: the prompts.
        answers: one for each.
        ended: whether what ends an answer follows.
    """
    special = _special(tokenizer)
    return _tokens(
        tokenizer,
        [
            one.text + one.lead + _cut(special, answer if one.is_begun else answer.strip()) + one.end * ended
            for one, answer in zip(asked, answers, strict=True)
        ],
    )


def problems(tokenizer: Any, shapes: Iterable[tuple[Role, ...]]) -> list[str]:
    """What is wrong with a tokenizer's chat template, a line for each.

    Args:
        tokenizer: the model's.
        shapes: roles of the conversations that will be rendered, such as `("system", "user")`.
    """
    try:
        assistant_turn(tokenizer)
    except ModelError as error:
        return [str(error)]
    found = []
    for roles in shapes:
        said: list[Turn] = [(role, f"{_SYSTEM if role == 'system' else _QUESTION} {n}") for n, role in enumerate(roles)]
        what = f"of a conversation of {', '.join(roles)}"
        if "system" in roles:
            what += "; say what the system message says in the prompt, and leave it out"
        try:
            text = _render(tokenizer, [said], True)[0]
        except ModelError as error:
            found.append(f"{error}, {what}")
        else:
            if missing := [role for role, words in said if words not in text]:
                found.append(f"the chat template leaves out what the {missing[0]} says, {what}")
    return list(dict.fromkeys(found))


def _render(tokenizer: Any, conversations: Sequence[Sequence[Turn]], asks: bool = False) -> list[str]:
    """Conversations as text.

    Args:
        tokenizer: the model's.
        conversations: turns of each.
        asks: whether the beginning of the assistant's turn follows.

    Raises:
        ModelError: there is no template, or it does not render.
    """
    said = [[{"role": role, "content": text} for role, text in turns] for turns in conversations]
    try:
        template = _dated(tokenizer.get_chat_template())
        texts: list[str] = tokenizer.apply_chat_template(
            said, chat_template=template, add_generation_prompt=asks, tokenize=False, **_VARIABLES
        )
    except Exception as error:  # a template may raise whatever it likes, and jinja's sandbox does
        if tokenizer.chat_template is None:
            raise ModelError(NO_TEMPLATE) from error
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"the chat template does not render: {reason}") from error
    return texts


def _dated(template: str) -> str:
    """A template with `TODAY` where it asks for today's date. Raises ValueError where it does so in a way of its own."""
    text = re.sub(
        r"""strftime_now\(\s*(["'])(.*?)\1\s*\)""", lambda call: json.dumps(TODAY.strftime(call[2])), template
    )
    if re.search(r"strftime_now\s*\(", text):
        raise ValueError(
            "it asks for today's date in a form that is not known here, and answers would depend on the day"
        )
    return text


def _special(tokenizer: Any) -> re.Pattern[str]:
    """Finds special tokens in a text, of overlapping ones the longest."""
    words = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special and token.content}
    return re.compile(
        "|".join(re.escape(word) for word in sorted(words, key=lambda word: (-len(word), word))) or "(?!)"
    )


def _cut(special: re.Pattern[str], text: str) -> str:
    """A row's text with a mark within what looks like a special token: `<s>` may be the HTML tag for struck-out text."""
    return special.sub(lambda found: found[0][0] + _MARK + found[0][1:], text)


def _tokens(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Encode rendered texts, whose special tokens are meant as such unless a mark cuts them."""
    if not texts:
        return []
    parts = [text.split(_MARK) for text in texts]
    whole = _encoded(tokenizer, [first for first, *_ in parts])
    cut = [number for number, (_, *rest) in enumerate(parts) if rest]
    # After a special token, which is left out again: SentencePiece puts a space before what begins a text.
    before: str = tokenizer.convert_ids_to_tokens(end_of_sequence(tokenizer))
    for number in cut:
        for ids in _encoded(tokenizer, [before + part for part in parts[number][1:]]):
            whole[number] += ids[1:]
    return whole


def _encoded(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    encoded: list[list[int]] = tokenizer(
        list(texts), add_special_tokens=False, return_attention_mask=False, verbose=False
    )["input_ids"]
    return encoded
