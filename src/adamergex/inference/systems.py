"""All systems that a recipe can set side by side, in the order of the table: a row for each merging method among them."""

from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema

from adamergex.merging import methods
from adamergex.scoring.systems import AFTER_MERGED, BEFORE_MERGED, REFINED, System
from adamergex.storage.yaml_model import did_you_mean

SYSTEMS: dict[str, System] = (
    BEFORE_MERGED | {name: System(kind.label) for name, kind in methods.METHODS.items()} | AFTER_MERGED
)
NAMES: tuple[str, ...] = tuple(name for name in SYSTEMS if name != REFINED)


def _known(name: str) -> str:
    if name not in NAMES:
        raise ValueError(f"expected one of {', '.join(NAMES)}{did_you_mean(name, NAMES)}")
    return name


Name = Annotated[str, AfterValidator(_known), WithJsonSchema({"type": "string", "enum": list(NAMES)})]
