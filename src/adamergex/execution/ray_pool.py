"""`--executor ray`: the workers of a Ray cluster, one for each GPU, or for each machine that has none."""

import hashlib
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from adamergex.errors import AdaMergeXError, ExecutorError
from adamergex.execution.jobs import Hello, Job, Maker, News, Outcome, Place, Setup, Warned, portable
from adamergex.execution.pool import Died, Ended, Event, Ready, Seat, Told
from adamergex.storage.files import cache_folder

# Seconds until an address counts as one that does not answer.
_PATIENCE = 10
# Seconds between two looks at which machines there are, and at how jobs stand.
_LOOK = 2.0
# Seconds without any machine until the run ends, to go on another day.
_ALONE = 60.0
# Seconds until it is said that a worker is not there yet.
_LATE = 60.0
# Workers of a place that die before they have begun until the run ends: the next one would do so, too.
_STILLBORN = 3


class _Member:
    """A worker, as an actor: one thread makes stages, another one tells how they stand."""

    def __init__(self, place: Place):
        self._place = place
        self._news: list[News] = []
        self._lock = threading.Lock()
        self._maker: Maker | None = None

    def begin(self, setup: Setup) -> Hello | Exception:
        """Get ready; an error is returned, as one that is raised would not arrive as what it is."""
        name = hashlib.sha256(os.fsencode(self._place.folder)).hexdigest()[:16]
        try:
            self._maker = Maker(self._place, setup, self._tell, cache_folder() / "workers" / name)
        except Exception as error:  # Whatever it is, the user is told where the run was started.
            return portable(error)
        return self._maker.hello

    def make(self, job: Job) -> Outcome:
        """Make a stage."""
        assert self._maker is not None  # It has begun, or it would have no job.
        return self._maker.make(job)

    def news(self) -> list[News]:
        """What was told since the last call."""
        with self._lock:
            told, self._news = self._news, []
        return told

    def _tell(self, news: News) -> None:
        with self._lock:
            self._news.append(news)


@dataclass
class _Place:
    """A place in the cluster for one worker, and who is there."""

    seat: Seat
    node: str
    options: dict[str, Any]
    actor: Any = None
    since: float = field(default_factory=time.monotonic)
    is_late: bool = False
    is_ready: bool = False
    is_busy: bool = False


