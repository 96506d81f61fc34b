"""The merging methods, one file each. To add one, add a file here and its class to `AnyMethod`.

Everything that names methods or their settings takes them from here: merge.yaml, recipes, the command line,
`adamergex.merge`, reports and model cards.
"""

import difflib
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, get_args

from pydantic import Field, ValidationError, WrapValidator
from pydantic_core import InitErrorDetails, PydanticCustomError

from adamergex.merging.base_method import MergeMethod
from adamergex.merging.methods import adamergex, dare_ties, factor_space, layer_swap, task_arithmetic, ties
from adamergex.storage.yaml_model import did_you_mean, relayed

AnyMethod = (
    task_arithmetic.TaskArithmetic
    | ties.Ties
    | dare_ties.DareTies
    | layer_swap.LayerSwap
    | adamergex.AdaMergeX
    | factor_space.FactorSpace
)
METHODS: dict[str, type[AnyMethod]] = {kind.model_fields["method"].default: kind for kind in get_args(AnyMethod)}


def settings(values: Mapping[str, Any], others: Iterable[str] = ()) -> AnyMethod:
    """A method's settings, checked.

    Args:
        values: `method`, by name, and its settings.
        others: other keys that are allowed, for suggestions where a key is unknown.

    Raises:
        ValidationError: with one error for every problem, located at the setting.
    """
    name, problems = values.get("method"), []
    kind = METHODS.get(name) if isinstance(name, str) else None
    if kind is None:
        close = difflib.get_close_matches(str(name), METHODS, 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        problems = [_error("method", f"expected one of {', '.join(METHODS)}{hint}", name)]
        # Other problems are reported too, if the name is close to that of a method.
        kind = METHODS[close[0]] if close else None
    if kind is not None:
        unknown = [str(key) for key in values if key not in kind.model_fields]
        problems += [_error(key, _unknown(key, kind, others), {}) for key in unknown]
        known = {key: value for key, value in values.items() if key in kind.model_fields}
        try:
            checked = kind.model_validate(known | {"method": kind.model_fields["method"].default})
        except ValidationError as error:
            problems += relayed(error)
    if problems:
        raise ValidationError.from_exception_data("method", problems)
    return checked


def given(method: MergeMethod) -> dict[str, Any]:
    """The method's name and the settings that were set explicitly, as plain values; without defaults."""
    return {"method": method.method} | method.model_dump(exclude_unset=True)


def _unknown(key: str, kind: type[MergeMethod], others: Iterable[str]) -> str:
    """The message for a setting that a method does not have."""
    name = kind.model_fields["method"].default
    users = [other for other, cls in METHODS.items() if key in cls.model_fields]
    if users:
        listed = " and ".join([", ".join(users[:-1])] * (len(users) > 1) + users[-1:])
        return f"is for {listed}; the method is {name}"
    return f"is no setting of {name}" + (did_you_mean(key, [*kind.model_fields, *others]) or "; remove it")


def _error(key: str, message: str, value: Any) -> InitErrorDetails:
    return InitErrorDetails(
        type=PydanticCustomError("method", "{message}", {"message": message}), loc=(key,), input=value
    )


def _checked(value: Any, check: Any) -> Any:
    return settings(value) if isinstance(value, Mapping) else check(value)


# The type of a field that holds a method's settings: a union discriminated by `method`.
Method = Annotated[Annotated[AnyMethod, Field(discriminator="method")], WrapValidator(_checked)]
