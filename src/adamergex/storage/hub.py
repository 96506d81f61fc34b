"""The Hugging Face hub: names of what lies there, what is fetched from it, and its refusals as one line each."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adamergex.errors import AdaMergeXError, AdapterError, NetworkError

_NAME = re.compile(
    r"(?P<repository>\w[\w.-]*/\w[\w.-]*)(?:@(?P<revision>[^\s:@]+))?(?::(?P<subfolder>[\w./-]+))?", re.ASCII
)
_COMMIT = re.compile("[0-9a-f]{40}")
# Seconds until a server that does not answer is given up.
TIMEOUT = 10


@dataclass(frozen=True)
class HubName:
    """A place on the hub, `user/name[@revision][:subfolder]`.

    Attributes:
        repository: `user/name`.
        revision: a branch, a tag or a commit; None for the main branch.
        subfolder: within the repository; empty for its root.
    """

    repository: str
    revision: str | None = None
    subfolder: str = ""

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return f"{self.repository}{revision}" + (f":{self.subfolder}" if self.subfolder else "")

    @property
    def is_pinned(self) -> bool:
        """Whether the revision is a commit, whose files never change."""
        return self.revision is not None and _COMMIT.fullmatch(self.revision) is not None

    def within(self, file: str) -> str:
        """The path of a file of this place in its repository."""
        return f"{self.subfolder}/{file}" if self.subfolder else file


def parse(name: str) -> HubName | None:
    """A name as a place on the hub; None where it is none, such as a path of three parts, or one that begins with a dot."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    subfolder = (match["subfolder"] or "").strip("/")
    if subfolder and not {"", ".", ".."}.isdisjoint(subfolder.split("/")):
        return None
    return HubName(match["repository"], match["revision"], subfolder)


def snapshot(place: HubName, patterns: Sequence[str], needed: Sequence[str] = ()) -> tuple[HubName, Path]:
    """Download files of a place, unless they were downloaded before: the place at its commit, and the folder that it is in.

    Where the hub does not answer, or must not be asked, what was downloaded before is taken. What the client raises is raised.

    Args:
        place: whose files are wanted.
        patterns: that their names fit, `*` standing for anything.
        needed: names without which what was downloaded before does not do.
    """
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    if place.is_pinned:
        with suppress(LocalEntryNotFoundError):
            found = _snapshot(place, patterns, local_files_only=True)
            if all((found / place.within(name)).is_file() for name in needed):
                return place, found / place.subfolder
    try:
        # One request, without the retries that a download has.
        huggingface_hub.HfApi().model_info(place.repository, revision=place.revision, timeout=TIMEOUT)
        found = _snapshot(place, patterns)
    except Exception as error:
        reason = refusal(error, place)
        if reason is None or not (reason[1] or is_offline()):
            raise
        try:
            found = _snapshot(place, patterns, local_files_only=True)
        except LocalEntryNotFoundError:
            raise error from None
    return replace(place, revision=found.name), found / place.subfolder


def _snapshot(place: HubName, patterns: Sequence[str], local_files_only: bool = False) -> Path:
    import huggingface_hub

    return Path(
        huggingface_hub.snapshot_download(
            place.repository,
            revision=place.revision,
            allow_patterns=[place.within(pattern) for pattern in patterns],
            etag_timeout=TIMEOUT,
            local_files_only=local_files_only,
        )
    )


def listed(place: HubName) -> list[str]:
    """The paths of all files in a repository; what the client raises is raised."""
    import huggingface_hub

    found: list[str] = huggingface_hub.HfApi().list_repo_files(place.repository, revision=place.revision)
    return found


def card_data(place: HubName) -> dict[str, Any]:
    """The metadata of a repository's card; what the client raises is raised."""
    import huggingface_hub

    found = huggingface_hub.HfApi().model_info(place.repository, timeout=TIMEOUT).card_data
    return found.to_dict() if found else {}


@contextmanager
def asking(begin: str, place: HubName, wrong: type[AdaMergeXError] = AdapterError) -> Iterator[None]:
    """Turn what the hub's client raises within this context into an error of one line.

    Args:
        begin: of the line, before the reason: what was wanted.
        place: that is asked for.
        wrong: the error where the place is not to be had.

    Raises:
        NetworkError: the hub does not answer, or its answer is that it cannot now.
        AdaMergeXError: of class `wrong`: it refuses.
    """
    try:
        yield
    except AdaMergeXError:
        raise
    except Exception as error:  # The client raises errors of its own and of its HTTP library.
        found = refusal(error, place)
        if found is None:
            raise
        reason, is_network = found
        raise (NetworkError if is_network else wrong)(f"{begin}{reason}") from error


