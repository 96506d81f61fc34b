"""XL-Sum: the one-sentence summary of a BBC article, in 44 languages.

Citation: Hasan et al. 2021, XL-Sum: Large-Scale Multilingual Abstractive Summarization for 44 Languages,
    https://aclanthology.org/2021.findings-acl.413
Licence: CC BY-NC-SA 4.0
Data: csebuetnlp/xlsum on its branch refs/convert/parquet, because the main branch is a script (no commit of that branch
    is published, so it is not pinned); or spanish_train.jsonl, spanish_val.jsonl and spanish_test.jsonl and their like
    of the authors' archives
An item, in the authors' columns: {"id": "technology-17657859", "url": "https://www.bbc.com/news/technology-17657859",
    "title": "Yahoo files e-book advert system patent applications", "summary": "Yahoo has signalled it is investigating
    e-book adverts as a way to stimulate its earnings.", "text": "Yahoo's patents suggest users could weigh the type of
    ads against the sizes of discount before purchase. ..."}

The wording is that of lm-evaluation-harness's AfroBench (its fourth), which names the language in English. The paper's
is that of its eval/base_xsum.py without the role that its baseline plays.
"""

from collections.abc import Iterator
from pathlib import Path

from adamergex.data.formats import Row
from adamergex.tasks.benchmarks import files
from adamergex.tasks.benchmarks.benchmark import Benchmark, Prompt, text

_CODES = {
    "am": "amharic",
    "ar": "arabic",
    "az": "azerbaijani",
    "bn": "bengali",
    "cy": "welsh",
    "en": "english",
    "es": "spanish",
    "fa": "persian",
    "fr": "french",
    "gd": "scottish_gaelic",
    "gu": "gujarati",
    "ha": "hausa",
    "hi": "hindi",
    "id": "indonesian",
    "ig": "igbo",
    "ja": "japanese",
    "ko": "korean",
    "ky": "kyrgyz",
    "mr": "marathi",
    "my": "burmese",
    "ne": "nepali",
    "om": "oromo",
    "pa": "punjabi",
    "pcm": "pidgin",
    "ps": "pashto",
    "pt": "portuguese",
    "rn": "kirundi",
    "ru": "russian",
    "si": "sinhala",
    "so": "somali",
    "sr": "serbian_cyrillic",
    "sr-Latn": "serbian_latin",
    "sw": "swahili",
    "ta": "tamil",
    "te": "telugu",
    "th": "thai",
    "ti": "tigrinya",
    "tr": "turkish",
    "uk": "ukrainian",
    "ur": "urdu",
    "uz": "uzbek",
    "vi": "vietnamese",
    "yo": "yoruba",
    "zh": "chinese_simplified",
    "zh-Hant": "chinese_traditional",
}
_NAMES = {
    "gd": "Scottish Gaelic",
    "pcm": "Nigerian Pidgin",
    "sr": "Serbian",
    "sr-Latn": "Serbian",
    "zh": "Chinese",
    "zh-Hant": "Chinese",
}


def _files(folder: Path, split: str, code: str) -> Iterator[Row]:
    name = f"{code}_{'val' if split == 'dev' else split}.jsonl"
    return files.table(folder, name, f"{code}/{name}")


def _columns(rows: Iterator[Row], split: str, language: str) -> Iterator[Row]:
    for location, row in rows:
        needed = {column: text(row, column, location) for column in ("id", "text", "summary")}
        yield location, needed | {"title": str(row.get("title") or "").strip()}


BENCHMARK = Benchmark(
    name="xlsum",
    title="XL-Sum",
    citation="Hasan et al. 2021, https://aclanthology.org/2021.findings-acl.413",
    licence="CC BY-NC-SA 4.0",
    kind="generation",
    codes=_CODES,
    splits={"train": "train", "dev": "validation", "test": "test"},
    answer="summary",
    learned="summary",
    prompts={
        code: Prompt(f"Summarize this {_NAMES.get(code, theirs.capitalize())} document:\n{{text}}\nSummary:", {})
        for code, theirs in _CODES.items()
    },
    dataset="csebuetnlp/xlsum",
    revision="refs/convert/parquet",
    config="{code}",
    files=_files,
    columns=_columns,
    training="xlsum",
    paper=Prompt("Title: {title}\nContext: {text}\nSummary:", {}),
)
