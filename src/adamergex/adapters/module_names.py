"""Names of modules: their layer, their stack, and how PEFT's patterns match them."""

from collections.abc import Iterable


def ending(expression: str) -> str:
    """How PEFT reads the keys of its patterns: for the end of a module's name, after a dot."""
    return rf"(.*\.)?({expression})$"


def position(module: str) -> tuple[str, int | None]:
    """The stack that a module is in and its layer's number there: the first number in its name.

    `model.layers.3.mlp.up_proj` → ("model.layers", 3); `decoder.block.0.layer.1.EncDecAttention.q` →
    ("decoder.block", 0); `lm_head` → ("", None).
    """
    parts = module.split(".")
    for i, part in enumerate(parts):
        if part.isdecimal():
            return ".".join(parts[:i]), int(part)
    return "", None


def place(module: str) -> str:
    """What a module's figures are added up under: its layer, such as `model.layers.3`, or `other`."""
    stack, layer = position(module)
    return "other" if layer is None else f"{stack}.{layer}"


def depths(modules: Iterable[str]) -> dict[str, int]:
    """How many layers each stack has, as far as its modules show: the highest number and one."""
    found: dict[str, int] = {}
    for stack, layer in map(position, modules):
        if layer is not None:
            found[stack] = max(found.get(stack, 0), layer + 1)
    return found
