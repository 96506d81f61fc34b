"""The systems that a recipe can compare without merging: their prompts and their adapters.

Each merging method is a system, too: `adamergex.inference.systems` has them all.
"""

from dataclasses import dataclass
from typing import Literal

# The system that others are compared with, and the default merging method of a report.
START, MERGED = "source-adapter", "adamergex"
# The system that learned from the merged adapter's answers; a recipe with `refine` has it, and does not list it.
REFINED = "refined"
Asking = Literal["plain", "few-shot", "xlt"]


@dataclass(frozen=True)
class System:
    """One way to answer a target language's items.

    Attributes:
        label: its name in the report; `{source}`, `{target}`, `{scale}` and `{shots}` are filled in.
        asking: the prompting: plain, few-shot, or XLT's template (arXiv 2305.07004).
        adapter: none, one that was trained, or one that is merged from those.
    """

    label: str
    asking: Asking = "plain"
    adapter: Literal["none", "task", "reference-target", "merged", "refined", "ceiling"] = "merged"


# In the order of the table; merged adapters come between them.
BEFORE_MERGED: dict[str, System] = {
    "base": System("base model", adapter="none"),
    "few-shot": System("base model, {shots} examples", "few-shot", "none"),
    "xlt": System("base model, XLT prompt", "xlt", "none"),
    START: System("{source} adapter (t = 0)", adapter="task"),
    "reference-target": System("{target} reference adapter", adapter="reference-target"),
}
AFTER_MERGED: dict[str, System] = {
    REFINED: System("refined by self-training", adapter="refined"),
    "ceiling": System("{target} adapter (ceiling)", adapter="ceiling"),
}
