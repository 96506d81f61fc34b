"""Which files are read, by their endings, and how one is written as far as its ending does not say it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

# A location, such as `train.jsonl:7`, and the row there.
Row = tuple[str, dict[str, Any]]
KINDS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".txt", ".parquet")
COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")
# For messages.
COMPRESSED = f"one of these but .parquet with {', '.join(COMPRESSIONS)}"
EXPECTED = f"{', '.join(KINDS)}, or {COMPRESSED}"
# Ending → what it says. Parquet is compressed within.
_ENDINGS = {f"{kind}{packed}": (kind, packed) for kind in KINDS[:-1] for packed in ("", *COMPRESSIONS)}
_ENDINGS[KINDS[-1]] = (KINDS[-1], "")
# Those that rows are written in; plain text has no columns.
WRITTEN = tuple(written for written, (kind, _) in _ENDINGS.items() if kind != ".txt")


@dataclass(frozen=True)
class Format:
    """How a file is written, as far as its ending does not say it.

    Attributes:
        delimiter: between the fields of a table; None: a comma, in .tsv a tab.
        encoding: of text.
        header: whether a table begins with the names of its columns; else they are `column_1`, `column_2` and so on.
        documents: what is a row of plain text: what stands between empty lines, each line, `BLOCK` lines, or all of it.
        names: of the columns of a table without a header, in their order; empty where they are numbered.
        quotes: whether fields of a table may stand in quotes; None: as a look at the table says.
        field: of a JSON file that is one object, the key of the list of rows; None: the one list of objects that it has.
    """

    delimiter: str | None = None
    encoding: str = "utf-8"
    header: bool = True
    documents: Literal["paragraphs", "lines", "blocks", "file"] = "paragraphs"
    names: tuple[str, ...] = ()
    quotes: bool | None = None
    field: str | None = None


# As its ending says.
USUAL = Format()


def ending(path: Path) -> str:
    """The ending that determines a file's format, such as `.jsonl` or `.jsonl.gz`; the last suffix where none does."""
    last = "".join(path.suffixes[-2:]).lower()
    return last if last in _ENDINGS else path.suffix.lower()


def kind(path: Path) -> str | None:
    """What a file is, compressed or not: one of `KINDS`, JSON lines under one name; None where its ending does not say it."""
    known = ending(path)
    return parts(known)[0] if known in _ENDINGS else None


def parts(known: str) -> tuple[str, str]:
    """What an ending says: one of `KINDS`, JSON lines under one name, and one of `COMPRESSIONS`, or nothing."""
    found, packed = _ENDINGS[known]
    return (".jsonl" if found == ".ndjson" else found), packed
