"""Files as people have them: quotes, line ends, layouts of JSON, compression, columns within columns, all languages in one file."""

import bz2
import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from adamergex.data import nested, sources, tables
from adamergex.data.formats import COMPRESSIONS, Format, ending, kind
from adamergex.data.settings import Source
from adamergex.errors import DataError
from adamergex.tasks.items import read_items
from adamergex.tasks.task import Task

PACK: dict[str, Any] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda text: pa.compress(text, codec="zstd", asbytes=True),
}
ROWS = [{"text": "uno", "label": "a"}, {"text": "dos", "label": "b"}]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)


def read(folder: Path, name: str, content: str | bytes, language: str = "es", **more: Any) -> list[dict[str, Any]]:
    """The rows of a file that holds this."""
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    source = Source.model_validate({"files": name, **more}).in_language(language)
    return [row for _, row in sources.rows(source, folder, language)]


def values(folder: Path, name: str, content: str | bytes, **more: Any) -> list[tuple[Any, ...]]:
    """The same, the values of each row alone."""
    return [tuple(row.values()) for row in read(folder, name, content, **more)]


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        # Stray quotes between tabs are characters: none of the four rows is swallowed.
        (
            "a.tsv",
            'text\tlabel\nok\tpos\n"wow\tpos\nmid\tneg\nend "\tneg\n',
            [("ok", "pos"), ('"wow', "pos"), ("mid", "neg"), ('end "', "neg")],
        ),
        ("a.tsv", 'text\tlabel\n"Wow" it is\tpos\nok\tneg\n', [('"Wow" it is', "pos"), ("ok", "neg")]),
        ("a.tsv", 'text\tlabel\n"Wow"\tpos\nok\tneg\n', [('"Wow"', "pos"), ("ok", "neg")]),
        # Plainly quoted: a column, doubled quotes, a tab or a line break within.
        ("a.tsv", '"text"\t"label"\n"Wow"\t"pos"\n"ok"\t"neg"\n', [("Wow", "pos"), ("ok", "neg")]),
        ("a.tsv", '"text"\tn\n"Wow"\t1\n"ok"\t2\n', [("Wow", "1"), ("ok", "2")]),
        ("a.tsv", 'text\tlabel\n"say ""a"""\tpos\nok\tneg\n', [('say "a"', "pos"), ("ok", "neg")]),
        ("a.tsv", 'text\tlabel\n"one\ttwo"\tpos\nok\tneg\n', [("one\ttwo", "pos"), ("ok", "neg")]),
        ("a.tsv", 'text\tlabel\n"one\n\ntwo"\tpos\nok\tneg\n', [("one\n\ntwo", "pos"), ("ok", "neg")]),
        # Between commas quotes count, unless only lines without them are a table.
        ("a.csv", 'text,label\n"Wow",pos\n"one,\ntwo",neg\n', [("Wow", "pos"), ("one,\ntwo", "neg")]),
        ("a.csv", 'text,label\n"Wow" it is,pos\nok,neg\n', [('"Wow" it is', "pos"), ("ok", "neg")]),
        ("a.csv", 'text,label\n"wow,pos\nok,neg\n', [('"wow', "pos"), ("ok", "neg")]),
        # Other delimiters, line ends of old Macs, a line feed in quotes there.
        ("a.csv", "text\rlabel\rx\r", [("label",), ("x",)]),
        ("a.csv", 'text,label\r"one\ntwo",a\rb,c', [("one\ntwo", "a"), ("b", "c")]),
        ("a.csv", 'text,label\r\n"one\rtwo",a\r\nb,c\r\n', [("one\rtwo", "a"), ("b", "c")]),
        ("a.txt", "one\rtwo\r\rthree", [("one\ntwo",), ("three",)]),
    ],
)
def test_tables_have_the_rows_that_a_reader_sees(
    tmp_path: Path, name: str, content: str, found: list[tuple[str, ...]]
) -> None:
    assert values(tmp_path, name, content) == found


