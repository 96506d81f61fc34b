"""What a process of a pool is started with."""

from dataclasses import dataclass, replace
from pathlib import Path

from adamergex.errors import ModelError
from adamergex.execution.stage import Kinds
from adamergex.pipeline.kinds import KINDS
from adamergex.pipeline.worker import Options, Worker
from adamergex.progress import Display
from adamergex.storage.checkpoints import resolve
from adamergex.training.trackers import Name, Trackers


@dataclass(frozen=True)
class Setup:
    """A worker's base model and options, by names that mean something on another machine.

    Attributes:
        base_model: as the recipe names it: each machine finds, downloads or converts its own.
        fingerprint: that it has to have there, too.
        trust_remote_code: whether the user allowed Python code in the model's repository.
        options: that change no result, but for trackers.
        track: the trackers' names.
        project: what their project is called.
        folder: of the run, for those that write files.
    """

    base_model: str
    fingerprint: str
    trust_remote_code: bool
    options: Options
    track: tuple[Name, ...]
    project: str
    folder: Path

    def __call__(self, display: Display) -> tuple[Kinds, Worker]:
        """Who makes stages in this process, and the table of kinds.

        Raises:
            ModelError: there is no such model here, or it is another one.
            NetworkError: the hub does not answer.
        """
        checkpoint = resolve(self.base_model, self.trust_remote_code)
        if checkpoint.fingerprint != self.fingerprint:
            raise ModelError(
                f"base_model {self.base_model}: {checkpoint.folder} is {checkpoint.fingerprint} on this worker; the run was "
                f"planned with {self.fingerprint}: give all machines the same files"
            )
        trackers = Trackers(self.track, self.project, self.folder, display.warn)
        return KINDS, Worker(
            {checkpoint.fingerprint: checkpoint}, None, display, replace(self.options, trackers=trackers)
        )
