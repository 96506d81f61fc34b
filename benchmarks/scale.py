"""Planning and scheduling of many tasks in many languages, every stage a stub that sleeps, on a Ray cluster of this machine.

    python benchmarks/scale.py                                         # 10 tasks × 200 languages, 4 machines, 50 ms
    python benchmarks/scale.py --tasks 2 --languages 10 --milliseconds 50
    python benchmarks/scale.py --grows                                 # planning and scheduling alone, from 10 to 2,000 pairs

The plan is that of a real recipe, as `adamergex run` makes it; the stubs write a file of a few bytes, and results, records and keys
are real. Against the stubs' own time over the workers stands the time from the first job to the last, and of the process that
schedules the time on its processor. `--grows` has no cluster: workers that are done at once show what scheduling itself costs.
"""

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import langcodes
from babel import Locale

from adamergex.distributed import Processes
from adamergex.execution import scheduler
from adamergex.execution.jobs import Hello, Job, Outcome, Place, versions
from adamergex.execution.pool import Ended, Event, Pool, Ready, Seat
from adamergex.execution.ray_pool import RayPool
from adamergex.execution.run_folder import RunFolder
from adamergex.execution.stage import Inputs, Kinds, Plan
from adamergex.pipeline import run_plan, run_sources
from adamergex.pipeline.kinds import KINDS
from adamergex.pipeline.resolve import Contents
from adamergex.pipeline.stages.base_model import BaseModel
from adamergex.progress import Display, Silent
from adamergex.recipes.recipe import Recipe

MODEL = BaseModel(name="stub", fingerprint="sha256 1", family="causal")
# tasks × languages
GROWS = ((1, 10), (2, 50), (5, 100), (10, 200))


class Hand:
    """A worker without a model."""

    device = "toy"

    def __init__(self, display: Display):
        self.processes, self.display = Processes(), display

    def in_thread(self, display: Display, stop: Any) -> "Hand":
        return Hand(display)


def stub(seconds: float, params: Any, inputs: Inputs, output: Path, scratch: Path, worker: Any) -> None:
    time.sleep(seconds)
    (output / "text").write_text(str(sorted(inputs)))


def kinds(seconds: float) -> Kinds:
    """The real table, with stubs for what makes the results."""
    return {name: replace(kind, make=partial(stub, seconds), notes=()) for name, kind in KINDS.items()}


def setup(seconds: float, display: Display) -> tuple[Kinds, Hand]:
    return kinds(seconds), Hand(display)


def recipe(tasks: int, languages: int) -> Recipe:
    codes = [code for code in sorted(Locale("en").languages) if code.isalpha() and 2 <= len(code) <= 3 and code != "en"]
    # Two names of one language are one.
    names = {
        langcodes.Language.get(code).to_tag(): code
        for code in codes
        if code not in ("root", "mul", "und", "zxx", "mis")
    }
    codes = [code for code in names.values() if langcodes.Language.get(code).prefer_macrolanguage().to_tag() == code][
        :languages
    ]
    task = {"prompt": "{text}:", "answer": "label", "choices": {"pos": "yes", "neg": "no"}}
    named = {
        f"task-{number}": task | {split: f"{number}.{split}.{{language}}.jsonl" for split in ("train", "test")}
        for number in range(tasks)
    }
    return Recipe.model_validate(
        {
            "name": "scale",
            "base_model": "stub",
            "source": "en",
            "targets": codes,
            "tasks": named,
            "reference": {"corpus": "{language}.txt"},
            "merge": {"scale": 0.5},
            "evaluate": {"methods": ["base", "source-adapter", "adamergex"]},
        }
    )


def planned(tasks: int, languages: int) -> tuple[Plan, float]:
    """A plan, and the seconds that it took to make."""
    whole = recipe(tasks, languages)
    began = time.perf_counter()
    wanted = [one for part in whole.parts for one in run_sources.sources(part.recipe, Path())]
    found = {one.key: {"sha256": str(one.key)} for one in wanted}
    stages = run_plan.plan(whole.parts, MODEL, Contents(found), Path()).stages
    return stages, time.perf_counter() - began


