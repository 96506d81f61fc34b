"""A stage as data: what is made, from which inputs, and the key that identifies its result."""

import hashlib
import importlib.metadata
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from threading import Event
from typing import Annotated, Any, ClassVar, Protocol, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    PlainSerializer,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from adamergex.distributed import Processes
from adamergex.progress import Display

_KEY = "key"


def _unless_key(value: Any, info: SerializationInfo) -> Any:
    """The value as JSON, or None when a key is computed."""
    if info.context == _KEY:
        return None
    return str(value) if isinstance(value, Path) else value


# Marks a parameter that changes no result: a stage's key does not depend on it.
Unkeyed = PlainSerializer(_unless_key)
# A path to something whose content, not location, determines the result.
Place = Annotated[Path, Unkeyed]


class Params(BaseModel):
    """The parameters of one kind of stage: all that determines its result, except for its inputs.

    Attributes:
        optional: names of parameters that a key depends on only where they are given, so that results without them keep
            their keys when such a parameter is added.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    optional: ClassVar[tuple[str, ...]] = ()

    @model_serializer(mode="wrap")
    def _without_optional(self, fields: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        """All parameters; for a key, without the optional ones that are not given."""
        row: dict[str, Any] = fields(self)
        left_out = self.optional if info.context == _KEY else ()
        return {name: value for name, value in row.items() if name not in left_out or value is not None}

    @property
    def is_known(self) -> bool:
        """Whether the key says all that determines the result, so that what others made under it is the same."""
        return True

    def identity(self) -> dict[str, Any]:
        """The parameters that a key depends on, without paths and other `Unkeyed` ones; plain JSON."""
        return self.model_dump(mode="json", context=_KEY)


@dataclass(frozen=True)
class Stage:
    """One step of a plan; plain, equal by value.

    Attributes:
        id: its folder below the run folder, such as `adapters/task-en`.
        kind: a name in the table of kinds.
        params: of that kind.
        inputs: role → ids of the stages whose folders it reads.
        after: ids of stages that come before it without being read, such as checks.
    """

    id: str
    kind: str
    params: Params
    inputs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    after: tuple[str, ...] = ()

    @cached_property
    def reads(self) -> tuple[str, ...]:
        """The ids of all inputs, each once."""
        return tuple(dict.fromkeys(id for ids in self.inputs.values() for id in ids))

    def as_json(self) -> dict[str, Any]:
        """The stage as plain JSON."""
        return {
            "id": self.id,
            "kind": self.kind,
            "params": self.params.model_dump(mode="json"),
            "inputs": {role: list(ids) for role, ids in self.inputs.items()},
            "after": list(self.after),
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any], kinds: "Kinds") -> Self:
        """The inverse of `as_json`. Raises KeyError for an unknown kind, ValidationError for parameters that do not fit it."""
        inputs = {role: tuple(ids) for role, ids in row["inputs"].items()}
        params = kinds[row["kind"]].params.model_validate(row["params"])
        return cls(row["id"], row["kind"], params, inputs, tuple(row["after"]))


Plan = Mapping[str, Stage]


class Worker(Protocol):
    """The resources of a process that makes stages.

    Attributes:
        display: where progress is shown.
    """

    display: Display

    @property
    def processes(self) -> Processes:
        """The processes that make stages together."""

    @property
    def device(self) -> str:
        """What it computes on, by a name that tells those apart that take another time."""

    def in_thread(self, display: Display, stop: Event) -> "Worker":
        """A worker for another thread, with its own tokenizers and display, that stops when `stop` is set."""


Inputs = Mapping[str, Sequence[Path]]
Make = Callable[[Any, Inputs, Path, Path, Any], None]


@dataclass(frozen=True)
class Needs:
    """The resources that making a stage takes.

    Attributes:
        model: whether it computes with the base model, on a GPU where there is one.
        memory: bytes, roughly: the weights, where there is a model; 0 where it takes little.
        resident: which model, and with what on it; a worker that made a stage with the same has it in memory.
    """

    model: bool = False
    memory: int = 0
    resident: str = ""


@dataclass(frozen=True)
class Kind:
    """One kind of stage.

    Attributes:
        params: the type of its parameters.
        make: `make(params, inputs, output, scratch, worker)` writes the result into the empty folder `output`, from the
            folders of the inputs by role. `scratch` is a folder that survives an interruption, for checkpoints and journals.
        revision: raised whenever the result changes for the same parameters and inputs.
        packages: the distributions whose version may change the result.
        notes: files of the result with measurements (times, memory) that its digest leaves out.
        together: whether all processes make it together, or the first one alone.
        ahead: whether a thread may make it ahead, during an earlier stage: it needs neither inputs nor a model.
        needs: the resources that making it takes.
        cost: what its seconds are comparable across, beside device and model; None where they are a few at most.
    """

    params: type[Params]
    make: Make
    revision: int
    packages: Callable[[Any], Sequence[str]] = lambda params: ()
    notes: tuple[str, ...] = ()
    together: bool = False
    ahead: bool = False
    needs: Callable[[Any], Needs] = lambda params: Needs()
    cost: Callable[[Any], str] | None = None


Kinds = Mapping[str, Kind]


def described(stage: Stage, kind: Kind, digests: Mapping[str, str]) -> dict[str, Any]:
    """All that determines a stage's result, as plain JSON.

    Args:
        stage: to be made.
        kind: its kind.
        digests: of the contents of its inputs, by id; the ids themselves do not count.
    """
    return {
        "kind": stage.kind,
        "revision": kind.revision,
        "params": stage.params.identity(),
        "inputs": {role: [digests[id] for id in ids] for role, ids in stage.inputs.items()},
        "versions": {name: version(name) for name in kind.packages(stage.params)},
    }


def packages(plan: Plan, kinds: Kinds) -> tuple[str, ...]:
    """The distributions whose versions may change a result of the plan."""
    return tuple(dict.fromkeys(name for stage in plan.values() for name in kinds[stage.kind].packages(stage.params)))


@cache
def version(distribution: str) -> str | None:
    """The installed version of a distribution; None if it is not installed, which its user will report."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def key(description: Mapping[str, Any]) -> str:
    """SHA-256 of a description."""
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()


def ordered(plan: Plan) -> list[Stage]:
    """The stages in topological order; otherwise in the order of the plan.

    Raises:
        ValueError: a stage waits for one that is not in the plan, or for itself in a circle.
    """
    done: dict[str, Stage] = {}
    within: set[str] = set()

    def visit(id: str, by: str) -> None:
        if id in done:
            return
        if id not in plan or id in within:
            raise ValueError(f"{by} waits for {id}, which is {'waiting for it, too' if id in within else 'no stage'}")
        within.add(id)
        for before in (*plan[id].reads, *plan[id].after):
            visit(before, id)
        within.discard(id)
        done[id] = plan[id]

    for id in plan:
        visit(id, "the plan")
    return list(done.values())


def difference(old: Any, new: Any, path: str = "") -> str | None:
    """A message about the first difference between two descriptions; None where they are equal."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() | new.keys()):
            if message := difference(old.get(name), new.get(name), f"{path}.{name}" if path else name):
                return message
        return None
    if old == new:
        return None
    if path.startswith("inputs."):
        return f"its {path.split('.')[1]} changed"
    return f"{path.removeprefix('params.')} was {_short(old)}, is {_short(new)}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
