"""MultiNLI: whether a premise entails a hypothesis, in English; teaches what XNLI asks.

Citation: Williams et al. 2018, A Broad-Coverage Challenge Corpus for Sentence Understanding through Inference,
    https://arxiv.org/abs/1704.05426
Licence: OANC for most of it; CC BY 3.0 and CC BY-SA 3.0 for parts of its fiction
Data: nyu-mll/multi_nli at da70db2af9d09693783c3320c4249840212ee221 (pinned by several public repositories); or
    multinli_1.0_train.jsonl and multinli_1.0_dev_matched.jsonl of the authors' archive
An item: {"premise": "The new rights are nice enough", "hypothesis": "Everyone really likes the newest benefits",
    "label": 1}

The wording is lm-evaluation-harness's for XNLI. The paper's is that of its eval/base_xnli.py without the role that its
baseline plays.
"""

from collections.abc import Iterator
from pathlib import Path

from adamergex.data.formats import Row
from adamergex.tasks.benchmarks import files
from adamergex.tasks.benchmarks.benchmark import Benchmark, Prompt, label, text

LABELS = ("entailment", "neutral", "contradiction")
PAPER = Prompt(
    "Premise: {premise}\nHypothesis: {hypothesis}\nYou should judge whether the hypothesis is true (entailment), false "
    "(contradiction), or undetermined (neutral) given the premise. The relationship can be chosen from entailment, "
    "contradiction, and neutral.\nRelationship:",
    {name: name for name in LABELS},
)


def worded(right: str, *answers: str) -> Prompt:
    """A prompt in the harness's form: its question after the premise, its answers, in the order of `LABELS`, before the hypothesis."""
    choices = {name: f"{words}, {{hypothesis}}" for name, words in zip(LABELS, answers, strict=True)}
    return Prompt(f"{{premise}}, {right}?", choices)


def columns(rows: Iterator[Row], split: str, language: str) -> Iterator[Row]:
    """Pairs of sentences with the names of their labels. Raises DataError where a row lacks a part."""
    for count, (location, row) in enumerate(rows):
        yield (
            location,
            {
                "id": str(count),
                "premise": text(row, "premise", location),
                "hypothesis": text(row, "hypothesis", location),
                "label": label(row, "label", location, LABELS),
            },
        )


def _files(folder: Path, split: str, code: str) -> Iterator[Row]:
    name = f"multinli_1.0_{'dev_matched' if split == 'dev' else split}.jsonl"
    for location, row in files.table(folder, name, f"multinli_1.0/{name}"):
        # The authors mark a pair on which the annotators did not agree; the hub leaves it out.
        if row.get("gold_label") != "-":
            named = {"sentence1": "premise", "sentence2": "hypothesis", "gold_label": "label"}
            yield location, {named.get(column, column): value for column, value in row.items()}


BENCHMARK = Benchmark(
    name="mnli",
    title="MultiNLI",
    citation="Williams et al. 2018, https://arxiv.org/abs/1704.05426",
    licence="OANC, CC BY 3.0, CC BY-SA 3.0",
    kind="choice",
    codes={"en": "en"},
    splits={"train": "train", "dev": "validation_matched"},
    answer="label",
    learned="label",
    prompts={"en": worded("right", "Yes", "Also", "No")},
    dataset="nyu-mll/multi_nli",
    revision="da70db2af9d09693783c3320c4249840212ee221",
    config="default",
    files=_files,
    columns=columns,
    training="mnli",
    paper=PAPER,
)
