r"""GSM8K: grade school word problems in English with their solutions; teaches what MGSM asks.

Citation: Cobbe et al. 2021, Training Verifiers to Solve Math Word Problems, https://arxiv.org/abs/2110.14168
Licence: MIT
Data: openai/gsm8k, configuration main, at cc7b047b6e5bb11b4f1af84efc572db110a51b3c (the commit that inspect_evals pins);
    or train.jsonl and test.jsonl of openai/grade-school-math
An item: {"question": "Weng earns $12 an hour for babysitting. Yesterday, she just did 50 minutes of babysitting. How
    much did she earn?", "answer": "Weng earns 12/60 = $<<12/60=0.2>>0.2 per minute.\nWorking 50 minutes, she earned
    0.2 x 50 = $<<0.2*50=10>>10.\n#### 10"}

MGSM is a translation of 250 problems of the test split, so that only the train split may be learned from.

What is learned is the solution as MGSM writes its exemplars: the steps on one line without the calculator's
annotations, then `The answer is 10.`; the wording of the prompt is MGSM's, so that the two fit together. The paper's is
that of its test_combine_llama2.py.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from adamergex.data.formats import Row
from adamergex.errors import DataError
from adamergex.tasks.benchmarks import files
from adamergex.tasks.benchmarks.benchmark import Benchmark, Prompt, number, text

ENGLISH = Prompt("Question: {question}\nStep-by-Step Answer:", {}, marker="The answer is")
PAPER = Prompt("Let's think step by step.\n\nQuestion: {question}\nAnswer:", {}, marker="The answer is")


def _files(folder: Path, split: str, code: str) -> Iterator[Row]:
    return files.table(folder, f"{split}.jsonl", f"grade_school_math/data/{split}.jsonl")


def _columns(rows: Iterator[Row], split: str, language: str) -> Iterator[Row]:
    for count, (location, row) in enumerate(rows):
        steps, mark, last = text(row, "answer", location).rpartition("####")
        if not mark:
            raise DataError(f"{location}: no '#### ' in the column 'answer'; expected the final number after it")
        answer = number(last, location)
        yield (
            location,
            {
                "id": str(count),
                "question": text(row, "question", location),
                "solution": f"{_one_line(steps)} {ENGLISH.marker} {answer}.",
                "answer": answer,
            },
        )


def _one_line(steps: str) -> str:
    """The steps as sentences after each other, without what the calculator was asked."""
    lines = [line.strip() for line in re.sub(r"<<.*?>>", "", steps).splitlines() if line.strip()]
    return " ".join(line if line.endswith((".", "!", "?")) else f"{line}." for line in lines)


BENCHMARK = Benchmark(
    name="gsm8k",
    title="GSM8K",
    citation="Cobbe et al. 2021, https://arxiv.org/abs/2110.14168",
    licence="MIT",
    kind="number",
    codes={"en": "en"},
    splits={"train": "train", "test": "test"},
    answer="answer",
    learned="solution",
    prompts={"en": ENGLISH},
    dataset="openai/gsm8k",
    revision="cc7b047b6e5bb11b4f1af84efc572db110a51b3c",
    config="main",
    files=_files,
    columns=_columns,
    training="gsm8k",
    paper=PAPER,
    caution="MGSM translates 250 problems of the test split",
)
