"""Which bias is added to the labels' scores of a file's rows: none, the one saved with the adapter, or one of the rows' own."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import ValidationError

from adamergex.errors import DataError, RecipeError
from adamergex.inference.settings import Calibration
from adamergex.inference.usage import Usage
from adamergex.scoring.calibration import FEWEST, bias_of, expected

# From so many rows on, a bias is estimated on them where nobody says otherwise; and on no more than so many of them.
FROM, MOST = 100, 20_000


@dataclass(frozen=True)
class Wish:
    """What a user wants of calibration.

    Attributes:
        calibrate: whether the bias is estimated on the rows; None: from `FROM` rows on, where they can be read twice.
        shares: label → the share of it that is expected among the rows, or its count in a sample of them.
        raw: whether nothing is added to scores.
    """

    calibrate: bool | None = None
    shares: Mapping[str, float] | None = None
    raw: bool = False

    def check(self, usage: Usage, again: bool) -> None:
        """Check that there is what it takes.

        Args:
            usage: of the adapter.
            again: whether the rows can be read twice.

        Raises:
            RecipeError: there is not, or two options exclude each other.
        """
        problems, option = [], "--shares" if self.shares is not None else "--calibrate"
        if self.raw and (self.shares is not None or self.calibrate):
            problems.append(f"{option} has no effect with --raw; leave one out")
        elif self.calibrate is False and self.shares is not None:
            problems.append("--shares has no effect with --no-calibrate; leave one out")
        elif self.shares is not None or self.calibrate:
            if not usage.task.has_fixed_labels:
                problems.append(f"{option}: is for labels that all rows share, and the adapter's task has none")
            elif not again:
                problems.append(f"{option}: standard input cannot be read twice; write the rows to a file")
            elif self.shares is None and usage.calibration is None:
                problems.append(
                    "--calibrate: no label shares were saved with the adapter; state them: --shares LABEL=SHARE,…"
                )
        if problems:
            raise RecipeError(problems)


@dataclass(frozen=True)
class Calibrating:
    """How the rows of one file are calibrated.

    Attributes:
        usage: of the adapter.
        wish: of the user, checked.
        count: of rows, where they can be read twice; else None.
    """

    usage: Usage
    wish: Wish
    count: int | None

    @property
    def on_rows(self) -> bool:
        """Whether a bias is estimated on the rows. Raises DataError where there are too few for what was asked for."""
        asked = self.wish.calibrate or self.wish.shares is not None
        if asked and self.count is not None and self.count < FEWEST:
            raise DataError(
                f"{self.count} rows are too few to calibrate on; it takes {FEWEST}: leave out --calibrate and --shares"
            )
        if self.wish.raw or self.wish.calibrate is False or self.count is None:
            return False
        return bool(asked) or (self.usage.calibration is not None and self.count >= FROM)

    def sample(self) -> np.ndarray:
        """The numbers of the rows that a bias is estimated on, evenly spaced, int64 (at most `MOST`,)."""
        count = self.count or 0
        return np.linspace(0, count - 1, min(count, MOST)).round().astype(np.int64)

    def bias(self, scores: Sequence[Sequence[float]]) -> np.ndarray:
        """The bias that the scores of the sampled rows call for, float64 (labels,), in nats."""
        return self._strength * bias_of(np.array(scores, float), self._prior)

    @property
    def _strength(self) -> float:
        """The share of the bias that is added. Shares that are stated now are no guess of then."""
        saved = self.usage.calibration
        return saved.strength if saved is not None and self.wish.shares is None else 1.0

    @property
    def _prior(self) -> np.ndarray | None:
        if self.wish.shares is not None:
            return expected(self.wish.shares, self.usage.task.labels)
        return self.usage.expected

    def sentence(self) -> str:
        """What was done, in words."""
        usage = self.usage
        if not usage.task.labels:
            return "answers are written"
        if self.on_rows:
            few = len(self.sample())
            of = f"on {few:,} of these rows" if few < (self.count or 0) else "on these rows"
            if self._prior is None:
                return f"a bias per label was estimated {of}, without labels (batch calibration)"
            stated = "stated" if self.wish.shares is not None else "saved with the adapter"
            part = f"; {self._strength:.0%} of it was added" if self._strength < 1 else ""
            return f"a bias per label was estimated {of}, without labels, to the label shares {stated}: {self._shares()}{part}"
        if self.wish.raw:
            return "no bias was added (--raw)"
        if usage.calibration is None:
            return "no bias was added: none was saved with the adapter"
        return f"the bias saved with the adapter was added (of {usage.calibration.inputs:,} other inputs)"

    def _shares(self) -> str:
        assert self._prior is not None  # Whoever asks has looked.
        ranked = sorted(zip(self.usage.task.labels, self._prior, strict=True), key=lambda pair: -pair[1])
        shown = [f"{label} {share:.0%}" for label, share in ranked[:5]]
        return ", ".join(shown + (["…"] if len(ranked) > 5 else []))


def stated(text: str, labels: Iterable[str]) -> dict[str, float]:
    """The shares of labels that a user states as `LABEL=SHARE,…`.

    Raises:
        RecipeError: it is not of that form, a label is not known, or these are no shares.
    """
    shares: dict[str, float] = {}
    known = list(labels)
    for part in text.split(","):
        label, equals, value = (piece.strip() for piece in part.rpartition("="))
        try:
            share = float(value)
        except ValueError:
            equals = ""
        if not equals or not label:
            raise RecipeError([f"--shares {part}: expected LABEL=SHARE, such as positive=0.3,negative=0.7"])
        if label not in known:
            raise RecipeError(
                [f"--shares {part}: unknown label {label!r}; the adapter has {', '.join(known) or 'none'}"]
            )
        if label in shares:
            raise RecipeError([f"--shares {part}: {label!r} is stated twice"])
        shares[label] = share
    try:
        Calibration(shares=shares)
    except ValidationError as error:
        raise RecipeError(
            [f"--shares {text}: {one['msg'].removeprefix('Value error, ')}" for one in error.errors()]
        ) from None
    return shares
