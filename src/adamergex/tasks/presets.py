"""Expands a task that is given by the name of a benchmark to the full settings of a task."""

from typing import Any

from adamergex.errors import DataError
from adamergex.tasks import benchmarks
from adamergex.tasks.benchmarks.benchmark import Benchmark, Prompt


def filled(task_section: Any) -> Any:
    """A recipe's `task` with the settings of its benchmark filled in; given settings take precedence.

    Args:
        task_section: `xcopa`, or `{benchmark: xcopa, …}`; anything else is returned unchanged.

    Raises:
        ValueError: there is no such benchmark, or no such wording of it.
    """
    if isinstance(task_section, str):
        task_section = {"benchmark": task_section}
    if not isinstance(task_section, dict) or not isinstance(task_section.get("benchmark"), str):
        return task_section
    try:
        scored = benchmarks.find(task_section["benchmark"])
    except DataError as error:
        raise ValueError(str(error)) from None
    trained = benchmarks.find(scored.training)
    prompts, data = task_section.get("prompts") or "english", task_section.get("data")
    if prompts == "paper" and scored.paper is None:
        raise ValueError(f"{scored.name}: the paper has no wording for it; use prompts: english or target")

    def source(benchmark: Benchmark, split: str) -> dict[str, Any] | None:
        return {"benchmark": benchmark.name, "split": split, "folder": data} if split in benchmark.splits else None

    default = scored.paper if prompts == "paper" and scored.paper else scored.prompts["en"]
    settings = _wording(default) | {
        "kind": scored.kind,
        "answer": scored.answer,
        "learned": trained.learned if trained.learned != trained.answer else None,
        "train": source(trained, "train"),
        "dev": source(scored, "dev"),
        "test": source(scored, "test"),
        "examples": source(scored, "exemplars"),
    }
    wordings = scored.prompts if prompts == "target" else {}
    settings["wordings"] = {code: _wording(prompt) for code, prompt in wordings.items() if code != "en"}
    return settings | task_section


def _wording(prompt: Prompt) -> dict[str, Any]:
    return {
        "prompt": prompt.prompt,
        "separator": prompt.separator,
        "choices": dict(prompt.choices) or None,
        "marker": prompt.marker,
    }
