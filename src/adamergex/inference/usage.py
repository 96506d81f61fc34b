"""`adamergex.json`: what it takes to use an adapter, beside its weights. Imports no torch."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, FiniteFloat, ValidationError, model_validator

from adamergex.data import nested
from adamergex.errors import AdapterError
from adamergex.inference.settings import Evaluate
from adamergex.storage import record
from adamergex.storage.files import small
from adamergex.storage.yaml_model import Section
from adamergex.tasks.task import AnswerKind, Conversational, Task

FILE = "adamergex.json"
# Raised when a reader of the older form would misread it.
FORMAT = 1
# Where a run puts its adapters with this file, a folder for each language; and where each of several tasks has such a folder.
DELIVERED, TASKS = "delivered", "tasks"


def described(
    task: Task,
    evaluate: Evaluate,
    language: str,
    *,
    base_model: str,
    weights: str,
    dtype: str,
    quantization: str | None = None,
    max_length: int | None = None,
    calibration: Mapping[str, Any] | None = None,
    chat_template: str | None = None,
) -> dict[str, Any]:
    """What it takes to use an adapter, as plain JSON.

    Args:
        task: how it is asked.
        evaluate: how answers are computed.
        language: that it answers in, a BCP 47 code.
        base_model: a Hugging Face id or a folder.
        weights: a hash of the base model's weights, or the commit that they were downloaded from.
        dtype: of the base model's weights.
        quantization: 4bit or 8bit, where the base model's weights are held in fewer bits.
        max_length: the most tokens of an item; None where the model's context alone limits it.
        calibration: `labels` and the `bias` of each, in nats, which is added to their log-likelihoods; and how it was
            estimated.
        chat_template: SHA-256 of the base model's, where the adapter is asked through it.
    """
    wording = task.wording(language)
    asked: dict[str, Any] = {"kind": task.answer_kind, "prompt": wording.prompt, "separator": wording.separator}
    # In the order of the task, which a classification head has, too.
    words = wording.choices or {}
    asked |= {
        "choices": {label: words[label] for label in task.choices} if task.choices else None,
        "marker": wording.marker,
        "answer_format": task.answer_format,
        "max_length": max_length,
        "column_names": _column_names(task) or None,
        "optional": wording.optional or None,
    }
    if task.chat:
        asked |= {"chat": True, "system": wording.system, "messages": task.messages}
    answered = "length_normalization" if task.choices else "max_new_tokens"
    asked[answered] = getattr(evaluate, answered)
    return {
        "format": FORMAT,
        "base_model": base_model,
        "weights": weights,
        "dtype": dtype,
        **({} if quantization is None else {"quantization": quantization}),
        **({} if chat_template is None else {"chat_template": chat_template}),
        "language": language,
        "task": {key: value for key, value in asked.items() if value is not None},
        "calibration": dict(calibration) if calibration is not None else None,
    }


def _column_names(task: Task) -> dict[str, list[str]]:
    """Column of a prompt → what it is called in the files of the task, where that is something else."""
    found: dict[str, dict[str, None]] = {}
    for source in (task.train, task.dev, task.test, task.unlabelled):
        named = (source.columns if source else None) or {}
        if isinstance(named, list):
            named = {column: f"column_{number}" for number, column in enumerate(named, 1)}
        for column, name in named.items():
            if name != column:
                found.setdefault(column, {})[name] = None
    return {column: list(names) for column, names in found.items()}


def write(folder: Path, usage: Mapping[str, Any]) -> None:
    """Write `adamergex.json` into an adapter's folder."""
    (folder / FILE).write_text(json.dumps(usage, ensure_ascii=False, indent=2) + "\n", "utf-8")


