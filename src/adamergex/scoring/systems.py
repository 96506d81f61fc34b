"""The methods that a recipe can set side by side: what each asks, and with which adapter."""

from dataclasses import dataclass
from typing import Literal, get_args

Name = Literal[
    "base",
    "few-shot",
    "xlt",
    "source-adapter",
    "reference-target",
    "task-arithmetic",
    "ties",
    "dare-ties",
    "layer-swap",
    "adamergex",
    "adamergex-factors",
    "ceiling",
]
NAMES: tuple[Name, ...] = get_args(Name)
START: Name = "source-adapter"
Asking = Literal["plain", "few-shot", "xlt"]


@dataclass(frozen=True)
class Method:
    """One way to answer a target language's items.

    Attributes:
        label: what a reader calls it; `{source}`, `{target}`, `{scale}` and `{shots}` are filled in.
        asking: how prompts are put: as they are, behind solved examples, or by XLT's template (arXiv 2305.07004).
        adapter: none, one that was trained, or one that is merged from those.
    """

    label: str
    asking: Asking = "plain"
    adapter: Literal["none", "task", "reference-target", "merged", "ceiling"] = "merged"


METHODS: dict[Name, Method] = {
    "base": Method("base model", adapter="none"),
    "few-shot": Method("base model, {shots} examples", "few-shot", "none"),
    "xlt": Method("base model, XLT prompt", "xlt", "none"),
    "source-adapter": Method("{source} adapter (t = 0)", adapter="task"),
    "reference-target": Method("{target} reference adapter", adapter="reference-target"),
    "task-arithmetic": Method("task arithmetic (t = {scale})"),
    "ties": Method("TIES (t = {scale})"),
    "dare-ties": Method("DARE-TIES (t = {scale})"),
    "layer-swap": Method("layer swapping"),
    "adamergex": Method("merged (t = {scale})"),
    "adamergex-factors": Method("merged in factor space (t = {scale})"),
    "ceiling": Method("{target} adapter (ceiling)", adapter="ceiling"),
}
