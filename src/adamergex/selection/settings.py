"""How t is chosen: `merge.scale: auto`, or a list, and `merge.selection`."""

from typing import Self

from pydantic import Field, model_validator

from adamergex.data.settings import Language
from adamergex.storage.yaml_model import Section

# What `auto` tries, beside t = 0.
SCALES = (0.25, 0.5, 0.75, 1.0)


class Selection(Section):
    """Which of several merges is delivered. No scored item is looked at for it.

    By labelled items of `task.dev` in other languages, as in the paper, or in the target language; without either, by what the
    reference task learned (`adamergex.selection.rule`).
    """

    scales: tuple[float, ...] = Field(
        SCALES, min_length=1, description="the values of t that are tried; 0 is always one"
    )
    validation: list[Language] = Field(
        [],
        description="languages whose labelled dev items choose together; a target language does not choose for itself",
    )
    few_shot: int | None = Field(
        None, ge=10, description="as many labelled dev items of the target language choose, in place of other languages"
    )
    sum: bool = Field(True, strict=True, description="try T + t·R, too, where nothing is subtracted")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.validation and self.few_shot:
            raise ValueError("expected one of validation and few_shot, got both")
        return self