def test_what_is_said_of_quotes_and_delimiters_goes_first(tmp_path: Path) -> None:
    text = 'text\tlabel\n"Wow"\tpos\nok\tneg\n'
    assert values(tmp_path, "a.tsv", text, quotes=True)[0] == ("Wow", "pos")
    assert values(tmp_path, "a.csv", 'text,label\n"Wow",pos\n', quotes=False) == [('"Wow"', "pos")]
    for mark in ("\\t", "\t", ";", "|", "~"):
        real = mark.replace("\\t", "\t")
        assert values(tmp_path, "a.csv", f"text{real}label\nx{real}y\n", delimiter=mark) == [("x", "y")]
    with pytest.raises(DataError, match=r'one column only, .text;label.; if semicolons are between .* delimiter: ";"'):
        read(tmp_path, "a.csv", "text;label\nx;y\n")
    assert values(tmp_path, "a.csv", "text;label\nx;y\n", delimiter=",") == [("x;y",)]
    with pytest.raises(DataError, match=r"a\.csv: after line 2: a quote is not closed; write quotes: false"):
        read(tmp_path, "a.csv", 'text,label\nx,y\n"z,y,\n')


def test_a_row_is_at_the_line_that_it_begins_on(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text,label\n\n"a\n\nb",x\nc,y\n')
    located = sources.rows(Source(files=["a.csv"]), tmp_path, "es")
    assert [place.rpartition(":")[2] for place, _ in located] == ["3", "6"]
    # Three rows with the header, on five lines that are not empty.
    assert tables.lines_in_quotes(tmp_path / "a.csv", Format()) == (3, 4)
    (tmp_path / "b.csv").write_text("text,label\na,x\n,\n,\nb,y\n")
    assert tables.lines_in_quotes(tmp_path / "b.csv", Format()) == (3, 3)


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.txt", "a.txt.gz", "a.parquet"])
def test_what_git_lfs_left_in_place_of_a_file_is_no_text(tmp_path: Path, name: str) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    with pytest.raises(DataError) as caught:
        read(tmp_path, name, pointer)
    assert caught.value.problems == [
        f"{tmp_path}/{name}: is a Git LFS pointer and not the file itself; run `git lfs pull` in its repository, or download it again"
    ]


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("a.csv", 'sep=;\r\ntext;label\r\n"one;\ntwo";a\r\n', [("one;\ntwo", "a")]),
        ("a.csv", "SEP=\t\ntext\tlabel\none, two\ta\n", [("one, two", "a")]),
        ("a.csv", '"sep=,"\ntext,label\none,a\n', [("one", "a")]),
        ("a.csv", "\ufeffsep=|\rtext|label\rone|a\r", [("one", "a")]),
        ("a.tsv", "sep=,\ntext,label\none,a\n", [("one", "a")]),
        # One column, whose name has another character that may stand between fields.
        ("a.csv", "sep=;\none|two\na\n", [("a",)]),
        # Of two columns, the text of one.
        ("a.csv", "text,label\nsep=;,a\n", [("sep=;", "a")]),
    ],
)
def test_a_first_line_of_spreadsheets_names_the_delimiter(
    tmp_path: Path, name: str, content: str, found: list[tuple[str, ...]]
) -> None:
    assert values(tmp_path, name, content) == found


def test_a_line_that_names_the_delimiter_is_no_row_and_counts_as_a_line(tmp_path: Path) -> None:
    text = "sep=;\ntext;label\nx;a\ny;b\n"
    (tmp_path / "a.csv").write_text(text)
    located = sources.rows(Source(files=["a.csv"]), tmp_path, "es")
    assert [place.rpartition(":")[2] for place, _ in located] == ["3", "4"]
    assert tables.lines_in_quotes(tmp_path / "a.csv", Format()) == (3, 3)
    # What a recipe says goes first.
    assert values(tmp_path, "b.csv", "sep=;\na|b\nx;|y\n", delimiter="|") == [("x;", "y")]
    with pytest.raises(DataError, match=r"c\.csv:3: expected 2 columns, got 1"):
        read(tmp_path, "c.csv", "sep=;\na;b\nx\n")


