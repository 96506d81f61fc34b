"""What planners return: stages, and which of them the report shows as what."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from adamergex.execution.stage import Plan
from adamergex.pipeline.stage_table import TASKS
from adamergex.scoring.results import Role


@dataclass(frozen=True)
class Cell:
    """What one system answered to the items of a task in one language.

    Attributes:
        task: its name; empty where there is one task alone.
        language: of the items.
        system: who answers, by name.
        label: what a reader calls it.
        role: its role in the report, which does not depend on its name.
        items: the id of the stage that holds the items.
        predictions: and of the answers.
        calibration: and of the bias per label; None where answers are not calibrated.
        apart: whether that bias was estimated on other inputs than the items. Otherwise each half of the items is calibrated
            on the other half.
    """

    task: str
    language: str
    system: str
    label: str
    role: Role
    items: str
    predictions: str
    calibration: str | None = None
    apart: bool = False


@dataclass(frozen=True)
class Planned:
    """A plan, and what its stages are to a reader; all by the ids of stages.

    Attributes:
        stages: id → stage.
        cells: what is scored, in the order of the tables.
        start: the system that the others are compared with.
        adapters: name → what was trained.
        given: name → what was taken in place of a training.
        references: language → the data of its reference task, where an adapter is trained on it.
        merged: language → the adapter that a run is for.
        harness: system → its scores on lm-evaluation-harness.
        without_base: tasks that have no row for the base model, which has no head for them.
        delivered: language → the adapter that a run is for, with all that it takes to use it.
        chosen: language → which merge is delivered, where it is chosen.
        refined: language → the adapter that learned from the merged one's answers, where there is one.
        scales: system → its t, where several were tried.
        overlaps: task and language → the look at whether scored items were seen in training.
        seed: of the trainings; None where nothing is trained.
        further: what the stages of each further seed are; `stages` has them, too. Nothing of theirs is delivered.
        tasks: name → what the stages of a task are, where there are several; this one has `stages`, `given` and `delivered` of
            all, with `NAME/` before each name in the latter two.
    """

    stages: Plan
    cells: tuple[Cell, ...] = ()
    start: str = ""
    adapters: Mapping[str, str] = field(default_factory=dict)
    given: Mapping[str, str] = field(default_factory=dict)
    references: Mapping[str, str] = field(default_factory=dict)
    merged: Mapping[str, str] = field(default_factory=dict)
    harness: Mapping[str, str] = field(default_factory=dict)
    delivered: Mapping[str, str] = field(default_factory=dict)
    refined: Mapping[str, str] = field(default_factory=dict)
    scales: Mapping[str, float] = field(default_factory=dict)
    chosen: Mapping[str, str] = field(default_factory=dict)
    without_base: tuple[str, ...] = ()
    overlaps: Mapping[tuple[str, str], str] = field(default_factory=dict)
    seed: int | None = None
    further: "tuple[Planned, ...]" = ()
    tasks: "Mapping[str, Planned]" = field(default_factory=dict)

    @property
    def seeds(self) -> "tuple[Planned, ...]":
        """What the stages of each seed are, this first one's among them."""
        return (self, *self.further)

    def named(self, of_seed: "Planned", name: str) -> str:
        """What a report calls something of one of the seeds: its name, and the seed where there are several."""
        return f"{name}, seed {of_seed.seed}" if self.further else name

    @property
    def trained(self) -> dict[str, str]:
        """What was trained with any seed: name in a report → id."""
        return {self.named(one, name): id for one in self.seeds for name, id in one.adapters.items()}

    @property
    def read(self) -> list[str]:
        """The ids of all stages that a report reads."""
        named = [id for cell in self.cells for id in (cell.items, cell.predictions, cell.calibration)]
        ids = [id for id in named if id is not None]
        for table in (
            self.adapters,
            self.given,
            self.references,
            self.merged,
            self.refined,
            self.delivered,
            self.chosen,
            self.harness,
            self.overlaps,
        ):
            ids += table.values()
        ids += [id for other in (*self.further, *self.tasks.values()) for id in other.read]
        return list(dict.fromkeys(ids))


def lacking(planned: Planned, missing: Collection[str]) -> list[str]:
    """What a run does not come to without some stages: languages, or TASK/LANGUAGE where there are several tasks.

    Args:
        planned: the plan.
        missing: ids of stages that were not made.
    """
    gone = set(missing)
    found: dict[str, None] = {}
    for task, one in (planned.tasks or {"": planned}).items():
        needed = [(language, [id]) for language, id in one.delivered.items()]
        needed += [
            (cell.language, [id for id in (cell.items, cell.predictions, cell.calibration) if id is not None])
            for of_seed in one.seeds
            for cell in of_seed.cells
        ]
        found |= {f"{task}/{language}" if task else language: None for language, ids in needed if gone & {*ids}}
    return list(found)


# What is by language or by name, and is put together where a task was planned in several parts.
_TABLES = ("adapters", "given", "references", "merged", "delivered", "refined", "scales", "chosen")


def together(parts: Sequence[Planned]) -> Planned:
    """The plans of the parts of one task, which have other target languages each, as one."""
    first, *others = parts
    if not others:
        return first
    tables: dict[str, Any] = {
        name: {key: id for one in parts for key, id in getattr(one, name).items()} for name in _TABLES
    }
    cells = tuple(cell for one in parts for cell in one.cells)
    further = tuple(together(of_seed) for of_seed in zip(*(one.further for one in parts), strict=True))
    return replace(first, cells=cells, further=further, **tables)


def whole(stages: Plan, tasks: Mapping[str, Planned]) -> Planned:
    """The plans of several tasks as one, each with those of the stages that it reads, or that are its own.

    Args:
        stages: of all of them.
        tasks: name → plan.
    """
    named: dict[str, Any] = {
        table: {f"{task}/{name}": id for task, one in tasks.items() for name, id in getattr(one, table).items()}
        for table in ("given", "delivered")
    }
    own = {
        task: replace(
            one, stages=_behind(stages, [*one.read, *(id for id in stages if id.startswith(f"{TASKS}/{task}/"))])
        )
        for task, one in tasks.items()
    }
    first = next(iter(tasks.values()))
    return Planned(stages, start=first.start, seed=first.seed, tasks=own, **named)


def _behind(stages: Plan, ids: Iterable[str]) -> Plan:
    """The stages with these ids, and all that they read, in the order of the plan."""
    found, waiting = set[str](), list(ids)
    while waiting:
        id = waiting.pop()
        if id not in found:
            found.add(id)
            waiting += stages[id].reads
    return {id: stage for id, stage in stages.items() if id in found}
