"""t without any label, from how much the reference task had to teach in the target language.

Where the base model reads the target language about as well as it can, its reference adapter is noise, and a merge can only
lose; where held-out text became much likelier, the merge gains. `docs/results.md` has the evidence.
"""

from collections.abc import Mapping
from dataclasses import dataclass

# What a reference adapter has to gain on held-out text of its language, in nats per token, for a merge to pay.
GAIN = 0.5
# The t that is taken then.
SCALE = 0.5


@dataclass(frozen=True)
class Reading:
    """How well a language was read before and after its reference adapter was trained.

    Attributes:
        before, after: loss on held-out text, in nats per token.
    """

    before: float
    after: float

    @property
    def gain(self) -> float:
        """How much likelier the text became, in nats per token."""
        return self.before - self.after


def merging_pays(target: Reading | None) -> tuple[bool, str]:
    """Whether to merge, and why, in words.

    Args:
        target: the held-out loss in the target language; None where nothing was held out.
    """
    if target is None:
        return True, "no text was held out to look at"
    what = f"its reference adapter lowered the loss on held-out text from {target.before:.2f} to {target.after:.2f} nats a token"
    if target.gain >= GAIN:
        return True, f"{what}, by {GAIN:g} or more"
    return False, f"{what}, by less than {GAIN:g}: there was little to learn, and a merge would add noise"


def reading(heldout: Mapping[str, float] | None) -> Reading | None:
    """From the facts of a training."""
    return None if heldout is None else Reading(heldout["before"], heldout["after"])
