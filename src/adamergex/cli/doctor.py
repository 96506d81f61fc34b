"""`adamergex doctor`: what a run needs of this machine, what there is, and what to do about the difference."""

import os
import platform
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table
from rich.text import Text

from adamergex.cli import documents
from adamergex.terminal import Terminal

if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from adamergex.models.machine import Machine

_NAME = "adamergex"
# What results depend on; also the newest major versions that the tests ran with.
TRIED = {"torch": 2, "transformers": 5, "peft": 0, "accelerate": 1, "tokenizers": 0, "numpy": 2}
# Less than this is used up by one model and a run.
_LEAST_SPACE, _LEAST_MEMORY = 5 * 2**30, 4 * 2**30
_TIMEOUT = 3.0
_GIB = 2**30
_COLOURS = {"ok": "green", "note": "yellow", "problem": "red"}

Status = Literal["ok", "note", "problem"]
Installed = Callable[[str], str | None]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: of what.
        value: what it is.
        status: whether something is to be done: problem where runs would fail.
        advice: what; empty where nothing is.
    """

    name: str
    value: str
    status: Status = "ok"
    advice: str = ""


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="All findings, as one JSON document.")] = False,
) -> None:
    """Look at this machine and at what is installed, and say what to do about each problem; status 1 where there is one."""
    from adamergex.models.machine import machine

    found = [
        *_python(),
        *versions(metadata.requires(_NAME) or [], installed),
        *together(lambda name: metadata.requires(name) or [], installed),
        *_device(machine()),
        *_folders(),
        hub(os.environ, _reaches),
        *extras(metadata.requires(_NAME) or [], metadata.metadata(_NAME).get_all("Provides-Extra") or [], installed),
    ]
    if as_json:
        problems = [f"{one.name}: {one.value}; {one.advice}" for one in found if one.status == "problem"]
        documents.show({"findings": [asdict(finding) for finding in found], "problems": problems})
    else:
        _show(found)
    if any(finding.status == "problem" for finding in found):
        raise typer.Exit(1)


def installed(name: str) -> str | None:
    """The version of a distribution; None where it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def versions(requires: list[str], installed: Installed) -> Iterator[Finding]:
    """Distributions against what this package requires: those that results depend on, and others where they do not do.

    Args:
        requires: requirements, as a distribution's metadata has them.
        installed: a distribution's version, or None.
    """
    from packaging.requirements import Requirement
    from packaging.version import Version

    required = {one.name: one for one in map(Requirement, requires) if one.marker is None or one.marker.evaluate()}
    for name in dict.fromkeys((*TRIED, *required)):
        version, wanted = installed(name), required.get(name)
        needs = f"{name}{wanted.specifier}" if wanted else name
        if version is None:
            yield Finding(name, "not installed", "problem", f"pip install '{needs}'")
        elif wanted and not wanted.specifier.contains(version, prereleases=True):
            yield Finding(name, version, "problem", f"{wanted.specifier} is needed: pip install '{needs}'")
        elif name in TRIED:
            newer = Version(version).major > TRIED[name]
            advice = f"the tests ran with {TRIED[name]}.x; if runs fail, pip install '{name}<{TRIED[name] + 1}'"
            yield Finding(name, version, "note" if newer else "ok", advice if newer else "")


def together(requires: Callable[[str], list[str]], installed: Installed) -> Iterator[Finding]:
    """Whether the distributions that results depend on accept each other's versions, by what each of them requires.

    Args:
        requires: a distribution's requirements.
        installed: a distribution's version, or None.
    """
    from packaging.requirements import Requirement

    refused = False
    for name in filter(installed, TRIED):
        for one in map(Requirement, requires(name)):
            version = installed(one.name)
            applies = one.marker is None or one.marker.evaluate({"extra": ""})
            if applies and version is not None and not one.specifier.contains(version, prereleases=True):
                refused = True
                yield Finding(
                    f"{name} with {one.name}",
                    f"{name} {installed(name)} needs {one.name}{one.specifier}, {version} is installed",
                    "problem",
                    f"pip install '{one.name}{one.specifier}', or another {name}",
                )
    if not refused:
        yield Finding("together", f"{', '.join(TRIED)} accept each other's versions")


def extras(requires: list[str], names: list[str], installed: Installed) -> Iterator[Finding]:
    """Which extras are installed, with all that they need."""
    for extra in names:
        missing = [
            str(one.name)
            for one in _needed(requires, extra)
            if (version := installed(one.name)) is None or not one.specifier.contains(version, prereleases=True)
        ]
        if not missing:
            yield Finding(f"extra {extra}", "installed")
        else:
            yield Finding(
                f"extra {extra}",
                f"not installed (without {', '.join(missing)})",
                "ok",
                f"where it is wanted: pip install '{_NAME}[{extra}]'",
            )


def _needed(requires: list[str], extra: str) -> "Iterator[Requirement]":
    """What an extra needs that the package alone does not, with what the extras need that it names itself."""
    from packaging.requirements import Requirement

    for one in map(Requirement, requires):
        if one.marker and one.marker.evaluate({"extra": extra}) and not one.marker.evaluate({"extra": ""}):
            if one.name == _NAME:
                for other in sorted(one.extras):
                    yield from _needed(requires, other)
            else:
                yield one


