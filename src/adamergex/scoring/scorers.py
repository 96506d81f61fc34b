"""Scores of a completion against the right answers, by kind of answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from adamergex.errors import DataError
from adamergex.scoring.extraction import exact_match, f1
from adamergex.scoring.languages import folded
from adamergex.scoring.numbers import Notation, read_gold, read_number, written

AnswerKind = Literal["text", "number", "extraction", "generation"]
# The score by which methods are compared.
PRIMARY: dict[AnswerKind, str] = {
    "text": "exact",
    "number": "accuracy",
    "extraction": "f1",
    "generation": "rougeL",
}


@dataclass(frozen=True)
class Score:
    """The answer of a completion, and its scores.

    Attributes:
        prediction: the answer as extracted from the completion.
        scores: by name, each in 0..1; the names only depend on the kind of answer.
        readable: whether an answer could be extracted. If not, it scores 0 and is counted as unreadable.
    """

    prediction: str
    scores: dict[str, float]
    readable: bool


def score_completion(
    kind: AnswerKind,
    completion: str,
    golds: Sequence[str],
    language: str,
    marker: str | None = None,
    notation: Notation | None = None,
) -> Score:
    """Score one completion.

    Args:
        kind: `text`: `exact`, equality but for case by the language's rules, white space and forms of Unicode;
            `number`: `accuracy`, equality with the number that `read_number` finds;
            `extraction`: `f1` and `exact_match`, as MLQA has them;
            `generation`: `rougeL`, `rouge1`, `rouge2` and `chrf`.
        completion: the generated text, without its prompt and without what follows the answer.
        golds: the right answers; for every score, the best one counts. Gold numbers are canonical, whatever the language
            (`read_gold`): `1234` or `1,234`, after `#### ` or alone.
        language: a BCP 47 code; of the answer.
        marker: the text before a number that is the answer; see `read_number`.
        notation: how the completion writes numbers; see `read_number`.

    Raises:
        DataError: a gold answer is empty, or is no number where it should be one.
        ValueError: there is no gold answer, or `language` is no well-formed code.
    """
    if not golds:
        raise ValueError("an answer without gold answers")
    if not all(gold.strip() for gold in golds):
        raise DataError("a gold answer is empty")
    answer, readable = read_answer(kind, completion, language, marker, notation)
    if kind == "number":
        right = [read_gold(gold, language, marker, "canonical") for gold in golds]
        return Score(answer, {"accuracy": float(readable and Decimal(answer) in right)}, readable)
    if kind == "text":
        scores = {"exact": float(folded(answer, language) in [folded(gold, language) for gold in golds])}
    elif kind == "extraction":
        scores = {"f1": f1(answer, golds, language), "exact_match": exact_match(answer, golds, language)}
    else:
        # Its packages take a second to import, and only summaries need them.
        from adamergex.scoring.rouge import chrf, rouge

        each = [{**rouge(answer, gold, language), "chrf": chrf(answer, gold)} for gold in golds]
        scores = {
            name: max(scores_of_gold[name] for scores_of_gold in each)
            for name in ("rougeL", "rouge1", "rouge2", "chrf")
        }
    # MLQA calls two answers equal where normalisation leaves nothing of both.
    return Score(answer, scores if readable else dict.fromkeys(scores, 0.0), readable)


def read_answer(
    kind: AnswerKind, completion: str, language: str, marker: str | None = None, notation: Notation | None = None
) -> tuple[str, bool]:
    """The answer of a completion, and whether one could be read; for the arguments see `score_completion`."""
    if kind == "number":
        number = read_number(completion, language, marker, notation)
        return written(number), number is not None
    return completion.strip(), bool(completion.strip())
