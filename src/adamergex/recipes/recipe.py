"""What a run is: a typed recipe."""

from typing import Self

from pydantic import model_validator

from adamergex.recipes.consistency import check
from adamergex.recipes.fields import RecipeFields


class Recipe(RecipeFields):
    """One run: a base model, a task in a source language, and the languages it is wanted in."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        check(self)
        return self
