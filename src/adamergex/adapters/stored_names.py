"""The names that tensors have in a file, and those by which PEFT finds them.

PEFT reads `base_model.model.` + the module's name in the base model + `.lora_A.weight`. Files that were not written by its
`save_pretrained` have more or less around that: what a wrapper of the model adds to names, the prefix twice or not at all,
the adapter's name on the model. PEFT loads nothing of a tensor whose name it does not know, and only warns.
"""

import re
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from adamergex.errors import AdapterError

# What wraps a module, and is a part of its parameters' names → who does so.
_WRAPPERS = {
    "_orig_mod": "torch.compile",
    "_fsdp_wrapped_module": "FSDP",
    "_checkpoint_wrapped_module": "activation checkpointing",
    "_forward_module": "Lightning",
}
# These learn a prompt, and have the base model in `base_model` itself.
_PROMPTS = ("PREFIX_TUNING", "P_TUNING", "PROMPT_TUNING")
_NAMED = re.compile(
    r"(?P<before>.+\.(?:lora_[AB]|lora_magnitude_vector))\.(?P<adapter>[^.]+)(?P<after>\.(?:weight|bias))"
    r"|(?P<bare>.+\.(?:lora_embedding_[AB]|lora_magnitude_vector|ia3_l|trainable_tokens_delta))\.(?P<last>(?!weight$)[^.]+)"
)
_SAVED = ".modules_to_save."


class Names(NamedTuple):
    """Names as PEFT reads them.

    Attributes:
        of: stored name → PEFT's; without copies of what `modules_to_save` replaces, which PEFT does not read.
        notes: how they differ, a line for each kind of difference.
    """

    of: dict[str, str]
    notes: tuple[str, ...]


def readable(stored: Iterable[str], kind: object) -> Names:
    """The names of an adapter's tensors as PEFT reads them.

    Args:
        stored: the names in the file.
        kind: the adapter's `peft_type`.

    Raises:
        AdapterError: there are several adapters in the file, or two tensors of one name.
    """
    prefix = "base_model." if kind in _PROMPTS else "base_model.model."
    found: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for name in stored:
        bare, wrappers = _unwrapped(name)
        counts.update(f"{what} in front or inside, as {who} leaves it" for what, who in wrappers.items())
        canonical, difference = _prefixed(bare, prefix)
        counts.update([difference] if difference else [])
        found[name] = canonical
    adapters: Counter[str] = Counter()
    for name, canonical in found.items():
        found[name], adapter = _without_adapter(canonical)
        adapters.update([adapter] if adapter else [])
    if len(adapters) > 1:
        raise AdapterError(
            f"holds {len(adapters)} adapters ({', '.join(sorted(adapters))}); save each in a folder of its own: "
            "model.save_pretrained(folder, selected_adapters=[name])"
        )
    own = next(iter(adapters), "default")
    # PEFT applies a file whose adapter is called as it calls the one that it loads.
    counts.update({f"the adapter's name, {own}, inside": adapters[own]} if adapters[own] and own != "default" else {})
    plain = {*found.values()}
    # With trained biases PEFT writes those of such a module several times, under its places on the model, too.
    for name, canonical in [*found.items()]:
        found[name] = _saved(canonical, own)
        if ".original_module." in canonical or (found[name] != canonical and found[name] in plain):
            del found[name]
    if twice := [canonical for canonical, count in Counter(found.values()).items() if count > 1]:
        raise AdapterError(f"holds {min(twice)} under several names; save it again with save_pretrained")
    notes = [
        f"{count} tensors had names with {what}; they are read as PEFT names them" for what, count in counts.items()
    ]
    return Names(found, tuple(notes))


def _unwrapped(name: str) -> tuple[str, dict[str, str]]:
    """A name without what wrappers add, and those that were there."""
    parts = name.split(".")
    wrappers = {part: who for part, who in _WRAPPERS.items() if part in parts}
    parts = [part for part in parts if part not in _WRAPPERS]
    # DataParallel wraps the whole: no attribute of a model of transformers is called so.
    while parts[:1] == ["module"] or parts[:3] == ["base_model", "model", "module"]:
        parts.remove("module")
        wrappers["module"] = "DataParallel or DeepSpeed"
    return ".".join(parts), wrappers


def _prefixed(name: str, prefix: str) -> tuple[str, str]:
    """A name with PEFT's prefix once, and how it differed."""
    if name == "prompt_embeddings":
        return name, ""
    rest = name
    while rest.startswith(prefix):
        rest = rest.removeprefix(prefix)
    if rest == name:
        return prefix + rest, f"no {prefix} in front"
    return prefix + rest, "" if name == prefix + rest else f"{prefix} in front more than once"


def _without_adapter(name: str) -> tuple[str, str]:
    """A name without the adapter's own, and that one."""
    match = _NAMED.fullmatch(name)
    if match is None:
        return name, ""
    if match["bare"]:
        return match["bare"], match["last"]
    return match["before"] + match["after"], match["adapter"]


def _saved(name: str, adapter: str) -> str:
    """The name of a tensor of `modules_to_save` in place of that in a model's state."""
    before, found, after = name.partition(_SAVED)
    return f"{before}.{after.removeprefix(f'{adapter}.')}" if found else name