class RayPool:
    """The workers of a Ray cluster.

    Args:
        place: where things are.
        setup: who makes stages, on each of them.
        address: of the cluster; that of `RAY_ADDRESS`, or else a new one on this machine, by default.

    Raises:
        ExecutorError: Ray is not installed, or no cluster answers.
    """

    def __init__(self, place: Place, setup: Setup, address: str | None):
        try:
            import ray
        except ImportError as error:
            raise ExecutorError("--executor ray: Ray is not installed; run: pip install 'adamergex[ray]'") from error
        self._ray, self._place, self._setup = ray, place, setup
        self._member = ray.remote(_Member)
        self._places: dict[str, _Place] = {}
        # What is asked of actors → the worker, and what was asked.
        self._asked: dict[Any, tuple[str, str]] = {}
        # Worker → how often in a row it died before it had begun.
        self._stillborn: Counter[str] = Counter()
        self._looked, self._alone_since = 0.0, time.monotonic()
        address = address or os.environ.get("RAY_ADDRESS")
        if address is not None:
            _reach(address)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        options: dict[str, Any] = {} if address else {"include_dashboard": False}
        try:
            with _own_signals():
                ray.init(address, logging_level="error", log_to_driver=False, **options)
        except Exception as error:  # Ray's own errors, and those of gRPC.
            line = " ".join(str(error).split())[:300]
            raise ExecutorError(f"--executor ray: no cluster at {address or 'this machine'}: {line}") from error

    def submit(self, worker: str, job: Job) -> None:
        """See Pool."""
        place = self._places[worker]
        place.is_busy = True
        self._asked[place.actor.make.remote(job)] = worker, "make"

    def events(self, seconds: float) -> list[Event]:
        """See Pool."""
        now = time.monotonic()
        if now - self._looked > _LOOK:
            self._looked = now
            self._look()
            for name, place in self._places.items():
                if place.is_busy and (name, "news") not in self._asked.values():
                    self._asked[place.actor.news.remote()] = name, "news"
        if self._places:
            self._alone_since = now
        elif now - self._alone_since > _ALONE:
            raise ExecutorError("no machine of the cluster is left; run the same command again to go on")
        late = list(self._late(now))
        if not self._asked:
            time.sleep(min(seconds, 0.2))
            return late
        done, _ = self._ray.wait(list(self._asked), num_returns=1, timeout=seconds)
        more, _ = self._ray.wait(list(self._asked), num_returns=len(self._asked), timeout=0)
        return [*late, *(event for ref in dict.fromkeys([*done, *more]) for event in self._answered(ref))]

    def _late(self, now: float) -> Iterator[Event]:
        """Say once of a worker that it does not come: a cluster lets it wait for ever, and says nothing."""
        for name, place in self._places.items():
            if not (place.is_ready or place.is_late) and now - place.since > _LATE:
                place.is_late = True
                yield Told(
                    name,
                    Warned(
                        f"{name}: no worker there yet: something else may have its GPU or cores (`ray status` says so), or it "
                        "still gets the base model, or waits for a store that does not answer"
                    ),
                )

    def _answered(self, ref: Any) -> Iterator[Event]:
        # What was asked of a worker that is gone was forgotten meanwhile.
        name, what = self._asked.pop(ref, ("", ""))
        place = self._places.get(name)
        if place is None:
            return
        try:
            answer = self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            yield self._gone(name, error)
            return
        if isinstance(answer, AdaMergeXError | RuntimeError):
            self._places.pop(name)
            yield Died(name, "could not begin", answer)
        elif isinstance(answer, Hello):
            place.is_ready = True
            self._stillborn.pop(name, None)
            place.seat = replace(place.seat, sees_folder=answer.sees_folder)
            yield Ready(place.seat, answer)
        elif isinstance(answer, Outcome):
            place.is_busy = False
            yield Ended(name, answer)
        elif what == "news":
            for one in answer:
                yield Told(name, one)

    def _gone(self, name: str, error: Exception) -> Died:
        """A worker died, or its machine did."""
        place = self._places.pop(name)
        self._asked = {ref: asked for ref, asked in self._asked.items() if asked[0] != name}
        self._looked = 0.0
        line = " ".join(str(error).split())
        if "ModuleNotFoundError" in line:
            missing = ExecutorError(f"{name} cannot import adamergex: install the same version everywhere")
            return Died(name, "could not begin", missing)
        self._stillborn[name] += not place.is_ready
        if self._stillborn[name] == _STILLBORN:
            why = f"{name} died {_STILLBORN} times before it could begin; it may lack memory: {line[:300]}"
            return Died(name, "could not begin", ExecutorError(why))
        return Died(name, "is gone")

    def _look(self) -> None:
        """Start a worker in each place of the cluster that has none; forget those of machines that are gone."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        nodes = [node for node in self._ray.nodes() if node["Alive"]]
        for place in _places(nodes, self._ray.get_runtime_context().get_node_id()):
            if place.seat.name in self._places:
                continue
            strategy = NodeAffinitySchedulingStrategy(place.node, soft=False)
            place.actor = self._member.options(max_concurrency=2, scheduling_strategy=strategy, **place.options).remote(
                self._place
            )
            self._places[place.seat.name] = place
            self._asked[place.actor.begin.remote(self._setup)] = place.seat.name, "begin"

    def close(self) -> None:
        """See Pool."""
        for place in self._places.values():
            with suppress(Exception):  # A cluster that is gone has nothing left to end.
                self._ray.kill(place.actor)
        with _own_signals():
            self._ray.shutdown()


def _places(nodes: list[dict[str, Any]], here: str) -> list[_Place]:
    """One for each GPU, one for each machine without, and one more for what needs no model where there are GPUs.

    Args:
        nodes: that are alive, as Ray describes them.
        here: the id of this process's, where the user's data are: something works there, too.
    """
    hosts = Counter(node["NodeManagerHostname"] for node in nodes)
    places = []
    for node in nodes:
        id, host = node["NodeID"], node["NodeManagerHostname"]
        name = host if hosts[host] == 1 else f"{host} {id[:6]}"
        gpus, cpus = int(node["Resources"].get("GPU", 0)), node["Resources"].get("CPU", 0)
        for number in range(gpus):
            places.append(_Place(Seat(f"{name}, GPU {number}"), id, {"num_gpus": 1, "num_cpus": 0}))
        if gpus or (id == here and not cpus):
            places.append(_Place(Seat(f"{name}, CPU", computes=False), id, {"num_gpus": 0, "num_cpus": 0}))
        elif cpus:
            places.append(_Place(Seat(name), id, {"num_cpus": cpus}))
    return places


def _reach(address: str) -> None:
    """Raise ExecutorError where nobody listens at an address, rather than wait for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        if address in ("auto", "local"):
            return
        raise ExecutorError(f"--address {address}: expected auto or HOST:PORT")
    try:
        socket.create_connection((host, int(port)), _PATIENCE).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ExecutorError(
            f"--address {address} does not answer: {reason}; `ray status` on a machine of the cluster says whether it runs"
        ) from error


@contextmanager
def _own_signals() -> Iterator[None]:
    """Within this context Ray may set its handlers of signals; afterwards ours are there again."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        with suppress(ValueError):  # Only the main thread has any.
            for number, handler in before.items():
                signal.signal(number, handler)
