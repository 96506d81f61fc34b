"""The scale t of each module: one number, a curve over the layers, single layers, or patterns of module names.

A field of the type `ScaleSetting` is written in YAML as `0.6`, as `[0.2, 0.8]`, or in full:

    scale: {default: 0.6, layers: {0: 0.1, 31: 0.9}, modules: {down_proj: 0}}
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import field
from itertools import pairwise
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field, PlainSerializer, TypeAdapter, ValidationError, WrapValidator
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

from adamergex.adapters.module_names import ending, objection, position
from adamergex.errors import MergeError

_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
_EXPECTED = "expected a finite number, or several for a curve over the layers"


def _curve(value: Any, check: Any) -> Any:
    try:
        curve = None if isinstance(value, bool) else check(value)
    except ValidationError:
        curve = None
    if curve is None or curve == () or not all(map(math.isfinite, _values(curve))):
        raise PydanticCustomError("curve", _EXPECTED)
    return curve


def _expression(value: str) -> str:
    if reason := objection(value):
        raise ValueError(f"{value!r} {reason}")
    return value


Number = Annotated[float, Field(allow_inf_nan=False)]
Curve = Annotated[float | tuple[float, ...], WrapValidator(_curve)]
Pattern = Annotated[str, BeforeValidator(_expression)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Scale:
    """The scale t of each module: by the first pattern of `modules` that matches, else by `layers`, else `default`.

    Attributes:
        default: a number, or several that are interpolated linearly over the layers, first to last.
        layers: number of a layer, from 0 → its scale.
        modules: regular expression for the end of a module's name, as in PEFT's patterns → a number or a curve.
    """

    default: Curve = 1.0
    layers: dict[int, Number] = field(default_factory=dict)
    modules: dict[Pattern, Curve] = field(default_factory=dict)

    def of(self, module: str, layers: Mapping[str, int]) -> float:
        """The scale of one module.

        Args:
            module: its name.
            layers: the number of layers of each stack (`depths`).
        """
        stack, layer = position(module)
        for expression, curve in self.modules.items():
            if re.match(ending(expression), module):
                return _at(curve, layer, layers.get(stack, 1))
        if layer is not None and layer in self.layers:
            return self.layers[layer]
        return _at(self.default, layer, layers.get(stack, 1))

    def unused(self, modules: Iterable[str]) -> list[str]:
        """Patterns and layers that match no module: most likely a typing error."""
        names = list(modules)
        first = {next((e for e in self.modules if re.match(ending(e), name)), None) for name in names}
        patterns = [expression for expression in self.modules if expression not in first]
        present = {position(name)[1] for name in names}
        return patterns + [f"layer {number}" for number in self.layers if number not in present]

    def __str__(self) -> str:
        """In a few words: `0.5`, `0.2, 0.8 over the layers; 2 patterns of their own`."""
        shown = ", ".join(f"{value:g}" for value in _values(self.default))
        more = [f"{len(self.layers)} layers"] * bool(self.layers) + [f"{len(self.modules)} patterns"] * bool(
            self.modules
        )
        curve = " over the layers" if isinstance(self.default, tuple) else ""
        return shown + curve + "".join(f"; {what} of their own" for what in more)


_CURVE: TypeAdapter[Any] = TypeAdapter(Curve)


def _read(value: Any) -> Any:
    if isinstance(value, Scale):
        return value
    if not isinstance(value, Mapping):
        return Scale(_CURVE.validate_python(value))
    if unknown := [str(key) for key in value if key not in ("default", "layers", "modules")]:
        raise ValueError(f"unknown key {unknown[0]}; expected default, layers or modules")
    if "default" not in value:
        raise ValueError("default is missing: the scale of what layers and modules leave")
    return dict(value)


def _written(scale: Scale) -> Any:
    default = list(scale.default) if isinstance(scale.default, tuple) else scale.default
    if not (scale.layers or scale.modules):
        return default
    modules = {name: list(curve) if isinstance(curve, tuple) else curve for name, curve in scale.modules.items()}
    parts = {"default": default, "layers": dict(scale.layers), "modules": modules}
    return {key: value for key, value in parts.items() if value != {}}


ScaleSetting = Annotated[
    Scale,
    BeforeValidator(_read, json_schema_input_type=float | list[float] | Scale),
    PlainSerializer(_written),
]


def parse(text: str) -> float | tuple[float, ...]:
    """A scale as it is written on the command line: `0.6`, or `0.2,0.8` for a curve.

    Raises:
        MergeError: it is neither, or may be either: `0,5` is a half in many languages, and a curve from 0 to 5 here.
    """
    if _DECIMAL_COMMA.fullmatch(text.strip()):
        number, curve = text.strip().replace(",", "."), ",".join(f"{part.strip()}.0" for part in text.split(","))
        raise MergeError(f"scale is {text!r}; write {number} with a point, or {curve} for a curve over the layers")
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise MergeError(f"scale is {text!r}; expected a number such as 0.6, or several such as 0.2,0.8") from error
    return values[0] if len(values) == 1 else values


def _values(curve: float | tuple[float, ...]) -> tuple[float, ...]:
    return curve if isinstance(curve, tuple) else (curve,)


def _at(curve: float | tuple[float, ...], layer: int | None, layers: int) -> float:
    """The curve at a layer; outside of the layers the mean of its values."""
    values = _values(curve)
    if len(values) == 1:
        return float(values[0])
    if layer is None:
        return math.fsum(values) / len(values)
    point = layer / max(1, layers - 1) * (len(values) - 1)
    low, high = list(pairwise(values))[min(int(point), len(values) - 2)]
    return low + (high - low) * (point - min(int(point), len(values) - 2))
