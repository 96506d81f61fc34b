"""What an action of somebody else's library fails with; for the peers scripts, each in an environment of its own."""

from collections.abc import Callable
from typing import Any


def failure(action: Callable[[], Any], width: int = 260) -> str:
    """The type and text of the exception that `action` raises, or "no error"."""
    try:
        action()
    except Exception as problem:
        text = " ".join(str(problem).split())
        return f"{type(problem).__name__}: {text[:width]}{'…' if len(text) > width else ''}"
    return "no error"
