"""`config.json` and `generation_config.json` of a base model, which somebody else wrote: nothing in them is believed unseen."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from adamergex.errors import ModelError
from adamergex.storage.files import from_json, small

CONFIG, GENERATION = "config.json", "generation_config.json"
# A model is built layer by layer before its weights are looked at; none has a tenth of it.
_MOST_LAYERS = 2_000
# No size that a tensor has is larger.
_MOST = 2**40


def configuration(folder: Path, name: str) -> dict[str, Any]:
    """The content of `config.json`.

    Args:
        folder: of the model.
        name: of the model, for messages.

    Raises:
        ModelError: it cannot be read, or says what no model has.
    """
    config = _object(folder / CONFIG, name)
    for key, is_right, wanted in (
        ("architectures", _is_names, "a list of names"),
        ("id2label", _is_labels, "an object of names by number"),
        ("text_config", _is_object, "an object"),
        ("num_labels", _is_whole, "a whole number"),
        ("eos_token_id", _is_tokens, "a token, or a list of them"),
    ):
        if config.get(key) is not None and not is_right(config[key]):
            raise ModelError(
                f"base_model {name}: its {CONFIG}: {key} is no {wanted.removeprefix('a ').removeprefix('an ')}"
            )
    for key, value in _numbers(config):
        most = _MOST_LAYERS if "layer" in key and not key.endswith("_id") else _MOST
        if value > most:
            raise ModelError(f"base_model {name}: its {CONFIG}: {key} is {_shown(value)}; expected at most {most:,}")
    return config


def generation(folder: Path, name: str) -> dict[str, Any]:
    """The content of `generation_config.json`; nothing where there is none. Raises ModelError as `configuration`."""
    if not (folder / GENERATION).exists():
        return {}
    found = _object(folder / GENERATION, name)
    if found.get("eos_token_id") is not None and not _is_tokens(found["eos_token_id"]):
        raise ModelError(f"base_model {name}: its {GENERATION}: eos_token_id is no token, or list of them")
    return found


def _object(path: Path, name: str) -> dict[str, Any]:
    try:
        found = from_json(small(path))
    except OSError as error:
        raise ModelError(f"base_model {name}: its {path.name} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise ModelError(f"base_model {name}: its {path.name} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise ModelError(f"base_model {name}: its {path.name} is no object with keys")
    return found


def _numbers(value: Any, key: str = "") -> Iterator[tuple[str, int]]:
    """All whole numbers with the nearest key above each."""
    if isinstance(value, dict):
        for name, one in value.items():
            yield from _numbers(one, name)
    elif isinstance(value, list):
        for one in value:
            yield from _numbers(one, key)
    elif _is_whole(value):
        yield key, value


def _shown(value: int) -> str:
    return f"{value:,}" if value < 10**15 else f"about 10^{len(str(value)) - 1}"


def _is_whole(value: Any) -> bool:
    return type(value) is int


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _is_labels(value: Any) -> bool:
    return isinstance(value, dict) and all(key.isdecimal() for key in value)


def _is_tokens(value: Any) -> bool:
    return all(map(_is_whole, value)) if isinstance(value, list) else _is_whole(value)
