"""merge.yaml: settings beside the inputs, and inputs by what they are."""

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from adamergex.adapters.adapter import WEIGHTS
from adamergex.cli.main import app
from adamergex.errors import AdaMergeXError, MergeError
from adamergex.merging import folder
from adamergex.merging.methods.ties import Ties
from adamergex.merging.plan import Plan
from adamergex.merging.scale import Scale
from adamergex.storage.files import sha256
from tests import zoo


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return zoo.three(zoo.llama, zoo.lora, tmp_path_factory.mktemp("inputs"))


@pytest.fixture
def run_folder(made: list[Path], tmp_path: Path) -> Path:
    """A run folder with three adapters, and a merge of them that names them by SHA-256 alone."""
    run = tmp_path / "runs" / "x"
    for source, name in zip(made, ("task-en", "reference-sw", "reference-en"), strict=True):
        (run / "adapters" / name).mkdir(parents=True)
        for file in source.iterdir():
            (run / "adapters" / name / file.name).write_bytes(file.read_bytes())
    (run / "recipe.yaml").touch()
    digests = [sha256(path / WEIGHTS) for path in made]
    (run / "merged" / "sw").mkdir(parents=True)
    (run / "merged" / "sw" / "merge.yaml").write_text(
        f"scale: 0.5\ninputs:\n  task: {{sha256: {digests[0]}}}\n  reference-target: {{sha256: {digests[1]}}}\n"
        f"  reference-source: {{sha256: {digests[2]}}}\n"
    )
    return run


def merge(*arguments: object) -> None:
    done = CliRunner().invoke(app, ["merge", *map(str, arguments)])
    if isinstance(done.exception, AdaMergeXError):
        raise done.exception
    assert done.exit_code == 0, done.output


def test_settings_stand_beside_the_inputs_and_come_back_as_a_method() -> None:
    values = {"method": "ties", "scale": 0.5, "density": 0.25, "language": "sw"}
    plan = Plan.model_validate({**values, "inputs": {"task": {"folder": "a"}, "reference-target": {"folder": "b"}}})
    assert plan.settings == Ties(scale=Scale(0.5), density=0.25)
    written = plan.model_dump()
    assert written["inputs"] == {"task": {"folder": "a"}, "reference-target": {"folder": "b"}}
    assert {key: written[key] for key in values} == values
    assert Plan.model_validate(written) == plan


def test_adapters_named_by_their_hash_are_found_in_the_run_folder(
    run_folder: Path, made: list[Path], tmp_path: Path
) -> None:
    merge("--plan", run_folder / "merged/sw/merge.yaml", "--output", tmp_path / "out")
    zoo.merged(made, 0.5).save(tmp_path / "expected")
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == (tmp_path / "expected" / WEIGHTS).read_bytes()
    assert str(run_folder / "adapters/reference-sw") in (tmp_path / "out" / "merge.yaml").read_text()


def test_outside_of_the_run_folder_the_command_says_where_they_are(
    run_folder: Path, made: list[Path], tmp_path: Path
) -> None:
    plan = tmp_path / "merge.yaml"
    plan.write_text((run_folder / "merged/sw/merge.yaml").read_text())
    digest = sha256(made[0] / WEIGHTS)
    with pytest.raises(MergeError, match=rf"task: the plan names SHA-256 {digest} alone, and {tmp_path} is in no run"):
        merge("--plan", plan, "--output", tmp_path / "out")
    options = ["--plan", plan, "--reference-target", made[1], "--reference-source", made[2]]
    merge(*options, "--task", made[0], "--output", tmp_path / "out")
    # Another adapter than the one that was merged is not taken for it.
    with pytest.raises(MergeError, match="task: .* has SHA-256"):
        merge(*options, "--task", made[1], "--output", tmp_path / "other")


def test_an_adapter_that_the_run_folder_lost_is_named(run_folder: Path, tmp_path: Path) -> None:
    (run_folder / "adapters/task-en" / WEIGHTS).unlink()
    with pytest.raises(MergeError) as caught:
        merge("--plan", run_folder / "merged/sw/merge.yaml", "--output", tmp_path / "out")
    assert f"and in {run_folder} no adapter has it; give --task DIR" in str(caught.value)
    assert "reference" not in str(caught.value)


def test_a_run_names_what_it_merged_so_that_its_folder_can_be_moved(
    own_data: Callable[..., Path], tmp_path: Path
) -> None:
    from adamergex.pipeline.run import run
    from adamergex.recipes.loading import load

    path = own_data(evaluate={"methods": ["source-adapter", "ties"], "baselines": {"ties": {"density": 0.5}}})
    run(load(str(path)), folder=path.parent, output=tmp_path / "run")
    moved = (tmp_path / "run").rename(tmp_path / "moved")
    for name in ("adamergex", "ties"):
        written = moved / "merged/es" / name
        assert "folder:" not in (written / "merge.yaml").read_text()
        merge("--plan", written / "merge.yaml", "--output", tmp_path / name)
        assert (tmp_path / name / WEIGHTS).read_bytes() == (written / WEIGHTS).read_bytes()
    assert "density: 0.5" in (moved / "merged/es/ties/merge.yaml").read_text()


def test_inputs_need_a_folder_or_a_hash() -> None:
    with pytest.raises(ValueError, match="expected a folder, a sha256, or both"):
        Plan.model_validate({"scale": 1, "inputs": {"task": {}, "reference-target": {"folder": "b"}}})
    assert folder.PLAN == "merge.yaml"
