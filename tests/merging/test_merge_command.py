"""`adamergex merge` and `adamergex inspect`, as a user meets them."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

import adamergex
from adamergex.adapters.adapter import CONFIG, WEIGHTS
from adamergex.cli import main
from adamergex.merging.serving import for_vllm
from tests import zoo


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Task, target and source, as arguments."""
    made = zoo.three(zoo.llama, lambda: zoo.lora(r=8), tmp_path_factory.mktemp("inputs"))
    return ["--task", str(made[0]), "--reference-target", str(made[1]), "--reference-source", str(made[2])]


def run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object
) -> tuple[int, str, str]:
    """Exit status, output and errors of the command line."""
    monkeypatch.setattr(sys, "argv", ["adamergex", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main.main()
    shown = capsys.readouterr()
    return int(caught.value.code or 0), shown.out, shown.err


def test_a_merge_writes_what_python_merges_and_says_what_to_set_for_vllm(
    folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    status, out, err = run(capsys, monkeypatch, "merge", *folders, "--scale", 0.6, "--output", tmp_path / "out")
    assert status == 0
    assert "rank                 24 (4 modules)" in out
    assert "r = 24 is above vLLM's default: serve it with --max-lora-rank 32, or merge with --rank 16" in err
    expected = zoo.merged([Path(folder) for folder in folders[1::2]], 0.6)
    found = adamergex.load(tmp_path / "out")
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in expected.tensors.items())
    card = (tmp_path / "out" / "README.md").read_text()
    for adapter in map(adamergex.load, folders[1::2]):
        assert f"`{adapter.digest}`" in card
    assert "zhao2025adamergex" in card
    assert sorted(os.listdir(tmp_path / "out")) == ["README.md", CONFIG, WEIGHTS, "merge.json", "merge.yaml"]
    assert os.listdir(tmp_path) == ["out"]


def test_a_result_that_a_base_model_would_not_load_is_not_written(
    folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fits, other = tmp_path / "fits", tmp_path / "other"
    zoo.llama().config.save_pretrained(fits)  # type: ignore[union-attr, operator]
    zoo.gpt2().config.save_pretrained(other)  # type: ignore[union-attr, operator]
    merge = ["merge", *folders, "--scale", 0.6, "--output", tmp_path / "out"]
    status, _, err = run(capsys, monkeypatch, *merge, "--base-model", other)
    assert status == 2
    assert err.startswith(f"error: {folders[1]}, merged on {other}: Target modules")
    assert not (tmp_path / "out").exists()
    status, _, err = run(capsys, monkeypatch, *merge, "--base-model", "nobody/has-this")
    assert (status, err) == (
        2,
        "error: base_model nobody/has-this: its config.json is not on this machine, and nothing is downloaded to check an adapter; "
        "name a folder that has it\n",
    )
    assert run(capsys, monkeypatch, *merge, "--base-model", fits)[0] == 0
    status, out, err = run(capsys, monkeypatch, "inspect", tmp_path / "out", "--base-model", other, "--json")
    assert (status, err) == (0, "")
    [line] = json.loads(out)["adapters"]["out"]["misplaced"]
    assert "Target modules" in line
    assert (
        "misplaced"
        not in json.loads(run(capsys, monkeypatch, "inspect", tmp_path / "out", "--json")[1])["adapters"]["out"]
    )


def test_the_plan_in_the_output_makes_the_same_bytes(
    folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [
        "--scale",
        "0.2,0.8",
        "--scale-for",
        "down_proj=-0.5",
        "--rank",
        "3",
        "--dtype",
        "bfloat16",
        "--language",
        "sw",
    ]
    assert run(capsys, monkeypatch, "merge", *folders, *options, "--output", tmp_path / "one")[0] == 0
    again = ["merge", "--plan", tmp_path / "one" / "merge.yaml", "--output", tmp_path / "elsewhere" / "two"]
    assert run(capsys, monkeypatch, *again)[0] == 0
    one, two = tmp_path / "one", tmp_path / "elsewhere" / "two"
    for name in os.listdir(one):
        assert (one / name).read_bytes() == (two / name).read_bytes(), name
    # An option goes before the plan, and the rest of the plan stays.
    assert run(capsys, monkeypatch, *again[:-1], tmp_path / "three", "--rank", "2")[0] == 0
    assert json.loads((tmp_path / "three" / CONFIG).read_text())["r"] == 2
    assert "down_proj: -0.5" in (tmp_path / "three" / "merge.yaml").read_text()


def test_every_problem_of_the_command_line_and_the_plan_is_a_line(
    folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    status, _, err = run(capsys, monkeypatch, "merge", "--output", tmp_path / "out", "--scale-for", "x")
    assert status == 2
    assert err.splitlines() == [
        "error: the command line: --task is missing",
        "error: the command line: --reference-target is missing",
        "error: the command line: --scale is missing; 0 gives the task adapter",
        "error: the command line: --scale-for: 'x' is no PATTERN=T",
    ]
    plan = tmp_path / "plan.yaml"
    plan.write_text("method: tie\nscales: 0.5\nscale: {default: .nan, layers: {a: 1}}\n")
    status, _, err = run(capsys, monkeypatch, "merge", "--plan", plan, "--output", tmp_path / "out")
    assert status == 2
    assert f"error: {plan}:1: method: expected one of task-arithmetic, ties" in err
    assert f"error: {plan}:2: scales: is no setting of ties; did you mean scale?" in err
    assert f"error: {plan}:3: scale.default: expected a finite number" in err
    assert f"error: {plan}:3: scale.layers.a: " in err
    assert f"error: {plan}: inputs: missing; add it" in err
    assert os.listdir(tmp_path) == ["plan.yaml"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--method", "ties", "--exact", "--energy", "0.5"],
            "--exact, --rank and --energy are ways to choose one rank",
        ),
        (["--rank", "2", "--energy", "0.5"], "--exact, --rank and --energy are ways to choose one rank"),
        (
            ["--method", "ties", "--exact"],
            "rank: expected a whole number from 1: elected signs leave no exact result of low rank; got 'exact'",
        ),
        (["--density", "0.5"], "density: is for ties and dare-ties; the method is adamergex"),
        (["--method", "ties", "--seed", "99999999999999999999"], "seed: input should be less than"),
        (["--scale-for", "a{99999999999}=1"], "is no regular expression"),
        (["--reference-source", "a\0b"], "is no path that can be written down"),
        (["--method", "factorspace"], "factor-space; did you mean factor-space?; got 'factorspace'"),
        (
            ["--method", "factor-space", "--rank", "2"],
            "rank: is for task-arithmetic, ties, dare-ties, layer-swap and adamergex",
        ),
        (["--rule", "pseudo-inverse"], "the pseudo-inverse rule is for prompts; the adapters are LoRA"),
        (
            ["--scale-for", "k_proj=1"],
            "the scale of k_proj fits no module, or none that an earlier pattern leaves; they are named like model.layers.0.mlp",
        ),
        (["--scale-for", "(=1"], "'\\(' is no regular expression"),
        (["--reference-source", "/nowhere"], "/nowhere: no such folder; expected a PEFT adapter folder"),
        (["--scale", "0,5"], "--scale: scale is '0,5'; write 0.5 with a point, or 0.0,5.0 for a curve over the layers"),
        (["--scale-for", "q_proj=0,5"], "--scale-for: scale is '0,5'; write 0.5 with a point, or 0.0,5.0 for a curve"),
        (["--scale", "nan"], "scale: expected a finite number, or several for a curve over the layers; got nan"),
        (["--missing", "nought"], "missing: input should be 'refuse' or 'zero'; got 'nought'"),
    ],
)
def test_a_wrong_option_is_one_line_and_writes_nothing(
    folders: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    message: str,
) -> None:
    arguments = ["merge", *folders, "--scale", "0.5", *options, "--output", tmp_path / "out"]
    status, _, err = run(capsys, monkeypatch, *arguments)
    assert status == 2
    assert len(err.splitlines()) == 1
    assert message.replace("\\", "") in err
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_replaced_only_when_asked_and_never_an_input(
    folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    merge = ["merge", *folders, "--scale", "0.5", "--output"]
    assert run(capsys, monkeypatch, *merge, out)[0] == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    status, _, err = run(capsys, monkeypatch, *merge, out)
    assert (status, "exists already; choose another --output, or add --overwrite" in err) == (2, True)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert run(capsys, monkeypatch, *merge, out, "--scale", "0.7", "--overwrite")[0] == 0
    assert (out / WEIGHTS).read_bytes() != before[WEIGHTS]
    for place in (folders[1], str(Path(folders[1]).parent)):
        status, _, err = run(capsys, monkeypatch, *merge, place, "--overwrite")
        assert (status, "would replace the task adapter" in err) == (2, True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    status, _, err = run(capsys, monkeypatch, *merge, tmp_path / "mine", "--overwrite")
    assert (status, "holds more than an adapter (thesis.tex), and is not replaced" in err) == (2, True)
    assert sorted(os.listdir(tmp_path)) == ["mine", "out"]


def test_an_output_is_where_the_system_finds_it(
    folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`link/../keep` is beside what the link leads to, and not beside the link."""
    (tmp_path / "far" / "real").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far" / "real")
    (tmp_path / "keep").mkdir()
    (tmp_path / "keep" / "thesis.tex").touch()
    arguments = ["merge", *folders, "--scale", "0.5", "--output"]
    assert run(capsys, monkeypatch, *arguments, f"{tmp_path}/link/../keep")[0] == 0
    assert (tmp_path / "far" / "keep" / WEIGHTS).is_file()
    assert os.listdir(tmp_path / "keep") == ["thesis.tex"]
    monkeypatch.chdir(tmp_path / "keep")
    for place in (".", ".."):
        status, _, err = run(capsys, monkeypatch, *arguments, place, "--overwrite")
        assert (status, "is the current folder, or above it" in err) == (2, True)


def test_options_go_before_the_plan(
    folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text("scale: {default: 0.5, modules: {'.*_proj': 0.2}}\nenergy: 0.5\n")
    arguments = ["merge", *folders, "--plan", plan, "--scale-for", "q_proj=0.9", "--output"]
    assert run(capsys, monkeypatch, *arguments, tmp_path / "exact", "--exact")[0] == 0
    assert json.loads((tmp_path / "exact" / CONFIG).read_text())["r"] == 24
    written = (tmp_path / "exact" / "merge.yaml").read_text()
    assert written.index("q_proj: 0.9") < written.index(".*_proj: 0.2")
    assert run(capsys, monkeypatch, *arguments, tmp_path / "three", "--rank", "3")[0] == 0
    assert json.loads((tmp_path / "three" / CONFIG).read_text())["r"] == 3
    status, _, err = run(
        capsys, monkeypatch, *arguments, tmp_path / "taken", "--scale-for", "down_proj=1", "--scale-for", ".*=0"
    )
    assert status == 2
    assert "the scale of .*_proj fits no module, or none that an earlier pattern leaves" in err


def test_an_input_that_changed_since_the_plan_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = zoo.three(zoo.llama, zoo.lora, tmp_path)
    folders = ["--task", made[0], "--reference-target", made[1], "--reference-source", made[2]]
    assert run(capsys, monkeypatch, "merge", *folders, "--scale", "0.5", "--output", tmp_path / "out")[0] == 0
    zoo.train(zoo.llama, zoo.lora(), made[1], 77)
    plan = ["merge", "--plan", tmp_path / "out" / "merge.yaml", "--output", tmp_path / "two"]
    status, _, err = run(capsys, monkeypatch, *plan)
    assert (status, "reference-target: " in err, "it was trained or changed since" in err) == (2, True, True)
    assert not (tmp_path / "two").exists()


def test_a_killed_merge_leaves_the_old_folder_and_the_next_one_tidies_up(folders: list[str], tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "adamergex",
        "merge",
        *folders,
        "--scale",
        "0.5",
        "--output",
        str(tmp_path / "out"),
    ]
    subprocess.run(command, check=True, capture_output=True)
    before = (tmp_path / "out" / WEIGHTS).read_bytes()
    # The process stops where the folder is written, before it is renamed.
    slow = "import os, adamergex.merging.folder as m; m.card = lambda facts: os.kill(os.getpid(), 9)"
    code = f"{slow}; import sys, adamergex.cli.main as c; sys.argv[1:] = sys.argv[2:]; c.main()"
    again = [sys.executable, "-c", code, "-", *command[3:], "--scale", "0.9", "--overwrite"]
    assert subprocess.run(again, check=False, capture_output=True).returncode == -signal.SIGKILL
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".partial-out-")]
    subprocess.run([*command, "--overwrite"], check=True, capture_output=True)
    assert os.listdir(tmp_path) == ["out"]


def test_an_interrupted_merge_writes_nothing(folders: list[str], tmp_path: Path) -> None:
    slow = (
        "import time, adamergex.merging.folder as m; m.card = lambda facts: (print('here', flush=True), time.sleep(60))"
    )
    code = f"{slow}; import sys, adamergex.cli.main as c; sys.argv[1:] = sys.argv[2:]; c.main()"
    command = [sys.executable, "-c", code, "-", "merge", *folders, "--scale", "0.5", "--output", str(tmp_path / "out")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    assert any("here" in line for line in iter(process.stdout.readline, ""))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.strip() == "interrupted; nothing was written"
    assert not list(tmp_path.iterdir())


def test_inspect_shows_structure_differences_drift_and_cosines(
    folders: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    status, out, _ = run(capsys, monkeypatch, "inspect", *folders[1::2])
    assert status == 0
    for line in ("structure", "lora_alpha", "scaling", "norm of ΔW", "model.layers.1", "the A lie apart by", "all"):
        assert line in out
    assert "they can be merged with each other" in out
    status, out, _ = run(capsys, monkeypatch, "inspect", "--json", *folders[1:4:2])
    found = json.loads(out)
    task, target = map(adamergex.load, folders[1:4:2])
    for name, adapter in (("task", task), ("target", target)):
        for module in adapter.schema.products:
            norm = float(adapter.update(module).dense().norm())
            assert found["adapters"][name]["norms"][module] == pytest.approx(norm, rel=1e-9)
    pairs = [(task.update(m).dense(), target.update(m).dense()) for m in task.schema.products if "layers.0" in m]
    dot = sum(float((a * b).sum()) for a, b in pairs)
    sizes = [sum(float(pair[side].square().sum()) for pair in pairs) for side in (0, 1)]
    cosine = found["together"]["cosine"]["task · target"]["model.layers.0"]
    assert cosine == pytest.approx(dot / (sizes[0] * sizes[1]) ** 0.5, rel=1e-9)


def test_inspect_says_which_names_peft_would_not_read(
    folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = shutil.copytree(folders[1], tmp_path / "compiled")
    tensors = safetensors.torch.load_file(place / WEIGHTS)
    safetensors.torch.save_file({f"_orig_mod.{name}": tensor for name, tensor in tensors.items()}, place / WEIGHTS)
    said = "8 tensors had names with _orig_mod in front or inside, as torch.compile leaves it; they are read as PEFT names them"
    assert run(capsys, monkeypatch, "inspect", place)[2] == f"compiled: {said}\n"
    assert json.loads(run(capsys, monkeypatch, "inspect", "--json", place)[1])["adapters"]["compiled"]["notes"] == [
        said
    ]


def test_inspect_says_why_two_adapters_cannot_be_merged(
    folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = zoo.train(zoo.llama, zoo.lora(target_modules=["q_proj"]), tmp_path / "other", 5)
    status, out, _ = run(capsys, monkeypatch, "inspect", folders[1], other)
    assert status == 0
    assert "differs: modules differ: other lacks 2, the first is model.layers.0.mlp.down_proj" in out


def test_names_of_others_are_text_on_the_screen_and_on_the_card(
    folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    places = [tmp_path / f"lora[{name}]|<b>" for name in ("en", "sw", "old")]
    for folder, place in zip(folders[1::2], places, strict=True):
        shutil.copytree(folder, place)
        config = json.loads((place / CONFIG).read_text())
        (place / CONFIG).write_text(json.dumps(config | {"base_model_name_or_path": "/m/[/v2]"}))
    monkeypatch.setenv("COLUMNS", "200")
    status, out, _ = run(capsys, monkeypatch, "inspect", *places)
    assert status == 0
    assert all(place.name in out for place in places)
    assert "/m/[/v2]" in out
    roles = ("--task", "--reference-target", "--reference-source")
    inputs = [part for role, place in zip(roles, places, strict=True) for part in (role, place)]
    assert run(capsys, monkeypatch, "merge", *inputs, "--scale", "0.5", "--output", tmp_path / "out")[0] == 0
    assert "| lora\\[sw\\]\\|\\<b\\> |" in (tmp_path / "out" / "README.md").read_text()


def test_inspect_finds_what_is_meant_and_lists_what_may_be(
    folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def inspected(place: object) -> tuple[int, str]:
        status, out, err = run(capsys, monkeypatch, "inspect", place)
        # Without the norms, which the name given stands above.
        return status, err if status else out.partition("norm by layer")[0]

    expected = inspected(folders[1])
    assert expected[0] == 0
    assert inspected(Path(folders[1]) / WEIGHTS) == inspected(Path(folders[1]) / CONFIG) == expected
    # PEFT saves an adapter that is not called default in a folder of that name.
    shutil.copytree(folders[1], tmp_path / "saved" / "swahili")
    assert inspected(tmp_path / "saved") == expected
    for step in (100, 200):
        shutil.copytree(folders[1], tmp_path / "training" / f"checkpoint-{step}")
    missing = f"{tmp_path}/training: not a PEFT adapter folder: adapter_config.json is missing"
    both = ", ".join(f"{tmp_path}/training/checkpoint-{step}" for step in (100, 200))
    assert inspected(tmp_path / "training") == (2, f"error: {missing}; there are adapters in {both}\n")
    gone = f"{tmp_path}/training/checkpoint-300"
    assert inspected(gone) == (2, f"error: {gone}: no such folder; expected a PEFT adapter folder, such as {both}\n")
    (tmp_path / "notes.txt").touch()
    assert inspected(tmp_path / "notes.txt")[1].startswith(f"error: {tmp_path}/notes.txt: not a folder; expected")


BERT = "base_model.model.bert.encoder.layer.0.attention.self"


def test_what_vllm_does_not_load_is_said() -> None:
    loaded = adamergex.load
    assert loaded is adamergex.adapters.adapter.load
    config = {"peft_type": "IA3"}
    vectors = adamergex.adapters.adapter.Adapter(config, {"base_model.model.layers.0.k.ia3_l": torch.ones(3, 1)})
    assert for_vllm(adamergex.merge(vectors, vectors, vectors, scale=1.0)) == [
        "vLLM serves LoRA; this is (IA)³: load it with PEFT"
    ]
    head = {f"{BERT}.query.lora_A.weight": torch.ones(1, 3), f"{BERT}.query.lora_B.weight": torch.ones(3, 1)}
    head["base_model.model.classifier.weight"] = torch.ones(2, 3)
    # PEFT up to 0.5 wrote a head that task_type alone explains.
    lora = {"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": ["query"], "task_type": "SEQ_CLS"}
    classifier = adamergex.adapters.adapter.Adapter(lora, head)
    assert for_vllm(adamergex.merge(classifier, classifier, classifier, scale=1.0)) == [
        "vLLM loads no trained biases, tokens and whole modules (modules_to_save): load it with PEFT"
    ]
