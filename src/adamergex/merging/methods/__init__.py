"""The merging methods, a file each. Another one is a file beside these, and its class in `AnyMethod`.

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
        others: keys that may stand beside them, for suggestions where a key is unknown.

    Raises:
        ValidationError: with one error for every problem, located at the setting.
    """
    name, problems = values.get("method"), []
    kind = METHODS.get(name) if isinstance(name, str) else None
    if kind is None:
        close = difflib.get_close_matches(str(name), METHODS, 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        problems = [_error("method", f"expected one of {', '.join(METHODS)}{hint}", name)]
        # What else is wrong is said too, where it can be guessed which method was meant.
        kind = METHODS[close[0]] if close else None
    if kind is not None:
        unknown = [str(key) for key in values if key not in kind.model_fields]
        problems += [_error(key, _unknown(key, kind, others), {}) for key in unknown]
        known = {key: value for key, value in values.items() if key in kind.model_fields}
        try:
            found = kind.model_validate(known | {"method": kind.model_fields["method"].default})
        except ValidationError as error:
            problems += relayed(error)
    if problems:
        raise ValidationError.from_exception_data("method", problems)
    return found


def given(method: MergeMethod) -> dict[str, Any]:
    """The method's name and what was given of its settings, as plain values; without the defaults."""
    return {"method": method.method} | method.model_dump(exclude_unset=True)


def _unknown(key: str, kind: type[MergeMethod], others: Iterable[str]) -> str:
    """What to say of a setting that a method has not."""
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


# The type of a field of settings: any of them, told apart by `method`.
Method = Annotated[Annotated[AnyMethod, Field(discriminator="method")], WrapValidator(_checked)]
