"""XQuAD: the answer to a question as a span of a paragraph, 1,190 questions in twelve languages.

Citation: Artetxe et al. 2020, On the Cross-lingual Transferability of Monolingual Representations,
    https://arxiv.org/abs/1910.11856
Licence: CC BY-SA 4.0
Data: google/xquad at 51adfef1c1287aab1d2d91b5bead9bcfb9c68583 (the commit that MTEB pins); or xquad.es.json and its like
    of google-deepmind/xquad
An item: {"question": "¿Cuántos puntos dejaron escapar en defensa los Panthers?", "answers": ["308"]}, with the paragraph in
    "context"

There is one set and no dev split. Its 240 paragraphs are five of each of 48 articles: the fifth of each is dev (48
paragraphs), the others are test (192). The paragraphs stand in the same order in every language, so that a question and
its translations are on the same side.

The wordings are lm-evaluation-harness's; its Arabic word for context lacks its last letter, which is put back here.
"""

from collections.abc import Iterator
from pathlib import Path

from adamergex.data.formats import Row
from adamergex.tasks.benchmarks import files, squad
from adamergex.tasks.benchmarks.benchmark import Benchmark

_PARAGRAPHS_OF_AN_ARTICLE = 5
_WORDS = {
    "ar": ("سياق", "سؤال", "إجابة"),
    "de": ("Kontext", "Frage", "Antwort"),
    "el": ("Συμφραζόμενα", "Ερώτηση", "Απάντηση"),
    "en": ("Context", "Question", "Answer"),
    "es": ("Contexto", "Pregunta", "Respuesta"),
    "hi": ("प्रसंग", "सवाल", "उत्तर"),
    "ro": ("Context", "Întrebare", "Răspuns"),
    "ru": ("Контекст", "Вопрос", "Ответ"),
    "th": ("บริบท", "คำถาม", "คำตอบ"),
    "tr": ("Bağlam", "Soru", "Cevap"),
    "vi": ("Bối cảnh", "Câu hỏi", "Trả lời"),
    "zh": ("语境", "问题", "回答"),
}


def _files(folder: Path, split: str, code: str) -> Iterator[Row]:
    return files.table(folder, f"xquad.{code}.json")


def _columns(rows: Iterator[Row], split: str, language: str) -> Iterator[Row]:
    for location, row in squad.columns(rows):
        last = int(row["paragraph"]) % _PARAGRAPHS_OF_AN_ARTICLE == _PARAGRAPHS_OF_AN_ARTICLE - 1
        if last == (split == "dev"):
            yield location, row


BENCHMARK = Benchmark(
    name="xquad",
    title="XQuAD",
    citation="Artetxe et al. 2020, https://arxiv.org/abs/1910.11856",
    licence="CC BY-SA 4.0",
    kind="extraction",
    codes={code: code for code in _WORDS},
    splits={"dev": "validation", "test": "validation"},
    answer="answers",
    learned="answer",
    prompts={code: squad.worded(*words) for code, words in _WORDS.items()},
    dataset="google/xquad",
    revision="51adfef1c1287aab1d2d91b5bead9bcfb9c68583",
    config="xquad.{code}",
    files=_files,
    columns=_columns,
    training="squad",
    paper=squad.PAPER,
    caution="the paragraphs are 240 of SQuAD's dev split in translation, which is never learned from",
)
