"""Every command × every file and folder that it comes to without the right to read, write or enter it: one line, status 2.

Root, whom nothing is refused, gives up in each process that by which that is so. ADAMERGEX_ATTACKS=10 in the environment has
ten times as many.
"""

import ctypes
import os
import re
import shutil
import sys
from pathlib import Path
from random import Random

import pytest

from tests.attack import forked
from tests.attack.test_kills import count

pytestmark = pytest.mark.attack
SECONDS = 60
_VERSION, _OVERRIDE, _SEARCH, _OWNER = 0x20080522, 1, 2, 3


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def as_anybody() -> None:
    """Give up, in this process, what makes root more than anybody else where files are concerned (capabilities(7))."""
    if os.geteuid():
        return
    library = ctypes.CDLL(None, use_errno=True)
    header, sets = _Header(_VERSION, 0), (_Sets * 2)()
    assert library.capget(ctypes.byref(header), sets) == 0
    kept = ~sum(1 << number for number in (_OVERRIDE, _SEARCH, _OWNER)) & 0xFFFFFFFF
    for name in ("effective", "permitted", "inheritable"):
        setattr(sets[0], name, getattr(sets[0], name) & kept)
    assert library.capset(ctypes.byref(header), sets) == 0


_ROLES = "--task run/adapters/task-en --reference-target run/adapters/reference-es --reference-source run/adapters/reference-en"
_MODEL = (
    "model",
    "model/config.json",
    "model/model.safetensors",
    "model/tokenizer.json",
    "model/tokenizer_config.json",
)
_RECIPE = ("recipe.yaml", "data", "data/train.en.jsonl", "data/test.es.jsonl", "data/text.es.txt")
_TASK = tuple(f"run/adapters/task-en{name}" for name in ("", "/adapter_config.json", "/adapter_model.safetensors"))
_RUN = (
    "run", "run/.lock", "run/recipe.yaml", "run/.files.json", "run/report.html", "run/adapters", "run/data", "run/merged/es",
    "run/adapters/reference-en/stage.json", "run/predictions/es/base/predictions.jsonl", *_TASK,
)  # fmt: skip
_DELIVERED = (
    "run/delivered", "run/delivered/es", *(f"run/delivered/es/{name}" for name in ("adamergex.json", "adapter_config.json")),
)  # fmt: skip
# What is called, and what it comes to beside the folder that it is called in.
COMMANDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "inspect": ("inspect run/adapters/task-en", _TASK),
    "merge": (f"merge {_ROLES} --scale 0.5 --output place/out", (*_TASK, "place", "run/adapters")),
    "merge over": (f"merge {_ROLES} --scale 0.5 --overwrite --output place/old", ("place", "place/old")),
    "convert": ("convert run/adapters/task-en --output place/out", (*_TASK, "place")),
    "fuse": ("fuse run/adapters/task-en --output place/out", (*_TASK, *_MODEL, "place")),
    "evaluate": (
        "evaluate --adapter a=run/adapters/task-en --task recipe.yaml --language es --output place/out",
        (*_RECIPE, *_TASK, *_MODEL, "place"),
    ),
    "predict": ("predict run data/test.es.jsonl --output place/out.jsonl", (*_DELIVERED, *_MODEL, *_RECIPE, "place")),
    "predict over": (
        "predict run data/test.es.jsonl --overwrite --output place/old.jsonl",
        ("place", "place/old.jsonl"),
    ),
    "run": ("run recipe.yaml --output place/out", (*_RECIPE, *_MODEL, "place")),
    "run again": ("run recipe.yaml --output run", (*_RUN, *_DELIVERED, *_RECIPE)),
    "verify": ("run recipe.yaml --output run --verify", (*_RUN, *_DELIVERED)),
    "run of a folder": ("run run", (*_RUN, *_DELIVERED, *_RECIPE)),
    "other run": ("run recipe.yaml --output run --set merge.scale=0.25", (*_RUN, *_DELIVERED)),
    "store": ("run recipe.yaml --output run --store place", ("place", *_RUN)),
    "plan": ("plan recipe.yaml --output run", (*_RUN, *_RECIPE, *_MODEL)),
    "validate": ("validate recipe.yaml", (*_RECIPE, *_MODEL)),
    "init": ("init data/train.en.jsonl --target es --text data --yes --output place/own.yaml", (*_RECIPE, "place")),
    "corpus": (
        "corpus data/text.es.txt --language es --tokenizer model --tokens 200 --window 16 --output place/out",
        (*_RECIPE, *_MODEL, "place"),
    ),
    "copy": ("recipes copy own-data place", ("place",)),
    "publish": ("publish run --to me/it --dry-run", (*_RUN, *_DELIVERED)),
    "store ls": ("store ls kept", ("kept", "kept/stages", "kept/files")),
    "store verify": ("store verify kept", ("kept", "kept/stages", "kept/files")),
    "store prune": ("store prune kept --keep-used-by place --yes", ("kept", "kept/stages", "kept/files", "place")),
}  # fmt: skip
# Of a folder: nothing, no entry, no change, no look.
MODES = (0o000, 0o444, 0o555, 0o333)
CASES = [
    (name, path, mode, foreign)
    for name, (_, paths) in COMMANDS.items()
    for path in (".", *paths)
    for mode in MODES
    for foreign in (False, True)
]
# What a command that was refused may have begun: a run, and what it puts into a store; and what such a run takes away before
# it makes anything again, for it would no longer be true.
_PARTS = r"\.lock|\.work(/events\.jsonl)?|recipe\.yaml|\.files\.json|(checks|data|adapters|merged|set-aside)(/.*)?"
_BEGUN = re.compile(rf"place/(out|files|stages|.*\.lock)(/.*)?|run/({_PARTS})|.*\.lock")
_REPORT = re.compile(r"run/(report\.html|report\.md|scores\.jsonl|training\.png)")


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.fixture(scope="session")
def with_a_store(kept_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(shutil.copytree(kept_run, tmp_path_factory.mktemp("permissions") / "kept"))
    shown = folder.with_name("shown")
    status, _ = forked.run(["run", "recipe.yaml", "--output", "run", "--store", "kept"], folder, shown, 300)
    assert status == 0, shown.read_text()[-2000:]
    shutil.copytree(folder / "run/merged/es/adamergex", folder / "place/old")
    (folder / "place/old.jsonl").write_text("{}\n")
    return folder


def outcome(case: tuple[str, str, int, bool], kept: Path, folder: Path) -> str | None:
    """What is wrong with how a command ends; None where nothing is.

    Args:
        case: of `CASES`: a command, what it may not use, the rights that it has there, and whether somebody else owns it.
        kept: a folder with everything that commands read.
        folder: to work in, which does not exist yet.
    """
    name, path, mode, foreign = case
    shutil.copytree(kept, folder, symlinks=True)
    place, shown = folder / path, folder.with_name("shown")
    before = everything(folder)
    if place.exists():
        if foreign and not os.geteuid():
            os.chown(place, 65534, 65534)
        place.chmod(mode)
    status, _ = forked.run(COMMANDS[name][0].split(), folder, shown, SECONDS, before=as_anybody)
    if place.exists():
        place.chmod(0o755)
    said = shown.read_bytes().decode("utf-8", "replace")
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    left = {one for one in everything(folder) - before if not _BEGUN.fullmatch(one)} if status else set()
    left |= {one for one in everything(folder) if ".partial" in one}
    # Of a store it is the answer to the question that was asked.
    broken = status == 1 and name == "store verify"
    wrong = [f"status {status}"] if status not in (0, 2) and not broken else []
    wrong += ["a traceback"] if "Traceback" in said else []
    wrong += [f"{len(errors)} errors"] if status == 2 and not errors else []
    wrong += [f"left {sorted(left)}"] if left else []
    gone = {one for one in before - everything(folder) if not _REPORT.fullmatch(one)} if status else set()
    wrong += [f"gone {sorted(gone)}"] if gone else []
    shutil.rmtree(folder)
    return f"{name}, {path} {mode:o}{' foreign' * foreign}: {', '.join(wrong)}\n{said[-1500:]}" if wrong else None


def test_what_is_not_permitted_is_one_line(with_a_store: Path, tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("root gives up its rights by calls that Linux has")
    # A folder that takes files and shows none.
    some = [("predict", "place", 0o333, False), *Random(0).sample(CASES, min(count(30), len(CASES)))]
    found = list(filter(None, (outcome(case, with_a_store, tmp_path / "work") for case in some)))
    assert not found, f"{len(found)} of {len(some)}\n" + "\n".join(found[:10])
