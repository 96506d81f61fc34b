"""What planners return: stages, and which of them the report shows as what."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from adamergex.execution.stage import Plan
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
        prior: and of the labelled items in the source language whose label shares predictions are calibrated to.
    """

    task: str
    language: str
    system: str
    label: str
    role: Role
    items: str
    predictions: str
    prior: str | None = None


@dataclass(frozen=True)
class Planned:
    """A plan, and what its stages are to a reader; all by the ids of stages.

    Attributes:
        stages: id → stage.
        cells: what is scored, in the order of the tables.
        start: the system that the others are compared with.
        adapters: name → what was trained.
        references: language → the data of its reference task.
        merged: language → the adapter that a run is for.
        harness: system → its scores on lm-evaluation-harness.
        without_base: tasks that have no row for the base model, which has no head for them.
        overlaps: task and language → the look at whether scored items were seen in training.
    """

    stages: Plan
    cells: tuple[Cell, ...] = ()
    start: str = ""
    adapters: Mapping[str, str] = field(default_factory=dict)
    references: Mapping[str, str] = field(default_factory=dict)
    merged: Mapping[str, str] = field(default_factory=dict)
    harness: Mapping[str, str] = field(default_factory=dict)
    without_base: tuple[str, ...] = ()
    overlaps: Mapping[tuple[str, str], str] = field(default_factory=dict)

    @property
    def read(self) -> list[str]:
        """The ids of all stages that a report reads."""
        ids = [id for cell in self.cells for id in (cell.items, cell.predictions, cell.prior) if id is not None]
        for table in (self.adapters, self.references, self.merged, self.harness, self.overlaps):
            ids += table.values()
        return list(dict.fromkeys(ids))
