"""A merge as a file, merge.yaml: typed, strict, and written beside every result, so that it can be made again.

method: ties
scale: 0.5
density: 0.2
language: sw
inputs:
  task: {folder: task-en, sha256: 0f…}
  reference-target: {sha256: 3a…}
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import ConfigDict, Field, ModelWrapValidatorHandler, ValidationError, model_serializer, model_validator
from pydantic_core import InitErrorDetails

from adamergex.merging.base_method import ROLES, MergeMethod
from adamergex.merging.methods import Method, adamergex, settings
from adamergex.storage.yaml_model import Section, relayed

# The keys of a plan that are no settings of its method.
_BESIDE = ("language", "same_base", "missing", "inputs")


class _ByAlias(Section):
    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)


class Input(_ByAlias):
    """One adapter: its folder, its hash, or both."""

    folder: str | None = Field(
        None,
        description="a PEFT adapter folder, relative to the folder of this file, or user/name[@revision][:subfolder] on the hub",
    )
    sha256: str | None = Field(None, description="of its adapter_model.safetensors; another one is refused")

    @model_validator(mode="after")
    def _is_named(self) -> "Input":
        if self.folder is None and self.sha256 is None:
            raise ValueError("expected a folder, a sha256, or both")
        return self


class Inputs(_ByAlias):
    """The adapters, by their role in the merge."""

    task: Input = Field(description="trained on the task in the source language")
    reference_target: Input = Field(alias=ROLES[1], description="trained on plain text in the target language")
    reference_source: Input | None = Field(
        None, alias=ROLES[2], description="trained on plain text in the source language"
    )

    def by_role(self) -> dict[str, Input]:
        """The adapters that are set, by role."""
        entries = zip(ROLES, (self.task, self.reference_target, self.reference_source), strict=True)
        return {role: entry for role, entry in entries if entry is not None}


class Plan(_ByAlias):
    """A method's settings and the adapters that it merges; in the file the settings are keys of the top level."""

    settings: Method
    language: str | None = Field(None, description="the target language, for the model card")
    same_base: bool = Field(False, description="the base models that the adapters name are one, whatever the names")
    missing: Literal["refuse", "zero"] = Field(
        "refuse",
        description="where the references adapt fewer modules than the task: refuse, or zero, which keeps the task's part",
    )
    inputs: Inputs

    @model_validator(mode="wrap")
    @classmethod
    def _nest_settings(cls, values: Any, handler: ModelWrapValidatorHandler["Plan"]) -> "Plan":
        if not isinstance(values, Mapping) or isinstance(values.get("settings"), MergeMethod):
            return handler(values)
        other_keys = {key: value for key, value in values.items() if key in _BESIDE}
        method_keys = {"method": "adamergex"} | {key: value for key, value in values.items() if key not in other_keys}
        problems, method = [], None
        if "scale" not in method_keys:
            problems.append(InitErrorDetails(type="missing", loc=("scale",), input=values))
        try:
            method = settings(method_keys, others=_BESIDE)
        except ValidationError as error:
            problems += relayed(error)
        try:
            plan = handler(other_keys | {"settings": method or adamergex.AdaMergeX()})
        except ValidationError as error:
            problems += relayed(error)
        if problems:
            raise ValidationError.from_exception_data("Plan", problems)
        return plan

    @model_serializer
    def _flat(self) -> dict[str, Any]:
        method = self.settings.model_dump(exclude_none=True)
        inputs = {role: entry.model_dump(exclude_none=True) for role, entry in self.inputs.by_role().items()}
        return method | {key: getattr(self, key) for key in self._set_beside()} | {"inputs": inputs}

    def _set_beside(self) -> list[str]:
        """The keys beside the method's settings and the inputs that say something."""
        return [
            key for key in _BESIDE if key != "inputs" and getattr(self, key) != type(self).model_fields[key].default
        ]
