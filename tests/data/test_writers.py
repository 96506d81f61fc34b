"""What is written is what is read back."""

import datetime
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from adamergex.data import formats, readers, writers
from adamergex.data.formats import WRITTEN
from adamergex.errors import DataError

FIELDS = ['"quoted"', "a,b", "a\tb", "line\nbreak", "lone\rreturn", "both\r\n", " spaces ", "", "犬", "'", "a;b"]


def written(path: Path, rows: list[dict[str, Any]], **more: Any) -> Path:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    with writers.writing(path, formats.ending(path), columns, **more) as write:
        for row in rows:
            write([row])
    return path


@pytest.mark.parametrize("ending", WRITTEN)
def test_every_field_comes_back(tmp_path: Path, ending: str) -> None:
    rows = [{"number": str(number), "text": field} for number, field in enumerate(FIELDS)]
    schema = writers.widened(None, rows, ["number", "text"]) if ending == ".parquet" else None
    path = written(tmp_path / f"rows{ending}", rows, schema=schema)
    assert [row for _, row in readers.rows(path)] == rows


def test_columns_without_a_name_keep_their_values(tmp_path: Path) -> None:
    content = "v1,v2,,,\nham,Go on,,,\nspam,Win,now,and,here\n"
    (tmp_path / "a.csv").write_text(content)
    rows = [row for _, row in readers.rows(tmp_path / "a.csv")]
    assert [list(row.values()) for row in rows] == [["ham", "Go on", "", "", ""], ["spam", "Win", "now", "and", "here"]]
    assert written(tmp_path / "b.csv", rows).read_text() == content


def test_the_same_rows_are_the_same_bytes(tmp_path: Path) -> None:
    rows = [{"text": field} for field in FIELDS]
    for ending in WRITTEN[:-1]:
        one, other = (written(tmp_path / f"{name}{ending}", rows) for name in ("one", "other"))
        assert one.read_bytes() == other.read_bytes()


def test_values_that_are_no_text_stand_in_a_table_as_in_json(tmp_path: Path) -> None:
    day = datetime.date(2024, 1, 2)
    row = {"a": None, "b": True, "c": 1.5, "d": [1, "x"], "e": {"k": None}, "f": day, "g": Decimal("1.50")}
    path = written(tmp_path / "rows.csv", [row])
    assert path.read_text() == 'a,b,c,d,e,f,g\n,true,1.5,"[1, ""x""]","{""k"": null}",2024-01-02,1.50\n'
    with pytest.raises(DataError, match=r"holds bytes.*ends in \.parquet"):
        written(tmp_path / "rows.jsonl", [{"a": b"x"}])


def test_a_list_of_no_rows_is_a_list(tmp_path: Path) -> None:
    assert json.loads(written(tmp_path / "rows.json", []).read_text()) == []


def test_a_row_group_holds_many_chunks(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    chunk = [{"n": number} for number in range(1000)]
    with writers.writing(
        tmp_path / "rows.parquet", ".parquet", ["n"], schema=writers.widened(None, chunk, ["n"])
    ) as write:
        for _ in range(40):
            write(chunk)
    found = pq.ParquetFile(tmp_path / "rows.parquet").metadata
    assert [found.row_group(group).num_rows for group in range(found.num_row_groups)] == [17_000, 17_000, 6_000]
