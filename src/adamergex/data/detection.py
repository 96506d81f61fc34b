"""How a file is written, found by looking at it: its encoding, and a table's delimiter and header.

For files that spreadsheets export: semicolons where the comma is the decimal mark, byte order marks, code pages of Windows,
line breaks within quotes. What is found is a `Format`, and the options of a `Source` that reads the file in the same way.
"""

import codecs
import re
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from langcodes import Language
from pydantic import ValidationError

from adamergex.data.files import DAMAGED, opened, refuse_unknown, unpacked
from adamergex.data.formats import Format, ending, kind
from adamergex.data.settings import Source
from adamergex.data.tables import named_delimiter, parsed, table_lines
from adamergex.errors import DataError, RecipeError

# Bytes that are looked at for the encoding; rows, and lines, for the delimiter.
_BYTES, _ROWS, _LINES = 1 << 24, 5_000, 20_000
# The code page that Windows uses for a language where it is not cp1252, by ISO 639-1 code, or by script.
_CODE_PAGES = {
    "cp1250": "cs hr hu pl ro sk sl sq bs",
    "cp1251": "Cyrl",
    "cp1253": "Grek",
    "cp1254": "tr az",
    "cp1255": "Hebr",
    "cp1256": "Arab",
    "cp1257": "et lt lv",
    "cp1258": "vi",
    "cp874": "Thai",
    "cp932": "Jpan",
    "cp949": "Kore",
    "gb18030": "Hans",
    "cp950": "Hant",
}
_DELIMITERS = (",", ";", "\t", "|")
_SPREADSHEETS = {".xlsx", ".xls", ".xlsm", ".ods", ".numbers"}
# What a file begins with that is no table, whatever its ending.
_NO_TABLES = ('[{"', '{"', "<html", "<!doctype", "<?xml", "<table")
# A cell of this many characters is no name of a column.
_LONGEST_NAME = 60
_NUMBER = re.compile(r"\d+")
# Words of three characters or more without one of ASCII.
_FOREIGN = re.compile(r"\b[^\W\x00-\x7f_]{3,}\b")


def detect(path: Path, language: str, delimiter: str | None = None, encoding: str | None = None) -> Format:
    """How a file is written.

    Args:
        path: a file whose format is known by its ending.
        language: that its text is in; says which code page a file is in that is not UTF-8.
        delimiter: what is known already.
        encoding: what is known already.

    Raises:
        DataError: the file is missing, of no known format, or in no encoding that fits.
    """
    if path.is_dir():
        raise DataError(
            f"{path}: a folder; give one of its files here, and name the folder in the recipe that is written"
        )
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    if ending(path) in _SPREADSHEETS:
        raise DataError(f"{path}: a spreadsheet's own format; save the sheet as CSV (UTF-8) and give that file")
    refuse_unknown(path)
    if kind(path) == ".parquet":
        return Format()
    found = encoding or encoding_of(path, language)
    if kind(path) not in (".csv", ".tsv"):
        return Format(encoding=found)
    text = list(islice(table_lines(path, found), _LINES))
    if (begun := "".join(text[:20]).lstrip().lower()).startswith(_NO_TABLES):
        what = "HTML or XML" if begun.startswith("<") else "JSON"
        raise DataError(f"{path}: begins as {what} does, and is no table; give it its own ending, or save it as CSV")
    default = "\t" if kind(path) == ".tsv" else ","
    separator = delimiter or named_delimiter(path, found) or delimiter_of(text, default)
    header = has_header(_table(text, separator)[0])
    return Format(None if separator == default else separator, found, header)


def check_options(delimiter: str | None, encoding: str | None) -> None:
    """Check what a user says of a file. Raises RecipeError where it is no delimiter, or no encoding that Python knows."""
    try:
        Source(files=["x"], encoding=encoding, delimiter=delimiter)
    except ValidationError as error:
        option = error.errors()[0]["loc"][0]
        expected = "one character" if option == "delimiter" else "the name of one that Python knows, such as cp1252"
        given = delimiter if option == "delimiter" else encoding
        raise RecipeError([f"--{option} {given}: expected {expected}"]) from None


def options(form: Format) -> dict[str, Any]:
    """What a `Source` says of a file that is written like this: nothing of what is usual."""
    found: dict[str, Any] = {"delimiter": form.delimiter} if form.delimiter else {}
    found |= {"encoding": form.encoding} if form.encoding != Format.encoding else {}
    return found | ({} if form.header else {"header": False})


