"""SQuAD 1.1: the answer to a question as a span of a paragraph, in English; teaches what XQuAD asks.

Citation: Rajpurkar et al. 2016, SQuAD: 100,000+ Questions for Machine Comprehension of Text,
    https://arxiv.org/abs/1606.05250
Licence: CC BY-SA 4.0
Data: rajpurkar/squad, configuration plain_text, at 7b6d24c440a36b6815f21b70d25016731768db1f (pinned by many public
    repositories); or train-v1.1.json and dev-v1.1.json of the authors
An item: {"question": "What sits on top of the Main Building at Notre Dame?", "answers": ["a golden statue of the Virgin
    Mary"]}, with the paragraph in "context"

XQuAD is 240 paragraphs of the dev split in translation, so that nothing may be tuned on it that is scored on XQuAD: only
the train split is offered.

The wording is lm-evaluation-harness's for XQuAD. The paper's is that of its eval/base_xquad.py without the role that its
baseline plays.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from adamergex.data.formats import Row
from adamergex.errors import DataError
from adamergex.tasks.benchmarks import files
from adamergex.tasks.benchmarks.benchmark import Benchmark, Prompt, text

PAPER = Prompt("Question: {context}{question}\nAnswer:", {})


def worded(context: str, question: str, answer: str) -> Prompt:
    """A prompt in the harness's form, from its three words in a language."""
    return Prompt(f"{context}: {{context}}\n\n{question}: {{question}}\n\n{answer}:", {})


def columns(rows: Iterator[Row]) -> Iterator[Row]:
    """Questions with all their answers and the index of their paragraph, which is the same in every language.

    Raises:
        DataError: a row lacks a part.
    """
    number, last = -1, None
    for location, row in rows:
        context = _clean(text(row, "context", location))
        number, last = (number if context == last else number + 1), context
        answers = _answers(row, location)
        yield (
            location,
            {
                "id": text(row, "id", location),
                "paragraph": str(number),
                "context": context,
                "question": _clean(text(row, "question", location)),
                "answers": answers,
                "answer": answers[0],
            },
        )


def _answers(row: dict[str, Any], location: str) -> list[str]:
    answers = row.get("answers")
    spans = answers.get("text") if isinstance(answers, dict) else None
    if not spans or not all(isinstance(span, str) and span.strip() for span in spans):
        raise DataError(f"{location}: no answer in column 'answers'; every question of SQuAD 1.1 has one")
    return [_clean(span).strip() for span in spans]


def _clean(written: str) -> str:
    """Some paragraphs of XQuAD begin with a byte order mark, which is no text."""
    return written.replace("\ufeff", "")


def _files(folder: Path, split: str, code: str) -> Iterator[Row]:
    return files.table(folder, f"{split}-v1.1.json")


def _columns(rows: Iterator[Row], split: str, language: str) -> Iterator[Row]:
    return columns(rows)


BENCHMARK = Benchmark(
    name="squad",
    title="SQuAD 1.1",
    citation="Rajpurkar et al. 2016, https://arxiv.org/abs/1606.05250",
    licence="CC BY-SA 4.0",
    kind="extraction",
    codes={"en": "en"},
    splits={"train": "train"},
    answer="answers",
    learned="answer",
    prompts={"en": worded("Context", "Question", "Answer")},
    dataset="rajpurkar/squad",
    revision="7b6d24c440a36b6815f21b70d25016731768db1f",
    config="plain_text",
    files=_files,
    columns=_columns,
    training="squad",
    paper=PAPER,
    caution="XQuAD is 240 paragraphs of the authors' dev split in translation",
)
