"""Invented rows of the benchmarks, as they are published and as they are read."""

from pathlib import Path
from typing import Any

from adamergex.tasks import benchmarks

COPA_ROW = {"premise": "It rained.", "choice1": "I got wet.", "choice2": "The sun shone.", "question": "effect"}
SUM = {"question": "1 + 2?", "answer": "Add <<1+2=3>>them: 1 + 2 = <<3>>3\n\nThat is all.\n#### 1,003"}
SOLVED = {
    "id": "0",
    "question": "1 + 2?",
    "solution": "Add them: 1 + 2 = 3. That is all. The answer is 1003.",
    "answer": "1003",
}
CAUSED = {
    "id": "4",
    "premise": "It rained.",
    "choice1": "I got wet.",
    "choice2": "The sun shone.",
    "question": "effect",
    "stem": "It rained",
    "connective": "therefore",
    "ending1": "I got wet.",
    "ending2": "the sun shone.",
    "label": "0",
}
PAIR = {"id": "0", "premise": 'She said "hi', "hypothesis": "Yes.", "label": "neutral"}
SUMMED = {"id": "n-1", "title": "T", "text": "Long.", "summary": "Short."}
HEADED = {"id": "0", "category": "sports", "headline": 'A "big" win', "text": "One,\ttwo.\nThree."}


def read(name: str, split: str, language: str, folder: Path | None) -> list[dict[str, Any]]:
    return [row for _, row in benchmarks.find(name).rows(split, language, folder)]