@pytest.mark.parametrize("packed", ["", *COMPRESSIONS])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", LINES),
        ("a.ndjson", LINES),
        ("a.json", LINES),
        ("a.jsonl", json.dumps(ROWS)),
        ("a.jsonl", json.dumps(ROWS, indent=2)),
        ("a.json", json.dumps({"version": 1, "data": ROWS, "more": [{"x": 1}]})),
        ("a.json", json.dumps({"version": 1, "rows": ROWS}, indent=2)),
        ("a.csv", "text,label\nuno,a\ndos,b\n"),
        ("a.tsv", "text\tlabel\nuno\ta\ndos\tb\n"),
    ],
)
def test_every_layout_and_compression_gives_the_same_rows(tmp_path: Path, name: str, content: str, packed: str) -> None:
    assert read(tmp_path, name + packed, PACK[packed](content.encode())) == ROWS


def test_endings_say_what_a_file_is() -> None:
    names = ("a.JSONL.GZ", "a.ndjson", "b.2.csv.zst", "a.txt.bz2", "a.parquet", "a.parquet.gz", "a.gz", "a")
    found = [(ending(Path(name)), kind(Path(name))) for name in names]
    assert found == [
        (".jsonl.gz", ".jsonl"),
        (".ndjson", ".jsonl"),
        (".csv.zst", ".csv"),
        (".txt.bz2", ".txt"),
        (".parquet", ".parquet"),
        (".gz", None),
        (".gz", None),
        ("", None),
    ]


