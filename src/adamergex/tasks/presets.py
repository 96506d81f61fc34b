"""A task that is given by the name of a benchmark → all that a recipe says about a task."""

from typing import Any

from adamergex.errors import DataError
from adamergex.tasks import benchmarks
from adamergex.tasks.benchmarks.benchmark import Benchmark, Prompt


def filled(given: Any) -> Any:
    """A recipe's `task`, with what its benchmark says filled in; what is given goes first.

    Args:
        given: `xcopa`, or `{benchmark: xcopa, …}`; anything else comes back as it is.

    Raises:
        ValueError: there is no such benchmark, or no such wording of it.
    """
    if isinstance(given, str):
        given = {"benchmark": given}
    if not isinstance(given, dict) or not isinstance(given.get("benchmark"), str):
        return given
    try:
        scored = benchmarks.find(given["benchmark"])
    except DataError as error:
        raise ValueError(str(error)) from None
    trained = benchmarks.find(scored.training)
    prompts, data = given.get("prompts") or "english", given.get("data")
    if prompts == "paper" and scored.paper is None:
        raise ValueError(f"{scored.name}: the paper has no wording for it; use prompts: english or target")

    def source(of: Benchmark, split: str) -> dict[str, Any] | None:
        return {"benchmark": of.name, "split": split, "folder": data} if split in of.splits else None

    asked = scored.paper if prompts == "paper" and scored.paper else scored.prompts["en"]
    task = _wording(asked) | {
        "kind": scored.kind,
        "answer": scored.answer,
        "learned": trained.learned if trained.learned != trained.answer else None,
        "train": source(trained, "train"),
        "dev": source(scored, "dev"),
        "test": source(scored, "test"),
        "examples": source(scored, "exemplars"),
    }
    own = scored.prompts if prompts == "target" else {}
    task["wordings"] = {code: _wording(prompt) for code, prompt in own.items() if code != "en"}
    return task | given


def _wording(prompt: Prompt) -> dict[str, Any]:
    return {
        "prompt": prompt.prompt,
        "separator": prompt.separator,
        "choices": dict(prompt.choices) or None,
        "marker": prompt.marker,
    }
