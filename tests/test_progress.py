"""What is shown of a run where nobody looks at a terminal."""

import pytest

from adamergex.progress import display
from adamergex.terminal import Terminal


def test_warnings_go_to_standard_error_and_progress_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    with display(Terminal()) as shown:
        shown.stage("adapters/task-en")
        shown.warn("wandb failed [1], and is left out")
        shown.end()
    found = capsys.readouterr()
    assert found.err == "warning: adapters/task-en: wandb failed [1], and is left out\n"
    assert found.out.splitlines() == ["adapters/task-en: begins", "adapters/task-en: done in 0 s"]
