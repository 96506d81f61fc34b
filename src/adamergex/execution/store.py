"""A store of finished stages that runs and people share: a folder, or an object store through fsspec.

STORE/stages/KE/KEY.json     a finished stage: what determined it, its files with sizes and hashes; written last
STORE/files/SH/SHA256        the content of a file, under its hash

A stage is found by its key, its files by what they hold, so that equal files are there once, and two runs that make the same
stage at the same time leave the same content: there are no locks. What is read is compared with its hash; what is broken is
not used.
"""

import hashlib
import json
import secrets
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from adamergex.errors import AdaMergeXError, NetworkError, StorageError
from adamergex.execution import stage
from adamergex.storage.files import expanded, from_json, read_json, sha256
from adamergex.storage.record import MARK, UNREADABLE, Record, listed

# A file that no stage lists may be one whose stage is being written.
_YOUNG = timedelta(days=1)
# Bytes that are read at once.
_PART = 4 * 2**20


@dataclass(frozen=True)
class Entry:
    """A finished stage in a store.

    Attributes:
        key: that it is found by.
        id: of the stage, as the run called it that made it.
        kind: of the stage.
        record: what it was made of, and its files.
    """

    key: str
    id: str
    kind: str
    record: Record

    @property
    def size(self) -> int:
        """The bytes of its files, of which other stages may have some, too."""
        return sum(size for size, _ in self.record.files.values())


