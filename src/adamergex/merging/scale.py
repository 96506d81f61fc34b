"""The scale of each module: one number, a curve over the layers, single layers, or patterns of module names."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from adamergex.adapters.module_names import ending, position
from adamergex.errors import MergeError

Curve = float | tuple[float, ...]


@dataclass(frozen=True)
class Scale:
    """t, for each module: of `modules` the first pattern that fits, else of `layers`, else `default`.

    Attributes:
        default: a number, or several that are interpolated linearly over the layers, first to last.
        layers: number of a layer, from 0 → its scale.
        modules: regular expression for the end of a module's name, as in PEFT's patterns → a number or a curve.
    """

    default: Curve = 1.0
    layers: Mapping[int, float] = field(default_factory=dict)
    modules: Mapping[str, Curve] = field(default_factory=dict)

    def problems(self) -> list[str]:
        """What is wrong with it, a line each."""
        found = []
        curves = [("scale", self.default), *((f"the scale of {name}", curve) for name, curve in self.modules.items())]
        curves += [(f"the scale of layer {number}", scale) for number, scale in self.layers.items()]
        for what, curve in curves:
            if curve == () or not all(math.isfinite(value) for value in _values(curve)):
                found.append(f"{what} is {curve}; expected one finite number or several")
        for expression in self.modules:
            try:
                re.compile(ending(expression))
            except (re.error, RecursionError, OverflowError) as error:
                found.append(f"the scale's pattern {expression!r} is no regular expression: {error}")
        return found

    def of(self, module: str, layers: Mapping[str, int]) -> float:
        """The scale of one module.

        Args:
            module: its name.
            layers: how many layers each stack has (`depths`).
        """
        stack, layer = position(module)
        for expression, curve in self.modules.items():
            if re.match(ending(expression), module):
                return _at(curve, layer, layers.get(stack, 1))
        if layer is not None and layer in self.layers:
            return self.layers[layer]
        return _at(self.default, layer, layers.get(stack, 1))

    def unused(self, modules: Iterable[str]) -> list[str]:
        """Patterns and layers that count for no module: most likely a slip of the pen."""
        names = list(modules)
        first = {next((e for e in self.modules if re.match(ending(e), name)), None) for name in names}
        found = [expression for expression in self.modules if expression not in first]
        present = {position(name)[1] for name in names}
        return found + [f"layer {number}" for number in self.layers if number not in present]


def parse(text: str) -> Curve:
    """A scale as it is written on the command line: `0.6`, or `0.2,0.8` for a curve.

    Raises:
        MergeError: it is neither.
    """
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise MergeError(f"scale is {text!r}; expected a number such as 0.6, or several such as 0.2,0.8") from error
    return values[0] if len(values) == 1 else values


def _values(curve: Curve) -> tuple[float, ...]:
    return curve if isinstance(curve, tuple) else (curve,)


def _at(curve: Curve, layer: int | None, layers: int) -> float:
    """The curve at a layer; outside of the layers the mean of its values."""
    values = _values(curve)
    if len(values) == 1:
        return float(values[0])
    if layer is None:
        return math.fsum(values) / len(values)
    place = layer / max(1, layers - 1) * (len(values) - 1)
    low, high = list(pairwise(values))[min(int(place), len(values) - 2)]
    return low + (high - low) * (place - min(int(place), len(values) - 2))
