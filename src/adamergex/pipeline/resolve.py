"""A look at the world before planning: which model it is, what the data files hold, which adapters are taken."""

from collections.abc import Iterable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adamergex.adapters.location import CONFIG
from adamergex.data import sources
from adamergex.data.settings import Source
from adamergex.errors import DataError, NetworkError, RecipeError
from adamergex.models.chat import digest, template_of
from adamergex.models.families import family
from adamergex.pipeline.stages.base_model import BaseModel
from adamergex.pipeline.stages.given import GivenParams
from adamergex.recipes import taken_adapters
from adamergex.recipes.recipe import Recipe
from adamergex.storage.checkpoints import Checkpoint
from adamergex.storage.files import sha256
from adamergex.tasks import loading


@dataclass(frozen=True)
class Wanted:
    """A source in one language, as something names it.

    Attributes:
        source: where rows come from.
        language: a BCP 47 code.
        labelled: whether it holds labelled items, or plain text.
        folder: what its relative paths are relative to.
        needed: whether it is an error if it is not there; else it is looked at where it is on this machine.
    """

    source: Source
    language: str
    labelled: bool
    folder: Path
    needed: bool = True

    @property
    def key(self) -> tuple[str, str, bool, Path]:
        """What tells it from others."""
        return self.source.model_dump_json(), self.language, self.labelled, self.folder


class Contents:
    """What determines the rows of sources: hashes of files, commits of data sets, versions of packages."""

    def __init__(self, found: Mapping[tuple[str, str, bool, Path], dict[str, Any]]):
        self._found = dict(found)

    def of(self, wanted: Wanted) -> dict[str, Any]:
        """What determines one source's rows, as plain JSON."""
        return self._found[wanted.key]

    def has(self, wanted: Wanted) -> bool:
        """Whether a source was found."""
        return wanted.key in self._found


@dataclass(frozen=True)
class Found:
    """What there is for a recipe; planning looks at this and the recipe alone.

    Attributes:
        model: its base model.
        contents: of all its sources.
        folder: what its relative paths are relative to.
        processes: that train together.
        given: name → an adapter that is taken in place of a training.
    """

    model: BaseModel
    contents: Contents
    folder: Path
    processes: int = 1
    given: Mapping[str, GivenParams] = field(default_factory=dict)


def contents(wanted: Iterable[Wanted]) -> Contents:
    """Hash and look up sources.

    Raises:
        DataError: a file or package is missing, or a benchmark has no such language.
    """
    found: dict[tuple[str, str, bool, Path], dict[str, Any]] = {}
    for one in wanted:
        if one.key in found or not (one.needed or one.source.is_local):
            continue
        with nullcontext() if one.needed else suppress(DataError):
            look = loading.fingerprint if one.labelled else sources.fingerprint
            found[one.key] = look(one.source, one.folder, one.language)
    return Contents(found)


def given_adapters(recipe: Recipe, folder: Path, checkpoint: Checkpoint) -> dict[str, GivenParams]:
    """The adapters that a recipe takes in place of trainings, by their name in the run, as parameters of stages.

    Args:
        recipe: of the run.
        folder: what its relative paths are relative to.
        checkpoint: its base model.

    Raises:
        NetworkError: the hub does not answer.
        RecipeError: one cannot be had, or does not fit the base model, the recipe or the others; a line for each problem.
    """
    taken = taken_adapters.find(recipe, folder)
    if taken.unreachable:
        raise NetworkError("; ".join(taken.unreachable))
    opened = taken.opened()
    if problems := [*taken.problems, *taken_adapters.unfit(recipe, opened, checkpoint)]:
        raise RecipeError(problems)
    return {
        name: GivenParams(
            folder=location.folder.absolute(),
            place=recipe.given_adapters[name] if location.repository is None else location.pinned,
            repository=None if location.repository is None else location.pinned,
            base_model=checkpoint.name,
            config=sha256(location.folder / CONFIG),
            weights=str(opened[name].digest),
        )
        for name, location in taken.places.items()
    }


def base_model(checkpoint: Checkpoint, dtype: str, quantization: str | None = None) -> BaseModel:
    """A base model as a parameter of stages, with its chat template (`BaseModel.asked`).

    Raises:
        ModelError: its configuration cannot be read.
    """
    template = template_of(checkpoint.folder)
    weights = (path for pattern in ("*.safetensors", "*.bin") for path in checkpoint.folder.glob(pattern))
    return BaseModel(
        name=checkpoint.name,
        fingerprint=checkpoint.fingerprint,
        family=family(checkpoint),
        dtype=dtype,
        quantization=quantization,
        trust_remote_code=checkpoint.trust_remote_code,
        weight_bytes=sum(path.stat().st_size for path in weights),
        template=None if template is None else digest(template),
    )
