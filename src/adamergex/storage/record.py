"""`stage.json` beside a result: what determined it, and its files with sizes and hashes."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adamergex.errors import AdapterError
from adamergex.storage.files import sha256, small, write_synced

MARK = "stage.json"
UNREADABLE = f"{MARK} cannot be read"
# Of the rest of `stage.json`, which has no other line that says whether it is what was written.
_OWN = "sha256"
_NAMES = {"stage", "key", "made_of", "digest", "files", "notes", _OWN}


@dataclass(frozen=True)
class Record:
    """What `stage.json` says.

    Attributes:
        description: what determined the result; None of a result that another version of adamergex made.
        digest: of the contents, without notes.
        files: relative path → size in bytes and SHA-256.
    """

    description: Mapping[str, Any] | None
    digest: str
    files: Mapping[str, tuple[int, str]]

    def damage(self, folder: Path, verify: bool, names: Sequence[str] | None = None) -> str | None:
        """A message about the first file that is not what was written; None where all are.

        Args:
            folder: of the result.
            verify: compare hashes as well as sizes.
            names: of the files to look at, where they are listed; all by default.
        """
        for name, (size, sha) in self.files.items():
            if names is not None and name not in names:
                continue
            path = folder / name
            try:
                actual = path.stat().st_size
                if not path.is_file():
                    return f"{name} is not a file"
                if actual != size:
                    return f"{name} has {actual:,} bytes, {size:,} were written"
                if verify and sha256(path) != sha:
                    return f"{name} is not what was written"
            except OSError as error:
                return f"{name}: {error.strerror or error}"
        return None


def written(folder: Path, notes: Sequence[str], facts: Mapping[str, Any]) -> None:
    """Write `stage.json` into a folder that is complete.

    Args:
        folder: whose files are listed.
        notes: files with measurements, which the digest leaves out.
        facts: what else it says: `stage`, `key` and `made_of`, as plain JSON.
    """
    files = {
        path.relative_to(folder).as_posix(): (path.stat().st_size, sha256(path))
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    mark = {**facts, "digest": _digest(files, notes), "files": files, "notes": list(notes)}
    write_synced(folder / MARK, _text(mark | {_OWN: _checksum(mark)}))


def read(folder: Path) -> Record | None:
    """The record of a result; None where there is no `stage.json`.

    Raises:
        ValueError: there is one, and it is not what was written.
    """
    try:
        content = small(folder / MARK)
    except (FileNotFoundError, NotADirectoryError):
        if os.path.lexists(folder / MARK):
            raise ValueError(UNREADABLE) from None
        return None
    except OSError as error:
        raise ValueError(UNREADABLE) from error
    try:
        mark = json.loads(content)
        # Versions before results had a list of their files wrote `fingerprint`.
        if isinstance(mark, dict) and "fingerprint" in mark:
            return Record(None, "", {})
        # Results of a version before the last have no checksum.
        own = mark.get(_OWN)
        rest = {name: value for name, value in mark.items() if name != _OWN}
        is_whole = own is None or (own == _checksum(rest) and content == _text(mark))
        if is_whole and set(mark) <= _NAMES:
            return listed(mark)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise ValueError(UNREADABLE)


def listed(mark: Mapping[str, Any]) -> Record:
    """The record that a list of files is, read from JSON; of a whole result, and of nothing outside of it.

    Raises:
        AttributeError, KeyError, TypeError, ValueError: it is none.
    """
    files = {str(name): (int(size), str(sha)) for name, (size, sha) in mark["files"].items()}
    if mark["digest"] != _digest(files, mark["notes"]) or not all(map(_is_inside, files)):
        raise ValueError(UNREADABLE)
    return Record(dict(mark["made_of"]), mark["digest"], files)


def check(folder: Path, *names: str) -> None:
    """Check files of an adapter's folder against its `stage.json`, by their hashes, if a run wrote it.

    Raises:
        AdapterError: one is not what the run wrote, or `stage.json` itself.
    """
    try:
        record = read(folder)
        damage = None if record is None else record.damage(folder, True, names)
    except ValueError as error:
        damage = str(error)
    if damage:
        raise AdapterError(
            f"{folder}: is not what a run wrote there: {damage}; run its recipe again with --verify, or remove {MARK} if it "
            "was changed on purpose"
        )


def _text(mark: Mapping[str, Any]) -> bytes:
    return json.dumps(mark, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def _checksum(mark: Mapping[str, Any]) -> str:
    """Of all but the sizes and hashes of notes, which differ between two runs and are held against the notes themselves."""
    listed = {name: None if name in mark["notes"] else facts for name, facts in mark["files"].items()}
    return hashlib.sha256(_text({**mark, "files": listed})).hexdigest()


def _digest(files: Mapping[str, tuple[int, str]], notes: Sequence[str]) -> str:
    """What identifies a result's contents: SHA-256 over the names and hashes of its files, without notes."""
    counted = "".join(f"{name} {sha}\n" for name, (_, sha) in sorted(files.items()) if name not in notes)
    return hashlib.sha256(counted.encode()).hexdigest()


def _is_inside(name: str) -> bool:
    """Whether a file's name is one within its folder."""
    return "\0" not in name and not name.startswith("/") and ".." not in name.split("/")
