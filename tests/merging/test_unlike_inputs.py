"""Adapters that are not quite alike, as public ones are: names of the base model, copies of it, fewer modules, a tokenizer."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import safetensors.torch
import torch
import transformers
from typer.testing import CliRunner

import adamergex
from adamergex.adapters.adapter import CONFIG, WEIGHTS
from adamergex.cli.main import app
from adamergex.errors import AdaMergeXError, MergeError
from tests import zoo
from tests.merging.test_loads_in_peft import loads_whole
from tests.merging.test_structures import T, close, ia3

COMMIT = "0123456789abcdef0123456789abcdef01234567"
DOWNLOAD = f"/cache/hub/models--me--base/snapshots/{COMMIT}"


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    return zoo.three(zoo.llama, zoo.lora, tmp_path)


def command(folders: list[Path], *more: object) -> str:
    """What `adamergex merge` says."""
    roles = ("--task", "--reference-target", "--reference-source")
    inputs = [part for role, folder in zip(roles, folders, strict=True) for part in (role, str(folder))]
    done = CliRunner().invoke(app, ["merge", *inputs, "--scale", str(T), *map(str, more)])
    if isinstance(done.exception, AdaMergeXError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def named(folder: Path, name: str, revision: str | None = None) -> None:
    """Let a configuration name this base model."""
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | {"base_model_name_or_path": name, "revision": revision}))


@pytest.mark.parametrize(
    "names",
    [
        ("me/base", "me/base/"),
        ("me/base", DOWNLOAD),
        ("me/base", f"{DOWNLOAD}/"),
        (DOWNLOAD, DOWNLOAD.replace("/cache", "/other")),
        ("./model", "model"),
        ("model/", "./model/../model"),
        ("./gone", "./gone/"),
        ("/gone//x/", "/gone/x"),
    ],
)
def test_one_base_model_under_several_names_is_one(
    names: tuple[str, str], folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    for order in (names, names[::-1]):
        named(folders[0], order[0])
        for folder in folders[1:]:
            named(folder, order[1])
        assert zoo.merged(folders, T).warnings == ()


def test_a_full_path_is_the_relative_one(folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    for folder, name in zip(folders, ("model", str(tmp_path / "model"), f"{tmp_path}/x/../model/"), strict=True):
        named(folder, name)
    (tmp_path / "x").mkdir()
    assert zoo.merged(folders, T).warnings == ()


@pytest.mark.parametrize(
    ("names", "revisions", "shown"),
    [
        (("gpt2", "openai-community/gpt2"), (None, None), "task was trained on gpt2, reference-target on openai-community/gpt2"),
        (("me/base", "me/base-bnb-4bit"), (None, None), "task was trained on me/base, reference-target on me/base-bnb-4bit"),
        (("me/base", "me/base"), (None, "v2"), "revision of the base model differs: task was trained on main, reference-target on v2"),
        ((DOWNLOAD, DOWNLOAD[:-1] + "0"), (None, None), f"task was trained on {COMMIT}, reference-target on {COMMIT[:-1]}0"),
    ],
)  # fmt: skip
def test_other_names_are_taken_for_one_on_the_users_word_and_that_is_said(
    names: tuple[str, str], revisions: tuple[str | None, str | None], shown: str, folders: list[Path], tmp_path: Path
) -> None:
    for folder, which in zip(folders, (0, 1, 0), strict=True):
        named(folder, names[which], revisions[which])
    with pytest.raises(MergeError) as caught:
        zoo.merged(folders, T)
    assert f"{shown}; retrain one of them, or, if the weights are the same, say so with --same-base" in str(
        caught.value
    )
    expected = zoo.merged(folders, T, same_base=True)
    said = command(folders, "--same-base", "--output", tmp_path / "out")
    assert f"{shown}; they were said to be the same (same_base)" in " ".join(said.split())
    assert shown in (tmp_path / "out/README.md").read_text()
    assert "same_base: true" in (tmp_path / "out/merge.yaml").read_text()
    # The plan remembers it.
    done = CliRunner().invoke(
        app, ["merge", "--plan", str(tmp_path / "out/merge.yaml"), "--output", str(tmp_path / "two")]
    )
    assert done.exit_code == 0
    found = adamergex.load(tmp_path / "two")
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in expected.tensors.items())


ALONG = "base_model.model.transformer.word_table.weight"


def along(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Save tensors of the base model along."""
    stored = safetensors.torch.load_file(folder / WEIGHTS)
    safetensors.torch.save_file(stored | {name: tensor.clone() for name, tensor in tensors.items()}, folder / WEIGHTS)


def table(seed: int) -> torch.Tensor:
    return torch.randn(40, 16, generator=torch.Generator().manual_seed(seed))


