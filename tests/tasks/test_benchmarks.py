"""Benchmarks: every reader on small files in the authors' formats, wordings, languages, overlap."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adamergex.data.settings import Source
from adamergex.errors import DataError
from adamergex.tasks import benchmarks
from adamergex.tasks.benchmarks.benchmark import Prompt
from adamergex.tasks.task import Task
from tests.task_rows import CAUSED, COPA_ROW, HEADED, PAIR, SOLVED, SUM, SUMMED, read

SQUAD_FILE = {
    "data": [
        {
            "paragraphs": [
                {
                    "context": f"\ufeffBox {number} is red.",
                    "qas": [
                        {"id": f"q{number}{side}", "question": "Which colour?", "answers": [{"text": "red"}] * 2}
                        for side in "ab"
                    ],
                }
                for number in range(10)
            ]
        }
    ]
}
EXEMPLARS = """
EXEMPLAR_NUMBER_ANSWERS = [3, 7]
MGSM_EXEMPLARS = {"fr": {
    "1": {"q": "Question : Un et deux" " font ?", "a": "Réponse étape par étape : 1 + 2 = 3. La réponse est 3."},
    "2": {"q": "Question : 3 + 4 ?", "a": "Réponse étape par étape : 3 + 4 = 7. La réponse est 7."},
}}
"""
NEWS = 'category\theadline\ttext\turl\nsports\t"A ""big""\nwin"\t"One,\ttwo.\nThree."\t/a\n'


def jsonl(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def write(folder: Path, name: str, content: str) -> Path:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(content, "utf-8")
    return folder


ASKED = {"context": "Box 4 is red.", "question": "Which colour?", "answers": ["red", "red"], "answer": "red"}
MULTINLI = {"sentence1": 'She said "hi', "sentence2": "Yes.", "gold_label": "neutral"}
TOPIC = 'index_id\tcategory\ttext\n7\ttravel\t"He said ""go""."\n'

FILES = [
    ("gsm8k", "train", "en", "train.jsonl", jsonl(SUM), SOLVED),
    ("gsm8k", "test", "en", "grade_school_math/data/test.jsonl", jsonl(SUM), SOLVED),
    ("mgsm", "test", "es", "mgsm_es.tsv", '¿"Cuánto?\t2,125\n', {"id": "0", "question": '¿"Cuánto?', "answer": "2125"}),
    ("copa", "train", "en", "train.jsonl", jsonl(COPA_ROW | {"label": 0, "idx": 4}), CAUSED),
    ("copa", "dev", "en", "COPA/val.jsonl", jsonl(COPA_ROW | {"label": 0, "idx": 4}), CAUSED),
    ("mnli", "train", "en", "multinli_1.0_train.jsonl", jsonl(MULTINLI | {"gold_label": "-"}, MULTINLI), PAIR),
    ("xnli", "dev", "de", "dev-de.tsv", 'She said "hi\tYes.\tneutral\n', PAIR),
    (
        "xnli",
        "test",
        "de",
        "XNLI-1.0/xnli.test.tsv",
        'language\tgold_label\tsentence1\tsentence2\nar\tneutral\ta\tb\nde\tneutral\tShe said "hi\tYes.\n',
        PAIR,
    ),
    ("squad", "train", "en", "train-v1.1.json", json.dumps(SQUAD_FILE), None),
    ("xquad", "dev", "zh", "xquad.zh.json", json.dumps(SQUAD_FILE), ASKED | {"id": "q4a", "paragraph": "4"}),
    ("xlsum", "dev", "es", "spanish_val.jsonl", jsonl(SUMMED | {"url": "u"}), SUMMED),
    ("sib200", "dev", "es", "spa_Latn/dev.tsv", TOPIC, {"id": "7", "text": 'He said "go".', "category": "travel"}),
    ("masakhanews", "train", "sw", "swa/train50.tsv", NEWS, HEADED),
    ("masakhanews", "test", "sw", "data/swa/test.tsv", NEWS, HEADED),
]


@pytest.mark.parametrize(("name", "split", "language", "file", "content", "first"), FILES)
def test_the_authors_files_are_read(
    tmp_path: Path, name: str, split: str, language: str, file: str, content: str, first: dict[str, Any] | None
) -> None:
    inside = read(name, split, language, write(tmp_path, file, content))
    if first is not None:
        assert inside[0] == first
    beside = tmp_path / "all"
    assert read(name, split, language, write(beside, f"{name}/{file}", content) and beside) == inside


def test_exemplars_are_read_without_running_their_file(tmp_path: Path) -> None:
    write(tmp_path, "exemplars.py", EXEMPLARS + "raise SystemExit\n")
    found = read("mgsm", "exemplars", "fr", tmp_path)
    assert found[0] == {
        "id": "0",
        "question": "Un et deux font ?",
        "solution": "1 + 2 = 3. La réponse est 3.",
        "answer": "3",
    }
    assert len(found) == 2
    with pytest.raises(DataError, match=r"exemplars\.py: cannot be read as exemplars of 'de': KeyError: 'de'"):
        read("mgsm", "exemplars", "de", tmp_path)


def test_a_sentence_goes_on_in_its_own_language(tmp_path: Path) -> None:
    row = {"premise": "下雨了。", "choice1": "Işık", "choice2": "İyi", "question": "cause", "label": 1, "idx": 0}
    for code in ("zh", "tr"):
        write(tmp_path, f"data/{code}/val.{code}.jsonl", jsonl(row))
    chinese, turkish = (read("xcopa", "dev", code, tmp_path)[0] for code in ("zh", "tr"))
    prompt = benchmarks.find("xcopa").prompt("zh")
    assert prompt.prompt.format_map(chinese) + prompt.separator == "下雨了因为"
    assert (turkish["connective"], turkish["ending1"], turkish["ending2"]) == ("çünkü", "ışık", "iyi")


def test_xquad_is_split_by_paragraph(tmp_path: Path) -> None:
    write(tmp_path, "xquad.de.json", json.dumps(SQUAD_FILE))
    dev, test = (read("xquad", split, "de", tmp_path) for split in ("dev", "test"))
    assert [row["id"] for row in dev] == ["q4a", "q4b", "q9a", "q9b"]
    assert len(test) == 16
    assert not {row["paragraph"] for row in dev} & {row["paragraph"] for row in test}


@pytest.mark.parametrize(
    ("name", "split", "file", "content", "says"),
    [
        (
            "mgsm",
            "test",
            "mgsm_en.tsv",
            "a\t1\nb\n",
            r"mgsm_en\.tsv:2: expected 2 columns \(question, answer_number\), got 1$",
        ),
        (
            "mgsm",
            "test",
            "mgsm_en.tsv",
            "a\t1\nb\tnan\n",
            r"mgsm_en\.tsv:2: 'nan' is no number; expected an answer such",
        ),
        ("mgsm", "test", "mgsm_en.tsv", "\n", r"mgsm: the split 'test' in 'en' holds no rows; replace its file"),
        ("mgsm", "test", "other.tsv", "", r"holds no mgsm_en\.tsv; put the authors' file there"),
        (
            "gsm8k",
            "train",
            "train.jsonl",
            jsonl(SUM, SUM | {"answer": "3"}),
            r"train\.jsonl:2: no '#### ' in the column",
        ),
        (
            "gsm8k",
            "train",
            "train.jsonl",
            '{"question": 1}\n',
            r"train\.jsonl:1: no text in column 'answer'; the row has",
        ),
        (
            "copa",
            "dev",
            "val.jsonl",
            jsonl(COPA_ROW | {"label": 2}),
            r"val\.jsonl:1: unknown label 2 in .* expected 0, 1",
        ),
        (
            "copa",
            "dev",
            "val.jsonl",
            jsonl(COPA_ROW | {"question": "who"}),
            r"val\.jsonl:1: unknown label 'who' in column",
        ),
        (
            "xnli",
            "dev",
            "dev-en.tsv",
            "a\tb\tmaybe\n",
            r"dev-en\.tsv:1: unknown label 'maybe' .* expected entailment, neu",
        ),
        (
            "xnli",
            "dev",
            "xnli.dev.tsv",
            "language\tgold_label\nen\n",
            r"xnli\.dev\.tsv:2: expected 2 columns, got 1$",
        ),
        ("xquad", "dev", "xquad.en.json", '{"data":\n[}', r"xquad\.en\.json:2: not JSON: "),
        ("xquad", "dev", "xquad.en.json", "[]", r"xquad: the split 'dev' in 'en' holds no rows"),
        (
            "squad",
            "train",
            "train-v1.1.json",
            '{"data": [{"paragraphs": [{}]}]}',
            r"train-v1\.1\.json: after 0 questions: KeyError: 'qas",
        ),
        (
            "sib200",
            "dev",
            "eng_Latn/dev.tsv",
            "index_id\tcategory\ttext\n1\tfood\tx\n",
            r"dev\.tsv:2: unknown label 'food'",
        ),
        ("masakhanews", "dev", "eng/dev.tsv", "category\theadline\nsports\n", r"eng/dev\.tsv:2: expected 2 columns"),
        (
            "xlsum",
            "test",
            "english_test.jsonl",
            jsonl({"id": "1"}),
            r"english_test\.jsonl:1: no text in column 'text'",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_named(
    tmp_path: Path, name: str, split: str, file: str, content: str, says: str
) -> None:
    with pytest.raises(DataError, match=says):
        read(name, split, "en", write(tmp_path, file, content))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: benchmarks.find("xnil"), r"xnil: no such benchmark; expected one of copa, .*; did you mean xnli\?"),
        (lambda: read("xnli", "train", "en", None), r"xnli: has no split 'train'; it has dev, test"),
        (
            lambda: read("mgsm", "test", "pt", None),
            r"mgsm: has no data in 'pt'; it has bn, de, en, es, fr, ja, ru, sw, te",
        ),
        (lambda: read("mgsm", "test", "no such!", None), r"mgsm: has no data in 'no such!'; it has bn"),
        (lambda: read("mgsm", "test", "zh-Hant", None), r"mgsm: has no data in 'zh-Hant'"),
        (
            lambda: read("mgsm", "test", "en", Path("/absent")),
            r"/absent: no such folder; expected one that holds mgsm_en",
        ),
    ],
)
def test_what_does_not_exist_is_named_with_what_does(call: Callable[[], object], says: str) -> None:
    with pytest.raises(DataError, match=says):
        call()


@pytest.mark.parametrize("name", benchmarks.BENCHMARKS)
def test_wordings_are_tasks_that_a_recipe_can_have(name: str) -> None:
    benchmark = benchmarks.find(name)
    assert benchmark.name == name
    assert benchmarks.find(benchmark.training).prompts.keys() & {"en"}
    assert "train" in benchmarks.find(benchmark.training).splits
    wordings: list[Prompt] = [*benchmark.prompts.values(), *([benchmark.paper] if benchmark.paper else [])]
    assert set(benchmark.prompts) <= {"en", *benchmark.languages}
    for wording in wordings:
        Task(
            prompt=wording.prompt,
            answer=benchmark.answer,
            separator=wording.separator,
            choices=dict(wording.choices) or None,
            train=Source(files=["a"]),
        )
        assert bool(wording.choices) == (benchmark.kind == "choice")
        assert bool(wording.marker) == (benchmark.kind == "number")


def test_languages_are_known_by_their_common_codes() -> None:
    sib = benchmarks.find("sib200")
    assert len(sib.languages) == 205
    known = {"es": "spa_Latn", "ar": "arb_Arab", "sw": "swh_Latn", "zh": "zho_Hans", "et": "est_Latn", "ko": "kor_Hang"}
    assert {code: sib.codes[code] for code in known} == known
    given = ("spa", "es-AR", "swh_Latn", "zh-TW", "zh-CN", "fa-IR", "arb")
    assert [sib.language(code) for code in given] == ["es", "es", "sw", "zh-Hant", "zh", "fa", "ar"]
    assert benchmarks.find("xlsum").language("sr-Latn-RS") == "sr-Latn"