class Asked(Conversational):
    """How an adapter is asked: its prompt and its choices, and how answers are computed; see `Evaluate` and `Task`.

    Attributes:
        column_names: column of the prompt → what it is called, too, in the files that the adapter was made of.
    """

    kind: AnswerKind
    column_names: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    answer_format: Literal["canonical", "language"] | None = None
    length_normalization: Literal["none", "tokens", "characters"] = "none"
    max_new_tokens: int | None = Field(None, ge=1)
    max_length: int | None = Field(None, ge=1)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels in the order of the choices; none where answers are written."""
        return tuple(self.choices or ())

    def named(self, row: Mapping[str, Any], given: Mapping[str, str] | None = None) -> Mapping[str, Any]:
        """A row with the columns of the prompt, which may be called otherwise in it.

        Args:
            row: its columns.
            given: column of the prompt → its name in the row, where that is known; it goes first.
        """
        found = dict(row)
        for column in self.columns:
            names = (given[column],) if given and column in given else self.names(column)
            values = [nested.value(row, name) for name in names if name in row or nested.value(row, name) is not None]
            found.pop(column, None)
            # Null where it is so under each of its names, which is said otherwise than that it is not there.
            found |= {column: next((value for value in values if value is not None), None)} if values else {}
        return found

    def names(self, column: str) -> tuple[str, ...]:
        """What a column of the prompt may be called: its own name, which goes first, and those that files have for it."""
        return column, *self.column_names.get(column, ())

    @model_validator(mode="after")
    def _choices_fit_the_kind(self) -> Self:
        if (self.kind == "choice") != bool(self.choices):
            raise ValueError("choices and kind: choice belong together")
        return self


class SavedCalibration(Section, extra="ignore"):
    """The bias per label that was saved with an adapter, and how it was estimated.

    Attributes:
        labels: which the other attributes have one number for, each.
        bias: in nats, added to the labels' log-likelihoods.
        expected: the label shares that predictions were calibrated to; None for batch calibration.
        inputs: on how many inputs without labels.
        strength: the share of the bias that `bias` is.
    """

    labels: tuple[str, ...]
    bias: tuple[FiniteFloat, ...]
    expected: tuple[FiniteFloat, ...] | None = None
    inputs: int = 0
    strength: FiniteFloat = 1.0


class Usage(Section, extra="ignore"):
    """What `adamergex.json` says; see `described`."""

    format: Literal[1]
    base_model: str
    weights: str
    dtype: Literal["float32", "bfloat16", "float16"]
    quantization: Literal["4bit", "8bit"] | None = None
    chat_template: str | None = None
    language: str
    task: Asked
    calibration: SavedCalibration | None = None

    @model_validator(mode="after")
    def _the_bias_is_of_the_labels(self) -> Self:
        found = self.calibration
        if found is None:
            return self
        if sorted(found.labels) != sorted(self.task.labels):
            raise ValueError("calibration.labels are not those of task.choices")
        lengths = {len(values) for values in (found.labels, found.bias, found.expected) if values is not None}
        if len(lengths) > 1:
            raise ValueError("calibration: labels, bias and expected have different numbers of values")
        return self

    @property
    def bias(self) -> np.ndarray | None:
        """What is added to the scores of the labels, in the order of the choices, float64 (labels,), in nats; or None."""
        return None if self.calibration is None else self._in_order(self.calibration.bias)

    @property
    def expected(self) -> np.ndarray | None:
        """The label shares that were calibrated to, in the order of the choices, float64 (labels,); None where there are none."""
        found = None if self.calibration is None else self.calibration.expected
        return None if found is None else self._in_order(found)

    def _in_order(self, values: tuple[float, ...]) -> np.ndarray:
        by_label = dict(zip(self.calibration.labels, values, strict=True))  # type: ignore[union-attr]  # Its own values.
        return np.array([by_label[label] for label in self.task.labels])


def read(folder: Path) -> Usage:
    """What it takes to use the adapter in a folder.

    Raises:
        AdapterError: there is no `adamergex.json`, it is not what this version writes, or not what the run wrote.
    """
    path = folder / FILE
    record.check(folder, FILE)
    try:
        return Usage.model_validate_json(small(path))
    except FileNotFoundError as error:
        raise AdapterError(
            f"{folder}: has no {FILE}, which says how the adapter is asked; the folders in a run's {DELIVERED}/ have it"
        ) from error
    except OSError as error:
        raise AdapterError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise AdapterError(
            f"{path}: {where + ': ' if where else ''}{first['msg']}; expected what `adamergex run` writes (format {FORMAT})"
        ) from error


def is_whole(folder: Path) -> bool:
    """Whether a folder is of a model that an adapter was folded into, not of an adapter."""
    return (folder / "config.json").is_file() and not (folder / "adapter_config.json").is_file()
