"""Sources and items."""

import gzip
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adamergex.data import sources
from adamergex.data.settings import Source
from adamergex.errors import DataError
from adamergex.pipeline.stages.items import ItemsParams
from adamergex.tasks.items import Item, read_items
from adamergex.tasks.task import Task

ROWS = [{"text": "uno, dos", "label": "a"}, {"text": "犬\t猫", "label": "b"}]


def read(source: Source, folder: Path) -> list[dict[str, object]]:
    return [row for _, row in sources.rows(source, folder, "es")]


def test_every_format_gives_the_same_rows(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS) + "\n\n")
    (tmp_path / "a.csv").write_text('text,label\n"uno, dos",a\n犬\t猫,b\n')
    (tmp_path / "a.tsv").write_text('text\tlabel\nuno, dos\ta\n"犬\t猫"\tb\n')
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    (tmp_path / "a.json").write_text(json.dumps(ROWS, indent=1))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress((tmp_path / "a.jsonl").read_bytes()))
    (tmp_path / "bom.csv").write_text('\ufefftext,label\n"uno, dos",a\n犬\t猫,b\n')
    (tmp_path / "b.TSV").write_text('text\tlabel\nuno, dos\ta\n"犬\t猫"\tb\n')
    for name in ("a.jsonl", "a.csv", "a.tsv", "b.TSV", "a.parquet", "bom.csv", "a.json", "a.jsonl.gz"):
        assert read(Source(files=[name]), tmp_path) == ROWS, name
    assert len(read(Source(files=["a.*v"], limit=3), tmp_path)) == 3


def test_text_files_in_another_encoding_are_read_by_its_name(tmp_path: Path) -> None:
    text = "uno: ñandú\n\ndos"
    for encoding in ("cp1252", "utf-16", "UTF_8"):
        (tmp_path / "a.txt").write_text(text, encoding)
        found = read(Source(files=["a.txt"], encoding=encoding), tmp_path)
        assert [row["text"] for row in found] == ["uno: ñandú", "dos"]
    (tmp_path / "a.jsonl").write_text(json.dumps(ROWS[1], ensure_ascii=False), "cp932")
    assert read(Source(files=["a.jsonl"], encoding="cp932"), tmp_path) == ROWS[1:]
    (tmp_path / "a.txt").write_bytes(b"a\n\x81")
    with pytest.raises(DataError, match=r"a\.txt: not cp1252 text after line 0; convert"):
        read(Source(files=["a.txt"], encoding="cp1252"), tmp_path)


