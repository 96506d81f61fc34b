"""What data is called where others read it: data sets of the hub, packages and benchmarks by name; files never by path."""

import re
from collections.abc import Mapping
from typing import Any

from adamergex.data.settings import Source
from adamergex.markdown import code
from adamergex.tasks.benchmarks import BENCHMARKS

OWN = "data of its own, which is not published"
_DATASET = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?", re.ASCII)


def public(source: Source) -> dict[str, str]:
    """A source as a card names it, plain JSON: its `name`, and of a data set on the hub `dataset`, `config`, `split`, `revision`.

    Args:
        source: with `{language}` filled in.
    """
    split = source.split
    if source.benchmark is not None:
        of = BENCHMARKS[source.benchmark]
        more = {"licence": of.licence, "citation": of.citation}
        return _without_none({"name": of.title, "dataset": of.dataset, "split": split, "revision": of.revision, **more})
    if source.package is not None:
        return _without_none({"name": f"the Python package {source.package}", "split": split})
    if source.dataset is not None and _DATASET.fullmatch(source.dataset):
        named: dict[str, str | None] = {"name": source.dataset, "dataset": source.dataset, "config": source.config}
        return _without_none(named | {"split": split, "revision": source.revision})
    return {"name": OWN}


def described(named: Mapping[str, str]) -> str:
    """Such a name in a sentence, as markdown."""
    name = named["name"]
    if "dataset" in named:
        name = f"[{name}](https://huggingface.co/datasets/{named['dataset']})"
    # Whatever a recipe may call them.
    parts = [code(named[key]) for key in ("config", "split") if key in named]
    parts += [f"licence {named['licence']}"] if "licence" in named else []
    parts += [named["citation"]] if "citation" in named else []
    return name + (f" ({', '.join(parts)})" if parts else "")


def _without_none(values: Mapping[str, Any]) -> dict[str, str]:
    return {key: value for key, value in values.items() if value is not None}
