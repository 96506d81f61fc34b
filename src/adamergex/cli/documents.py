"""What commands print for programs with `--json`: one document, problems included."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from adamergex.errors import AdaMergeXError
from adamergex.terminal import say


def lines(error: AdaMergeXError) -> list[str]:
    """The problems of an error, a line each, as they are shown."""
    return [" ".join(problem.split()) for problem in error.problems]


def show(document: dict[str, Any]) -> None:
    """Print a document on standard output."""
    say(json.dumps(document, ensure_ascii=False, indent=2, allow_nan=False))


@contextmanager
def problems_shown(as_json: bool) -> Iterator[None]:
    """Within this context an error is a document, too, whose `problems` are its lines; it is raised all the same.

    Args:
        as_json: whether documents are wanted; nothing is printed otherwise.
    """
    try:
        yield
    except AdaMergeXError as error:
        if as_json:
            show({"problems": lines(error)})
        raise
