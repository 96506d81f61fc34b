"""Files of others, mutated from a seed: status 0 or 2, no traceback, soon, and nothing left. `make slow` runs some hundreds.

ADAMERGEX_FUZZ_CASES=1000 in the environment is a thousand of each kind; ADAMERGEX_FUZZ_SEED other ones.
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from tests.attack import forked, mutations

pytestmark = pytest.mark.attack
COUNT, SEED = (int(os.environ.get(f"ADAMERGEX_FUZZ_{name}", usual)) for name, usual in (("CASES", 25), ("SEED", 0)))
# A process that was begun ends by itself within this time; where a model is loaded it takes most of it.
SECONDS = 5


def _recipe(draw: Random, folder: Path) -> str:
    path = folder / "recipe.yaml"
    path.write_bytes(mutations.yaml_text(draw, json.loads(path.read_text())))
    return draw.choice(
        [
            "validate recipe.yaml",
            "plan recipe.yaml --output out",
            "evaluate --task recipe.yaml --language es --output out",
        ]
    )


def _override(draw: Random, folder: Path) -> str:
    keys = [".".join(map(str, path)) for path in mutations.places(json.loads((folder / "recipe.yaml").read_text()))]
    key = draw.choice(
        [*keys, "", ".", "a..b", "merge", "merge.scale", "seeds", "adapters.task", "evaluate.methods", "refine"]
    )
    value = draw.choice([*mutations.YAML, *map(json.dumps, mutations.VALUES)])
    return "\0".join([draw.choice(["validate", "plan"]), "recipe.yaml", "--set", f"{key}={value}"])


def _merge_plan(draw: Random, folder: Path) -> str:
    plan = {
        "method": draw.choice(["adamergex", "ties", "task-arithmetic"]),
        "scale": draw.choice([0.5, {"default": 0.2, "modules": {"q_proj": 1}}]),
        "language": "es",
        "missing": "zero",
    }
    plan |= {"inputs": {role: {"folder": f"run/adapters/{name}"} for role, name in ROLES.items()}}
    (folder / "merge.yaml").write_bytes(mutations.yaml_text(draw, plan))
    return "merge --plan merge.yaml --output out"


ROLES = {"task": "task-en", "reference-target": "reference-es", "reference-source": "reference-en"}
_MERGE = (
    "merge " + " ".join(f"--{role} run/adapters/{name}" for role, name in ROLES.items()) + " --scale 0.5 --output out"
)
_EVALUATE = "evaluate --adapter a=run/adapters/task-en --task recipe.yaml --language es --output out"
# Commands that open an adapter.
ON_ADAPTERS = [
    "inspect run/adapters/task-en",
    _MERGE,
    _EVALUATE,
    "fuse run/adapters/task-en --output out",
    "convert run/adapters/task-en --output out",
    "predict run data/test.es.jsonl --output out.jsonl",
]


def _of_nobody(adapter: Path) -> Path:
    """An adapter of a run as one that came from elsewhere: whatever a run did not write, it refuses."""
    (adapter / "stage.json").unlink()
    return adapter


def _adapter_config(draw: Random, folder: Path) -> str:
    command = draw.choice(ON_ADAPTERS)
    if command.startswith("convert"):
        (folder / "run/adapters/task-en/adapter_model.safetensors").rename(
            folder / "run/adapters/task-en/adapter_model-00001-of-00001.safetensors"
        )
    name = "delivered/es" if command.startswith("predict") else "adapters/task-en"
    mutations.json_file(draw, _of_nobody(folder / "run" / name) / "adapter_config.json")
    return command


def _adapter_header(draw: Random, folder: Path) -> str:
    command = draw.choice(ON_ADAPTERS[:4])
    mutations.header(draw, _of_nobody(folder / "run/adapters/task-en") / "adapter_model.safetensors")
    return command


def _usage(draw: Random, folder: Path) -> str:
    mutations.json_file(draw, _of_nobody(folder / "run/delivered/es") / "adamergex.json")
    return draw.choice(["predict run data/test.es.jsonl --output out.jsonl", "fuse run --output out"])


_CORPUS = "corpus data/text.es.txt --language es --tokenizer model --tokens 200 --window 16 --output out"


def _model_config(draw: Random, folder: Path) -> str:
    name = draw.choice(
        ["config.json", "config.json", "tokenizer_config.json", "generation_config.json", "tokenizer.json"]
    )
    mutations.json_file(draw, folder / "model" / name)
    return draw.choice(
        ["validate recipe.yaml", "plan recipe.yaml --output out", _EVALUATE, ON_ADAPTERS[3], ON_ADAPTERS[5], _CORPUS]
    )


def _checkpoint(draw: Random, folder: Path) -> str:
    mutations.header(draw, folder / "model/model.safetensors")
    return draw.choice([_EVALUATE, ON_ADAPTERS[3], ON_ADAPTERS[5]])


def _rows(draw: Random, folder: Path) -> str:
    rows = [json.loads(line) for line in (folder / "data/train.en.jsonl").read_text().splitlines()]
    name = mutations.rows_file(draw, folder, rows)
    where = draw.choice(["task.train", "task.test"])
    return draw.choice(
        [
            f"validate recipe.yaml --set {where}={name}",
            f"init {name} --target es --text data --yes --output out.yaml",
            f"predict run {name} --output out.jsonl",
            f"corpus {name} --language es --tokenizer model --tokens 200 --window 16 --output out",
        ]
    )


def _run_folder(draw: Random, folder: Path) -> str:
    files = sorted(path for path in (folder / "run").rglob("*") if path.suffix in (".json", ".jsonl", ".yaml"))
    path = draw.choice(files)
    if path.suffix == ".json":
        mutations.json_file(draw, path)
    else:
        path.write_bytes(mutations.damaged(draw, path.read_bytes()))
    return draw.choice(
        ["plan recipe.yaml --output run", "run recipe.yaml --output run", "publish run --to me/it --dry-run"]
    )


MUTATIONS: dict[str, Callable[[Random, Path], str]] = {
    "recipe": _recipe,
    "override": _override,
    "merge plan": _merge_plan,
    "adapter configuration": _adapter_config,
    "adapter header": _adapter_header,
    "adamergex.json": _usage,
    "model configuration": _model_config,
    "checkpoint": _checkpoint,
    "rows": _rows,
    "run folder": _run_folder,
}


def outcome(kind: str, number: int, kept: Path, folder: Path, seed: int) -> str | None:
    """What is wrong with how a mutated case ends; None where nothing is.

    Args:
        kind: of `MUTATIONS`.
        number: of the case.
        kept: a folder with everything that commands read.
        folder: to work in, which does not exist yet.
        seed: of all cases.
    """
    shutil.copytree(kept, folder)
    command = MUTATIONS[kind](Random(f"{seed} {kind} {number}"), folder)
    arguments = command.split("\0") if "\0" in command else command.split()
    status, took = forked.run(arguments, folder, shown := folder.with_name("shown"), 12 * SECONDS)
    text = shown.read_bytes().decode("utf-8", "replace")
    left = [
        path.name
        for path in folder.rglob("*")
        if path.name.startswith((".partial", ".old")) or (path.name in ("partial",) and any(path.iterdir()))
    ]
    wrong = [f"status {status}"] if status not in (0, 2) else []
    wrong += ["a traceback"] if "Traceback" in text else []
    wrong += [f"{took:.0f} s"] if took > SECONDS else []
    wrong += ["no line that says why"] if status == 2 and not text.strip() else []
    wrong += [f"left {left}"] if left else []
    shutil.rmtree(folder)
    return f"{kind} {number}: {', '.join(wrong)}: {arguments}\n{text[-1500:]}" if wrong else None


@pytest.mark.parametrize("kind", MUTATIONS)
def test_mutated_files_are_read_or_refused_in_a_line(kind: str, kept_run: Path, tmp_path: Path) -> None:
    found = [outcome(kind, number, kept_run, tmp_path / "work", SEED) for number in range(COUNT)]
    assert not (wrong := list(filter(None, found))), f"{len(wrong)} of {COUNT}\n" + "\n".join(wrong[:5])
