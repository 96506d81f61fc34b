"""XNLI: whether a premise entails a hypothesis, in fifteen languages.

Citation: Conneau et al. 2018, XNLI: Evaluating Cross-lingual Sentence Representations, https://arxiv.org/abs/1809.05053
Licence: CC BY-NC 4.0
Data: facebook/xnli at b8dd5d7af51114dbda02c0e3f6133f332186418e (pinned by many public repositories); or dev-es.tsv and
    its like as XTREME has them, or xnli.dev.tsv and xnli.test.tsv of the authors' archive
An item: "Y él dijo: Mamá, estoy en casa.", "Él no dijo una palabra.", contradiction

The wordings are lm-evaluation-harness's, as they stand there, machine-made ones included: a premise, `right?`, and one
of `Yes`, `Also` and `No` with the hypothesis, in each language.
"""

from collections.abc import Iterator
from pathlib import Path

from adamergex.data import readers
from adamergex.data.formats import Format, Row
from adamergex.tasks.benchmarks import files, mnli
from adamergex.tasks.benchmarks.benchmark import Benchmark

# The question, then the answers for entailment, neutral and contradiction.
_WORDS = {
    "ar": ("صحيح", "نعم", "لذا", "رقم"),
    "bg": ("правилно", "да", "така", "не"),
    "de": ("richtig", "Ja", "Auch", "Nein"),
    "el": ("σωστός", "Ναί", "Έτσι", "όχι"),
    "en": ("right", "Yes", "Also", "No"),
    "es": ("correcto", "Sí", "Asi que", "No"),
    "fr": ("correct", "Oui", "Aussi", "Non"),
    "hi": ("सही", "हाँ", "इसलिए", "नहीं"),
    "ru": ("правильно", "Да", "Так", "Нет"),
    "sw": ("sahihi", "Ndiyo", "Hivyo", "Hapana"),
    "th": ("ถูกต้อง", "ใช่", "ดังนั้น", "ไม่"),
    "tr": ("doğru", "Evet", "Böylece", "Hayır"),
    "ur": ("صحیح", "جی ہاں", "اس لئے", "نہیں"),
    "vi": ("đúng", "Vâng", "Vì vậy", "Không"),
    "zh": ("正确", "是的", "所以", "不是的"),
}


def _files(folder: Path, split: str, code: str) -> Iterator[Row]:
    path = files.found(folder, f"{split}-{code}.tsv", f"xnli.{split}.tsv", f"XNLI-1.0/xnli.{split}.tsv")
    if path.name.startswith("xnli."):
        return _all_languages(path, code)
    return files.tsv(path, ("premise", "hypothesis", "label"))


def _all_languages(path: Path, code: str) -> Iterator[Row]:
    """One language of the authors' file, whose fields are not quoted."""
    named = {"sentence1": "premise", "sentence2": "hypothesis", "gold_label": "label"}
    for location, row in readers.rows(path, Format(quotes=False)):
        if row.get("language") == code:
            yield location, {named.get(column, column): value for column, value in row.items()}


BENCHMARK = Benchmark(
    name="xnli",
    title="XNLI",
    citation="Conneau et al. 2018, https://arxiv.org/abs/1809.05053",
    licence="CC BY-NC 4.0",
    kind="choice",
    codes={code: code for code in _WORDS},
    splits={"dev": "validation", "test": "test"},
    answer="label",
    learned="label",
    prompts={code: mnli.worded(*words) for code, words in _WORDS.items()},
    dataset="facebook/xnli",
    revision="b8dd5d7af51114dbda02c0e3f6133f332186418e",
    config="{code}",
    files=_files,
    columns=mnli.columns,
    training="mnli",
    paper=mnli.PAPER,
)