class Idle:
    """Workers that are done at once, and write nothing."""

    def __init__(self, count: int, table: Kinds, packages: tuple[str, ...]):
        self._hello = Hello(True, versions(table, packages))
        self._waiting: list[Event] = [Ready(Seat(f"worker {number}"), self._hello) for number in range(count)]

    def submit(self, worker: str, job: Job) -> None:
        self._waiting.append(Ended(worker, Outcome(job.stage.id, "made", job.stage.id)))

    def events(self, seconds: float) -> list[Event]:
        found, self._waiting = self._waiting, []
        return found

    def close(self) -> None:
        pass


class Counting(Silent):
    """Remembers the most memory of this process as stages end."""

    def __init__(self) -> None:
        self.memory: list[int] = []

    def end(self) -> None:
        self.memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


def scheduled(stages: Plan, table: Kinds, pool: Pool, folder: Path) -> tuple[float, float, list[int]]:
    """Seconds from the first look to the last result, seconds on the processor, and MiB of memory as stages ended."""
    shown = Counting()
    wall, busy = time.perf_counter(), time.process_time()
    scheduler.execute(stages, table, RunFolder(folder), pool, shown, executor="local:2")
    return time.perf_counter() - wall, time.process_time() - busy, shown.memory


def grows(workers: int) -> None:
    table = kinds(0.0)
    print(
        f"{'tasks':>5} {'languages':>9} {'pairs':>6} {'stages':>7} {'planned':>9} {'scheduled':>10} {'per stage':>10}"
    )
    for tasks, languages in GROWS:
        stages, seconds = planned(tasks, languages)
        pool = Idle(workers, table, scheduler.packages(stages, table))
        with tempfile.TemporaryDirectory() as folder:
            _, busy, _ = scheduled(stages, table, pool, Path(folder))
        print(
            f"{tasks:5} {languages:9} {tasks * languages:6} {len(stages):7} {seconds:7.2f} s {busy:8.2f} s "
            f"{1e6 * busy / len(stages):7.0f} µs"
        )


def on_a_cluster(options: argparse.Namespace) -> None:
    from ray.cluster_utils import Cluster

    # One more, on the machine that leads, makes what needs no model.
    workers = options.workers + 1
    stages, seconds = planned(options.tasks, options.languages)
    print(f"{options.tasks} tasks × {options.languages} languages: {len(stages)} stages, planned in {seconds:.2f} s")
    table = kinds(options.milliseconds / 1000)
    running = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(options.workers):
        running.add_node(num_cpus=1)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        place = Place(Path(name) / "run", "probe", Path.cwd(), packages=scheduler.packages(stages, table))
        place.probe.parent.mkdir(parents=True)
        place.probe.touch()
        pool = RayPool(place, partial(setup, options.milliseconds / 1000), running.address)
        # What starts a worker is the cluster's time, not the schedule's.
        first: list[Event] = []
        while sum(isinstance(event, Ready) for event in first) < workers:
            first += pool.events(1.0)
        wall, busy, memory = scheduled(stages, table, _after(pool, first), place.folder)
        pool.close()
    running.shutdown()
    stubs = len(stages) * options.milliseconds / 1000 / workers
    print(f"  {workers} workers: {wall:.1f} s; the stubs over the workers {stubs:.1f} s: {wall / stubs - 1:.1%} more")
    print(
        f"  planning and scheduling took {seconds + busy:.1f} s of a processor, {(seconds + busy) / stubs:.1%} of the stubs'"
    )
    print(f"  memory: {memory[len(memory) // 10]} MiB after a tenth of the stages, {memory[-1]} MiB after all")


def _after(pool: RayPool, first: Iterable[Event]) -> Pool:
    """A pool that has said already who is there."""
    said, events = list(first), pool.events

    def told(seconds: float) -> list[Event]:
        found = [*said] if said else events(seconds)
        said.clear()
        return found

    pool.events = told  # type: ignore[method-assign]
    return pool


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tasks", type=int, default=10)
    parser.add_argument("--languages", type=int, default=200)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--milliseconds", type=float, default=50.0)
    parser.add_argument("--folder", help="where the run's folder is made; the temporary folder by default")
    parser.add_argument("--grows", action="store_true")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if options.grows:
        grows(options.workers)
    else:
        on_a_cluster(options)


if __name__ == "__main__":
    main()