def test_columns_have_other_names_in_a_recipe(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("Review text,label\nuno,a\n")
    source = Source(files=["a.csv"], columns={"text": "Review text"})
    assert read(source, tmp_path) == [{"Review text": "uno", "label": "a", "text": "uno"}]
    with pytest.raises(
        DataError, match=r"a\.csv:2: no column 'body', which columns names; the row has Review text, label"
    ):
        read(Source(files=["a.csv"], columns={"text": "body"}), tmp_path)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"files": "a.csv", "encoding": "utf-9"}, "unknown encoding"),
        ({"files": "a.csv", "encoding": "base64"}, "unknown encoding"),
        ({"files": "a.csv", "delimiter": ";;"}, "at most 1 character"),
        ({"dataset": "a/b", "split": "train", "delimiter": ";"}, "delimiter belongs to files"),
        ({"benchmark": "xcopa", "split": "test", "columns": {"a": "b"}}, "columns of a benchmark"),
    ],
)
def test_options_of_files_are_checked(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Source.model_validate(given)


def test_text_files_are_paragraphs(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo\n\n\n  three\n")
    found = list(sources.rows(Source(files=["*.txt"]), tmp_path, "en"))
    assert [(place.rpartition("/")[2], row["text"]) for place, row in found] == [
        ("a.txt:1", "one\ntwo"),
        ("a.txt:5", "three"),
    ]


def test_hugging_face_data_sets_are_read(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "train.parquet")
    source = Source(dataset=str(tmp_path), split="train")
    found = list(sources.rows(source, Path(), "es"))
    assert [row for _, row in found] == ROWS
    assert found[1][0] == f"{tmp_path}:train[1]"
    with pytest.raises(DataError, match="does not load: "):
        read(Source(dataset=str(tmp_path / "absent"), split="train"), Path())


def test_plain_text_of_a_data_set_is_read_in_a_drawn_order(tmp_path: Path) -> None:
    """Of every file some, not the first one's beginning alone; the same in every run. Labelled rows keep their order."""
    for shard in range(4):
        rows = [{"text": f"{shard} {i}"} for i in range(3000)]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"train-{shard}.parquet")
    source = Source(dataset=str(tmp_path), split="train")
    found = list(sources.texts(source, Path(), "en", "text"))
    assert sorted(found) == sorted(f"{shard} {i}" for shard in range(4) for i in range(3000))
    assert found == list(sources.texts(source, Path(), "en", "text"))
    firsts = list(dict.fromkeys(text[0] for text in found))
    assert firsts != ["0", "1", "2", "3"]
    assert [int(text.split()[1]) for text in found[:50]] != list(range(50))
    assert [row["text"] for _, row in sources.rows(source, Path(), "en")][:2] == ["0 0", "0 1"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        # The line of the file, and not the first one of what a parser is given; empty lines count.
        ("a.jsonl", b'{"text": 1}\n{"text": \n', r"a\.jsonl:2: not JSON: Expecting value, column 9$"),
        ("a.json", b'[{"a": 1},\n\n\n{"a" 2}]', r"a\.json:4: not JSON: Expecting ':' delimiter, column 6$"),
        ("a.json", b'[{"a": 1},\n', r"a\.json:1: not JSON"),
        ("a.jsonl", b'{"a": 1}\n[1]\n', r"a\.jsonl:2: expected an object with keys, got list"),
        ("a.jsonl", b"[1]\n", r"a\.jsonl\[0\]: expected an object with keys, got int"),
        ("a.jsonl", b"[1]\n[2]\n", r"a\.jsonl:1: expected an object with keys, got list"),
        ("a.jsonl", b'{"a": 1}\n' * 30 + b'{"a": "\xff"}\n', r"a\.jsonl:31: not UTF-8"),
        ("a.jsonl", b'{"a": "\\ud83d"}\n', r"a\.jsonl:1: half of a surrogate pair"),
        ("a.json", b'{"text": 1}', r"a\.json: an object; expected that it holds a list of objects, got none"),
        (
            "a.json",
            b'{"x": [{"a": 1}], "y": [{}]}',
            r"a\.json: an object; .* got lists at x, y; say which one with field: NAME",
        ),
        ("a.json", b'{"a": 1}\n{"a": 2\n', r"a\.json:2: not JSON"),
        ("a.json", b'\n[{"a": 1},\n{"a" 2}]', r"a\.json:3: not JSON: Expecting ':' delimiter"),
        ("a.json", b"3", r"a\.json: expected a list of objects, got int"),
        ("a.json", b'[{"a": 1}, 2]', r"a\.json\[1\]: expected an object with keys, got int"),
        ("a.json", b'[{"a": "\\ud83d"}]', r"a\.json\[0\]: half of a surrogate pair"),
        ("a.json", b"[1", r"a\.json:1: not JSON"),
        ("a.txt.gz", b"no", r"a\.txt\.gz: cannot be read after line 0: Not a gzipped file"),
        (
            "a.txt.gz",
            gzip.compress(b"x" * 99, mtime=0)[:-9],
            r"a\.txt\.gz: cannot be read after line 0: Compressed file ended",
        ),
        ("a.csv", b"text,label\nx\n", r"a\.csv:2: expected 2 columns, got 1"),
        ("a.csv", b"text,text\nx,y\n", r"a\.csv:1: two columns are called 'text'"),
        ("a.parquet", b"no", r"a\.parquet: cannot be read as Parquet"),
        ("a.xlsx", b"no", r"a\.xlsx: unknown format \.xlsx"),
    ],
)
def test_a_malformed_file_is_named_with_its_line(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=says):
        read(Source(files=[name]), tmp_path)


def test_a_folder_is_every_file_below_it_that_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "some" / "deep").mkdir(parents=True)
    for name, text in (("b.txt", "second"), ("deep/c.TXT", "third"), ("a.json", '[{"text": "first"}]'), ("d.pdf", "x")):
        (tmp_path / "some" / name).write_text(text)
    assert [row["text"] for row in read(Source(files=["some"]), tmp_path)] == ["first", "second", "third"]
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match=r"none: holds no file of a known format; expected \.jsonl, "):
        read(Source(files=["none"]), tmp_path)


def test_a_column_of_text_is_read_and_missed_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"body": "uno"}\n{"text": 2}\n')
    texts = sources.texts(Source(files=["a.jsonl"]), tmp_path, "es", "body")
    assert next(texts) == "uno"
    with pytest.raises(DataError, match=r"a\.jsonl:2: no text in column 'body'; the row has text; set reference\.text"):
        next(texts)


def test_a_null_among_documents_is_an_empty_one_and_what_else_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "uno"}\n{"text": null}\n{"text": "dos"}\n{"text": ["tres"]}\n')
    texts = sources.texts(Source(files=["a.jsonl"]), tmp_path, "es", "text")
    assert [next(texts), next(texts), next(texts)] == ["uno", "", "dos"]
    with pytest.raises(DataError, match=r"a\.jsonl:4: column 'text' holds a list; expected text, or null"):
        next(texts)


