"""The resident base model as what answers: one adapter after the other, set in place."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from adamergex.adapters import adapter
from adamergex.inference.answering import PromptSpec, answers
from adamergex.inference.journal import Journal
from adamergex.models.resident import ResidentModel
from adamergex.tasks.items import Item

if TYPE_CHECKING:
    from adamergex.inference.predict import Prediction


class Resident:
    """Answers with a resident model.

    Args:
        model: the base model; its adapter is replaced by the one that answers.

    Attributes:
        reader: the model that prompts are encoded for.
    """

    def __init__(self, model: ResidentModel):
        self.reader = model

    @property
    def layout(self) -> str | None:
        """How the choices of several items lie in a batch, and why."""
        return str(self.reader.layout(False))

    def holding(self, folder: Path | None) -> AbstractContextManager[None]:
        """A context in which the model has an adapter, or none. Raises AdapterError or ModelError where it does not fit."""
        if folder is None:
            return self.reader.without_adapter()
        self.reader.set_adapter(adapter.load(folder))
        return nullcontext()

    def answers(
        self,
        folder: Path | None,
        spec: PromptSpec,
        items: Sequence[Item],
        journal: Callable[[str], Journal],
        on_item: Callable[[int, int], None],
    ) -> "list[Prediction]":
        """What an adapter, or the base model alone, answers.

        Args:
            folder: of the adapter; None for the base model.
            spec: how items are prompted.
            items: as `answering.build_prompts` made them.
            journal: opens the journal of that name, to resume from and to append to.
            on_item: called with the number of items done and to be done.

        Raises:
            AdapterError, ModelError: the adapter does not fit, or a single item does not fit into memory.
        """
        with self.holding(folder):
            return answers(self.reader, spec, items, on_item, journal)
