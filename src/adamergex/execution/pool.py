"""What makes stages somewhere else: processes of this machine, or of a cluster."""

from dataclasses import dataclass
from typing import Protocol

from adamergex.execution.jobs import Hello, Job, News, Outcome


@dataclass(frozen=True)
class Seat:
    """One worker of a pool.

    Attributes:
        name: as a user is told, such as `GPU 1` or `10.0.0.7, GPU 1`.
        computes: whether it has what stages with a model need; otherwise it makes the others alone.
        sees_folder: whether it has the folder of the run.
    """

    name: str
    computes: bool = True
    sees_folder: bool = True


@dataclass(frozen=True)
class Ready:
    """A worker is there and waits for a job."""

    seat: Seat
    hello: Hello


@dataclass(frozen=True)
class Told:
    """A worker tells how its job stands."""

    worker: str
    news: News


@dataclass(frozen=True)
class Ended:
    """A worker's job has ended."""

    worker: str
    outcome: Outcome


@dataclass(frozen=True)
class Died:
    """A worker is gone, with its job if it had one; another may be `Ready` in its place.

    Attributes:
        worker: which one.
        why: in words.
        problem: why it could not begin; None where it died at work.
    """

    worker: str
    why: str
    problem: Exception | None = None


Event = Ready | Told | Ended | Died


class Pool(Protocol):
    """Workers that make stages."""

    def submit(self, worker: str, job: Job) -> None:
        """Give a worker that has none a job."""

    def events(self, seconds: float) -> list[Event]:
        """What has happened since the last call; waits so long for something to happen.

        Raises:
            ExecutorError: no worker is left, and none will come.
        """

    def close(self) -> None:
        """End all workers at once; what they have written of their stages stays for the next run."""
