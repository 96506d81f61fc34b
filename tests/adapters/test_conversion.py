"""`adamergex convert`: the files of older PEFT as the one that is read here, and no code of theirs."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from typer.testing import CliRunner

from adamergex.adapters.adapter import CONFIG, WEIGHTS, load
from adamergex.cli.main import app
from adamergex.errors import AdapterError
from tests import zoo


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as PEFT up to 0.6 wrote it; its tensors, with one that is a view of another."""
    written = zoo.train(zoo.llama, zoo.lora(), tmp_path / "old", 1)
    tensors = safetensors.torch.load_file(written / WEIGHTS)
    first, second = (f"base_model.model.model.layers.{layer}.mlp.down_proj.lora_A.weight" for layer in (0, 1))
    tensors[second] = tensors[first]
    torch.save(tensors, written / "adapter_model.bin")
    safetensors.torch.save_file({name: tensor.clone() for name, tensor in tensors.items()}, tmp_path / WEIGHTS)
    (written / WEIGHTS).unlink()
    (written / "tokenizer_config.json").write_text("{}")
    return written


def call(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [*map(str, arguments)])
    return done.exit_code, done.output + (str(done.exception) if isinstance(done.exception, AdapterError) else "")


def test_the_command_that_a_pickle_is_refused_with_makes_what_is_read(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="is a pickle, which may run any code when it is read; convert it") as caught:
        load(folder)
    command = str(caught.value).partition("adamergex ")[2].split()
    command[-1] = str(tmp_path / command[-1])
    assert call(*command) == (0, f"converted            adapter_model.bin\nadapter              {command[-1]}\n")
    written = Path(command[-1])
    # Byte for byte what safetensors writes of the same tensors.
    expected = safetensors.torch.save(safetensors.torch.load_file(tmp_path / WEIGHTS), metadata={"format": "pt"})
    assert (written / WEIGHTS).read_bytes() == expected
    assert sorted(os.listdir(written)) == ["README.md", CONFIG, WEIGHTS, "tokenizer_config.json"]
    assert (written / CONFIG).read_bytes() == (folder / CONFIG).read_bytes()
    assert load(written).schema.structure == "LoRA"


def test_a_pickle_that_git_lfs_left_out_is_not_told_to_be_converted(folder: Path) -> None:
    (folder / "adapter_model.bin").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0")
    with pytest.raises(
        AdapterError, match=r"adapter_model.bin: is a Git LFS pointer and not the file itself; run `git lfs pull`"
    ):
        load(folder)


@pytest.mark.parametrize("suffix", ["bin", "safetensors"])
def test_shards_become_one_file(suffix: str, folder: Path, tmp_path: Path) -> None:
    tensors = safetensors.torch.load_file(tmp_path / WEIGHTS)
    (folder / "adapter_model.bin").unlink()
    for number, names in enumerate((sorted(tensors)[:3], sorted(tensors)[3:]), 1):
        part = {name: tensors[name] for name in names}
        path = folder / f"adapter_model-0000{number}-of-00002.{suffix}"
        if suffix == "bin":
            torch.save(part, path)
        else:
            safetensors.torch.save_file(part, path)
    with pytest.raises(AdapterError, match=rf"adapter_model-00001-of-00002.{suffix} is a p.*: adamergex convert"):
        load(folder)
    assert call("convert", folder, "--output", tmp_path / "new")[0] == 0
    found = load(tmp_path / "new").tensors
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())


class Harm:
    """Makes a file when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, ("harmed",)


def test_no_code_of_a_pickle_is_run(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"a": Harm()}, folder / "adapter_model.bin")
    status, said = call("convert", folder, "--output", "new")
    assert status
    assert "holds more than tensors, and would run code when it is read; it is not opened" in said
    assert not Path("harmed").exists()
    assert not Path("new").exists()


@pytest.mark.parametrize(
    ("breaking", "message"),
    [
        (lambda path: (path / "adapter_model.bin").write_bytes(b""), "is no whole file of torch's"),
        (lambda path: os.truncate(path / "adapter_model.bin", 900), "is no whole file of torch's"),
        (lambda path: (path / "adapter_model.bin").write_bytes(b"version https://git-lfs"), "run `git lfs pull`"),
        (lambda path: torch.save([torch.ones(2)], path / "adapter_model.bin"), 'holds "list", not tensors by their names'),
        (lambda path: torch.save({"a": {"b": torch.ones(2)}}, path / "adapter_model.bin"), "not tensors by their names"),
        (
            lambda path: torch.save({"a": torch.ones(2, dtype=torch.complex64)}, path / "adapter_model.bin"),
            "tensor a has dtype torch.complex64",
        ),
        (lambda path: (path / CONFIG).unlink(), "adapter_config.json is missing"),
        (lambda path: (path / "adapter_model.bin").unlink(), "there is nothing to convert"),
        (lambda path: (path / WEIGHTS).touch(), "there is nothing to convert"),
    ],
)  # fmt: skip
def test_what_cannot_be_converted_is_one_line_and_leaves_nothing(
    folder: Path, tmp_path: Path, breaking: Callable[[Path], object], message: str
) -> None:
    breaking(folder)
    status, said = call("convert", folder, "--output", tmp_path / "new")
    assert status
    assert message in said
    assert sorted(os.listdir(tmp_path)) == [WEIGHTS, "old"]


def test_a_folder_of_something_else_is_not_replaced(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    for options in ((), ("--overwrite",)):
        assert call("convert", folder, "--output", tmp_path / "mine", *options)[0]
    assert os.listdir(tmp_path / "mine") == ["thesis.tex"]
    shutil.copytree(folder, tmp_path / "again")
    assert json.loads((folder / CONFIG).read_text())["peft_type"] == "LORA"
    assert call("convert", folder, "--output", folder, "--overwrite")[0]
    assert sorted(os.listdir(folder)) == sorted(os.listdir(tmp_path / "again"))
