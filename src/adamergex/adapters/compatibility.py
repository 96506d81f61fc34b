"""Adapters beside each other: what stands against merging them, or against one base model for all."""

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
}


def differences(adapters: Mapping[str, Adapter]) -> list[str]:
    """What stands against merging adapters with each other, a line each; the first is the measure.

    Args:
        adapters: by role, such as "task" and "reference-target".
    """
    roles = list(adapters)
    first, *others = adapters.values()
    found = []
    for role, adapter in zip(roles[1:], others, strict=True):
        found += _of_bases(roles[0], first, role, adapter, "retrain one of them")
        if first.schema.structure != adapter.schema.structure:
            found.append(
                f"structure differs: {roles[0]} is {first.schema.structure}, {role} {adapter.schema.structure}"
            )
            continue
        for key in _SAME_MEANING[first.schema.structure]:
            one, other = first.config.get(key), adapter.config.get(key)
            if (one or None) != (other or None):
                found.append(f"{key} differs: {roles[0]} {one}, {role} {other}")
        one, other = ({*(a.config.get("target_parameters") or [])} for a in (first, adapter))
        if one != other:
            found.append(f"target_parameters differs: {roles[0]} {sorted(one)}, {role} {sorted(other)}")
        found += _tensors(roles[0], first, role, adapter)
    for role, adapter in adapters.items():
        if bad := adapter.not_finite:
            found.append(f"{role} holds NaN or infinity in {len(bad)} tensors, the first is {bad[0]}; train it again")
    return found


def _of_bases(first: str, one: Adapter, role: str, other: Adapter, remedy: str) -> list[str]:
    """What differs in the base models that two adapters name."""
    found = []
    for key, what in ((_BASE, "base model"), ("revision", "revision of the base model")):
        # No revision is the main one.
        mine, theirs = (a.config.get(key) or ("main" if key == "revision" else None) for a in (one, other))
        if mine != theirs:
            found.append(
                f"{what} differs: {first} was trained on {mine}, {role} on {theirs}; {remedy}, or, if "
                f"the weights are the same, set {key} alike in adapter_config.json"
            )
    return found


def check_bases(adapters: Mapping[str, Adapter]) -> None:
    """Look whether adapters can stand on one base model, by the names that they give it; some may give none.

    Args:
        adapters: by what they are called.

    Raises:
        AdapterError: one of them was trained on another base model than the first, or another revision of it.
    """
    first, *others = [name for name, adapter in adapters.items() if adapter.config.get(_BASE)] or [""]
    for name in others:
        if found := _of_bases(first, adapters[first], name, adapters[name], "evaluate each with its own base model"):
            raise AdapterError(found[0])


def off_base(adapters: Mapping[str, Adapter], checkpoint: str, fingerprint: str) -> list[str]:
    """A line for each adapter that does not say that it was trained on the base model that it is to be set on.

    Args:
        adapters: by what they are called.
        checkpoint: the base model's name.
        fingerprint: what identifies its weights; ends in the commit of one from the hub.
    """
    found = []
    for name, adapter in adapters.items():
        said, revision = adapter.config.get(_BASE), adapter.config.get("revision") or "main"
        if not said:
            found.append(f"{name} does not say which base model it was trained on; it is scored on {checkpoint}")
        elif said != checkpoint and str(Path(str(said)).expanduser().resolve()) != checkpoint:
            found.append(f"{name} was trained on {said}, and is scored on {checkpoint}; are the weights the same?")
        elif revision != "main" and not fingerprint.endswith(revision):
            found.append(f"{name} was trained on revision {revision} of {said}, and is scored on main")
    return found


def _tensors(first: str, one: Adapter, role: str, other: Adapter) -> list[str]:
    """Modules, shapes, biases and frozen tensors of the base model."""
    found = []
    mine, theirs = one.schema, other.schema
    for lacking, names in (
        (f"{role} lacks", mine.products.keys() - theirs.products.keys()),
        (f"{first} lacks", theirs.products.keys() - mine.products.keys()),
    ):
        if names:
            found.append(f"modules differ: {lacking} {len(names)}, the first is {min(names)}")
    for name in sorted(mine.products.keys() & theirs.products.keys()):
        shapes = [(p.rows, p.columns, p.experts) for p in (mine.products[name], theirs.products[name])]
        if shapes[0] != shapes[1]:
            found.append(f"shape of {name} differs: {first} (out, in, experts) {shapes[0]}, {role} {shapes[1]}")
            break
    for lacking, names in (
        (f"{role} lacks", _others(mine) - _others(theirs)),
        (f"{first} lacks", _others(theirs) - _others(mine)),
    ):
        if names:
            found.append(f"tensors differ: {lacking} {len(names)}, the first is {min(names)}")
    for name in sorted(_others(mine) & _others(theirs)):
        if one.specs[name].shape != other.specs[name].shape:
            found.append(f"shape of {name} differs: {first} {one.specs[name].shape}, {role} {other.specs[name].shape}")
            break
    if alone := set(theirs.frozen) - set(mine.frozen):
        found.append(
            f"base model differs: {role} was saved with {min(alone)}, {first} without; was its vocabulary resized?"
        )
    for name in sorted(set(mine.frozen) & set(theirs.frozen)):
        if one.specs[name] != other.specs[name] or not bool((one.tensors[name] == other.tensors[name]).all()):
            found.append(f"base model differs: {name}, saved along with both, is not the same in {first} and {role}")
    return found


def _others(schema: TensorSchema) -> set[str]:
    """What is merged beside the products. Trained values are the whole model's own, so that each may lack none."""
    return {*schema.updates, *schema.multipliers, *schema.values, *schema.prompts}
