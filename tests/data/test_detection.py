"""How files are written, as spreadsheets write them, and that sources read them in the way that was found."""

import gzip
from pathlib import Path

import pytest

from adamergex.data import sources
from adamergex.data.detection import delimiter_of, detect, encoding_of, has_header, options
from adamergex.data.formats import COMPRESSIONS, Format
from adamergex.data.settings import Source
from adamergex.errors import DataError
from tests.data.test_formats import PACK

ROWS = [{"text": "Très bon; vraiment,\nun délice", "label": "oui"}, {"text": "Froid", "label": "non"}]


def table(separator: str, end: str = "\r\n") -> str:
    rows = [["text", "label"], *([f'"{row["text"]}"', row["label"]] for row in ROWS)]
    return end.join(separator.join(row) for row in rows) + end


@pytest.mark.parametrize(
    ("name", "content", "form"),
    [
        ("a.csv", table(",").encode(), Format()),
        ("a.csv", table(";").encode("utf-8-sig"), Format(";")),
        ("a.csv", (table(";") + ";\r\n;\r\n").encode("utf-8-sig"), Format(";")),
        ("a.csv", table("\t", "\n").encode(), Format("\t")),
        ("a.tsv", table("\t").encode("utf-16"), Format(encoding="utf-16")),
        ("a.tsv", table("|").encode(), Format("|")),
        ("a.csv", table(";").encode("cp1252"), Format(";", "cp1252")),
        ("a.csv", table(",", "\r").encode("cp1252"), Format(encoding="cp1252")),
        # The first line of some spreadsheets names the delimiter.
        ("a.csv", ("sep=;\r\n" + table(";")).encode("cp1252"), Format(";", "cp1252")),
        ("a.csv", ("sep=\t\r\n" + table("\t")).encode("utf-16"), Format("\t", "utf-16")),
        ("a.csv", ("sep=^\n" + table("^")).encode("utf-8-sig"), Format("^")),
        ("a.tsv", ("sep=\t\n" + table("\t")).encode(), Format()),
    ],
)
def test_a_table_is_read_as_it_was_found(tmp_path: Path, name: str, content: bytes, form: Format) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    found = detect(path, "fr")
    assert found == form
    source = Source.model_validate({"files": name, **options(found)})
    assert [row for _, row in sources.rows(source, tmp_path, "fr")] == ROWS


def test_stray_quotes_between_tabs_hide_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text('ok\tpos\n"wow\tpos\nmid\tneg\nend "\tneg\n')
    found = detect(tmp_path / "a.tsv", "en")
    assert found == Format(header=False)
    source = Source.model_validate({"files": "a.tsv", **options(found)})
    rows = [tuple(row.values()) for _, row in sources.rows(source, tmp_path, "en")]
    assert rows == [("ok", "pos"), ('"wow', "pos"), ("mid", "neg"), ('end "', "neg")]


@pytest.mark.parametrize("ending", COMPRESSIONS)
def test_compressed_tables_are_looked_at_as_plain_ones_are(tmp_path: Path, ending: str) -> None:
    content = table(";").encode("cp1252")
    (tmp_path / f"a.csv{ending}").write_bytes(PACK[ending](content))
    assert detect(tmp_path / f"a.csv{ending}", "fr") == Format(";", "cp1252")
    (tmp_path / f"b.csv{ending}").write_bytes(PACK[ending](content)[:9])
    with pytest.raises(DataError, match=rf"b\.csv\{ending}: cannot be read: "):
        detect(tmp_path / f"b.csv{ending}", "fr")


def test_a_table_without_names_has_numbered_columns(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("nzuri,1\nmbaya,0\nsawa,1\n")
    found = detect(tmp_path / "a.csv", "sw")
    assert options(found) == {"header": False}
    source = Source(files=["a.csv"], header=False, columns={"text": "column_1"})
    located = list(sources.rows(source, tmp_path, "sw"))
    assert located[0] == (f"{tmp_path}/a.csv:1", {"column_1": "nzuri", "column_2": "1", "text": "nzuri"})
    assert len(located) == 3


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([["text", "label"], ["good", "pos"], ["bad", "neg"]], True),
        ([["good", "pos"], ["bad", "neg"], ["fine", "pos"]], False),
        ([["good", "5"], ["bad", "1"]], False),
        ([["text", ""], ["good", ""], ["bad", ""]], True),
        ([["x" * 61, "pos"], ["bad", "neg"]], False),
        ([["x" * 60, "pos"], ["bad", "neg"]], True),
        ([["text", "label"]], True),
        ([["yom_03034_01", "Sọ̀rọ̀"], ["yom_04310_02", "Àwa"], ["yom_04310_15", "Ẹ̀yin"]], False),
        ([["text1", "label"], ["good", "pos"], ["bad", "neg"]], True),
    ],
)
def test_names_of_columns_are_told_from_values(rows: list[list[str]], expected: bool) -> None:
    assert has_header(rows) is expected


def test_a_single_column_is_not_cut_at_its_commas() -> None:
    assert delimiter_of(["maoni\n", "nzuri, sana\n", "sawa\n"]) == ";"
    assert delimiter_of(["maoni\n", '"nzuri, sana"\n', "sawa\n"]) == ","


def test_one_malformed_row_hides_no_delimiter() -> None:
    assert delimiter_of(["a;b\n", "1;2\n", "1;2;3\n"]) == ";"
    assert delimiter_of(["a;b\n", '"1"2;2\n', "1;2\n"]) == ";"
    # Commas cut more rows alike, but not all.
    assert delimiter_of(["a;b\n", "1,5,2;2\n", "1,5,2;2\n"]) == ";"


@pytest.mark.parametrize(
    ("text", "language", "page"),
    [
        ("приятно", "ru", "cp1251"),
        ("ωραίο", "el", "cp1253"),
        ("çok güzel, teşekkürler", "tr", "cp1254"),
        ("příjemný", "cs", "cp1250"),
        ("とても良い", "ja", "cp932"),
        ("很好，谢谢", "zh", "gb18030"),
        ("很好，謝謝", "zh-TW", "cp950"),
        ("très bon", "fr", "cp1252"),
    ],
)
def test_what_is_not_utf8_is_in_the_code_page_of_its_language(
    tmp_path: Path, text: str, language: str, page: str
) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(text.encode(page))
    assert encoding_of(path, language) == page
    path.write_text(text, "utf-8")
    assert encoding_of(path, language) == "utf-8"
    packed = tmp_path / "a.txt.gz"
    packed.write_bytes(gzip.compress(text.encode(page)))
    assert encoding_of(packed, language) == page


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", None, r"a\.csv: no such file"),
        ("a.xlsx", b"PK", r"a\.xlsx: a spreadsheet's own format; save the sheet as CSV"),
        ("a.docx", b"PK", r"a\.docx: unknown format \.docx"),
        ("a.csv", b"PK\x03\x04\0\0", r"a\.csv: holds binary data"),
        ("a.csv", b"", r"a\.csv: holds nothing"),
        ("a.csv", b"\xef\xbb\xbf\r\n", r"a\.csv: holds nothing"),
        ("a.csv", b"text,label\n\x81\x8d,a\n", r"a\.csv: neither UTF-8 nor cp1252 text"),
        ("a.csv", "text,label\nочень хорошо,a\n".encode("cp1251"), r"words such as 'åíü': it is of another code page"),
        ("a.txt.gz", b"no", r"a\.txt\.gz: cannot be read"),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path: Path, name: str, content: bytes | None, says: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=says):
        detect(tmp_path / name, "en")
