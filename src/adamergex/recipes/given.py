"""The section `adapters` of a recipe: adapters that are there already, and are taken in place of trainings."""

from pydantic import Field, field_validator

from adamergex import language_tags
from adamergex.data.settings import is_language
from adamergex.storage.yaml_model import Section

_PLACE = "a PEFT folder, relative to the recipe's, or user/name[@revision][:subfolder] on the Hugging Face hub"


class GivenAdapters(Section):
    """Adapters that are taken as they are; what is not named here is trained."""

    task: str | None = Field(None, min_length=1, description=f"trained on the task in the source language: {_PLACE}")
    reference: dict[str, str] = Field(
        default_factory=dict, description="language → an adapter that was trained on the reference task in it, likewise"
    )

    @field_validator("reference")
    @classmethod
    def _keys_are_languages(cls, value: dict[str, str]) -> dict[str, str]:
        for code, place in value.items():
            is_language(code)
            if not place:
                raise ValueError(f"{code} has no place; expected {_PLACE}")
        language_tags.distinct(value, "reference")
        return value

    def by_name(self, source: str, languages: list[str]) -> dict[str, str]:
        """The adapters by their name in a run, `task-en` and `reference-sw`, as the recipe writes their places.

        Args:
            source: the source language.
            languages: that have a reference adapter.
        """
        named = {} if self.task is None else {f"task-{source}": self.task}
        if not self.reference:
            return named
        tags = {code: language_tags.match(code, self.reference) for code in languages}
        return named | {f"reference-{code}": self.reference[tag] for code, tag in tags.items() if tag is not None}

    def unknown(self, languages: list[str]) -> list[str]:
        """The languages of reference adapters that are none of these."""
        return sorted(self.reference.keys() - {language_tags.match(code, self.reference) for code in languages})

    def at(self, places: dict[str, str], source: str) -> "GivenAdapters":
        """The same with other names of their places, by name in a run, such as those of their commits."""
        reference = {
            code: next(
                (place for name, place in places.items() if language_tags.same(name.removeprefix("reference-"), code)),
                given,
            )
            for code, given in self.reference.items()
        }
        return GivenAdapters(task=self.task and places.get(f"task-{source}", self.task), reference=reference)
