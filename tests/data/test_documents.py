"""What a document is: plain text as it lies about, and documents that are a great part of the budget."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from adamergex.data import corpus, sources
from adamergex.data.readers import BLOCK
from adamergex.data.settings import Source
from adamergex.pipeline.run import finish
from adamergex.recipes import loading
from tests.conftest import byte_tokenizer

LINES = [f"Sentence {n} has words of its own, {n * n} of them." for n in range(3 * BLOCK + 5)]


def documents(folder: Path, text: str, **options: str) -> list[str]:
    (folder / "a.txt").write_text(text)
    source = Source.model_validate({"files": "a.txt", **options})
    return list(sources.texts(source, folder, "en", "text"))


def test_a_sentence_a_line_is_a_document_for_each_block_of_lines(tmp_path: Path) -> None:
    found = documents(tmp_path, "\n".join(LINES) + "\n\n")
    assert [len(text.splitlines()) for text in found] == [BLOCK, BLOCK, BLOCK, 5]
    assert "\n".join(found).splitlines() == LINES
    assert documents(tmp_path, "\n\n" + "\n".join(LINES)) == found
    # One empty line says that there are paragraphs; so does a file that is no longer than a block.
    parts = documents(tmp_path, "\n".join([*LINES[:40], "", *LINES[40:]]))
    assert [len(text.splitlines()) for text in parts] == [40, 25]
    assert len(documents(tmp_path, "\n".join(LINES[:BLOCK]))) == 1


def test_the_user_says_what_a_document_is(tmp_path: Path) -> None:
    text = "\n".join([*LINES[:40], "", *LINES[40:]])
    assert documents(tmp_path, text, documents="lines") == LINES
    assert documents(tmp_path, text, documents="file") == ["\n".join(LINES)]
    assert [len(one.splitlines()) for one in documents(tmp_path, text, documents="paragraphs")] == [40, 25]
    # Rows of a task are paragraphs, or what is said.
    (tmp_path / "b.txt").write_text("one\ntwo\n")
    for options, count in (({}, 1), ({"documents": "lines"}, 2)):
        source = Source.model_validate({"files": "b.txt", **options})
        assert len(list(sources.rows(source, tmp_path, "en"))) == count


def test_documents_are_split_between_lines_or_words_and_nothing_is_lost() -> None:
    lines = "\n".join(LINES)
    pieces = list(corpus.split(lines, 300))
    assert all(len(piece) <= 300 for piece in pieces)
    assert "\n".join(pieces) == lines
    words = lines.replace("\n", " ")
    assert " ".join(corpus.split(words, 300)) == words
    solid = "x" * 1000
    assert [len(piece) for piece in corpus.split(solid, 300)] == [300, 300, 300, 100]
    assert list(corpus.split("short", 300)) == ["short"]


def drawn(end: str) -> str:
    """Two thousand sentences of random words."""
    draw, words = random.Random(0), [f"w{n}" for n in range(5_000)]
    return end.join(" ".join(draw.choices(words, k=8)) for _ in range(2_000))


@pytest.mark.parametrize("text", [drawn("\n"), drawn(" ")])
def test_one_file_without_an_empty_line_is_enough_for_a_budget(tmp_path: Path, text: str) -> None:
    request = corpus.Request("en", 8_000, None, 64, 0.05, 0, duplicates=False, boilerplate=False)
    found = corpus.build(documents(tmp_path, text), byte_tokenizer(), tmp_path, request, "mine")
    assert found["tokens"] >= 8_000 - 64
    assert found["heldout"]["tokens"] >= 0.05 * 8_000 - 64


def test_a_run_reads_a_sentence_a_line(own_data: Callable[..., Path]) -> None:
    path = own_data()
    for code in ("en", "es"):
        place = path.parent / f"data/text.{code}.txt"
        words = place.read_text().split()
        place.write_text("\n".join(" ".join(words[n : n + 8]) + f" {n}." for n in range(0, len(words), 8)))
    assert finish(loading.load(str(path)), path.parent, path.parent / "run").report.rows
