"""Executors by name: this process, several of this machine, or those of a Ray cluster."""

import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adamergex.distributed import Processes
from adamergex.errors import ExecutorError, IncompleteError
from adamergex.execution import scheduler
from adamergex.execution.account import Took
from adamergex.execution.jobs import Place, Setup
from adamergex.execution.pool import Pool
from adamergex.execution.run_folder import RunFolder
from adamergex.execution.stage import packages
from adamergex.models.device_names import DeviceName
from adamergex.pipeline.kinds import KINDS
from adamergex.pipeline.planned import Planned, lacking
from adamergex.progress import Display
from adamergex.storage.files import storage

LOCAL = "local"
_LOCAL, _RAY = re.compile(r"local:([1-9]\d{0,3})"), "ray"


def check(executor: str, address: str | None, processes: Processes) -> None:
    """Check an executor's name before anything else is done.

    Raises:
        ExecutorError: there is none of that name, or it does not go with what was given beside it.
    """
    if executor not in (LOCAL, _RAY) and not _LOCAL.fullmatch(executor):
        raise ExecutorError(
            f"--executor {executor}: expected local (this process), local:N (N processes of this machine) or ray"
        )
    if address is not None and executor != _RAY:
        raise ExecutorError(f"--address {address}: goes with --executor ray, not with --executor {executor}")
    if executor != LOCAL and processes.count > 1:
        raise ExecutorError(
            f"--executor {executor}: not under accelerate launch, whose {processes.count} processes train one adapter "
            "together; leave one of both away"
        )


def make(
    planned: Planned,
    folder: RunFolder,
    executor: str,
    address: str | None,
    setup: Setup,
    store: str | None,
    device: DeviceName,
    display: Display,
    settings: Mapping[str, Any],
) -> Took | None:
    """Make the stages of a plan that are missing on the workers of an executor.

    Args:
        planned: the plan.
        folder: of the run, locked.
        executor: its name, other than `local`.
        address: of a Ray cluster.
        setup: who makes stages.
        store: of finished stages.
        device: where models compute.
        display: where progress is shown.
        settings: of `scheduler.execute`.

    Returns:
        How long it took, where one could expect something.

    Raises:
        ExecutorError: there are not enough GPUs, Ray is not installed, no cluster answers, or its workers do not fit.
        IncompleteError: some stages failed; all others were made that could be, and the last line says what is missing.
    """
    needed = packages(planned.stages, KINDS)
    place = Place(folder.path.absolute(), secrets.token_hex(8), Path.cwd(), store, needed)
    with storage(folder.path):
        place.probe.parent.mkdir(parents=True, exist_ok=True)
        place.probe.touch()
    pool = _pool(executor, address, place, setup, device)
    try:
        return scheduler.execute(
            planned.stages, KINDS, folder, pool, display, executor=executor, read=planned.read, **settings
        )
    except IncompleteError as error:
        names = ", ".join(lacking(planned, error.missing))
        raise IncompleteError(
            *error.problems,
            f"not made: {names or 'what waits for them'}; all else is; the same command tries again what is missing",
        ) from error
    finally:
        pool.close()


def _pool(executor: str, address: str | None, place: Place, setup: Setup, device: DeviceName) -> Pool:
    if found := _LOCAL.fullmatch(executor):
        from adamergex.execution.local_pool import LocalPool

        return LocalPool(place, setup, environments(int(found[1]), device))
    from adamergex.execution.ray_pool import RayPool

    return RayPool(place, setup, address)


def environments(count: int, device: DeviceName) -> dict[str, Mapping[str, str]]:
    """What each of several processes has of this machine: a GPU, or its share of the cores.

    Raises:
        ExecutorError: there are GPUs, and fewer than processes.
    """
    from adamergex.models.device import gpus

    names = gpus() if device in ("auto", "cuda") else []
    if names and count > len(names):
        raise ExecutorError(
            f"--executor local:{count}: this machine has {len(names)} GPUs; one process for each at most"
        )
    if names:
        return {f"GPU {names[number]}": {"CUDA_VISIBLE_DEVICES": names[number]} for number in range(count)}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = os.environ.get("OMP_NUM_THREADS", str(max(1, cores // count)))
    return {f"process {number}": {"OMP_NUM_THREADS": threads} for number in range(1, count + 1)}
