"""`--executor local:N`: N processes of this machine, each with its GPU or its share of the cores."""

import os
import queue
import signal
import socket
import subprocess
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from threading import Thread
from typing import Any

from adamergex.errors import ExecutorError
from adamergex.execution.jobs import Hello, Job, Maker, Outcome, Place, Setup, portable
from adamergex.execution.pool import Died, Ended, Event, Ready, Seat, Told

# Seconds that a process has to end by itself.
_PATIENCE = 10


@dataclass
class _Process:
    child: "subprocess.Popen[bytes]"
    connection: Connection
    is_ready: bool = False
    is_closing: bool = False


class LocalPool:
    """Processes of this machine.

    Args:
        place: where things are.
        setup: who makes stages, in each of them.
        environments: of each process, what differs from this one's: its GPU, its threads. By name of the process.

    Raises:
        ExecutorError: this machine does not take so many processes.
    """

    def __init__(self, place: Place, setup: Setup, environments: Mapping[str, Mapping[str, str]]):
        self._place, self._setup, self._environments = place, setup, environments
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._processes: dict[str, _Process] = {}
        try:
            for name in environments:
                self._start(name)
        except BaseException as error:
            self.close()
            if not isinstance(error, OSError):
                raise
            raise ExecutorError(
                f"--executor local:{len(environments)}: {name} does not start: {error.strerror}; take fewer"
            ) from error

    def _start(self, name: str) -> None:
        ours, theirs = socket.socketpair()
        # Not multiprocessing's own start, which would run the user's script once more.
        command = [sys.executable, "-m", __name__, str(theirs.fileno())]
        environment = os.environ | self._environments[name]
        # Ctrl-C reaches a process before it can say that it is not meant.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            # What libraries print is no result: it goes where messages go.
            child = subprocess.Popen(
                command, env=environment, pass_fds=[theirs.fileno()], stdout=2, stdin=subprocess.DEVNULL
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()
        process = _Process(child, Connection(ours.detach()))
        self._processes[name] = process
        Thread(target=self._listen, args=(name, process), daemon=True).start()

    def _listen(self, name: str, process: _Process) -> None:
        """Hand on what a process says, until it is gone."""
        try:
            process.connection.send((self._place, self._setup))
            while True:
                said = process.connection.recv()
                if isinstance(said, Hello):
                    process.is_ready = True
                    self._events.put(Ready(Seat(name, sees_folder=said.sees_folder), said))
                elif isinstance(said, Outcome):
                    self._events.put(Ended(name, said))
                elif isinstance(said, Exception):
                    self._events.put(Died(name, "could not begin", said))
                    return
                else:
                    self._events.put(Told(name, said))
        except Exception as error:  # Whatever cannot be sent or read: nobody must wait for it for ever.
            if process.is_closing:
                return
            if isinstance(error, EOFError | OSError):
                status = process.child.wait()
                why = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
            else:
                process.child.kill()
                why = f"was ended: {portable(error)}"
            self._events.put(Died(name, why))

    def submit(self, worker: str, job: Job) -> None:
        """See Pool."""
        try:
            self._processes[worker].connection.send(job)
        except OSError:
            # It died meanwhile; whoever listens to it says so.
            return

    def events(self, seconds: float) -> list[Event]:
        """See Pool."""
        found: list[Event] = []
        try:
            found.append(self._events.get(timeout=seconds))
            while True:
                found.append(self._events.get_nowait())
        except queue.Empty:
            pass
        for event in found:
            if isinstance(event, Died) and event.problem is None:
                gone = self._processes.pop(event.worker)
                gone.connection.close()
                if not gone.is_ready:
                    raise ExecutorError(f"{event.worker} {event.why} before it could begin")
                self._start(event.worker)
        return found

    def close(self) -> None:
        """See Pool."""
        for process in self._processes.values():
            process.is_closing = True
            process.child.terminate()
        for process in self._processes.values():
            try:
                process.child.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.child.kill()
                process.child.wait()
            process.connection.close()


def _work(descriptor: int) -> None:
    """One of the processes, from its start to the end of the one that started it."""
    # Ctrl-C reaches all processes of a terminal; the first one ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    # As on the command line: what later versions of libraries will do concerns nobody who runs this one.
    warnings.filterwarnings("ignore", category=FutureWarning)
    connection = Connection(descriptor)
    jobs: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def listen() -> None:
        try:
            while True:
                jobs.put(connection.recv())
        finally:
            # Nobody is there any more to lock the folder for us.
            os._exit(1)

    try:
        place, setup = connection.recv()
    except (EOFError, OSError):
        return
    Thread(target=listen, daemon=True).start()
    try:
        maker = Maker(place, setup, connection.send)
    except Exception as error:  # Whatever it is, the user is told where the run was started.
        connection.send(portable(error))
        return
    connection.send(maker.hello)
    while True:
        connection.send(maker.make(jobs.get()))


if __name__ == "__main__":
    _work(int(sys.argv[1]))
