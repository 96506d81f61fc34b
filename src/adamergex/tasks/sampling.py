"""Some of many labelled rows: a sample that is the same in every run, with every label in its share."""

import random
from collections import Counter
from collections.abc import Iterable
from operator import itemgetter

from adamergex.data import nested
from adamergex.data.formats import Row

# Of the draw. It is no recipe's seed, so that what is scored stays what it is when a training is repeated.
_SEED = 0


def sample(located: Iterable[Row], limit: int, label: str | None = None) -> list[Row]:
    """Some rows, in their order; all of them where there are no more than the limit.

    Rows whose labels stand in the same order, such as translations, give the same sample. Memory holds as many rows of each
    label as are wanted in all.

    Args:
        located: pairs of a location and a row.
        limit: how many are wanted.
        label: the column whose values are wanted in their shares, each at least once where the limit allows it; None where
            rows are drawn without regard to what they hold.
    """
    draws = random.Random(_SEED)
    counts = Counter[str]()
    kept: dict[str, list[tuple[int, Row]]] = {}
    for number, (location, row) in enumerate(located):
        stratum = "" if label is None else str(nested.value(row, label)).strip()
        held = kept.setdefault(stratum, [])
        counts[stratum] += 1
        if len(held) < limit:
            held.append((number, (location, row)))
        elif (place := draws.randrange(counts[stratum])) < limit:
            held[place] = number, (location, row)
    wanted = shares(counts, limit)
    chosen = [one for stratum, held in kept.items() for one in draws.sample(held, wanted[stratum])]
    return [row for _, row in sorted(chosen, key=itemgetter(0))]


def shares(counts: Counter[str], limit: int) -> Counter[str]:
    """How many of each label are wanted: in proportion, the largest remainders rounded up; each at least once, if possible."""
    total = counts.total()
    if total <= limit:
        return counts
    found = Counter({label: count * limit // total for label, count in counts.items()})
    order = sorted(counts, key=lambda label: (-(counts[label] * limit % total), label))
    for label in order[: limit - found.total()]:
        found[label] += 1
    if len(counts) <= limit:
        for label in [label for label, count in found.items() if not count]:
            found[max(sorted(found), key=lambda one: found[one])] -= 1
            found[label] = 1
    return found
