"""Token sequences that begin alike, as trees: what they have in common stands in a row once.

A prompt and its answers are a tree with a branch for each answer; few-shot prompts of many items are one that branches
where the solved examples end. Attention is given a mask in which a token sees what stands before it on its own branch,
and positions that count along the branch, so that each sequence is read as if it stood alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

# Tokens of a row, at most, unless a single sequence is longer. A longer row repeats less of what sequences have in
# common, but attention costs the square of it: of several lengths the cheapest is taken.
_WIDTHS = (128, 256, 512, 1024, 2048, 4096)
# Trees must save a tenth of the work: their mask costs something, too.
_WORTH_IT = 0.9


@dataclass
class Trees:
    """Rows of trees.

    Attributes:
        tokens: of each row.
        positions: of each token on its branch.
        places: for each sequence its row, and where in it each of its tokens stands.
        branches: of each row: where what a branch grew from stands, and the branch's own first token and end.
    """

    tokens: list[list[int]] = field(default_factory=list)
    positions: list[list[int]] = field(default_factory=list)
    places: dict[int, tuple[int, list[int]]] = field(default_factory=dict)
    branches: list[list[tuple[list[int], int, int]]] = field(default_factory=list)

    @property
    def width(self) -> int:
        """Tokens of the longest row."""
        return max(map(len, self.tokens))

    def filled(self, rows: Sequence[list[int]], filling: int) -> list[list[int]]:
        """Rows of tokens or of positions, made equally long."""
        return [row + [filling] * (self.width - len(row)) for row in rows]

    def seen(self) -> np.ndarray:
        """What each token sees, bool (rows, width, width): its branch up to itself, and what that branch grew from."""
        seen = np.zeros((len(self.tokens), self.width, self.width), dtype=bool)
        for row, branches in zip(seen, self.branches, strict=True):
            for before, start, end in branches:
                row[start:end, before] = True
                row[start:end, start:end] = np.tri(end - start, dtype=bool)
        return seen

    def add(self, number: int, ids: list[int], common: int, width: int) -> None:
        """Put a sequence behind the last one, which it has `common` tokens with; into a new row where it does not fit."""
        if not self.tokens or len(self.tokens[-1]) + len(ids) - common > width:
            for rows in (self.tokens, self.positions, self.branches):
                rows.append([])
            common, path = 0, []
        else:
            path = next(reversed(self.places.values()))[1][:common]
        row = self.tokens[-1]
        start = len(row)
        row += ids[common:]
        self.positions[-1] += range(common, len(ids))
        self.branches[-1].append((path, start, len(row)))
        self.places[number] = (len(self.tokens) - 1, path + list(range(start, len(row))))


def grow(sequences: Sequence[list[int]], hidden: int) -> Trees | None:
    """Sequences as trees, in the rows that take the least work; None where that is hardly less than one sequence a row.

    Args:
        sequences: not empty.
        hidden: how many hidden units the model has.
    """
    order = sorted(range(len(sequences)), key=sequences.__getitem__)
    longest = max(map(len, sequences))
    alike = [0, *(_common(sequences[a], sequences[b]) for a, b in pairwise(order))]

    def cost(rows: int, width: int) -> float:
        # A layer of h hidden units multiplies a token by about 12 h² weights, and compares it with the row's tokens;
        # attention with a mask takes about twice the time that its multiplications would in a matrix product.
        return rows * width * (1 + width / (3 * hidden))

    found: list[Trees] = []
    for width in _WIDTHS:
        trees = Trees()
        for i, common in zip(order, alike, strict=True):
            trees.add(i, sequences[i], common, max(width, longest))
        found.append(trees)
        if len(trees.tokens) == 1:
            break
    best = min(found, key=lambda trees: cost(len(trees.tokens), trees.width))
    worth_it = cost(len(best.tokens), best.width) <= _WORTH_IT * cost(len(sequences), longest)
    return best if worth_it else None


def _common(one: list[int], other: list[int]) -> int:
    """How many tokens two sequences begin with alike."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
