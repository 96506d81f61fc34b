"""COPA: which of two sentences is the cause or the effect of a premise, in English; teaches what XCOPA asks.

Citation: Roemmele et al. 2011, Choice of Plausible Alternatives, AAAI Spring Symposium; in the form of SuperGLUE, Wang
    et al. 2019, https://arxiv.org/abs/1905.00537
Licence: not stated in the data; the hub's card of SuperGLUE says "other", see the terms of COPA
Data: aps/super_glue, configuration copa, at 3de24cf8022e94f4ee4b9d55a6f539891524d646 (pinned by many public
    repositories); or train.jsonl and val.jsonl of SuperGLUE's COPA archive
An item: {"premise": "The women met for coffee.", "choice1": "The cafe reopened in a new location.", "choice2": "They
    wanted to catch up with each other.", "question": "cause", "label": 1, "idx": 2}

XCOPA's validation split is the dev split in other languages, and its test split is COPA's, whose labels SuperGLUE keeps
to itself; the train split is in none of them.

The wording is lm-evaluation-harness's: the premise without its full stop, a connective, and a choice that goes on in
lower case. The columns `stem`, `connective`, `ending1` and `ending2` hold these; `premise`, `choice1` and `choice2` are
as published. The paper's wording is that of its eval/base_xcopa.py without the role that its baseline plays.
"""

from collections.abc import Iterator
from pathlib import Path

from adamergex.data.formats import Row
from adamergex.tasks.benchmarks import files
from adamergex.tasks.benchmarks.benchmark import Benchmark, Prompt, label, text

ENDINGS = {"0": "{ending1}", "1": "{ending2}"}
PAPER = Prompt(
    "Here is a premise and a question. Help me pick the more plausible option. Answer with (A) or (B).\n"
    "Premise: {premise}\nQuestion: What is the {question}?\n(A) {choice1}\n(B) {choice2}\nAnswer:",
    {"0": "(A)", "1": "(B)"},
)


def columns(rows: Iterator[Row], connectives: dict[str, str], language: str) -> Iterator[Row]:
    """Rows in COPA's form, with the parts that a sentence is made of.

    Args:
        rows: the rows as they are published.
        connectives: the word for `cause` and the word for `effect`.
        language: of the text, for lower-casing.

    Raises:
        DataError: a row lacks a column, or has an unknown label or question.
    """
    for location, row in rows:
        question = label(row, "question", location, list(connectives))
        premise, *choices = (text(row, name, location) for name in ("premise", "choice1", "choice2"))
        endings = [_small_letter(choice, language) for choice in choices]
        yield (
            location,
            {
                "id": str(row.get("idx")),
                "premise": premise,
                "choice1": choices[0],
                "choice2": choices[1],
                "question": question,
                # Thai ends a sentence with no mark, so that the last character is not always one.
                "stem": premise.rstrip(".。 "),
                "connective": connectives[question],
                "ending1": endings[0],
                "ending2": endings[1],
                "label": label(row, "label", location, ("0", "1")),
            },
        )


def _small_letter(sentence: str, language: str) -> str:
    """A sentence in lower case, as it continues after a connective."""
    if language == "en" and sentence.split(maxsplit=1)[0] in ("I", "I'm", "I'd", "I've"):
        return sentence
    first = {"I": "ı", "İ": "i"}.get(sentence[0]) if language == "tr" else None
    return (first or sentence[0].lower()) + sentence[1:]


def _files(folder: Path, split: str, code: str) -> Iterator[Row]:
    name = "val" if split == "dev" else split
    return files.table(folder, f"{name}.jsonl", f"COPA/{name}.jsonl", f"{name}-en.jsonl", f"copa_en/{name}-en.jsonl")


def _columns(rows: Iterator[Row], split: str, language: str) -> Iterator[Row]:
    return columns(rows, {"cause": "because", "effect": "therefore"}, language)


BENCHMARK = Benchmark(
    name="copa",
    title="COPA",
    citation="Roemmele et al. 2011; Wang et al. 2019, https://arxiv.org/abs/1905.00537",
    licence="other; see the terms of COPA",
    kind="choice",
    codes={"en": "en"},
    splits={"train": "train", "dev": "validation"},
    answer="label",
    learned="label",
    prompts={"en": Prompt("{stem} {connective}", ENDINGS)},
    dataset="aps/super_glue",
    revision="3de24cf8022e94f4ee4b9d55a6f539891524d646",
    config="copa",
    files=_files,
    columns=_columns,
    training="copa",
    paper=PAPER,
    caution="XCOPA's dev split is the dev split in other languages",
)