class Store:
    """Finished stages by their keys.

    Args:
        place: a folder, or a URL such as `s3://bucket/path`.

    Raises:
        StorageError: there is no way to such a place, or it cannot be reached.
    """

    def __init__(self, place: str):
        import fsspec
        from fsspec.implementations.local import LocalFileSystem

        self.place = place
        with self._asking():
            url = place if "://" in place else str(expanded(place).absolute())
            self._files, root = fsspec.core.url_to_fs(url)
        self._root = str(root).rstrip("/")
        # Only here a file that is half-written can be seen, and a folder has to be made before it is written to.
        self._is_local = isinstance(self._files, LocalFileSystem)

    def check(self) -> None:
        """Write a small file, and remove it. Raises StorageError or NetworkError where the store cannot be written."""
        probe = f"{self._root}/.probe-{secrets.token_hex(8)}"
        with self._asking():
            self._put(b"", probe)
            self._files.rm_file(probe)

    def keys(self) -> set[str]:
        """The keys of all stages that are there, broken ones among them."""
        with self._asking():
            self._files.invalidate_cache()
            found = self._files.find(f"{self._root}/stages")
        return {name for path in found if (name := _stem(path)) and path.endswith(".json")}

    def has(self, key: str) -> bool:
        """Whether a stage is there now."""
        with self._asking():
            self._files.invalidate_cache()
            return bool(self._files.exists(self._of_stage(key)))

    def entry(self, key: str) -> Entry:
        """What is said of a stage. Raises StorageError where it is not there, or what is said is no whole list of files."""
        found = self._read(key)
        if found is None:
            raise StorageError(f"{self.place}: {key}: its list of files is not what was written")
        return found

    def _read(self, key: str) -> Entry | None:
        """What is said of a stage; None where that is no whole list of files. Raises StorageError where it cannot be read."""
        with self._asking():
            content = self._files.cat_file(self._of_stage(key))
        try:
            mark = from_json(content)
            if stage.key(mark["made_of"]) == key:
                return Entry(key, str(mark["id"]), str(mark["made_of"]["kind"]), listed(mark))
        except (ValueError, KeyError, TypeError, AttributeError):
            pass
        return None

    def fetch(self, key: str, output: Path) -> None:
        """Write the files of a stage into an empty folder.

        Raises:
            NetworkError: the store does not answer.
            StorageError: a file is missing, or not what was written.
        """
        entry = self.entry(key)
        for name, (_, sha) in entry.record.files.items():
            path = output / name
            path.parent.mkdir(parents=True, exist_ok=True)
            # What is wrong with the disk here is not the store's fault.
            with path.open("wb") as file:
                for part in self._parts(self._of_file(sha)):
                    file.write(part)
            if sha256(path) != sha:
                raise StorageError(f"{self.place}: {key}: {name} is not what was written")

    def publish(self, folder: Path, *, replace: bool = False) -> None:
        """Put a finished stage here, its list of files last. What is there stays, unless it is to be replaced.

        Args:
            folder: of the stage in its run.
            replace: write its files whatever is there, because something of it was broken.

        Raises:
            NetworkError: the store does not answer.
            StorageError: it cannot be written, or the stage is not whole.
        """
        try:
            mark = read_json(folder / MARK)
            place = self._of_stage(str(mark["key"]))
            # Not all of `stage.json`: where a run has its data is nobody else's business.
            facts = {"id": mark["stage"]["id"]} | {part: mark[part] for part in ("made_of", "digest", "files", "notes")}
            files = listed(mark).files
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StorageError(f"{folder}: {UNREADABLE}") from error
        content = json.dumps(facts, sort_keys=True, ensure_ascii=False).encode()
        with self._asking():
            for name, (size, sha) in files.items():
                if replace or self._size(self._of_file(sha)) != size:
                    self._put(folder / name, self._of_file(sha))
            if replace or not self._files.exists(place):
                self._put(content, place)

    def damage(self, key: str) -> str | None:
        """Why a stage cannot be used: all of its files are read. None where it can."""
        try:
            for name, (_, sha) in self.entry(key).record.files.items():
                found = hashlib.sha256()
                for part in self._parts(self._of_file(sha)):
                    found.update(part)
                if found.hexdigest() != sha:
                    return f"{name} is not what was written"
        except StorageError as error:
            return str(error)
        return None

    def prune(self, keep: Collection[str], *, dry: bool = False) -> tuple[list[str], int]:
        """Remove all stages but those of some keys, and files that no stage lists any more.

        A file that was written within a day stays: the list that names it may be about to be written.

        Returns:
            The keys that go, and how many bytes of files do.

        Raises:
            NetworkError: the store does not answer.
            StorageError: what is said of a stage that stays cannot be read, or something cannot be removed.
        """
        kept, gone, used = set(keep), list[str](), set[str]()
        for key in sorted(self.keys()):
            # A list that is broken nobody can use, so that nobody keeps it; one that cannot be read now may be whole.
            found = self._read(key) if key in kept else None
            if found is None:
                gone.append(key)
            else:
                used |= {sha for _, sha in found.record.files.values()}
        with self._asking():
            there = self._files.find(f"{self._root}/files", detail=True)
            files = {
                path: info["size"]
                for path, info in there.items()
                if _stem(path) not in used and not self._is_young(path)
            }
            if not dry:
                for path in [*map(self._of_stage, gone), *files]:
                    self._files.rm_file(path)
        return gone, sum(files.values())

    def _of_stage(self, key: str) -> str:
        return f"{self._root}/stages/{key[:2]}/{key}.json"

    def _of_file(self, sha: str) -> str:
        return f"{self._root}/files/{sha[:2]}/{sha}"

    def _size(self, path: str) -> int | None:
        try:
            size: int = self._files.info(path)["size"]
        except FileNotFoundError:
            return None
        return size

    def _put(self, content: bytes | Path, path: str) -> None:
        """Write a file whole or not at all, as object stores do by themselves."""
        target = f"{path}.partial-{secrets.token_hex(8)}" if self._is_local else path
        if self._is_local:
            self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
        try:
            if isinstance(content, bytes):
                self._files.pipe_file(target, content)
            else:
                self._files.put_file(str(content), target)
            if self._is_local:
                self._files.mv(target, path)
        except BaseException:
            if self._is_local:
                Path(target).unlink(missing_ok=True)
            raise

    def _parts(self, path: str) -> Iterator[bytes]:
        """The content of a file, a few megabytes at a time."""
        with self._asking():
            file = self._files.open(path, "rb")
        with file:
            while True:
                with self._asking():
                    part: bytes = file.read(_PART)
                if not part:
                    return
                yield part

    def _is_young(self, path: str) -> bool:
        modified: datetime = self._files.modified(path)
        return datetime.now(UTC) - (modified if modified.tzinfo else modified.replace(tzinfo=UTC)) < _YOUNG

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Turn what a file system raises within this context into an error of one line."""
        try:
            yield
        except AdaMergeXError:
            raise
        except ImportError as error:
            scheme = self.place.partition("://")[0]
            raise StorageError(
                f"{self.place}: {scheme}:// needs a package ({error}); for s3:// pip install 'adamergex[s3]'"
            ) from error
        except FileNotFoundError as error:
            raise StorageError(f"{self.place}: {error.filename or error}: not there") from error
        except (FileExistsError, NotADirectoryError) as error:
            raise StorageError(f"{self.place}: a part of it is a file, not a folder; give another --store") from error
        except PermissionError as error:
            raise StorageError(
                f"{self.place}: no permission: {_line(error)}; give another --store, or change its rights"
            ) from error
        except Exception as error:  # Each file system has errors of its own and of its HTTP library.
            if self._reaches_no_server(error):
                raise NetworkError(
                    f"the store {self.place} does not answer: {_line(error)}; try again later"
                ) from error
            raise StorageError(f"the store {self.place} refuses: {_line(error)}") from error

    def _reaches_no_server(self, error: Exception) -> bool:
        return isinstance(error, ConnectionError | TimeoutError) or "onnect" in type(error).__name__


def _stem(path: str) -> str:
    return path.rpartition("/")[2].removesuffix(".json")


def _line(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:200]
