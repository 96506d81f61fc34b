"""Token sequences with common prefixes, as trees: each common prefix is in a row once.

A prompt and its answers are a tree with a branch for each answer; few-shot prompts of many items are one that branches
where the few-shot examples end. The attention mask lets a token see only what precedes it on its own branch, and
position ids count along the branch, so that each sequence is computed as if it were alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

# Maximal tokens per row, unless a single sequence is longer. Longer rows repeat fewer common prefixes, but attention
# costs the square of their length: of these the cheapest is taken.
_WIDTHS = (128, 256, 512, 1024, 2048, 4096)
# Trees must save a tenth of the work, since their mask has a cost, too.
_WORTH_IT = 0.9


@dataclass
class Trees:
    """Rows of prefix trees.

    Attributes:
        tokens: of each row.
        positions: of each token, its position id: the distance from the root of its tree.
        places: for each sequence, its row and the column of each of its tokens.
        branches: for each row, its branches: the columns of the prefix, and the branch's own first column and end.
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
        """Rows of tokens or of positions, padded to equal length."""
        return [row + [filling] * (self.width - len(row)) for row in rows]

    def seen(self) -> np.ndarray:
        """The attention mask, bool (rows, width, width): a token sees the prefix of its branch, and the branch up to itself."""
        seen = np.zeros((len(self.tokens), self.width, self.width), dtype=bool)
        for row, branches in zip(seen, self.branches, strict=True):
            for before, start, end in branches:
                row[start:end, before] = True
                row[start:end, start:end] = np.tri(end - start, dtype=bool)
        return seen

    def add(self, number: int, ids: list[int], common: int, width: int) -> None:
        """Append a sequence that shares its first `common` tokens with the last one; in a new row where it does not fit."""
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
    """Sequences as trees, in rows of the cheapest width; None where that is hardly cheaper than one sequence per row.

    Args:
        sequences: not empty.
        hidden: the model's hidden size.
    """
    order = sorted(range(len(sequences)), key=sequences.__getitem__)
    longest = max(map(len, sequences))
    alike = [0, *(_common(sequences[a], sequences[b]) for a, b in pairwise(order))]

    def cost(rows: int, width: int) -> float:
        # Per token, a layer of hidden size h multiplies by about 12 h² weights, and attends to all tokens of the row;
        # attention with a mask takes about twice the time of a matrix product with as many multiplications.
        return rows * width * (1 + width / (3 * hidden))

    candidates: list[Trees] = []
    for width in _WIDTHS:
        trees = Trees()
        for i, common in zip(order, alike, strict=True):
            trees.add(i, sequences[i], common, max(width, longest))
        candidates.append(trees)
        if len(trees.tokens) == 1:
            break
    best = min(candidates, key=lambda trees: cost(len(trees.tokens), trees.width))
    worth_it = cost(len(best.tokens), best.width) <= _WORTH_IT * cost(len(sequences), longest)
    return best if worth_it else None


def _common(first: list[int], second: list[int]) -> int:
    """The length of the common prefix of two sequences."""
    return next(
        (i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second))
    )
