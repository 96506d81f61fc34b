"""Whether adapters fit together: for a merge, or on one base model."""

from collections.abc import Mapping
from pathlib import Path

from adamergex.adapters.adapter import Adapter
from adamergex.adapters.schema import TensorSchema
from adamergex.errors import AdapterError

_BASE = "base_model_name_or_path"

# Settings that must agree: they change what the tensors mean. The rest follows from the tensors' names and shapes.
_SAME_MEANING = {
    "LoRA": ("fan_in_fan_out", "trainable_token_indices", "layer_replication"),
    "DoRA": ("fan_in_fan_out", "trainable_token_indices", "layer_replication"),
    "(IA)³": ("fan_in_fan_out",),
    "prefix tuning": ("num_virtual_tokens", "num_layers", "token_dim", "num_transformer_submodules"),
    "p-tuning": ("num_virtual_tokens", "token_dim", "num_transformer_submodules"),
    "prompt tuning": ("num_virtual_tokens", "token_dim", "num_transformer_submodules"),
}


def differences(adapters: Mapping[str, Adapter]) -> list[str]:
    """Why adapters cannot be merged with each other, one line for each problem; all are compared with the first.

    Args:
        adapters: by role, such as "task" and "reference-target".
    """
    roles = list(adapters)
    first, *rest = adapters.values()
    problems = []
    for role, adapter in zip(roles[1:], rest, strict=True):
        problems += _base_model_problems(roles[0], first, role, adapter, "retrain one of them")
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
        problems += _tensor_problems(roles[0], first, role, adapter)
    for role, adapter in adapters.items():
        if bad := adapter.not_finite:
            problems.append(
                f"{role} holds NaN or infinity in {len(bad)} tensors, the first is {bad[0]}; train it again"
            )
    return problems


def _base_model_problems(first_role: str, first: Adapter, role: str, other: Adapter, remedy: str) -> list[str]:
    """How the base models that two adapters name differ."""
    problems = []
    for key, what in ((_BASE, "base model"), ("revision", "revision of the base model")):
        # No revision is the main one.
        mine, theirs = (a.config.get(key) or ("main" if key == "revision" else None) for a in (first, other))
        if mine != theirs:
            problems.append(
                f"{what} differs: {first_role} was trained on {mine}, {role} on {theirs}; {remedy}, or, if "
                f"the weights are the same, set {key} alike in adapter_config.json"
            )
    return problems


def check_bases(adapters: Mapping[str, Adapter]) -> None:
    """Check that adapters were trained on one base model, by its name in their configurations; some may name none.

    Args:
        adapters: by name.

    Raises:
        AdapterError: one of them was trained on another base model than the first, or another revision of it.
    """
    first, *others = [name for name, adapter in adapters.items() if adapter.config.get(_BASE)] or [""]
    for name in others:
        if problems := _base_model_problems(
            first, adapters[first], name, adapters[name], "evaluate each with its own base model"
        ):
            raise AdapterError(problems[0])


def off_base(adapters: Mapping[str, Adapter], checkpoint: str, fingerprint: str) -> list[str]:
    """Warnings for adapters whose configuration does not name the base model that they are evaluated on, a line each.

    Args:
        adapters: by name.
        checkpoint: the base model's name.
        fingerprint: identifies its weights; ends in the commit of a model from the hub.
    """
    lines = []
    for name, adapter in adapters.items():
        trained_on, revision = adapter.config.get(_BASE), adapter.config.get("revision") or "main"
        if not trained_on:
            lines.append(f"{name} does not say which base model it was trained on; it is scored on {checkpoint}")
        elif trained_on != checkpoint and str(Path(str(trained_on)).expanduser().resolve()) != checkpoint:
            lines.append(
                f"{name} was trained on {trained_on}, and is scored on {checkpoint}; are the weights the same?"
            )
        elif revision != "main" and not fingerprint.endswith(revision):
            lines.append(f"{name} was trained on revision {revision} of {trained_on}, and is scored on main")
    return lines


def _tensor_problems(first_role: str, first: Adapter, role: str, other: Adapter) -> list[str]:
    """How modules, shapes, biases and frozen tensors of the base model differ."""
    problems = []
    mine, theirs = first.schema, other.schema
    for lacking, names in (
        (f"{role} lacks", mine.products.keys() - theirs.products.keys()),
        (f"{first_role} lacks", theirs.products.keys() - mine.products.keys()),
    ):
        if names:
            problems.append(f"modules differ: {lacking} {len(names)}, the first is {min(names)}")
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
            problems.append(f"tensors differ: {lacking} {len(names)}, the first is {min(names)}")
    for name in sorted(_other_tensors(mine) & _other_tensors(theirs)):
        if first.specs[name].shape != other.specs[name].shape:
            problems.append(
                f"shape of {name} differs: {first_role} {first.specs[name].shape}, {role} {other.specs[name].shape}"
            )
            break
    if alone := set(theirs.frozen) - set(mine.frozen):
        problems.append(
            f"base model differs: {role} was saved with {min(alone)}, {first_role} without; was its vocabulary resized?"
        )
    for name in sorted(set(mine.frozen) & set(theirs.frozen)):
        if first.specs[name] != other.specs[name] or not bool((first.tensors[name] == other.tensors[name]).all()):
            problems.append(
                f"base model differs: {name}, saved along with both, is not the same in {first_role} and {role}"
            )
    return problems


def _other_tensors(schema: TensorSchema) -> set[str]:
    """The tensors that are merged beside LoRA factors. Trained biases replace whole values, so none may be missing."""
    return {*schema.updates, *schema.multipliers, *schema.values, *schema.prompts}
