"""Adapters beside each other: what stands against merging them."""

from collections.abc import Mapping

from adamergex.adapters.adapter import Adapter
from adamergex.adapters.schema import Layout

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
        for key, what in (("base_model_name_or_path", "base model"), ("revision", "revision of the base model")):
            # No revision is the main one.
            one, other = (a.config.get(key) or ("main" if key == "revision" else None) for a in (first, adapter))
            if one != other:
                found.append(
                    f"{what} differs: {roles[0]} was trained on {one}, {role} on {other}; retrain one of them, or, if "
                    f"the weights are the same, set {key} alike in adapter_config.json"
                )
        if first.layout.structure != adapter.layout.structure:
            found.append(
                f"structure differs: {roles[0]} is {first.layout.structure}, {role} {adapter.layout.structure}"
            )
            continue
        for key in _SAME_MEANING[first.layout.structure]:
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


def _tensors(first: str, one: Adapter, role: str, other: Adapter) -> list[str]:
    """Modules, shapes, biases and frozen tensors of the base model."""
    found = []
    mine, theirs = one.layout, other.layout
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


def _others(layout: Layout) -> set[str]:
    """What is merged beside the products. Trained values are the whole model's own, so that each may lack none."""
    return {*layout.updates, *layout.multipliers, *layout.values, *layout.prompts}