def hub(environment: Mapping[str, str], reaches: Callable[[str], str | None]) -> Finding:
    """Whether the Hugging Face hub answers.

    Args:
        environment: variables.
        reaches: why an address does not answer, or None where it does.
    """
    name = "Hugging Face hub"
    offline = next(
        (
            v
            for v in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
            if environment.get(v, "").upper() in ("1", "ON", "YES", "TRUE")
        ),
        None,
    )
    if offline:
        return Finding(name, f"offline, by {offline}", "note", f"unset {offline} to download models and data sets")
    endpoint = environment.get("HF_ENDPOINT", "https://huggingface.co")
    if (reason := reaches(endpoint)) is None:
        return Finding(name, f"{endpoint} answers")
    return Finding(
        name,
        f"{endpoint} does not answer: {reason}",
        "note",
        "models and data sets must be on this machine: give folders, or set HTTPS_PROXY or HF_ENDPOINT; HF_HUB_OFFLINE=1 "
        "spares the wait",
    )


def _reaches(address: str) -> str | None:
    try:
        request = urllib.request.Request(address, method="HEAD")
        with urllib.request.urlopen(request, timeout=_TIMEOUT):
            return None
    except urllib.error.HTTPError:
        return None  # whatever it says, it answers
    except (OSError, ValueError) as error:
        return " ".join(str(getattr(error, "reason", error)).split()) or type(error).__name__


def _python() -> Iterator[Finding]:
    from packaging.specifiers import SpecifierSet

    wanted = SpecifierSet(metadata.metadata(_NAME)["Requires-Python"] or "")
    version = platform.python_version()
    fits = wanted.contains(version, prereleases=True)
    advice = "" if fits else f"{wanted} is needed: make an environment with another Python"
    yield Finding("Python", f"{version}, {sys.executable}", "ok" if fits else "problem", advice)
    yield Finding(_NAME, metadata.version(_NAME))


def _device(machine: "Machine") -> Iterator[Finding]:
    import torch

    if machine.device == "cuda":
        value = f"{machine.name}, {(machine.device_memory or 0) / _GIB:.0f} GiB, CUDA {torch.version.cuda}"
        try:
            torch.ones(2, 2, device="cuda").matmul(torch.ones(2, 2, device="cuda")).sum().item()
            yield Finding("device", value)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            yield Finding(
                "device", f"{value}: {reason}", "problem", "install the torch that is built for it, see pytorch.org"
            )
    elif shutil.which("nvidia-smi"):
        built = f"is built for CUDA {torch.version.cuda}" if torch.version.cuda else "is built for CPUs alone"
        yield Finding(
            "device",
            f"CPU, {machine.cores} cores, though nvidia-smi is there; torch {torch.__version__} {built}",
            "problem",
            "install the torch that fits the driver (nvidia-smi says which CUDA it is for), see pytorch.org",
        )
    else:
        yield Finding(
            "device", f"CPU, {machine.cores} cores; runs take hours on it with models above 300 million weights"
        )
    low = machine.free_memory < _LEAST_MEMORY
    yield Finding(
        "memory",
        f"{machine.free_memory / _GIB:.1f} of {machine.memory / _GIB:.1f} GiB available",
        "note" if low else "ok",
        "close other programs, or take a small base model" if low else "",
    )


def _folders() -> Iterator[Finding]:
    """Where downloads and runs are written, and the space there."""
    import datasets
    import huggingface_hub.constants

    from adamergex.storage.files import cache_folder

    places = {
        "models": (Path(huggingface_hub.constants.HF_HUB_CACHE), "HF_HOME"),
        "data sets": (Path(datasets.config.HF_DATASETS_CACHE), "HF_HOME"),
        "converted models": (cache_folder(), "ADAMERGEX_CACHE"),
        "current folder": (Path.cwd(), "--output"),
    }
    for name, (path, variable) in places.items():
        yield folder(name, path, variable)


def folder(name: str, path: Path, variable: str) -> Finding:
    """Whether a folder, or the nearest one above it that there is, can be written and has space.

    Args:
        name: what it holds.
        path: where it is; it need not exist.
        variable: what chooses another place.
    """
    path = Path(os.path.expanduser(path)).absolute()
    there = next(place for place in (path, *path.parents) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        return Finding(name, f"{path}: cannot be written", "problem", f"choose another place with {variable}")
    free = shutil.disk_usage(there).free
    low = free < _LEAST_SPACE
    advice = f"free some space, or choose another place with {variable}" if low else ""
    return Finding(name, f"{path}: {free / _GIB:.1f} GiB free", "note" if low else "ok", advice)


def _show(found: list[Finding]) -> None:
    console = Terminal()
    table = Table(box=None, show_header=False, pad_edge=False)
    for finding in found:
        advice = f"\n→ {finding.advice}" if finding.advice else ""
        table.add_row(Text(finding.status, _COLOURS[finding.status]), finding.name, f"{finding.value}{advice}")
    console.print(table)
    problems = sum(finding.status == "problem" for finding in found)
    console.print("nothing stands in the way of a run" if not problems else f"problems: {problems}")
