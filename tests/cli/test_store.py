"""`--store` and `adamergex store`: runs of different recipes share what is the same in them."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from adamergex.cli.main import app
from adamergex.storage.record import MARK


def call(*arguments: str, status: int = 0) -> Result:
    done = CliRunner().invoke(app, list(arguments))
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == status, done.output
    return done


def weights(run: Path) -> dict[str, bytes]:
    return {
        path.relative_to(run).as_posix(): path.read_bytes() for path in sorted(run.rglob("adapter_model.safetensors"))
    }


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results")


def test_recipes_share_what_is_the_same_in_them(own_data: Callable[..., Path], tmp_path: Path) -> None:
    methods = {"methods": ["base", "source-adapter", "adamergex"]}
    store, first = str(tmp_path / "store"), own_data(name="first", evaluate=methods)
    call("run", str(first), "--output", str(tmp_path / "one"), "--store", store)
    second = own_data(name="second", evaluate=methods, merge={"scale": 0.25})
    said = call("plan", str(second), "--output", str(tmp_path / "two"), "--store", store).output
    assert [line.split()[0] for line in said.splitlines() if line.endswith("in the store")] == [
        path.parent.relative_to(tmp_path / "one").as_posix()
        for path in sorted(
            (tmp_path / "one").rglob(MARK),
            key=lambda path: said.index(path.parent.relative_to(tmp_path / "one").as_posix()),
        )
        if not any(part in path.parts for part in ("merged", "adamergex", "delivered"))
    ]
    shown = call("run", str(second), "--output", str(tmp_path / "two"), "--store", store).output
    assert shown.count(", from the store: done before") == said.count("in the store")
    assert "adapters/task-en: begins" not in shown
    # What was taken is what a run without a store makes.
    call("run", str(second), "--output", str(tmp_path / "three"))
    assert weights(tmp_path / "two") == weights(tmp_path / "three")
    kept = {json.loads(path.read_text())["key"] for path in (tmp_path / "two").rglob(MARK)}
    listed = call("store", "ls", store).output.splitlines()
    assert len(listed) - 1 == len(list(Path(store).glob("stages/*/*.json"))) > len(kept)
    assert any(line.endswith("adapters/task-en") and " train " in line for line in listed)
    said = call("store", "prune", store, "--keep-used-by", str(tmp_path / "two")).output
    gone = len(listed) - 1 - len(kept)
    assert said == f"{gone} stages and 0 bytes would go (add --yes); {len(kept)} stay\n"
    for path in Path(store, "files").rglob("*"):
        os.utime(path, (0, 0))
    said = call("store", "prune", store, "--keep-used-by", str(tmp_path / "two"), "--yes").output
    assert said.startswith(f"{gone} stages and ")
    assert " 0 bytes" not in said
    assert {path.stem for path in Path(store).glob("stages/*/*.json")} == kept
    assert f"{len(kept)} of {len(kept)} stages are what was written" in call("store", "verify", store).output
    file = next(path for path in Path(store, "files").rglob("*") if path.is_file() and path.stat().st_size)
    file.write_bytes(b"\0" + file.read_bytes()[1:])
    assert "is not what was written" in call("store", "verify", store, status=1).output
    shutil.rmtree(tmp_path / "two")


def test_a_store_that_cannot_be_is_one_line_before_anything_runs(own_data: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place, says in (
        (str(tmp_path / "file"), "a part of it is a file, not a folder; give another --store"),
        ("nope://x", "Protocol not known: nope"),
    ):
        done = CliRunner().invoke(app, ["run", str(own_data()), "--output", str(tmp_path / "run"), "--store", place])
        assert says in str(done.exception)
        assert "\n" not in str(done.exception)
        assert not (tmp_path / "run").exists()
    done = CliRunner().invoke(app, ["store", "prune", str(tmp_path / "store"), "--keep-used-by", str(tmp_path)])
    assert "no run with finished stages" in str(done.exception)
