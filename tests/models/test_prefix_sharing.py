"""Sequences that begin alike: what each token sees is its own sequence, and nothing is read twice that need not be."""

import random

import pytest

from adamergex.models import prefix_sharing

PROMPT = [5] * 800


def read_back(grown: prefix_sharing.Trees, number: int) -> list[int]:
    """The tokens that a sequence's last token sees, in the order of their positions."""
    row, places = grown.places[number]
    seen = grown.seen()[row, places[-1]].nonzero()[0].tolist()
    assert sorted(places) == seen
    assert [grown.positions[row][place] for place in places] == list(range(len(places)))
    return [grown.tokens[row][place] for place in places]


@pytest.mark.parametrize("seed", range(5))
def test_every_sequence_sees_itself_and_nothing_else(seed: int) -> None:
    draw = random.Random(seed)
    stems = [[draw.randrange(90) for _ in range(draw.randrange(40, 300))] for _ in range(3)]
    sequences = []
    for _ in range(30):
        stem = draw.choice(stems)
        sequences.append(
            stem[: draw.randrange(30, len(stem))] + [draw.randrange(90) for _ in range(draw.randrange(1, 9))]
        )
    grown = prefix_sharing.grow(sequences, hidden=640)
    assert grown is not None
    for number, sequence in enumerate(sequences):
        assert read_back(grown, number) == sequence
    # A token sees nothing behind itself.
    assert not grown.seen()[0][range(5), range(1, 6)].any()


def test_a_long_prompt_with_many_answers_is_read_once() -> None:
    grown = prefix_sharing.grow([[*PROMPT, answer, 7, 8] for answer in range(40)], hidden=640)
    assert grown is not None
    assert [len(row) for row in grown.tokens] == [800 + 40 * 3]


def test_short_trees_are_not_put_into_long_rows() -> None:
    """Forty prompts of 20 tokens with two answers each would fill one row of 1,000 tokens, most of whose mask is empty."""
    sequences = [[prompt] * 20 + [50 + answer, 9] for prompt in range(40) for answer in range(2)]
    grown = prefix_sharing.grow(sequences, hidden=640)
    assert grown is not None
    assert grown.width <= 128
    assert sum(map(len, grown.tokens)) == 40 * (20 + 2 + 2)


def test_sequences_that_begin_otherwise_stay_apart() -> None:
    assert prefix_sharing.grow([[start, *range(20, 40)] for start in (3, 4, 5)], hidden=640) is None
