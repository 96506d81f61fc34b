"""What is to be compared, as a user names it."""

from pathlib import Path

import pytest

from adamergex.data.settings import Source
from adamergex.errors import RecipeError
from adamergex.pipeline.evaluation_request import comparison


@pytest.mark.parametrize("task", ["quickstart", "sib200"])
def test_a_shipped_recipes_name_is_a_task_unless_it_is_a_benchmarks(task: str) -> None:
    scored = comparison({}, {"task": task}, ["sl"], base_model="m").tasks["task"]
    assert scored.folder == Path()
    if task == "quickstart":
        assert scored.task.test == Source(package="home-assistant-intents", split="test", limit=400)
    else:
        assert scored.task.benchmark == "sib200"


def test_an_unknown_task_is_said() -> None:
    with pytest.raises(RecipeError, match="quickstar"):
        comparison({}, {"task": "quickstar"}, ["sl"], base_model="m")
