"""Where an adapter is: a folder on this machine, or a repository on the hub. The one place where names are resolved."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adamergex.errors import AdapterError
from adamergex.storage import hub
from adamergex.storage.files import expanded
from adamergex.storage.hub import HubName

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
# The files that are a tokenizer, by their names.
TOKENIZER = (
    "tokenizer*.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "*.model",
    "*.tiktoken",
    "chat_template*",
    "*processor_config.json",
)


@dataclass(frozen=True)
class Location:
    """An adapter on this machine.

    Attributes:
        folder: with its files.
        repository: where on the hub it was downloaded from, at its commit; None for a folder that was here.
    """

    folder: Path
    repository: HubName | None = None

    @property
    def pinned(self) -> str:
        """A name under which the same adapter is found again: a path, or a place on the hub at its commit."""
        return str(self.folder if self.repository is None else self.repository)


def pickles(folder: Path) -> list[Path]:
    """The weights of an adapter folder as PEFT wrote them up to 0.6, one file or several."""
    return sorted(folder.glob("adapter_model*.bin"))


def shards(folder: Path) -> list[Path]:
    """The weights of an adapter folder where they were cut into several files of safetensors."""
    return sorted(folder.glob("adapter_model-*-of-*.safetensors"))


def short(name: str) -> str:
    """What an adapter is called that is not given a name: its folder's, its repository's, or that of its subfolder."""
    path = expanded(name)
    place = None if os.path.exists(path) else hub.parse(name)
    if place is None:
        return (path.parent if os.path.isfile(path) else path).resolve().name
    return (place.subfolder or place.repository).rpartition("/")[2]


def locate(name: str | Path, folder: Path | None = None, optional: Sequence[str] = ()) -> Location:
    """Find an adapter: a local folder, or else a place on the hub, from which its configuration and weights are downloaded.

    A folder of that name comes first; `user/name@main` is never one that is called `user/name`. Of a folder that has no adapter
    itself, the one subfolder that has one is meant: PEFT saves an adapter that is not called `default` there. A file of an
    adapter stands for its folder. Nothing but JSON, safetensors and, where it is asked for, a tokenizer is downloaded.

    Args:
        name: a path, or `user/name[@revision][:subfolder]`.
        folder: what relative paths are relative to; the current folder if left out.
        optional: further files that are downloaded where they are there.

    Raises:
        AdapterError: there is no such folder, and the hub has no such adapter, or it may not be read.
        NetworkError: the hub does not answer.
    """
    text = str(name)
    path = Path(folder or "", expanded(text))
    place = None if os.path.exists(path) else hub.parse(text)
    if place is None:
        return Location(_unambiguous(path))
    # Whoever writes a revision or a subfolder means the hub.
    begin = f"{text}: " + "no such folder here, and " * (text == place.repository)
    with hub.asking(begin, place):
        pinned, found = hub.snapshot(place, [CONFIG, WEIGHTS, *optional], needed=[CONFIG, WEIGHTS])
    if not all((found / file).is_file() for file in (CONFIG, WEIGHTS)):
        raise AdapterError(f"{begin}{_lacking(place)}")
    return Location(found, pinned)


def _unambiguous(path: Path) -> Path:
    """The folder of an adapter that a path leads to, or the path itself."""
    if os.path.isfile(path) and (path.name == CONFIG or path.name.startswith("adapter_model")):
        return path.parent
    within = [] if os.path.exists(path / CONFIG) else _within(path)
    return within[0] if len(within) == 1 else path


def _within(folder: Path) -> list[Path]:
    """The adapters that lie in a folder, each in a folder of its own; none where it cannot be read."""
    try:
        return sorted(config.parent for config in folder.glob(f"*/{CONFIG}"))
    except (OSError, ValueError):  # Of a path that can be none: as of Python 3.13.
        return []


def absent(folder: Path) -> str:
    """What to say of a folder that has no adapter: that it is not there, and what is in its place."""
    is_folder = os.path.isdir(folder)
    around = folder if is_folder else next((above for above in folder.parents if above.is_dir()), folder)
    found = _within(around)
    shown = ", ".join(map(str, found[:5])) + ", …" * (len(found) > 5)
    if is_folder:
        return f"{folder}: not a PEFT adapter folder: {CONFIG} is missing" + f"; there are adapters in {shown}" * bool(
            found
        )
    what = "not a folder" if os.path.exists(folder) else "no such folder"
    return f"{folder}: {what}; expected a PEFT adapter folder" + f", such as {shown}" * bool(found)


def _lacking(place: HubName) -> str:
    """What a repository has in place of an adapter."""
    try:
        files = hub.listed(place)
    except Exception:  # Whatever it is: that the adapter is missing is known.
        files = []
    where = f"in {place.subfolder}/" if place.subfolder else "at its top"
    beside = [file for file in files if file.rpartition("/")[0] == place.subfolder]
    if found := [file for file in beside if file.endswith((".bin", ".pt", ".pth", ".pkl"))]:
        inside = f"DIR/{place.subfolder}".rstrip("/")
        revision = f" --revision {place.revision}" if place.revision else ""
        return (
            f"the hub has no {WEIGHTS} {where}, but {found[0]}, a pickle, which is not downloaded; to convert it: "
            f"hf download {place.repository}{revision} --local-dir DIR, and adamergex convert {inside} --output DIR2"
        )
    others = sorted(file.rpartition("/")[0] for file in files if file.rpartition("/")[2] == CONFIG)
    if others := [other for other in others if other != place.subfolder]:
        shown = ", ".join(other or "its top" for other in others[:5]) + ", …" * (len(others) > 5)
        first = HubName(place.repository, place.revision, others[0])
        return f"the hub has no adapter {where}; there are some in {shown}: write {first}"
    return f"the hub has no adapter {where}: {CONFIG} or {WEIGHTS} is missing"