def test_copies_of_any_name_are_kept_and_a_dtype_is_no_difference(folders: list[Path]) -> None:
    for folder, dtype in zip(folders, (torch.bfloat16, torch.float32, torch.float16), strict=True):
        along(folder, {ALONG: table(1).to(dtype), "base_model.model.head.bias": torch.ones(40, dtype=dtype)})
    merged = zoo.merged(folders, T)
    assert {*merged.kept} == {ALONG, "base_model.model.head.bias"}
    assert torch.equal(merged.tensors[ALONG], table(1).bfloat16())
    assert merged.warnings == ()


def test_of_rows_that_differ_the_tasks_are_taken_which_is_said(folders: list[Path], tmp_path: Path) -> None:
    own, other = table(1), table(1)
    other[37:] = table(2)[37:]
    longer = torch.cat([own, table(3)[:2]])
    for folder, tensor in zip(folders, (own, other, longer), strict=True):
        along(folder, {ALONG: tensor})
    command(folders, "--output", tmp_path / "out")
    assert torch.equal(adamergex.load(tmp_path / "out").tensors[ALONG], own)
    card = (tmp_path / "out/README.md").read_text()
    assert (
        f"{ALONG}, saved along with both, differs between task and reference-target in 3 of 40 rows; the task's is"
        in card
    )
    assert f"{ALONG}, saved along with both, differs between task and reference-source in 2 of 42 rows" in card


def test_what_only_a_reference_was_saved_with_is_left_out_which_is_said(folders: list[Path]) -> None:
    along(folders[1], {ALONG: table(1)})
    merged = zoo.merged(folders, T)
    assert ALONG not in merged.tensors
    assert merged.warnings[0].startswith(
        f"reference-target was saved along with {ALONG} (1 such tensors), task without"
    )


def test_copies_of_another_base_model_are_refused(folders: list[Path]) -> None:
    for folder, seed in zip(folders, (1, 1, 2), strict=True):
        along(folder, {ALONG: table(seed)})
    with pytest.raises(
        MergeError, match=f"base model differs: {ALONG}, saved along with both, is another one in reference-source"
    ):
        zoo.merged(folders, T)


def test_an_adapters_tensor_is_never_taken_for_the_base_models(folders: list[Path]) -> None:
    for name in (
        "layers.0.mlp.down_proj.gate.weight",
        "layers.0.mlp.down_proj.lora_E.weight",
        "norm.lora_scale.weight",
    ):
        changed = shutil.copytree(folders[0], folders[0].parent / name)
        along(Path(changed), {f"base_model.model.model.{name}": torch.ones(2, 2)})
        with pytest.raises(AdaMergeXError, match="is not one that the settings explain"):
            adamergex.load(changed)


FEWER: dict[str, tuple[Callable[[], zoo.Model], Callable[[], Any], Callable[[], Any]]] = {
    "modules": (zoo.llama, zoo.lora, lambda: zoo.lora(target_modules=["q_proj"])),
    "layers": (zoo.llama, lambda: zoo.lora(lora_alpha=6), lambda: zoo.lora(layers_to_transform=[1], r=3)),
    "lora_bias": (
        zoo.llama,
        lambda: zoo.lora(target_modules=["q_proj", "v_proj"], lora_bias=True),
        lambda: zoo.lora(target_modules=["q_proj"], lora_bias=True),
    ),
    "tokens": (zoo.llama, lambda: zoo.lora(trainable_token_indices=[3, 5]), zoo.lora),
    "experts": (
        zoo.mixture,
        lambda: zoo.lora(target_modules=["q_proj"], target_parameters=["experts.down_proj"]),
        lambda: zoo.lora(target_modules=["q_proj"]),
    ),
}


@pytest.mark.parametrize("case", FEWER)
def test_what_the_references_lack_changes_nothing(case: str, tmp_path: Path) -> None:
    """ΔW_T + t·(ΔW_R − ΔW_S) with 0 for what is not there, as PEFT folds it into the base model."""
    make, more, fewer = FEWER[case]
    folders = [zoo.train(make, (more, fewer, fewer)[n](), tmp_path / "abc"[n], n + 1) for n in range(3)]
    with pytest.raises(MergeError, match="reference-target lacks .*; --missing zero keeps the task's there"):
        zoo.merged(folders, T)
    merged = zoo.merged(folders, T, missing="zero")
    merged.save(tmp_path / "merged")
    task, target, source = (dict(zoo.loaded(make, f).merge_and_unload().state_dict()) for f in folders)
    oracle = zoo.base(make)
    oracle.load_state_dict({name: task[name] + T * (target[name] - source[name]) for name in task})
    assert close(zoo.logits(loads_whole(make, tmp_path / "merged")), zoo.logits(oracle))
    command(folders, "--missing", "zero", "--output", tmp_path / "out")
    assert "missing: zero" in (tmp_path / "out/merge.yaml").read_text()
    assert (
        "modules fewer than the task's adapter, which keeps its part there" in (tmp_path / "out/README.md").read_text()
    )


