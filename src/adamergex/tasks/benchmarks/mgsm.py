"""MGSM: 250 grade school word problems in eleven languages.

Citation: Shi et al. 2022, Language Models are Multilingual Chain-of-Thought Reasoners, https://arxiv.org/abs/2210.03057
Licence: CC BY 4.0 (google-research/url-nlp; the hub's card says CC BY-SA 4.0)
Data: juletxara/mgsm at b2f13d426afe3be8d69a7e739b36724db8b66bbc (Parquet; the commit is pinned by public lighteval
    configurations); or mgsm_es.tsv and its like, and exemplars.py, of google-research/url-nlp
An item: "Una bata lleva 2 rollos de tela azul y la mitad de esa cantidad de tela blanca. ¿Cuántos rollos se necesitan
    en total?", 3

The problems are 250 of GSM8K's test split: all English ones stand there word for word, none in its train split.

The wordings are those of the authors' exemplars, which lm-evaluation-harness uses, too. The split `exemplars` is the
authors' eight solved problems of each language, with the reasoning in the column `solution`. There is no dev split.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from adamergex.data.formats import Row
from adamergex.errors import DataError
from adamergex.tasks.benchmarks import files, gsm8k
from adamergex.tasks.benchmarks.benchmark import Benchmark, Prompt, number, text

# Question, answer, and what the final number follows.
_WORDS = {
    "bn": ("প্রশ্ন: ", "ধাপে ধাপে উত্তর:", "উত্তর হল"),
    "de": ("Frage: ", "Schritt-für-Schritt-Antwort:", "Die Antwort lautet"),
    "es": ("Pregunta: ", "Respuesta paso a paso:", "La respuesta es"),
    "fr": ("Question : ", "Réponse étape par étape :", "La réponse est"),
    "ja": ("問題：", "ステップごとの答え：", "答えは"),
    "ru": ("Задача: ", "Пошаговое решение:", "Ответ —"),
    "sw": ("Swali: ", "Jibu la Hatua kwa Hatua:", "Jibu ni"),
    "te": ("ప్రశ్న: ", "దశలవారీగా సమాధానం:", "సమాధానం"),
    "th": ("โจทย์: ", "คำตอบทีละขั้นตอน:", "คำตอบคือ"),
    "zh": ("问题：", "逐步解答：", "答案是"),
}
# An exemplar begins with the words for question and answer.
_HEAD = re.compile(r"^[^:：]{1,40}[:：]\s*")


def _files(folder: Path, split: str, code: str) -> Iterator[Row]:
    if split == "exemplars":
        return _exemplars(files.found(folder, "exemplars.py"), code)
    return files.tsv(files.found(folder, f"mgsm_{code}.tsv"), ("question", "answer_number"))


def _exemplars(path: Path, code: str) -> Iterator[Row]:
    """What the constants of the authors' Python file say, without running it."""
    try:
        constants = {
            node.targets[0].id: ast.literal_eval(node.value)
            for node in ast.parse(path.read_text("utf-8")).body
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        }
        solved: dict[str, Any] = constants["MGSM_EXEMPLARS"][code]
        numbers = constants["EXEMPLAR_NUMBER_ANSWERS"]
        for index, answer in zip(solved, numbers, strict=True):
            row = {"question": solved[index]["q"], "answer": solved[index]["a"], "answer_number": answer}
            yield f"{path}:{code}[{index}]", row
    except (KeyError, OSError, SyntaxError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: cannot be read as exemplars of {code!r}: {type(error).__name__}: {error}; expected MGSM_EXEMPLARS "
            "and EXEMPLAR_NUMBER_ANSWERS as the authors publish them"
        ) from error


def _columns(rows: Iterator[Row], split: str, language: str) -> Iterator[Row]:
    for count, (location, row) in enumerate(rows):
        question = text(row, "question", location)
        columns = {"id": str(count), "question": question, "answer": number(row.get("answer_number"), location)}
        if split == "exemplars":
            columns["question"] = _HEAD.sub("", question)
            columns["solution"] = _HEAD.sub("", text(row, "answer", location))
        yield location, columns


def _prompt(question: str, answer: str, marker: str) -> Prompt:
    # A full-width colon brings its own space.
    return Prompt(f"{question}{{question}}\n{answer}", {}, "" if answer.endswith("：") else " ", marker)


BENCHMARK = Benchmark(
    name="mgsm",
    title="MGSM",
    citation="Shi et al. 2022, https://arxiv.org/abs/2210.03057",
    licence="CC BY 4.0",
    kind="number",
    codes={code: code for code in sorted(["en", *_WORDS])},
    splits={"exemplars": "train", "test": "test"},
    answer="answer",
    learned="solution",
    prompts={"en": gsm8k.ENGLISH} | {code: _prompt(*words) for code, words in _WORDS.items()},
    dataset="juletxara/mgsm",
    revision="b2f13d426afe3be8d69a7e739b36724db8b66bbc",
    config="{code}",
    files=_files,
    columns=_columns,
    training="gsm8k",
    paper=gsm8k.PAPER,
    caution="the problems are 250 of GSM8K's test split, which is never learned from",
)
