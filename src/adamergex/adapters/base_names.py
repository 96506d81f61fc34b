"""Which base model an adapter's configuration names: the same one is written in several ways."""

import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from adamergex.storage.files import expanded

_SNAPSHOT = re.compile(r"(.*/)?models--(?P<name>[^/]+)/snapshots/(?P<commit>[0-9a-f]{40})/*")
MAIN = "main"


class BaseName(NamedTuple):
    """A base model as a configuration names it.

    Attributes:
        name: on the hub, or the path of a folder without links.
        revision: a branch, a tag or a commit.
        is_downloaded: whether the name was the path of a download in the hub's cache, whose commit the revision is.
    """

    name: str
    revision: str = MAIN
    is_downloaded: bool = False

    def has_revision_of(self, other: "BaseName") -> bool:
        """Whether both may be one revision: a download's commit is one of main's as far as anybody here knows."""
        loose = (self.is_downloaded and other.revision == MAIN) or (other.is_downloaded and self.revision == MAIN)
        return self.revision == other.revision or loose


def base_name(config: Mapping[str, Any]) -> BaseName | None:
    """The base model that `adapter_config.json` names; None where it names none.

    `m`, `m/` and `./m` are one where they are a folder; the path of a download in the hub's cache is the repository's name.
    """
    stored = config.get("base_model_name_or_path")
    if not stored:
        return None
    text, revision = str(stored), str(config.get("revision") or MAIN)
    if match := _SNAPSHOT.fullmatch(text):
        name = match["name"].replace("--", "/")
        return BaseName(name, match["commit"], True) if revision == MAIN else BaseName(name, revision)
    path = expanded(text)
    if path.is_dir():
        return BaseName(os.path.realpath(path), revision)
    is_path = text.startswith((".", "/", "~"))
    return BaseName(os.path.normpath(text) if is_path else text.rstrip("/"), revision)
