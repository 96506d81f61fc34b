"""Several processes make what one makes."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from adamergex.adapters import adapter

ADAPTERS = ["adapters/task-en", "adapters/reference-en", "adapters/reference-es", "merged/es/adamergex"]


# What Accelerate's launcher sets for a configuration file with distributed_type: FSDP and fsdp_version: 2.
FSDP = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_RESHARD_AFTER_FORWARD": "true"}


def launch(path: Path, processes: int, output: str, *more: str, **variables: str) -> subprocess.Popen[str]:
    """As `accelerate launch` starts several processes on GPUs; on a CPU it starts one, and torchrun as many as it is told."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command += ["-m", "adamergex", "run", str(path), "--output", str(path.parent / output), *more]
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | variables
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment, start_new_session=True)


@pytest.mark.parametrize(
    ("variables", "settings"),
    [({}, ()), (FSDP, ("--set", "train.micro_batch=1"))],
    ids=["each with the base model", "the base model split"],
)
def test_two_processes_train_what_one_trains_with_the_doubled_batch(
    own_data: Callable[..., Path], variables: dict[str, str], settings: tuple[str, ...]
) -> None:
    """Batches of four and of two, seven items in all: once the second process has less to do than the first."""
    path = own_data()
    outputs = {}
    for processes in (1, 2):
        more = ("--set", "train.checkpoint_seconds=0.05", *settings)
        done = launch(path, processes, f"run-{processes}", *more, **variables)
        outputs[processes], problems = done.communicate(timeout=100)
        assert done.returncode == 0, problems
    assert outputs[2].count("merging changed accuracy") == 1
    for processes in (1, 2):
        training = json.loads((path.parent / f"run-{processes}/adapters/task-en/training.json").read_bytes())
        assert training["processes"] == processes
    for name in ADAPTERS:
        one, two = (adapter.load(path.parent / f"run-{processes}" / name).tensors for processes in (1, 2))
        assert one.keys() == two.keys()
        # Half a batch shares other beginnings, and sums in another order; Adam divides by what is nearly nothing.
        assert all(torch.allclose(one[key], two[key], atol=1e-5) for key in one)
    predictions = "predictions/es/adamergex/predictions.jsonl"
    texts = [(path.parent / f"run-{processes}" / predictions).read_text() for processes in (1, 2)]
    assert texts[0] == texts[1]


def test_a_kill_at_any_step_of_a_training_changes_no_byte(
    own_data: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL as soon as a training has left a checkpoint, until the run comes to its end."""
    train = {
        "learning_rate": 1e-2,
        "task": {"epochs": 40, "batch_size": 4},
        "reference": {"epochs": 40, "batch_size": 4},
    }
    path = own_data(train=train | {"checkpoint_seconds": 0}, evaluate={})
    home = path.parent / "home"
    home.mkdir()
    monkeypatch.delenv("MPLCONFIGDIR", raising=False)
    undisturbed = launch(path, 1, "whole", HOME=str(home), ADAMERGEX_CACHE=str(path.parent / "cache"))
    assert undisturbed.wait(timeout=100) == 0
    # Nor is anything written elsewhere but in the cache.
    assert not list(home.iterdir())
    assert sorted(place.name for place in (path.parent / "cache").iterdir()) == ["matplotlib", "seconds.jsonl"]
    run, kills = path.parent / "run", 0
    seen: set[str] = set()
    for _ in range(12):
        started = launch(path, 1, "run")
        while started.poll() is None:
            unfinished: set[str] = set()
            # Folders come and go meanwhile.
            with contextlib.suppress(FileNotFoundError):
                unfinished = {str(file) for file in run.glob(".work/scratch/adapters/*/*/checkpoint")} - seen
            if unfinished:
                os.killpg(started.pid, signal.SIGKILL)
                started.wait()
                seen |= unfinished
                kills += 1
            time.sleep(0.01)
        if started.returncode == 0:
            break
    assert kills >= 2
    assert not [path for path in run.glob(".work/**/*") if path.is_file()]
    for name in ADAPTERS:
        file = f"{name}/adapter_model.safetensors"
        assert (run / file).read_bytes() == (path.parent / "whole" / file).read_bytes()


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "DeepSpeed is not supported; FSDP splits the base model, too"),
        ({"ACCELERATE_USE_FSDP": "true"}, "FSDP version 1; expected 2: set fsdp_version: 2"),
    ],
    ids=["DeepSpeed", "FSDP 1"],
)
def test_other_ways_to_split_the_base_model_are_refused(
    own_data: Callable[..., Path], variables: dict[str, str], problem: str
) -> None:
    path = own_data()
    environment = os.environ | variables | {"WORLD_SIZE": "1", "RANK": "0"}
    command = [sys.executable, "-m", "adamergex", "run", str(path), "--output", str(path.parent / "run")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=120)
    assert done.returncode == 2
    assert problem in done.stderr
