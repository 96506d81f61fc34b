"""Rows that hold a conversation: a list of `{role, content}`, or of ShareGPT's `{from, value}`."""

from collections.abc import Mapping
from typing import Any, Literal

from adamergex.errors import DataError

Role = Literal["system", "user", "assistant"]
# Who speaks, and what is said.
Turn = tuple[Role, str]
_ROLES: dict[str, Role] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
}
_KEYS = (("role", "content"), ("from", "value"))


def conversation(location: str, column: str, value: Any) -> tuple[list[Turn], str | None]:
    """What a column says, without the last assistant's turn, and that turn; None where the conversation ends before it.

    Args:
        location: of the row.
        column: the name of the column.
        value: what is in it.

    Raises:
        DataError: it is no conversation in which a system message may come first, and user and assistant take turns.
    """
    where = f"{location}: column {column!r}"
    if not isinstance(value, list | tuple) or not value:
        got = "an empty list" if isinstance(value, list | tuple) else f"a {type(value).__name__}"
        raise DataError(f"{where}: expected a list of {{role, content}} or of {{from, value}}, got {got}")
    turns = [_turn(f"{where}, turn {number}", message) for number, message in enumerate(value, 1)]
    first = 1 if turns[0][0] == "system" else 0
    for number, (role, _) in enumerate(turns[first:]):
        expected = "assistant" if number % 2 else "user"
        if role != expected:
            raise DataError(
                f"{where}, turn {number + first + 1}: is the {role}'s; expected the {expected}'s: after a system message, user "
                "and assistant take turns, and the user begins"
            )
    if len(turns) == first:
        raise DataError(f"{where}: holds a system message alone; expected a user's turn")
    if turns[-1][0] == "user":
        return turns, None
    return turns[:-1], turns[-1][1]


def _turn(where: str, message: Any) -> Turn:
    if not isinstance(message, Mapping):
        raise DataError(f"{where}: expected {{role, content}} or {{from, value}}, got a {type(message).__name__}")
    keys = next((keys for keys in _KEYS if all(key in message for key in keys)), None)
    if keys is None:
        raise DataError(
            f"{where}: expected {{role, content}} or {{from, value}}; it has {', '.join(map(str, message)) or 'nothing'}"
        )
    role, content = (message[key] for key in keys)
    if not isinstance(role, str) or role not in _ROLES:
        raise DataError(f"{where}: unknown {keys[0]} {role!r}; expected one of {', '.join(_ROLES)}")
    if message.get("tool_calls"):
        raise DataError(f"{where}: calls tools, which an answer in words cannot; leave the row out")
    if not isinstance(content, str):
        raise DataError(f"{where}: {keys[1]} is a {type(content).__name__}; expected text")
    if not content.strip():
        raise DataError(f"{where}: {keys[1]} is empty")
    return _ROLES[role], content