def test_vectors_that_the_references_lack_are_one_and_magnitudes_stay_the_tasks(tmp_path: Path) -> None:
    for name, more, fewer in (
        ("ia3", lambda: ia3(target_modules=["k_proj", "v_proj"]), lambda: ia3(target_modules=["k_proj"])),
        ("dora", lambda: zoo.lora(use_dora=True), lambda: zoo.lora(use_dora=True, target_modules=["q_proj"])),
    ):
        task, target, source = [
            adamergex.load(zoo.train(zoo.llama, (more, fewer, fewer)[n](), tmp_path / name / "abc"[n], n + 1))
            for n in range(3)
        ]
        merged = adamergex.merge(task, target, source, scale=T, missing="zero")
        alone = {tensor for tensor in task.schema.multipliers if tensor not in target.tensors}
        assert alone
        for tensor in alone:
            assert torch.equal(merged.tensors[tensor], task.tensors[tensor])


def test_a_whole_value_that_one_reference_lacks_is_refused(tmp_path: Path) -> None:
    tokens = zoo.lora(trainable_token_indices=[3, 5])
    folders = [zoo.train(zoo.llama, (tokens, tokens, zoo.lora())[n], tmp_path / "abc"[n], n + 1) for n in range(3)]
    with pytest.raises(
        MergeError, match="tensors differ: reference-source lacks 1, the first is .*trainable_tokens_delta"
    ):
        zoo.merged(folders, T, missing="zero")
    with pytest.raises(MergeError, match="missing is 'nought'; expected refuse or zero"):
        zoo.merged(folders, T, missing="nought")


def test_tokens_in_a_list_and_by_the_embeddings_name_are_the_same(tmp_path: Path) -> None:
    def adapter(n: int, indices: Any) -> Path:
        return zoo.train(zoo.llama, zoo.lora(trainable_token_indices=indices), tmp_path / "abc"[n], n + 1)

    folders = [adapter(0, [3, 5]), adapter(1, {"embed_tokens": [3, 5]}), adapter(2, [3, 5])]
    assert zoo.merged(folders, T).warnings == ()
    other = adapter(2, {"embed_tokens": [5, 3]})
    with pytest.raises(MergeError, match=r"trainable_token_indices differs: task \[3, 5\], reference-source \[5, 3\]"):
        zoo.merged([*folders[:2], other], T)


def test_the_tasks_tokenizer_goes_along(folders: list[Path], tmp_path: Path) -> None:
    for name in ("tokenizer_config.json", "tokenizer.json", "added_tokens.json", "chat_template.jinja"):
        (folders[0] / name).write_text(name)
        (folders[1] / name).write_text("the reference's")
    (folders[0] / "trainer_state.json").touch()
    command(folders, "--output", tmp_path / "out")
    assert (tmp_path / "out/tokenizer.json").read_text() == "tokenizer.json"
    assert (tmp_path / "out/chat_template.jinja").exists()
    assert not (tmp_path / "out/trainer_state.json").exists()
    command(folders, "--output", tmp_path / "out", "--overwrite")
    assert (tmp_path / "out/added_tokens.json").read_text() == "added_tokens.json"


def test_a_result_of_a_resized_vocabulary_is_loaded_by_peft_alone(tiny_model: Path, tmp_path: Path) -> None:
    """Tokens are added by each training, with rows at random; AutoPeftModel makes room for them by the tokenizer."""
    folders = []
    for seed, name in enumerate(("task", "target", "source")):
        torch.manual_seed(seed)
        tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_model)
        tokenizer.add_tokens(["<a>", "<b>", "<c>"])
        model = transformers.AutoModelForCausalLM.from_pretrained(tiny_model)
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        adapted = peft.get_peft_model(model, zoo.lora(init_lora_weights=False))
        adapted.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
        folders.append(tmp_path / name)
    assert len(adamergex.load(folders[0]).schema.frozen) == 2
    said = command(folders, "--output", tmp_path / "out", "--scale-for", ".*=0")
    assert (
        "embed_tokens.weight, saved along with both, differs between task and reference-target in 3 of 262 rows" in said
    )
    tokens = torch.tensor([[1, 261, 7]])
    found, expected = (
        peft.AutoPeftModelForCausalLM.from_pretrained(folder)(tokens).logits
        for folder in (tmp_path / "out", folders[0])
    )
    assert found.shape == (1, 3, 262)
    assert close(found, expected, 1e-5)
