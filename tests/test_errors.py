"""Errors that a user reads: a line for each problem, in which everything can be seen."""

import pickle

from adamergex.cli.documents import lines
from adamergex.errors import AdaMergeXError, DataError, RecipeError


def test_white_space_that_is_no_space_can_be_seen() -> None:
    error = DataError("a.csv:1: no column 'text'; the row has text\tlabel\r", "b.csv: né \u0939\u093f")
    assert error.problems == ["a.csv:1: no column 'text'; the row has text\\tlabel\\r", "b.csv: né \u0939\u093f"]
    assert str(error) == "\n".join(error.problems)
    assert lines(error) == error.problems


def test_each_problem_is_a_line_of_the_command_line() -> None:
    assert lines(DataError("one\n  of a library", "two")) == ["one of a library", "two"]
    assert lines(RecipeError(["one", "two"])) == ["one", "two"]


def test_errors_survive_pickling() -> None:
    for error in (RecipeError(["a", "b\t"]), DataError("a", "b\t"), AdaMergeXError("a")):
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), again.args, again.problems) == (type(error), error.args, error.problems)
