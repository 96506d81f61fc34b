"""How long stages took on this user's devices, and what those that are to be made will take by that."""

import json
import os
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from adamergex.execution.stage import Kinds, Stage
from adamergex.storage.files import cache_folder, remove

# Bytes of the file; beyond them the older half of it goes.
_MOST = 256 * 2**10
# Of stages alike, so many of the last ones count.
_LAST = 20


class _Duration(BaseModel):
    """A line of the file."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    device: str
    kind: str
    model: str
    cost: str
    seconds: float = Field(ge=0, allow_inf_nan=False)


_Alike = tuple[str, str, str, str]


@dataclass(frozen=True)
class Expected:
    """What stages are expected to take.

    Attributes:
        seconds: by id; 0 where a stage takes a few at most, None where none like it has ever been measured.
        measured: how many stages that were made before say so.
    """

    seconds: Mapping[str, float | None] = field(default_factory=dict)
    measured: int = 0


class Durations:
    """The seconds of stages that were made, in a file of the user's cache. One that cannot be read or written is no error.

    Args:
        path: of the file; `seconds.jsonl` in the user's cache by default.
    """

    def __init__(self, path: Path | None = None):
        self._path = path or cache_folder() / "seconds.jsonl"

    def add(self, stage: Stage, kinds: Kinds, device: str, seconds: float) -> None:
        """Keep how long a stage took, if its kind says what that is comparable with."""
        alike = _alike(stage, kinds, device)
        if alike is None:
            return
        facts = dict(zip(("device", "kind", "model", "cost"), alike, strict=True))
        line = json.dumps({**facts, "seconds": round(seconds, 2)}).encode() + b"\n"
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self._path.exists() and not self._path.is_file():
                return
            handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                os.write(handle, line)
                size = os.fstat(handle).st_size
            finally:
                os.close(handle)
            if size > _MOST:
                self._shorten()

    def _shorten(self) -> None:
        partial = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        try:
            partial.write_bytes(self._end(_MOST // 2))
            partial.replace(self._path)
        finally:
            remove(partial)

    def _end(self, most: int) -> bytes:
        """The last whole lines of the file, so many bytes at most."""
        with self._path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - most))
            content = file.read(most)
        return content if size <= most else content.partition(b"\n")[2]

    def expected(self, stages: Iterable[Stage], kinds: Kinds, device: str) -> Expected:
        """What stages will take on a device: the median of those alike, of the last ones that were made."""
        known = self._read()
        seconds: dict[str, float | None] = {}
        used: set[_Alike] = set()
        for stage in stages:
            alike = _alike(stage, kinds, device)
            found = known.get(alike) if alike is not None else None
            seconds[stage.id] = 0.0 if alike is None else median(found) if found else None
            used |= {alike} if alike is not None and found else set()
        return Expected(seconds, sum(len(known[alike]) for alike in used))

    def _read(self) -> dict[_Alike, deque[float]]:
        known: dict[_Alike, deque[float]] = {}
        with suppress(OSError):
            if not self._path.is_file():
                return known
            for line in self._end(2 * _MOST).split(b"\n"):
                # What is damaged, or was cut off, says nothing.
                with suppress(ValidationError):
                    one = _Duration.model_validate_json(line)
                    alike = (one.device, one.kind, one.model, one.cost)
                    known.setdefault(alike, deque(maxlen=_LAST)).append(one.seconds)
        return known


def _alike(stage: Stage, kinds: Kinds, device: str) -> _Alike | None:
    """What the seconds of a stage are comparable across; None where it takes a few at most."""
    kind = kinds[stage.kind]
    if kind.cost is None:
        return None
    return device, stage.kind, kind.needs(stage.params).resident, kind.cost(stage.params)


def together(
    seconds: Mapping[str, float | None], before: Mapping[str, Iterable[str]], workers: int = 1
) -> float | None:
    """What several workers take for stages at least, or None where one of the stages is not known.

    Args:
        seconds: of each stage, in an order in which they can be made.
        before: the ids of the stages that come before each; others than those in `seconds` take nothing.
        workers: how many.
    """
    ends: dict[str, float] = {}
    total = 0.0
    for id, own in seconds.items():
        if own is None:
            return None
        ends[id] = own + max((ends.get(one, 0.0) for one in before[id]), default=0.0)
        total += own
    return max(total / max(workers, 1), *ends.values(), 0.0)
