"""What no text is, and what is more than anybody reads: refused in a line, where it is read."""

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adamergex.data import bounds, readers, sources
from adamergex.data.settings import Source
from adamergex.errors import DataError


def refused(path: Path, content: bytes | None = None) -> str:
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        list(readers.rows(path))
    [line] = caught.value.problems
    return line


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".csv", ".txt", ".parquet"])
def test_a_row_has_a_longest_text_and_a_document_of_a_corpus_another(ending: str, tmp_path: Path) -> None:
    text = "word " * (bounds.LONGEST_ROW // 5 + 1)
    path = tmp_path / f"a{ending}"
    if ending == ".parquet":
        # Without a dictionary it expands as little as text does.
        pq.write_table(pa.table({"text": [text]}), path, use_dictionary=False, compression="none")
    else:
        written = {".csv": f"text,label\n{text},a\n", ".txt": text, ".json": json.dumps([{"text": text}])}
        path.write_text(written.get(ending, json.dumps({"text": text})))
    line = refused(path)
    assert " characters; expected at most 2,000,000 in a row: cut its text up, or leave it out" in line
    assert line.startswith(
        f"{path}{'[0]' if ending in ('.json', '.parquet') else ':2' if ending == '.csv' else ':1'}: 2,000,00"
    )
    [document] = sources.texts(Source(files=[path.name]), tmp_path, "en", "text")
    assert len(document) >= bounds.LONGEST_ROW


def test_a_row_is_not_nested_deeply(tmp_path: Path) -> None:
    for depth, said in ((60, None), (70, "more than 64 lists and objects"), (3000, "not JSON: nested too deeply")):
        content = b'{"text": ' + b"[" * depth + b"]" * depth + b"}\n"
        if said is None:
            (tmp_path / "a.jsonl").write_bytes(content)
            assert len(list(readers.rows(tmp_path / "a.jsonl"))) == 1
        else:
            assert refused(tmp_path / "a.jsonl", content).startswith(f"{tmp_path}/a.jsonl:1: {said}")


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv", "a.json"])
def test_zeros_are_no_text(name: str, tmp_path: Path) -> None:
    with (tmp_path / name).open("wb") as file:
        file.truncate(10**6)
    assert refused(tmp_path / name).startswith(f"{tmp_path}/{name}:1: NUL bytes, which no text has")


def _zst(content: bytes) -> bytes:
    packed: bytes = pa.compress(content, "zstd", asbytes=True)
    return packed


@pytest.mark.parametrize(
    ("ending", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress), (".zst", _zst)]
)
def test_a_file_that_expands_without_measure_is_refused(
    ending: str, pack: Callable[[bytes], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "_SURELY", 2**20)
    line = refused(tmp_path / f"a.txt{ending}", pack(b"\n" * 2**21))
    assert line.startswith(f"{tmp_path}/a.txt{ending}: cannot be read after line ")
    assert line.endswith("it expands to more than 200 times its size, as no text does; is it damaged?")
    (tmp_path / f"b.txt{ending}").write_bytes(pack(b"\n".join(b"%d" % n for n in range(2**18))))
    assert sum(1 for _ in readers.rows(tmp_path / f"b.txt{ending}")) == 1


def test_a_line_has_a_longest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adamergex.data.files.LONGEST_LINE", 1000)
    monkeypatch.setattr("adamergex.data.json_rows.LONGEST_LINE", 1000)
    assert refused(tmp_path / "a.txt", b"x" * 2000).endswith(":1: a line of more than 1,000 bytes; break it up")
    rows: list[dict[str, Any]] = [{"text": "x"}] * 100
    assert "JSON, which is read at once; write it as JSON lines (.jsonl)" in refused(
        tmp_path / "a.json", json.dumps(rows, indent=1).encode()
    )


def test_a_value_of_parquet_that_all_rows_share_is_not_read_for_each(tmp_path: Path) -> None:
    column = pa.array(["x" * 10**6] * 1000).dictionary_encode()
    pq.write_table(pa.table({"text": column}), tmp_path / "a.parquet", compression="zstd")
    assert refused(tmp_path / "a.parquet").endswith(
        "it expands to more than 200 times its size, as no text does; is it damaged?"
    )
