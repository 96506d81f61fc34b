"""What `validate` passes, `run` does not refuse, and neither ends with a traceback or a message of several lines.

ADAMERGEX_FUZZ_CASES=1000 in the environment tries a thousand; ADAMERGEX_FUZZ_SEED other ones.
"""

import json
import os
import re
import shutil
import signal
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

from adamergex.training import train
from tests.attack import forked, valid_recipes

pytestmark = pytest.mark.attack
COUNT, SEED = (int(os.environ.get(f"ADAMERGEX_FUZZ_{name}", usual)) for name, usual in (("CASES", 60), ("SEED", 0)))
# A training that is cut short is none that could fail.
STEPS = 2
SECONDS = 60
# What a run alone can find out, for it takes a training or answers.
LEARNED = re.compile(r"the loss is |the adapter is not finite|too few to learn from|no input was given the label")


def _shortened() -> None:
    """Trainings of a few steps, in this process."""
    begin = train._Training.__init__

    def shortened(self: Any, *given: Any, **named: Any) -> None:
        begin(self, *given, **named)
        self.steps = min(self.steps, STEPS)

    train._Training.__init__ = shortened  # type: ignore[method-assign]


def _wrong(status: int, said: str) -> list[str]:
    """What is wrong with how a command ended, and with what it said."""
    lines = said.splitlines()
    errors = [place for place, line in enumerate(lines) if line.startswith("error: ")]
    wrong = [f"status {status}"] if status not in (0, 2) else []
    wrong += ["a traceback"] if "Traceback" in said else []
    wrong += ["no line that says why"] if status == 2 and not errors else []
    if errors and not all(line.startswith("error: ") for line in lines[errors[0] :]):
        wrong.append("a message of several lines")
    return wrong


def outcome(number: int, kept: Path, folder: Path, seed: int) -> str | None:
    """What is wrong with how both commands end; None where nothing is.

    Args:
        number: of the case.
        kept: a folder with what `valid_recipes.write` wrote.
        folder: to work in, which does not exist yet.
        seed: of all cases.
    """
    folder.mkdir()
    shutil.copytree(kept / "data", folder / "data")
    for name in ("models", "adapters"):
        (folder / name).symlink_to(kept / name)
    recipe, times = valid_recipes.mutate(Random(f"{seed} {number}"), number, folder)
    shown = folder / "shown"
    ends: dict[str, tuple[int, str]] = {}
    wrong: list[str] = []
    for command in ("validate recipe.yaml", "run recipe.yaml --output run"):
        if ends.get("validate", (0,))[0]:
            break
        shown.unlink(missing_ok=True)
        signal.alarm(SECONDS)
        status = forked.called(command.split(), folder, shown)
        signal.alarm(0)
        said = shown.read_bytes().decode("utf-8", "replace")
        ends[command.split()[0]] = (status, said)
        wrong += [f"{command.split()[0]}: {one}" for one in _wrong(status, said)]
    excused = "not looked at: " in ends["validate"][1] or LEARNED.search(ends.get("run", (0, ""))[1])
    if "run" in ends and ends["run"][0] == 2 and not excused:
        wrong.append("validate passes what run refuses")
    ran = "run" in ends and ends["run"][0] == 0
    wrong += [] if times or ran else ["a valid recipe does not run"]
    shutil.rmtree(folder)
    with (folder.parent / "counts").open("a") as file:
        file.write(f"{number} {'ran' if ran else 'refused' if 'run' not in ends else 'other'}\n")
    if not wrong:
        return None
    said = "\n".join(f"{name}: {text[-1500:]}" for name, (_, text) in ends.items())
    return f"case {number}: {', '.join(wrong)}: {json.dumps(recipe)}\n{said}"


def _timed_out(number: int, frame: Any) -> None:
    raise TimeoutError(f"more than {SECONDS} s")


def _several(cases: range, kept: Path, folder: Path, seed: int, findings: Path) -> None:
    signal.signal(signal.SIGALRM, _timed_out)
    _shortened()
    for number in cases:
        found = outcome(number, kept, folder / f"case {number}", seed)
        with findings.open("a") as file:
            file.write(json.dumps([number, found]) + "\n")


def test_what_validate_passes_run_does_not_refuse(tmp_path: Path, warm: None) -> None:
    kept, findings = tmp_path / "kept", tmp_path / "findings"
    valid_recipes.write(kept)
    done: dict[int, str | None] = {}
    while len(done) < COUNT:
        work = partial(_several, range(len(done), COUNT), kept, tmp_path, SEED, findings)
        status = forked.ended(forked.beside(work))
        lines = findings.read_text().splitlines() if findings.exists() else []
        done = dict(map(json.loads, lines))
        if len(done) < COUNT:
            with findings.open("a") as file:
                file.write(json.dumps([len(done), f"case {len(done)}: ended with {status}"]) + "\n")
            done[len(done)] = f"ended with {status}"
    wrong = [found for found in done.values() if found]
    assert not wrong, f"{len(wrong)} of {COUNT}\n" + "\n\n".join(wrong[:10])