def test_licences_are_what_a_source_declares(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    class Hub:
        def dataset_info(self, dataset: str, **options: Any) -> Any:
            if dataset == "down/down":
                raise OSError
            card = {"license": ["cc-by-sa-3.0", "gfdl"]} if dataset == "wikimedia/wikipedia" else {}
            return SimpleNamespace(card_data=SimpleNamespace(to_dict=lambda: card) if card else None)

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    found = [
        sources.licence(Source(dataset=name, split="train")) for name in ("wikimedia/wikipedia", "no/card", "down/down")
    ]
    assert found == ["cc-by-sa-3.0, gfdl", None, None]
    # A package that is certainly installed stands in for those that carry data.
    assert sources.licence(Source(package="pytest")) == "MIT"
    assert sources.licence(Source(package="not-installed-at-all")) is None
    assert sources.licence(Source(files=["a.txt"])) is None


def test_a_folder_with_brackets_in_its_name_is_read(tmp_path: Path) -> None:
    (tmp_path / "run[1]").mkdir()
    (tmp_path / "run[1]" / "a.txt").write_text("text")
    assert read(Source(files=["*.txt"]), tmp_path / "run[1]") == [{"text": "text"}]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.jsonl: no such file"):
        read(Source(files=["absent.jsonl"]), tmp_path)


def test_fingerprints_follow_contents_not_places(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.txt").write_text("same")
    prints = [sources.fingerprint(Source(files=["a.txt"]), tmp_path / folder, "en") for folder in ("one", "two")]
    assert prints[0] == prints[1]
    (tmp_path / "two" / "a.txt").write_text("other")
    assert sources.fingerprint(Source(files=["a.txt"]), tmp_path / "two", "en") != prints[0]


def task(**changes: object) -> Task:
    settings = {"prompt": "{text} =", "answer": "label", "choices": {"a": "one", "b": "two"}, "train": "a.jsonl"}
    return Task.model_validate(settings | changes)


def items(folder: Path, of: Task, rows: list[dict[str, object]]) -> list[Item]:
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_items(of, of.train, folder, "es")


def test_rows_become_prompts_and_answers(tmp_path: Path) -> None:
    found = items(tmp_path, task(), [{"text": "x", "label": "b"}])
    assert found == [Item("a.jsonl:1", "x =", " two", (" one", " two"), (0, 1), ("two",), "0")]
    free = items(tmp_path, task(choices=None, separator=""), [{"text": "x", "label": 7}])
    assert free == [Item("a.jsonl:1", "x =", "7", (), (0, 1), ("7",), "0")]
    integers = items(tmp_path, task(choices={0: "no", 1: "yes"}), [{"text": "x", "label": 1}])
    assert integers[0].answer == " yes"


def test_translations_are_known_by_their_id_or_else_by_their_place(tmp_path: Path) -> None:
    def doc_ids(*ids: object) -> list[str]:
        rows = [
            {"text": f"x{i}", "label": "ab"[i % 2]} | ({} if one is None else {"id": one}) for i, one in enumerate(ids)
        ]
        return [item.doc_id for item in items(tmp_path, task(), rows)]

    assert doc_ids("n7", "n3", "n5") == ["n7", "n3", "n5"]
    assert doc_ids(0, 2, 1) == ["0", "2", "1"]
    # A column that does not tell the items apart says nothing on translations.
    for ids in ((None, None, None), ("n7", None, "n5"), ("n7", "n7", "n5"), ("", "a", "b")):
        assert doc_ids(*ids) == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"text": "x", "label": ""}, r"a\.jsonl:1: column 'label' is empty"),
        ({"text": "x", "label": "c"}, r"a\.jsonl:1: unknown label 'c'; task\.choices has a, b"),
        ({"text": "x"}, r"a\.jsonl:1: no column 'label'; the row has text"),
        ({"label": "a"}, r"a\.jsonl:1: no column 'text'; the row has label"),
    ],
)
def test_a_row_that_does_not_fit_is_named(tmp_path: Path, row: dict[str, object], says: str) -> None:
    with pytest.raises(DataError, match=says):
        items(tmp_path, task(), [row])


def test_an_empty_file_holds_no_items(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.jsonl: holds no items"):
        items(tmp_path, task(), [])


def test_what_a_version_that_the_hub_does_not_say_holds_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    class Hub:
        def dataset_info(self, *asked: Any, **options: Any) -> Any:
            raise ConnectionError

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    sources._dataset_version.cache_clear()
    known = {}
    for revision in (None, "c" * 40):
        source = Source(dataset="user/offline", split="train", revision=revision)
        content = sources.fingerprint(source, Path(), "en")
        about = {"content": content, "language": "en", "scored": False, "folder": Path()}
        known[revision] = ItemsParams(task=task(), source=source, **about).is_known
    assert known == {None: False, "c" * 40: True}
    sources._dataset_version.cache_clear()


def test_a_branch_of_a_data_set_is_what_its_commit_is(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    commits = {None: "a" * 40, "main": "a" * 40, "v2": "b" * 40}

    class Hub:
        def dataset_info(self, dataset: str, revision: str | None, **options: Any) -> Any:
            return SimpleNamespace(sha=commits[revision])

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    sources._dataset_version.cache_clear()

    def content(revision: str | None) -> object:
        source = Source(dataset="user/branches", split="train", revision=revision)
        return sources.fingerprint(source, Path(), "en")["content"]

    assert [content(revision) for revision in (None, "main", "v2", "c" * 40)] == [
        "a" * 40,
        "a" * 40,
        "b" * 40,
        "c" * 40,
    ]
    sources._dataset_version.cache_clear()
