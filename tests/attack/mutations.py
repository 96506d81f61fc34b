"""Files as others may have written them: values of other kinds, cut, doubled, damaged. All drawn from a generator."""

import gzip
import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

WORDS = [
    "",
    " ",
    "\x00",
    "\x1b[31m",
    "a\nb",
    "…",
    "../x",
    "/",
    "~nosuchuser",
    "x" * 5000,
    "{text}",
    "null",
    "-1",
    "1e400",
    "\ud800",
]
VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 10**9, 10**30, 0.5, -0.0, 1e-320, 1e300, float("nan"), float("inf"),
    [], {}, [[]], [None], {"": None}, {"a": {"b": [1]}}, [1, "x", None], ["x"] * 200, *WORDS,
]  # fmt: skip
# What YAML has beyond JSON.
YAML = [
    "!!int x", "!!float y", "!!set x", "!!set {a, b}", "!!binary x", "!!timestamp x", "!!omap [a]", "!!pairs [a]", "!own {a: 1}",
    "!!python/object/apply:os.system [id]", "2001-99-99", "2001-01-01", "2001-01-01 99:99:99", "&a [*a]", "&a {b: *a}", "*a", "? x",
    "? [a, b]\n: c", "<<: 1", "<<: [1]", "<<: *a", "{a: 1, a: 2}", "[", "]", "{", "|", ">", "|9", "'", '"', '"\\x"', '"\\ud800"', "%YAML 9.9",
    "---", "...", "0o9", "0x", "1_0", "_", ".inf", ".nan", "~", "@", "`", "\t", "\x07", "\u2028", "\ufeff", "#", "!", "!!", "!<>", "&",
    "{? {a: b}: c}", "{[a]: b}", "- a\n- b", ":", "::", ": x", "-", "!!null x", "!!bool x", "!!str", "!!seq x", "!!map x", "{: 1}",
]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values within a value."""
    found = [path] if path else []
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        found += places(one, (*path, key))
    return found


def changed(draw: Random, value: Any, times: int = 1) -> Any:
    """A value of JSON in which something is another value, is not there, is there twice or has another name."""
    value = deepcopy(value)
    for _ in range(times):
        *above, last = draw.choice(places(value) or [("x",)])
        inside = value
        for key in above:
            inside = inside[key]
        match draw.randrange(6):
            case 0:
                inside.pop(last) if isinstance(inside, list) or last in inside else None
            case 1 if isinstance(inside, dict):
                inside[draw.choice(["", "x", "\x1b", "a.b", *inside])] = inside.pop(last, None)
            case 2 if isinstance(inside, list):
                inside.append(inside[last])
            case 3:
                inside[last] = [inside.get(last) if isinstance(inside, dict) else inside[last]]
            case _:
                # A copy: what is changed in it next time is no value of others, and it can never hold itself.
                inside[last] = deepcopy(draw.choice(VALUES))
    return value


def damaged(draw: Random, content: bytes) -> bytes:
    """Bytes that are cut, doubled, or others in some places."""
    found = bytearray(content)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(found) + 1)
        to = min(len(found), at + draw.choice([1, 2, 8, 100]))
        match draw.randrange(5):
            case 0:
                del found[at:]
            case 1:
                del found[at:to]
            case 2:
                found[at:at] = found[at:to] * draw.choice([1, 3])
            case 3:
                found[at:to] = draw.randbytes(to - at)
            case _:
                found[at:at] = draw.choice(
                    [b"\x00", b"\xff", b"\n", b'"', b"{", b"[", b",", b"}", b"\xed\xa0\x80", b"\x1b[2J", b"9" * 400]
                )
    return bytes(found)


def json_text(value: Any) -> bytes:
    """JSON, also of what is none."""
    return json.dumps(value).encode()


def json_file(draw: Random, path: Path, times: int = 1) -> None:
    """Change a file of JSON, or damage it."""
    content = path.read_bytes()
    path.write_bytes(
        damaged(draw, content)
        if draw.random() < 0.2
        else json_text(changed(draw, json.loads(content), draw.randint(1, 2)))
    )


def yaml_text(draw: Random, value: dict[str, Any]) -> bytes:
    """A file of YAML with a value of its own kind in one place, or as `changed`, or damaged."""
    kind = draw.random()
    if kind < 0.4:
        return json_text(changed(draw, value, draw.randint(1, 2)))
    if kind < 0.5:
        return damaged(draw, json_text(value))
    *above, last = draw.choice(places(value))
    value = deepcopy(value)
    inside = value
    for key in above:
        inside = inside[key]
    inside[last] = "<HERE>"
    return json.dumps(value).replace('"<HERE>"', draw.choice(YAML)).encode("utf-8", "surrogatepass")


def rows_file(draw: Random, folder: Path, rows: list[dict[str, Any]]) -> str:
    """Write rows in some format, changed and sometimes damaged: the file's name."""
    ending = draw.choice([".csv", ".tsv", ".json", ".jsonl", ".parquet", ".jsonl.gz", ".txt"])
    if draw.random() < 0.7:
        rows = changed(draw, rows, draw.randint(1, 3))
    path = folder / f"rows{ending}"
    _WRITERS[ending](path, rows)
    if draw.random() < 0.4:
        path.write_bytes(damaged(draw, path.read_bytes()))
    return path.name


def _table(separator: str) -> Callable[[Path, Any], None]:
    def write(path: Path, rows: Any) -> None:
        rows = [row if isinstance(row, dict) else {"x": row} for row in (rows if isinstance(rows, list) else [rows])]
        lines = [
            separator.join(map(str, one))
            for row in rows
            for one in ([list(row)] if row is rows[0] else []) + [row.values()]
        ]
        path.write_text("\n".join(lines), "utf-8", "surrogatepass")

    return write


def _parquet(path: Path, rows: Any) -> None:
    try:
        table = pa.Table.from_pylist(rows)
    except (pa.ArrowException, AttributeError, TypeError, UnicodeEncodeError, OverflowError):
        table = pa.table({"text": [str(row).encode("utf-8", "replace") for row in rows]})
    pq.write_table(table, path)


_WRITERS: dict[str, Callable[[Path, Any], Any]] = {
    ".csv": _table(","),
    ".tsv": _table("\t"),
    ".json": lambda path, rows: path.write_bytes(json_text(rows)),
    ".jsonl": lambda path, rows: path.write_bytes(b"\n".join(map(json_text, rows))),
    ".jsonl.gz": lambda path, rows: path.write_bytes(gzip.compress(b"\n".join(map(json_text, rows)))),
    ".txt": _table(" "),
    ".parquet": _parquet,
}


def header(draw: Random, path: Path) -> None:
    """Change the header of a file of safetensors."""
    content = path.read_bytes()
    if draw.random() < 0.3:
        path.write_bytes(damaged(draw, content))
        return
    size = int.from_bytes(content[:8], "little")
    text = json_text(changed(draw, json.loads(content[8 : 8 + size]), draw.randint(1, 2)))
    length = draw.choice([len(text), len(text), len(text), len(text) + 1, 0, 2**40, 2**63])
    path.write_bytes(length.to_bytes(8, "little") + text + content[8 + size :])
