"""What of a run is published: files, with nothing in them that is nobody's business, and their card."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adamergex import language_tags
from adamergex.adapters.location import CONFIG, WEIGHTS
from adamergex.errors import AdapterError, RecipeError
from adamergex.execution.run_folder import RunFolder
from adamergex.inference import delivered, usage
from adamergex.inference.delivered import Pair
from adamergex.scoring.results import Row
from adamergex.sharing import card, metadata
from adamergex.sharing.card import Delivered, Scores
from adamergex.storage import hub
from adamergex.storage.files import read_jsonl
from adamergex.storage.hub import HubName
from adamergex.storage.run_names import SCORES

_CARD = "README.md"


@dataclass(frozen=True)
class Publication:
    """What is uploaded.

    Attributes:
        repository: `user/name`.
        files: path in the repository → the file that is uploaded as it is, or its content.
        languages: of its adapters.
        tasks: of its adapters; empty where the run has one, without a name.
        notes: what is missing in the card, and why, a line each.
    """

    repository: str
    files: Mapping[str, Path | bytes]
    languages: tuple[str, ...]
    tasks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def card(self) -> str:
        """The card of the repository."""
        content = self.files[_CARD]
        assert isinstance(content, bytes)  # Cards are made for the publication.
        return content.decode()

    def size(self, path: str) -> int:
        """Of a file, in bytes."""
        content = self.files[path]
        return len(content) if isinstance(content, bytes) else content.stat().st_size


def prepared(
    run: Path, repository: str, language: str | None = None, base_model: str | None = None, task: str | None = None
) -> Publication:
    """What is published of a run: an adapter at the top of a repository, or each of several in a subfolder.

    Args:
        run: the folder of a run.
        repository: `user/name`.
        language: the one that is published; where it is left out, all that the run has.
        base_model: what the base model is called on the hub, where the run had it in a folder.
        task: the one that is published; where it is left out, all that the run has.

    Raises:
        AdapterError: the run has no such adapter, or it is damaged.
        RecipeError: an option is not what is expected.
    """
    place = hub.parse(repository)
    if place is None or str(place) != place.repository:
        raise RecipeError([f"--to {repository}: expected user/name, a repository on the Hugging Face hub"])
    places = delivered.of_run(run)
    if not places:
        raise AdapterError(
            f"{run}: has no adapters in {usage.DELIVERED}/; expected the folder of a run that was finished"
        )
    if not delivered.is_finished(run):
        raise AdapterError(
            f"{run}: its run is not finished, what it delivers may be of before; run its recipe to the end"
        )
    pairs = _chosen(run, list(places), language, task)
    several = [len({pair[which] for pair in pairs}) > 1 for which in (0, 1)]
    # With several tasks a subfolder says both, so that it stays where it is when a language is added.
    subfolders = [f"{of}/{code}" if several[0] else code if several[1] else "" for of, code in pairs]
    of = [
        _delivered(run, pair, places[pair], repository, base_model, subfolder)
        for pair, subfolder in zip(pairs, subfolders, strict=True)
    ]
    licence, notes = _licence(of[0].base_model)
    of = [replace(one, licence=licence) for one in of]
    notes += [
        f"no scores for {' '.join(filter(None, (one.task, one.usage['language'])))}: the run has none"
        for one in of
        if one.scores is None
    ]
    files: dict[str, Path | bytes] = {}
    for pair, one in zip(pairs, of, strict=True):
        below = f"{one.subfolder}/" if one.subfolder else ""
        files[f"{below}{WEIGHTS}"] = places[pair] / WEIGHTS
        files[f"{below}{CONFIG}"] = _json(one.config)
        files[f"{below}{usage.FILE}"] = _json(one.usage)
        files[f"{below}{_CARD}"] = metadata.card(card.body(one), [one]).encode()
    if len(of) > 1:
        files[_CARD] = metadata.card(card.overview(of), of).encode()
    languages, tasks = (tuple(dict.fromkeys(pair[which] for pair in pairs)) for which in (1, 0))
    return Publication(repository, files, languages, tuple(filter(None, tasks)), tuple(notes))


def _chosen(run: Path, known: list[Pair], language: str | None, task: str | None) -> list[Pair]:
    """The adapters that are published. Raises AdapterError where the run has none of them."""
    of_task = delivered.of_tasks(str(run), known, task)
    codes = list(dict.fromkeys(code for _, code in of_task))
    if language is not None and (found := language_tags.match(language, codes)) is None:
        raise AdapterError(f"{run}: has no adapter for {language!r}; it has {', '.join(codes)}")
    return [pair for pair in of_task if language is None or pair[1] == found]


def _delivered(
    run: Path, pair: Pair, folder: Path, repository: str, base_model: str | None, subfolder: str
) -> Delivered:
    """One adapter of a run, with the hub's name of its base model."""
    id = folder.relative_to(run).as_posix()
    if damage := RunFolder(run, make=False).damage(id):
        raise AdapterError(f"{folder}: is not what the run made: {damage}; run its recipe again")
    usage.read(folder)
    used = json.loads((folder / usage.FILE).read_bytes())
    if "made" not in used:
        raise AdapterError(f"{folder}: an earlier version of adamergex made it; run its recipe again")
    name = base_model or str(used["base_model"])
    if Path(name).is_absolute() or not (name.startswith("package:") or "/" not in name or hub.parse(name)):
        raise RecipeError(
            [
                f"{run}: its base model is the folder {name}, which means nothing elsewhere; say what it is called on the hub "
                "with --base-model USER/NAME"
            ]
        )
    config = json.loads((folder / CONFIG).read_bytes()) | {"base_model_name_or_path": name}
    return Delivered(used | {"base_model": name}, config, repository, subfolder, _scores(run, *pair), task=pair[0])


def _scores(run: Path, task: str, language: str) -> Scores | None:
    """The rows of a task and a language in the run's report, and that of its delivered adapter."""
    path = run / SCORES
    if path.is_file() and not RunFolder(run, make=False).is_written(SCORES):
        raise AdapterError(f"{path}: is not what the run wrote; run its recipe again")
    rows = [Row(**row) for row in read_jsonl(path)] if path.is_file() else []
    of_language = [row for row in rows if (row.task, row.language) == (task, language) and not row.average]
    shown = [row for row in of_language if row.seed is None]
    roles = {row.role: row for row in shown}
    own = roles.get("refined") or roles.get("merged")
    if own is None:
        return None
    # Delivered is the adapter of the first seed.
    first = next((row for row in of_language if row.seed is not None and row.method == own.method), own)
    return Scores(shown, first)


def _licence(base_model: str) -> tuple[dict[str, str], list[str]]:
    """The licence of a base model, as its card on the hub states it, and a line where it is not known."""
    if base_model.startswith("package:"):
        return {}, []
    # Some old names are of no user.
    place = HubName(base_model)
    try:
        with hub.asking("", place):
            stated = hub.card_data(place)
    except Exception as error:  # Whatever the reason: the card says nothing of a licence then.
        return {}, [f"no licence of the base model {base_model} in the card: {error}"]
    named = {key: str(stated[key]) for key in ("license", "license_name", "license_link") if stated.get(key)}
    return named, [] if named else [f"no licence of the base model {base_model} in the card: its own states none"]


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, indent=2).encode() + b"\n"