def encoding_of(path: Path, language: str) -> str:
    """The encoding of a text file: UTF-8 where it is that, UTF-16 with a byte order mark, or the code page of its language.

    Raises:
        DataError: it is none of these.
    """
    with opened(path) as stored, unpacked(stored, path) as file:
        try:
            read = file.read(_BYTES)
        except DAMAGED as error:
            raise DataError(f"{path}: cannot be read: {error}") from error
    if not read.strip(codecs.BOM_UTF8 + b" \r\n\t"):
        raise DataError(f"{path}: holds nothing")
    if read.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if b"\0" in read:
        raise DataError(f"{path}: holds binary data, no text; save the sheet as CSV (UTF-8) and give that file")
    _refuse_mixed(path, read)
    page = _code_page(language)
    for encoding in ("utf-8", page):
        try:
            # The last character may be cut.
            codecs.getincrementaldecoder(encoding)().decode(read, final=len(read) < _BYTES)
        except UnicodeDecodeError:
            continue
        if encoding == "cp1252":
            _refuse_other_script(path, read.decode(encoding, "replace"))
        return encoding
    raise DataError(f"{path}: neither UTF-8 nor {page} text; save it as UTF-8, or name its encoding (--encoding)")


def _refuse_mixed(path: Path, read: bytes) -> None:
    """Check that text is in one encoding. Raises DataError where most lines that are not ASCII are UTF-8, and some are not."""
    good, bad = 0, list[int]()
    # The last line may be cut.
    for number, line in enumerate(read.splitlines()[: -1 if len(read) == _BYTES else None], 1):
        if not line.isascii():
            try:
                line.decode()
                good += 1
            except UnicodeDecodeError:
                bad.append(number)
    if bad and good > len(bad):
        raise DataError(
            f"{path}:{bad[0]}: not UTF-8 text, in {len(bad):,} of {good + len(bad):,} lines that are not plain ASCII; the others are: "
            "save it in one encoding"
        )


def _refuse_other_script(path: Path, text: str) -> None:
    """Check that a text is in Latin letters. Raises DataError where most of its words with others than ASCII have no other."""
    words = [word for word in re.findall(r"\w{3,}", text) if not word.isascii()]
    foreign = [word for word in words if _FOREIGN.fullmatch(word)]
    if 2 * len(foreign) > len(words):
        raise DataError(
            f"{path}: not UTF-8, and as cp1252 it has words such as {foreign[0][:20]!r}: it is of another code page; save it as "
            "UTF-8, or name its encoding (--encoding), such as cp1251 for Cyrillic"
        )


def _code_page(language: str) -> str:
    tag = Language.get(language).maximize()
    return next((page for page, of in _CODE_PAGES.items() if {tag.language, tag.script} & set(of.split())), "cp1252")


def delimiter_of(text: Sequence[str], default: str = ",") -> str:
    """What separates the fields of a table: with which all rows have equally many, and most; the default among equals.

    Where rows of several fields have equally many but for some, that is what separates them, and the reader names the others.

    Args:
        text: the first lines, with their ends.
        default: what the file's ending says.
    """
    separators = list(dict.fromkeys((default, *_DELIMITERS)))
    tables = {one: _table(text, one) for one in separators}

    def rank(one: str) -> tuple[bool, int]:
        rows, whole = tables[one]
        if not rows:
            return False, 0
        width, count = Counter(map(len, rows)).most_common(1)[0]
        if whole and count == len(rows):
            return width > 1, width
        return False, width if width > 1 and 2 * count > len(rows) else 0

    # The first of equals.
    return max(separators, key=rank)


def _table(text: Sequence[str], separator: str) -> tuple[list[list[str]], bool]:
    """The first rows that have a value, and whether nothing spoke against this delimiter. The last row may be cut."""
    rows, is_whole = parsed(text, separator, _ROWS)
    return rows, is_whole or len(text) == _LINES


def has_header(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row of a table holds names of columns.

    It does not where one of its cells is a number, longer than a name, found again in its column, as a label is, or differs from
    all of its column in digits alone, as the number of a recording does.
    """
    if len(rows) < 2:
        return True
    for number, cell in enumerate(rows[0]):
        below = {fields[number].strip() for fields in rows[1:] if number < len(fields)}
        value = cell.strip()
        if value and (value in below or len(value) > _LONGEST_NAME or re.fullmatch(r"[-+]?\d+([.,]\d+)?", value)):
            return False
        if re.search(r"\d", value) and {_NUMBER.sub("0", one) for one in below if one} == {_NUMBER.sub("0", value)}:
            return False
    return True