@pytest.mark.parametrize("packed", COMPRESSIONS)
def test_a_damaged_archive_is_named(tmp_path: Path, packed: str) -> None:
    whole = PACK[packed]("".join(f'{{"text": "{number * 7919}"}}\n' for number in range(999)).encode())
    for content in (whole[: len(whole) // 2], b"no"):
        with pytest.raises(DataError, match=rf"a\.jsonl\{packed}: cannot be read after line \d+: "):
            read(tmp_path, f"a.jsonl{packed}", content)


def test_the_list_is_found_where_field_says(tmp_path: Path) -> None:
    text = json.dumps({"train": ROWS, "test": [{"text": "x"}], "deep": {"rows": ROWS[1:]}})
    assert read(tmp_path, "a.json", text, field="test") == [{"text": "x"}]
    assert read(tmp_path, "a.json", text, field="deep.rows") == ROWS[1:]
    with pytest.raises(DataError, match=r"a\.json: no list at field 'dev'; the object has train, test, deep"):
        read(tmp_path, "a.json", text, field="dev")


SQUAD = {
    "version": "1.1",
    "data": [
        {
            "title": "x",
            "paragraphs": [
                {
                    "context": "c1",
                    "qas": [{"id": "1", "question": "q1", "answers": [{"text": "a", "answer_start": 0}]}],
                },
                {"context": "c2", "qas": [{"id": "2", "question": "q2", "answers": [{"text": "b"}, {"text": "B"}]}]},
            ],
        }
    ],
}


def test_squads_layout_is_a_task_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(SQUAD))
    settings = {"prompt": "{context} {question}", "answer": "answers.text", "kind": "extraction", "train": "a.json"}
    task = Task.model_validate(settings)
    items = read_items(task, task.train, tmp_path, "en")
    assert [(item.prompt, item.answer, item.golds) for item in items] == [
        ("c1 q1", " a", ("a",)),
        ("c2 q2", " b", ("b", "B")),
    ]


def test_columns_are_named_by_path_and_with_spaces(tmp_path: Path) -> None:
    row = {
        "translation": {"en": "good", "es": "bueno"},
        "answers": {"text": ["A", "B"]},
        "Review text": "r",
        "a-b": [{"c": 1}],
        "x.y": "own",
        "x": {"y": "other"},
    }
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    prompt = "{translation.en}|{answers.text[0]}|{answers.text[1]}|{Review text}|{a-b[0].c}|{x.y}"
    task = Task.model_validate({"prompt": prompt, "answer": "translation.es", "train": "a.jsonl"})
    [item] = read_items(task, task.train, tmp_path, "en")
    assert (item.prompt, item.answer) == ("good|A|B|r|1|own", " bueno")
    assert task.outline == "[translation.en]|[answers.text[0]]|[answers.text[1]]|[Review text]|[a-b[0].c]|[x.y]"
    # In a corpus, and under another name.
    texts = sources.texts(task.train, tmp_path, "en", "translation.en")
    assert list(texts) == ["good"]
    renamed = Source.model_validate({"files": "a.jsonl", "columns": {"text": "translation.es"}})
    assert list(sources.texts(renamed, tmp_path, "en", "text")) == ["bueno"]
    missing = Task.model_validate({"prompt": "{translation.fr}", "answer": "a", "train": "a.jsonl"})
    with pytest.raises(DataError, match=r"no column 'translation\.fr'; the row has translation\.en, translation\.es, "):
        read_items(missing, missing.train, tmp_path, "en")
    assert nested.value({"answers": [{"text": "A"}, {"text": "B"}]}, "answers.text[1]") == "B"
    for path in ("answers.text[2]", "answers[0]", "translation.en.x", "none.at.all", "[0]", "translation."):
        assert nested.value(row, path) is None, path


def test_a_table_without_a_header_has_the_names_that_columns_lists(tmp_path: Path) -> None:
    names = ["premise", "hypothesis", "label"]
    content = "a,b,x\nc,d,y\n"
    assert read(tmp_path, "a.csv", content, columns=names)[1] == {"premise": "c", "hypothesis": "d", "label": "y"}
    with pytest.raises(DataError, match=r"a\.csv:1: expected 2 columns \(a, b\), got 3"):
        read(tmp_path, "a.csv", content, columns=["a", "b"])
    for more, says in (
        ({"header": True}, "the names of files without a header"),
        ({"columns": ["a", "a"]}, "lists a name twice"),
    ):
        with pytest.raises(ValueError, match=says):
            Source.model_validate({"files": "a.csv", "columns": names, **more})


def test_a_file_is_found_by_its_very_name_and_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a1.txt").write_text("other")
    assert read(tmp_path, "a[1].txt", "brackets") == [{"text": "brackets"}]
    source = Source(files=["a[12].txt"])
    assert [row for _, row in sources.rows(source, tmp_path, "es")] == [{"text": "other"}]
    monkeypatch.setenv("HOME", str(tmp_path))
    source = Source(files=["~/a1.txt"])
    assert [row for _, row in sources.rows(source, Path("elsewhere"), "es")] == [{"text": "other"}]
    assert sources.fingerprint(source, Path("elsewhere"), "es")["files"][0][0] == ".txt"


ALL = [
    {"lang": "en", "text": "one", "n": 1, "ok": True},
    {"lang": "ace", "text": "sa", "n": 1, "ok": False},
    {"lang": "en", "text": "two", "n": 2, "ok": True},
]


def test_one_file_holds_all_languages(tmp_path: Path) -> None:
    content = "".join(json.dumps(row) + "\n" for row in ALL)

    def texts(language: str, **where: Any) -> list[str]:
        return [row["text"] for row in read(tmp_path, "a.jsonl", content, language, where=where)]

    assert texts("en", lang="{language}") == ["one", "two"]
    assert texts("ace", lang="{language}") == ["sa"]
    assert texts("en", lang="en", n=2) == ["two"]
    assert texts("en", ok=False) == ["sa"]
    assert texts("en", n=[1, 2]) == ["one", "sa", "two"]
    assert texts("en", lang=["{language}", "ace"]) == ["one", "sa", "two"]
    with pytest.raises(DataError, match=r"none had 'lang' as where wants it: sw; there are en, ace"):
        texts("sw", lang="{language}")
    with pytest.raises(DataError, match=r"a\.jsonl:1: no column 'tongue', which where names; the row has lang, "):
        texts("sw", tongue="{language}")
    # A limit counts the rows that are wanted, and two languages are two sources.
    source = Source.model_validate({"files": "a.jsonl", "where": {"lang": "{language}"}, "limit": 1})
    assert len(list(sources.rows(source.in_language("en"), tmp_path, "en"))) == 1
    prints = [sources.fingerprint(source.in_language(code), tmp_path, code) for code in ("en", "ace")]
    assert prints[0] != prints[1]


def test_names_stand_for_languages_that_are_called_otherwise(tmp_path: Path) -> None:
    source = Source.model_validate({"files": "{language}/a.txt", "names": {"ace": "acehnese", "es": "spanish"}})
    assert source.in_language("ace").files == ["acehnese/a.txt"]
    # Under each of a language's codes; others are called by theirs.
    assert source.in_language("spa").files == ["spanish/a.txt"]
    assert source.in_language("sw").files == ["sw/a.txt"]
    where = Source.model_validate({"files": "a.csv", "where": {"l": "{language}"}, "names": {"es": "Spanish"}})
    assert where.in_language("es").where == {"l": "Spanish"}
    # What is filled in is the same source, however it was written.
    (tmp_path / "spanish").mkdir()
    (tmp_path / "spanish" / "a.txt").write_text("uno")
    plain = sources.fingerprint(Source(files=["spanish/a.txt"]), tmp_path, "es")
    assert sources.fingerprint(source.in_language("es"), tmp_path, "es") == plain
    for names, says in (({"q q": "x"}, "not a language code"), ({"es": "x", "spa": "y"}, "names lists es and spa")):
        with pytest.raises(ValueError, match=says):
            Source.model_validate({"files": "a", "names": names})
    with pytest.raises(ValueError, match="remove where and names"):
        Source.model_validate({"benchmark": "xcopa", "split": "test", "where": {"a": "b"}})


def test_utf16_is_named(tmp_path: Path) -> None:
    text = "text,label\nñandú,a\n".encode("utf-16")
    assert values(tmp_path, "a.csv", text, encoding="utf-16") == [("ñandú", "a")]
    with pytest.raises(DataError, match=r"a\.csv: begins as UTF-16 does, .* write encoding: utf-16"):
        read(tmp_path, "a.csv", text)


def refused(folder: Path, name: str, content: str) -> list[str]:
    with pytest.raises(DataError) as caught:
        read(folder, name, content)
    return [line.removeprefix(f"{folder}/") for line in caught.value.problems]


def test_malformed_rows_are_all_counted_and_five_are_shown(tmp_path: Path) -> None:
    lines = [json.dumps({"text": str(number)}) if number % 2 else "{" for number in range(20)]
    found = refused(tmp_path, "a.jsonl", '{"text": "x"}\n' + "\n".join(lines))
    assert [line.partition(": ")[0] for line in found[:5]] == [f"a.jsonl:{number}" for number in (2, 4, 6, 8, 10)]
    assert found[5:] == ["a.jsonl: 10 of 21 rows are wrong, 5 of which are shown"]
    table = "text,label\n" + "a,b\n" * 3 + "a\na,b\na,b,c\n"
    assert refused(tmp_path, "a.csv", table) == [
        "a.csv:5: expected 2 columns, got 1; quote a field that holds the separator",
        "a.csv:7: expected 2 columns, got 3; quote a field that holds the separator",
    ]
    assert refused(tmp_path, "a.json", '[{"text": "x"}, 1, {"text": "y"}, "z"]') == [
        "a.json[1]: expected an object with keys, got int",
        "a.json[3]: expected an object with keys, got str",
    ]


def test_malformed_rows_are_counted_with_those_of_wrong_columns(tmp_path: Path) -> None:
    rows = [json.dumps({"text": "", "label": "a"})] * 4 + ["{", json.dumps(ROWS[0]), "[]", "{"]
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    task = Task(prompt="{text}", answer="label", train=Source(files=["a.jsonl"]))
    with pytest.raises(DataError) as caught:
        read_items(task, task.train, tmp_path, "es")
    assert len(caught.value.problems) == 6
    assert caught.value.problems[-1] == "a.jsonl: 7 of 8 rows are wrong, 5 of which are shown"


def test_behind_a_malformed_row_no_row_is_given(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n{\n{"text": "y"}\n')
    found = sources.rows(Source(files=["a.jsonl"]), tmp_path, "es")
    assert next(found)[1] == {"text": "x"}
    with pytest.raises(DataError, match="a.jsonl:2: not JSON"):
        next(found)