def refusal(error: BaseException, place: HubName) -> tuple[str, bool] | None:
    """Why the hub did not do what was asked, and whether that is the network's fault; None for an error of another kind.

    Args:
        error: what the client raised.
        place: that was asked for.
    """
    from huggingface_hub import constants, errors

    # The client wraps what a server answered where it has looked into its cache as well, or uploads in a thread.
    while isinstance(error, errors.LocalEntryNotFoundError | RuntimeError) and error.__cause__ is not None:
        error = error.__cause__
    # That of the HTTP library that this version of the client uses.
    http = errors.HfHubHTTPError.__bases__[0]
    if isinstance(error, errors.OfflineModeIsEnabled) or (
        isinstance(error, errors.LocalEntryNotFoundError) and constants.HF_HUB_OFFLINE
    ):
        return "HF_HUB_OFFLINE is set, and it was not downloaded before; unset HF_HUB_OFFLINE", False
    if isinstance(error, errors.HfHubHTTPError):
        return _answered(error, place)
    if isinstance(error, errors.LocalEntryNotFoundError | ConnectionError | TimeoutError | http):
        reason = " ".join(str(error).split()) or type(error).__name__
        return f"the hub ({constants.ENDPOINT}) does not answer: {reason[:200]}; try again later", True
    if isinstance(error, errors.HFValidationError):
        return f"no name for a repository: {' '.join(str(error).split())[:200]}", False
    return None


def _answered(error: "Exception", place: HubName) -> tuple[str, bool]:
    """The same of an answer with a status that is not that of success."""
    from huggingface_hub import constants, errors

    repository, log_in = place.repository, "log in with `hf auth login`, or set HF_TOKEN"
    known = {
        errors.GatedRepoError: f"{repository} is gated; ask for access at {constants.ENDPOINT}/{repository}, and {log_in}",
        errors.DisabledRepoError: f"the hub has disabled {repository}",
        errors.RevisionNotFoundError: f"{repository} has no revision {place.revision or 'main'}",
        errors.EntryNotFoundError: f"{repository} has no such file",
        errors.RepositoryNotFoundError: f"the hub has no repository {repository}, or a private one that this login may not "
        f"read; check the name, or {log_in}",
    }
    if reason := next((reason for kind, reason in known.items() if isinstance(error, kind)), None):
        return reason, False
    status: int = error.response.status_code  # type: ignore[attr-defined]
    said = " ".join(str(getattr(error, "server_message", None) or "").split())[:200]
    answer = f"the hub answers {status}{f', {said}' if said else ''}"
    if status >= 500 or status in (408, 429):
        return f"{answer}; try again later", True
    remedies = {
        401: f"; {log_in}",
        403: f"; the token needs the right to do this in {repository.partition('/')[0]}",
    }
    return answer + remedies.get(status, ""), False


def is_cached(repository: str, name: str) -> bool:
    """Whether a file of a repository is in the hub's cache; a name that is no repository's is not."""
    import huggingface_hub

    try:
        return isinstance(huggingface_hub.try_to_load_from_cache(repository, name), str)
    except huggingface_hub.errors.HFValidationError:
        return False


def is_offline() -> bool:
    """Whether the user wants nothing to be asked from the hub."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def small_files(base_model: str, name: str, also: Sequence[str] = ()) -> Path:
    """The folder with small files of a model on the hub, which is asked once, and only of what its cache knows nothing of.

    Args:
        base_model: `user/name`.
        name: of a file that it must have; what the hub's client raises of it is raised.
        also: names of files that it may have.
    """
    import huggingface_hub

    cached = huggingface_hub.try_to_load_from_cache(base_model, name)
    # Of a file that was found missing before, the cache holds an object, no path.
    unknown = [wanted for wanted in also if huggingface_hub.try_to_load_from_cache(base_model, wanted) is None]
    if isinstance(cached, str) and not unknown:
        return Path(cached).parent
    try:
        # Where the hub does not answer, a download tries again for half a minute; this asks once.
        huggingface_hub.HfApi().model_info(base_model, timeout=TIMEOUT)
    except Exception:
        if isinstance(cached, str):
            return Path(cached).parent
        raise
    if not isinstance(cached, str):
        cached = huggingface_hub.hf_hub_download(base_model, name, etag_timeout=TIMEOUT)
    for wanted in unknown:
        with suppress(Exception):
            huggingface_hub.hf_hub_download(base_model, wanted, etag_timeout=TIMEOUT)
    return Path(cached).parent
