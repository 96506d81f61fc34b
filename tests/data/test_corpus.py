"""Plain text to windows of tokens: budgets, order, held-out text, special tokens, and what is cleaned away."""

import random
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adamergex.data import corpus
from adamergex.data.cleaning import Boilerplate, Duplicates, Languages
from adamergex.errors import DataError
from tests.conftest import byte_tokenizer, unigram_tokenizer

PLAIN = corpus.Request(
    language="es", tokens=96, characters=None, window=16, heldout=0, seed=0, duplicates=False, boilerplate=False
)
EOS = 2
WORDS = [chr(97 + a) + chr(97 + b) * 3 for a in range(5) for b in range(4)]


def prose(number: int, words: int = 60) -> str:
    """A document that is like no other of another number."""
    return " ".join(random.Random(number).choices(WORDS, k=words)) + f" {number}"


def build(folder: Path, texts: list[str], **changes: Any) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Windows, held-out windows and facts."""
    folder.mkdir(exist_ok=True)
    facts = corpus.build(texts, byte_tokenizer(), folder, replace(PLAIN, **changes), name="corpus of xx")
    assert sorted(path.name for path in folder.iterdir()) == ["heldout.npy", "windows.npy"]
    windows, heldout = (np.load(folder / name, mmap_mode="r") for name in ("windows.npy", "heldout.npy"))
    assert {windows.dtype, heldout.dtype} == {np.dtype("int32")}
    return windows, heldout, facts


def documents(windows: np.ndarray) -> list[str]:
    """The text of windows, cut at the token between documents; the last may be a part of one."""
    text = byte_tokenizer().decode(windows.reshape(-1).tolist())
    return text.split("<eos>")


def test_windows_are_the_shuffled_documents_one_after_the_other(tmp_path: Path) -> None:
    # One token a byte: 8 documents of 7 and an end each make exactly four windows of 16.
    texts = [f"texto {i}" for i in range(8)]
    windows, heldout, facts = build(tmp_path, texts, tokens=64)
    assert windows.shape == (4, 16)
    assert heldout.shape == (0, 16)
    assert sorted(documents(windows)[:-1]) == texts
    assert documents(windows)[:-1] != texts
    assert documents(windows)[-1] == ""
    assert (facts["tokens"], facts["documents"], facts["characters"], facts["windows"]) == (64, 8, 56, 4)


@pytest.mark.parametrize(
    "text",
    [
        "ภาษาไทยไม่มีช่องว่างระหว่างคำ",
        "汉语的词之间没有空格",
        "ភាសាខ្មែរមិនមានចន្លោះរវាងពាក្យទេ",
        "日本語には単語の間に空白がない",
        "words are kept apart here ",
    ],
)
def test_the_budget_in_tokens_is_met_with_or_without_spaces(tmp_path: Path, text: str) -> None:
    windows, _, facts = build(tmp_path, [text * 3, text * 4], tokens=103)
    assert windows.shape == (6, 16)
    assert facts["tokens"] == 96
    whole = {text * 3, text * 4}
    found = documents(windows)
    # A cut in the middle of a character shows as a replacement character.
    assert all(any(of.startswith(part.rstrip("\ufffd")) for of in whole) for part in found)


def test_a_budget_in_characters_is_used_up_to_the_last_one(tmp_path: Path) -> None:
    texts = [f"{i}文字" * 5 for i in range(10)]
    windows, _, facts = build(tmp_path, texts, tokens=None, characters=40)
    # 40 characters: two documents of 15 and 10 of a third; 7 bytes for three characters, and three ends.
    assert (facts["characters"], facts["documents"]) == (40, 3)
    assert facts["tokens"] == (35 + 35 + 22 + 3) // 16 * 16 == windows.size
    other = build(tmp_path, [f"{i}ab" * 5 for i in range(10)], tokens=None, characters=40)[2]
    assert (other["characters"], other["tokens"]) == (40, 32)
    with pytest.raises(DataError, match=r"reference\.characters is 9, which makes less than one window of 16 tokens"):
        build(tmp_path, ["abcdefghijklm"], tokens=None, characters=9)
    with pytest.raises(DataError, match=r"has 13 characters, the budget is 90 .* set reference\.characters to 13"):
        build(tmp_path, ["abcdefghijklm"], tokens=None, characters=90)


@pytest.mark.parametrize("budget", [{"tokens": 320}, {"tokens": None, "characters": 320}])
def test_held_out_documents_are_not_trained_on(tmp_path: Path, budget: dict[str, int | None]) -> None:
    texts = [f"{i:02} documento" for i in range(60)]
    windows, heldout, facts = build(tmp_path, texts, heldout=0.2, **budget)
    # On top of the budget: 320 tokens, and 64 held out; or 24 and 5 documents of 12 characters and an end.
    expected = (20, 4) if budget["tokens"] else ((320 + 27) // 16, (64 + 6) // 16)
    assert (len(windows), len(heldout)) == expected
    trained, kept = ({part[:2] for part in documents(part) if len(part) > 1} for part in (windows, heldout))
    # The last of each may be cut to nothing.
    assert len(trained) >= facts["documents"] - 1 > 5
    assert len(kept) >= facts["heldout"]["documents"] - 1 > 1
    assert not trained & kept
    assert (facts["heldout"]["windows"], facts["heldout"]["tokens"]) == (expected[1], 16 * expected[1])


def test_at_least_one_window_is_held_out(tmp_path: Path) -> None:
    texts = [f"documento {i:02}" for i in range(60)]
    assert len(build(tmp_path, texts, heldout=0.01)[1]) == 1
    # Of 300 characters, three are no window: documents are taken until there is one.
    assert len(build(tmp_path, texts, heldout=0.01, tokens=None, characters=300)[1]) == 1


def test_copies_of_a_held_out_document_are_not_trained_on_where_duplicates_are_kept(tmp_path: Path) -> None:
    texts = [prose(i, 8) for i in range(40)] * 2
    windows, heldout, facts = build(tmp_path, texts, tokens=1600, heldout=0.2)
    trained = documents(windows)
    assert len(set(trained[:-1])) < len(trained[:-1]), "copies are trained on"
    assert not set(documents(heldout)[:-1]) & set(trained)
    assert facts["near_duplicates_dropped"] > 0


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    texts = [prose(i) for i in range(300)]
    facts = [
        build(tmp_path / str(n), texts, tokens=8000, heldout=0.1, seed=seed)[2] for n, seed in enumerate((3, 3, 4))
    ]
    assert facts[0] == facts[1]
    assert not set(facts[0]["sha256"].values()) & set(facts[2]["sha256"].values())


def test_what_looks_like_a_special_token_is_text(tmp_path: Path) -> None:
    text = "antes <eos> y <bos> después <pad>"
    tokens = len(text.encode()) + 1
    windows, _, _ = build(tmp_path, [text], tokens=tokens, window=tokens)
    assert np.flatnonzero(windows[0] <= EOS).tolist() == [tokens - 1]
    assert byte_tokenizer().decode(windows[0].tolist()) == text + "<eos>"


def test_the_separator_stands_in_for_the_end_and_without_either_it_is_an_error(tmp_path: Path) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(DataError, match="neither an eos nor a sep token"):
        corpus.build(["x" * 200], tokenizer, tmp_path, PLAIN, name="corpus of xx")
    tokenizer.sep_token = "<bos>"
    corpus.build(["x" * 19] * 9, tokenizer, tmp_path, PLAIN, name="corpus of xx")
    assert np.flatnonzero(np.load(tmp_path / "windows.npy").reshape(-1) == 1).tolist() == [19, 39, 59, 79]


def test_no_more_is_read_than_the_budget_needs_and_all_of_it_if_it_does(tmp_path: Path) -> None:
    read = 0

    def texts() -> Any:
        nonlocal read
        for number in range(400):
            read += 1
            yield f"{number:04}" + "x" * 996

    corpus.build(texts(), byte_tokenizer(), tmp_path, PLAIN, name="corpus of xx")
    assert 100 < read < 110 + 256
    read = 0
    # The first pool of 100,960 characters is one document a hundred times, which does not do.
    request = replace(PLAIN, duplicates=True, tokens=9600)
    same = ["a" * 1000] * 220 + [prose(i) for i in range(60)]
    facts = corpus.build(same, byte_tokenizer(), tmp_path, request, name="corpus of xx")
    assert facts["near_duplicates_dropped"] == 219
    assert facts["tokens"] == 9600


def test_a_corpus_that_is_empty_or_too_small_is_refused_with_what_would_fit(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="corpus of xx: the corpus is empty"):
        build(tmp_path, ["", "  "])
    with pytest.raises(DataError, match="corpus of xx: the corpus has 6 tokens, the budget is 96 .*; add text$"):
        build(tmp_path, ["short"])
    with pytest.raises(DataError, match="the budget is 103 .*; add text$"):
        build(tmp_path, ["short"], tokens=103)
    with pytest.raises(DataError, match=r"reference\.tokens is 8, less than one window of 16"):
        build(tmp_path, ["short"], tokens=8)


@pytest.mark.parametrize("heldout", [0, 0.1, 0.5])
@pytest.mark.parametrize("tokens", [1600, 16000])
def test_the_budget_that_is_said_to_fit_does(tmp_path: Path, heldout: float, tokens: int) -> None:
    texts = [f"documento {i:03}" * (1 + i % 3) for i in range(40)]
    with pytest.raises(DataError, match=r"set reference\.tokens to \d+$") as caught:
        build(tmp_path, texts, tokens=tokens, heldout=heldout)
    fitting = int(str(caught.value).rpartition(" ")[2])
    assert fitting % 16 == 0
    assert build(tmp_path, texts, tokens=fitting, heldout=heldout)[2]["tokens"] == fitting


def test_a_document_without_end_is_taken_for_several(tmp_path: Path) -> None:
    _, heldout, facts = build(tmp_path, [" ".join(f"palabra{i}" for i in range(90_000))], tokens=150_000, heldout=0.1)
    # Pieces of a tenth of the budget, some 60,000 characters each.
    assert (facts["documents_read"], facts["documents"]) == (1, 4)
    assert len(heldout) == 937


def test_near_duplicates_are_dropped_and_others_kept(tmp_path: Path) -> None:
    texts = [prose(i) for i in range(100)]
    changed = [text.replace(text.split()[30], "cambiado", 1) for text in texts]
    spaced = [text.upper().replace(" ", "\n") for text in texts]
    assert not set(texts) & set(changed)
    found = Duplicates().fresh([*texts, *changed, *spaced])
    assert found[:100] == [True] * 100
    assert sum(found[100:200]) <= 2
    assert found[200:] == [False] * 100
    _, _, facts = build(tmp_path, [*texts, *changed], tokens=16_000, duplicates=True)
    assert facts["near_duplicates_dropped"] >= 98


@pytest.mark.parametrize(
    ("characters", "words"),
    [
        ("天地玄黃宇宙洪荒日月盈昃辰宿列張寒來暑往秋收冬藏閏餘成歲律呂調陽雲騰致雨露結為霜", 2),
        ("กขคงจฉชซญดตถทนบปผฝพฟภมยรลวศสหอฮะาิีุูเแโไ", 6),
        ("កខគឃងចឆជឈញដឋឌឍណតថទធនបផពភមយរលវសហឡអាិីុូេ", 6),
    ],
)
def test_near_duplicates_are_found_in_scripts_without_spaces(characters: str, words: int) -> None:
    made = random.Random(0)
    texts = ["".join(made.choices(characters, k=300)) for _ in range(60)]
    changed = [text[:100] + characters[:words] + text[100 + words :] for text in texts]
    found = Duplicates().fresh(texts + changed)
    assert found[:60] == [True] * 60
    assert sum(found[60:]) <= 2


def test_filters_grow_and_still_know_what_came_first() -> None:
    index = Duplicates()
    first = [prose(i, 12) for i in range(300)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("adamergex.data.cleaning._FIRST_FILTER", 50)
        assert all(index.fresh(first))
    assert len(index._filters) == 3
    assert not any(index.fresh(first))


def test_lines_that_stand_in_many_documents_are_dropped(tmp_path: Path) -> None:
    texts = [f"{prose(i)}\nMarejeo\n  MAREJEO \nViungo {i}" for i in range(30)] + [f"{prose(99)}\nMara tisa"] * 9
    counted = Boilerplate()
    counted.count(texts)
    cleaned = counted.without(texts)
    assert cleaned[7] == (f"{prose(7)}\nViungo 7", 2)
    assert cleaned[-1] == (texts[-1], 0), "nine documents are not many"
    _, _, facts = build(tmp_path, texts[:30], tokens=6000, boilerplate=True)
    assert facts["boilerplate_lines_dropped"] == 2 * facts["documents"]


def test_a_document_that_is_copied_often_is_a_duplicate_and_no_boilerplate(tmp_path: Path) -> None:
    texts = [prose(1)] * 20 + [prose(2)]
    windows, _, facts = build(tmp_path, texts, tokens=480, duplicates=True, boilerplate=True)
    assert (facts["near_duplicates_dropped"], facts["boilerplate_lines_dropped"], facts["documents"]) == (19, 0, 2)
    assert prose(1) in documents(windows)


SENTENCES = {
    "sw": "Tanzania ni nchi iliyoko Afrika ya Mashariki ndani ya ukanda wa maziwa makuu. Mji mkuu ni Dodoma, na mji mkubwa ni Dar es Salaam.",
    "yo": "Orílẹ̀-èdè Nàìjíríà jẹ́ orílẹ̀-èdè ní apá ìwọ̀-oòrùn Áfríkà. Ó ní ìpínlẹ̀ mẹ́rìndínlógójì, olú-ìlú rẹ̀ sì ni Àbújá.",
    "th": "ประเทศไทยเป็นรัฐชาติอันตั้งอยู่ในภูมิภาคเอเชียตะวันออกเฉียงใต้ มีพรมแดนด้านตะวันออกติดประเทศลาวและกัมพูชา",
    "km": "ព្រះរាជាណាចក្រកម្ពុជា គឺជាប្រទេសមួយនៅអាស៊ីអាគ្នេយ៍ ដែលមានព្រំប្រទល់ជាប់នឹងប្រទេសថៃ ឡាវ និងវៀតណាម",
    "zh": "中华人民共和国位于亚洲东部,是工人阶级领导的社会主义国家,首都北京,最大的城市是上海,人口超过十四亿,有五十六个民族。",
    "ja": "日本国は、東アジアに位置し、日本列島及び南西諸島などからなる島国であり、首都は東京都である。人口は約一億二千万人である。",
    "en": "Tanzania is a country in East Africa within the region of the great lakes, and its capital is Dodoma, in the middle of the country.",
    "id": "Indonesia adalah negara kepulauan di Asia Tenggara yang dilintasi garis khatulistiwa, di antara benua Asia dan Oseania.",
}


@pytest.mark.parametrize("claimed", SENTENCES)
def test_documents_in_another_language_are_told_apart(claimed: str) -> None:
    languages = Languages(claimed)
    assert languages.known
    assert [code for code, text in SENTENCES.items() if not languages.foreign(text)] == [claimed]
    assert languages.found.total() == len(SENTENCES) - 1


def test_neighbours_short_texts_and_unknown_languages_pass() -> None:
    assert not Languages("ms").foreign(SENTENCES["id"])
    assert not Languages("yue-Hant").foreign(SENTENCES["zh"])
    assert not Languages("sw").foreign("A short text, in English.")
    unknown = Languages("iu")
    assert not unknown.known
    assert not unknown.foreign(SENTENCES["en"])


def test_documents_in_another_language_are_counted_or_dropped(tmp_path: Path) -> None:
    texts = [f"{SENTENCES['sw']} {i}" for i in range(10)] + [f"{SENTENCES['en']} {i}" for i in range(4)]
    settings: dict[str, Any] = {"language": "sw", "tokens": 1600}
    windows, _, facts = build(tmp_path, texts, **settings)
    everything = build(tmp_path, texts, **settings | {"tokens": 1824})[2]
    assert (everything["in_other_languages"], everything["in_other_languages_dropped"]) == (4, 0)
    assert everything["other_languages"] == {"en": 4}
    with pytest.raises(DataError, match="without 4 in other languages"):
        build(tmp_path, texts, other_languages="drop", **settings)
    settings["tokens"] = 1300
    windows, _, facts = build(tmp_path, texts, other_languages="drop", **settings)
    assert "Africa within" not in "".join(documents(windows))
    assert facts["in_other_languages_dropped"] == facts["in_other_languages"]
    assert build(tmp_path, texts, language="iu")[2]["in_other_languages"] is None


def test_the_facts_are_what_is_in_the_files(tmp_path: Path) -> None:
    import hashlib
    import json

    _, _, facts = build(tmp_path, [prose(i) for i in range(50)], tokens=1600, heldout=0.1)
    for name, digest in facts["sha256"].items():
        assert hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() == digest
    assert facts["settings"] == asdict(replace(PLAIN, tokens=1600, heldout=0.1))
    assert json.loads(json.dumps(facts)) == facts
    assert facts["documents_read"] == 50
    assert facts["pool_bytes"] == sum(len(prose(i).encode()) for i in range(50))


def test_progress_ends_at_the_whole_budget(tmp_path: Path) -> None:
    told: list[tuple[int, int, int]] = []
    texts = [prose(i) for i in range(600)]
    request = replace(PLAIN, tokens=96_000, heldout=0.1)
    corpus.build(texts, byte_tokenizer(), tmp_path, request, "corpus of xx", lambda *step: told.append(step))
    assert len(told) > 1
    assert told[-1][:2] == (105_600, 105_600)
    assert told[0][0] < told[-1][0]


def test_a_vocabulary_that_holds_special_tokens_as_pieces_finds_none_in_text(tmp_path: Path) -> None:
    made = unigram_tokenizer()
    corpus.build(["a <s>b</s> c"] * 30, made, tmp_path, replace(PLAIN, tokens=64), name="corpus of xx")
    windows = np.load(tmp_path / corpus.WINDOWS).reshape(-1).tolist()
    assert made.bos_token_id not in windows
    assert set(made.all_special_ids) & set(windows) == {made.eos_token_id}
    assert "".join(made.convert_ids_to_tokens(windows)).count("</s>") > windows.count(made.eos_token_id) > 0
