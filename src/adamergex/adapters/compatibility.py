"""Whether adapters fit together: for a merge, or on one base model."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from adamergex.adapters.adapter import Adapter
from adamergex.adapters.base_names import MAIN, base_name
from adamergex.adapters.peft_config import tokens
from adamergex.adapters.schema import TensorSchema
from adamergex.errors import AdapterError

_BASE = "base_model_name_or_path"
# Beyond this distance, relative to the norm, two tensors of one name are not from one base model: of two that were drawn
# independently it is √2, of one that was trained a little far less.
_OTHER_MODEL = 0.5
_ROWS = 4096

# Settings that must agree: they change what the tensors mean. The rest follows from the tensors' names and shapes.
_SAME_MEANING = {
    "LoRA": ("fan_in_fan_out", "layer_replication"),
    "DoRA": ("fan_in_fan_out", "layer_replication"),
    "(IA)³": ("fan_in_fan_out",),
    "prefix tuning": ("num_virtual_tokens", "num_layers", "token_dim", "num_transformer_submodules"),
    "p-tuning": ("num_virtual_tokens", "token_dim", "num_transformer_submodules"),
    "prompt tuning": ("num_virtual_tokens", "token_dim", "num_transformer_submodules"),
}


def differences(adapters: Mapping[str, Adapter], same_base: bool = False, options: bool = False) -> list[str]:
    """Why adapters cannot be merged with each other, one line for each problem; all are compared with the first.

    Args:
        adapters: by role, such as "task" and "reference-target".
        same_base: whether the base models that they name are one, whatever the names.
        options: whether to name the options of `adamergex merge` with which a difference is taken.
    """
    remedy = "retrain one of them" + ", or, if the weights are the same, say so with --same-base" * options
    roles = list(adapters)
    first, *rest = adapters.values()
    problems = []
    for role, adapter in zip(roles[1:], rest, strict=True):
        if not same_base:
            problems += [f"{line}; {remedy}" for line in base_differences(roles[0], first, role, adapter)]
        if first.schema.structure != adapter.schema.structure:
            problems.append(
                f"structure differs: {roles[0]} is {first.schema.structure}, {role} {adapter.schema.structure}"
            )
            continue
        for key in _SAME_MEANING[first.schema.structure]:
            expected, value = first.config.get(key), adapter.config.get(key)
            if (expected or None) != (value or None):
                problems.append(f"{key} differs: {roles[0]} {expected}, {role} {value}")
        targets, others = ({*(a.config.get("target_parameters") or [])} for a in (first, adapter))
        if targets != others:
            problems.append(f"target_parameters differs: {roles[0]} {sorted(targets)}, {role} {sorted(others)}")
        problems += _tensor_problems(roles[0], first, role, adapter, "; --missing zero keeps the {}'s there" * options)
    for role, adapter in adapters.items():
        if bad := adapter.not_finite:
            problems.append(
                f"{role} holds NaN or infinity in {len(bad)} tensors, the first is {bad[0]}; train it again"
            )
    return problems


def base_differences(first_role: str, first: Adapter, role: str, other: Adapter) -> list[str]:
    """How the base models that two adapters name differ, a line each."""
    shown = f"{first_role} was trained on {first.config.get(_BASE)}, {role} on {other.config.get(_BASE)}"
    mine, theirs = base_name(first.config), base_name(other.config)
    if mine is None or theirs is None:
        return [] if mine == theirs else [f"base model differs: {shown}"]
    lines = [] if mine.name == theirs.name else [f"base model differs: {shown}"]
    if not mine.has_revision_of(theirs):
        lines.append(
            f"revision of the base model differs: {first_role} was trained on {mine.revision}, {role} on {theirs.revision}"
        )
    return lines


def check_bases(adapters: Mapping[str, Adapter]) -> None:
    """Check that adapters were trained on one base model, by its name in their configurations; some may name none.

    Args:
        adapters: by name.

    Raises:
        AdapterError: one of them was trained on another base model than the first, or another revision of it.
    """
    first, *others = [name for name, adapter in adapters.items() if adapter.config.get(_BASE)] or [""]
    for name in others:
        if lines := base_differences(first, adapters[first], name, adapters[name]):
            raise AdapterError(
                f"{lines[0]}; evaluate each with its own base model, or, if the weights are the same, set {_BASE} alike in "
                "adapter_config.json, and revision"
            )


def off_base(adapters: Mapping[str, Adapter], checkpoint: str, fingerprint: str) -> list[str]:
    """Warnings for adapters whose configuration does not name the base model that they are evaluated on, a line each.

    Args:
        adapters: by name.
        checkpoint: the base model's name.
        fingerprint: identifies its weights; ends in the commit of a model from the hub.
    """
    lines = []
    for name, adapter in adapters.items():
        trained_on = base_name(adapter.config)
        given = base_name({_BASE: checkpoint})
        assert given is not None
        if trained_on is None:
            lines.append(f"{name} does not say which base model it was trained on; it is scored on {checkpoint}")
        elif trained_on.name != given.name:
            lines.append(
                f"{name} was trained on {adapter.config[_BASE]}, and is scored on {checkpoint}; are the weights the same?"
            )
        elif trained_on.revision not in (MAIN, given.revision) and not fingerprint.endswith(trained_on.revision):
            lines.append(
                f"{name} was trained on revision {trained_on.revision} of {trained_on.name}, and is scored on main"
            )
    return lines


def _tensor_problems(first_role: str, first: Adapter, role: str, other: Adapter, filling: str) -> list[str]:
    """How modules, shapes, biases and frozen tensors of the base model differ."""
    problems = []
    mine, theirs = first.schema, other.schema
    for lacking, names in (
        (f"{role} lacks", mine.products.keys() - theirs.products.keys()),
        (f"{first_role} lacks", theirs.products.keys() - mine.products.keys()),
    ):
        if names:
            hint = filling.format(first_role) if lacking.startswith(role) else ""
            problems.append(f"modules differ: {lacking} {len(names)}, the first is {min(names)}{hint}")
    for name in sorted(mine.products.keys() & theirs.products.keys()):
        shapes = [(p.rows, p.columns, p.experts) for p in (mine.products[name], theirs.products[name])]
        if shapes[0] != shapes[1]:
            problems.append(f"shape of {name} differs: {first_role} (out, in, experts) {shapes[0]}, {role} {shapes[1]}")
            break
    for lacking, names in (
        (f"{role} lacks", _other_tensors(mine) - _other_tensors(theirs)),
        (f"{first_role} lacks", _other_tensors(theirs) - _other_tensors(mine)),
    ):
        if names:
            hint = filling.format(first_role) if lacking.startswith(role) else ""
            problems.append(f"tensors differ: {lacking} {len(names)}, the first is {min(names)}{hint}")
    for name in sorted(_other_tensors(mine) & _other_tensors(theirs)):
        if first.specs[name].shape != other.specs[name].shape:
            problems.append(
                f"shape of {name} differs: {first_role} {first.specs[name].shape}, {role} {other.specs[name].shape}"
            )
            break
    problems += _token_problems(first_role, first, role, other)
    problems += [
        f"base model differs: {copy.name}, saved along with both, is another one in {role} than in {first_role}"
        for copy in _copies(first, other)
        if copy.distance > _OTHER_MODEL
    ]
    return problems


def _token_problems(first_role: str, first: Adapter, role: str, other: Adapter) -> list[str]:
    """How the indices of trained tokens differ, which a list and a mapping may say of the same embedding."""
    for name in sorted(set(first.schema.values) & set(other.schema.values)):
        mine, theirs = (tokens(adapter.config, adapter.schema.values[name]) for adapter in (first, other))
        if name.endswith("trainable_tokens_delta") and mine != theirs:
            return [f"trainable_token_indices differs: {first_role} {mine}, {role} {theirs}"]
    return []


class _Copy(NamedTuple):
    """A tensor of the base model that was saved along with two adapters, and how the two differ.

    Attributes:
        name: of the tensor.
        rows: how many rows differ by more than their dtypes' rounding.
        of: how many rows the one with more rows has.
        distance: ‖x − y‖ / ‖x‖ over the rows that both have; infinity where they are not of one width.
    """

    name: str
    rows: int
    of: int
    distance: float


def _copies(first: Adapter, other: Adapter) -> Iterator[_Copy]:
    for name in sorted(set(first.schema.frozen) & set(other.schema.frozen)):
        x, y = (adapter.tensors[name] for adapter in (first, other))
        rows, common = max(len(x), len(y)), min(len(x), len(y))
        if x.shape[1:] != y.shape[1:]:
            yield _Copy(name, rows, rows, float("inf"))
            continue
        apart, square, whole = rows - common, 0.0, 0.0
        for begin in range(0, common, _ROWS):
            a, b = (tensor[begin : min(begin + _ROWS, common)].reshape(-1, *x.shape[1:]) for tensor in (x, y))
            apart += int((~_equal(a, b)).reshape(len(a), -1).any(1).sum())
            square += float((a.float() - b.float()).square().sum())
            whole += float(a.float().square().sum())
        yield _Copy(name, apart, rows, (square / whole) ** 0.5 if whole else float(square > 0))


def _equal(a: Tensor, b: Tensor) -> Tensor:
    """Where two tensors are equal, or one is the other rounded to its dtype."""
    if a.dtype == b.dtype:
        return a == b
    equal = (a.to(b.dtype) == b) | (a == b.to(a.dtype))
    # Neither float16 nor bfloat16 holds the other's values.
    return equal | torch.isclose(a.float(), b.float(), rtol=2**-8, atol=2**-24)


def copies_left_out(adapters: Mapping[str, Adapter]) -> list[str]:
    """Warnings for tensors of the base model that were saved along and differ, of which the first adapter's are taken.

    Args:
        adapters: by role; all are compared with the first.
    """
    (first_role, first), *rest = adapters.items()
    lines = []
    for role, other in rest:
        if alone := sorted(set(other.schema.frozen) - set(first.schema.frozen)):
            lines.append(
                f"{role} was saved along with {alone[0]} ({len(alone)} such tensors), {first_role} without: its base model had "
                "another vocabulary; that is not in the result"
            )
        lines += [
            f"{copy.name}, saved along with both, differs between {first_role} and {role} in {copy.rows} of {copy.of} rows; the "
            f"{first_role}'s is in the result"
            for copy in _copies(first, other)
            if copy.rows
        ]
    return lines


def _other_tensors(schema: TensorSchema) -> set[str]:
    """The tensors that are merged beside LoRA factors. Trained biases replace whole values, so none may be missing."""
    return {*schema.updates, *schema.multipliers, *schema.values, *schema.prompts}
