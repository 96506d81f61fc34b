"""Candidates against each other on the same items: who goes on, who wins, and what it costs."""

import numpy as np
import pytest

from adamergex.selection.race import Standing, race, winner
from adamergex.selection.rule import Reading, merging_pays


def test_eleven_candidates_cost_less_than_six_whole_evaluations() -> None:
    """Of 80 items an eighth for all, a quarter for 6, a half for 4, all for 3, and for the one that stays: 110 + 70 + 100 + 160."""
    asked: list[tuple[int, int, int]] = []
    skill = np.linspace(0, 1, 11)

    def answer(candidate: int, start: int, end: int) -> list[bool]:
        asked.append((candidate, start, end))
        return [(number * 7 % 80) / 80 < skill[candidate] for number in range(end)]

    standings = race(11, 80, answer)
    assert sum(end - start for _, start, end in asked) == 440 < 6 * 80
    assert [len(one.right) for one in standings] == [80, 10, 10, 10, 10, 20, 20, 40, 80, 80, 80]
    assert winner(standings, default=0, certain=True)[0] == 10


def test_of_equally_good_candidates_the_first_goes_on() -> None:
    standings = race(4, 8, lambda candidate, start, end: [True] * end, stays=3)
    assert [len(one.right) for one in standings] == [8, 8, 1, 8]
    assert winner(standings, default=3, certain=False) == (3, 1.0)


@pytest.mark.parametrize(("more", "certain", "expected"), [(6, True, 1), (5, True, 0), (5, False, 1), (0, False, 0)])
def test_noise_does_not_choose(more: int, certain: bool, expected: int) -> None:
    """Six items that one alone has right: p = 2/64; five: p = 2/32."""
    default, other = np.zeros(20, bool), np.zeros(20, bool)
    other[:more] = True
    best, p = winner([Standing(default), Standing(other)], 0, certain)
    assert best == expected
    assert p == pytest.approx({6: 2 / 64, 5: 2 / 32, 0: 1.0}[more])


def test_a_candidate_that_left_early_does_not_win() -> None:
    standings = [Standing(np.zeros(8, bool)), Standing(np.ones(2, bool))]
    assert winner(standings, 0, certain=False)[0] == 0


def test_the_rule_looks_at_what_there_was_to_learn() -> None:
    assert merging_pays(Reading(6.10, 5.44))[0]
    pays, why = merging_pays(Reading(4.22, 3.88))
    assert not pays
    assert "from 4.22 to 3.88 nats a token" in why
    assert merging_pays(None)[0]
