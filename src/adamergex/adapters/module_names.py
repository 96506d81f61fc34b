"""Names of modules: their layer, their stack, and how PEFT's patterns match them."""

from collections.abc import Iterable


def ending(expression: str) -> str:
    """The regular expression that PEFT makes of a pattern's key: it matches the end of a module's name, after a dot."""
    return rf"(.*\.)?({expression})$"


def position(module: str) -> tuple[str, int | None]:
    """The stack of layers that a module is in and the index of its layer: the first number in its name.

    `model.layers.3.mlp.up_proj` → ("model.layers", 3); `decoder.block.0.layer.1.EncDecAttention.q` →
    ("decoder.block", 0); `lm_head` → ("", None).
    """
    parts = module.split(".")
    for i, part in enumerate(parts):
        if part.isdecimal():
            return ".".join(parts[:i]), int(part)
    return "", None


def place(module: str) -> str:
    """The layer that a module's figures are summed under, such as `model.layers.3`, or `other`."""
    stack, layer = position(module)
    return "other" if layer is None else f"{stack}.{layer}"


def depths(modules: Iterable[str]) -> dict[str, int]:
    """The number of layers of each stack: the highest index among its modules, plus one."""
    counts: dict[str, int] = {}
    for stack, layer in map(position, modules):
        if layer is not None:
            counts[stack] = max(counts.get(stack, 0), layer + 1)
    return counts
