"""Folders: read as PEFT means them, written as PEFT reads them, and nothing else believed."""

import json
import os
import resource
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adamergex.adapters import tensor_file
from adamergex.adapters.adapter import CONFIG, WEIGHTS, Adapter, load
from adamergex.adapters.tensor_file import Spec, TensorFile
from adamergex.errors import AdapterError
from tests import zoo

DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int8, torch.bool)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain LoRA folder, not to be changed."""
    return zoo.train(zoo.llama, zoo.lora(), tmp_path_factory.mktemp("adapter") / "plain", 1)


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """The same, to be broken."""
    (tmp_path / "broken").mkdir()
    for name in (CONFIG, WEIGHTS):
        (tmp_path / "broken" / name).write_bytes((folder / name).read_bytes())
    return tmp_path / "broken"


@pytest.mark.parametrize("case", ["plain", "rslora", "both patterns, rslora", "embedding", "fan_in_fan_out", "experts"])
def test_updates_mean_what_peft_means(case: str, tmp_path: Path) -> None:
    make, config = zoo.ADDITIVE[case]
    written = zoo.train(make, config(), tmp_path / "a", 1)
    found = load(written)
    layers = {
        name.removeprefix("base_model.model."): module
        for name, module in zoo.loaded(make, written).named_modules()
        if hasattr(module, "get_delta_weight") and hasattr(module, "lora_variant")
    }
    assert found.schema.products.keys() == layers.keys()
    for name, layer in layers.items():
        mine = found.update(name).dense()
        # GPT-2's weights and embeddings lie transposed in the model.
        transposed = case == "fan_in_fan_out" or name.endswith("embed_tokens")
        assert torch.allclose(mine.mT if transposed else mine, layer.get_delta_weight("default"), atol=1e-6)


def test_the_projections_of_attention_have_the_alpha_of_the_attention(tmp_path: Path) -> None:
    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attn = torch.nn.MultiheadAttention(8, 2)

    config = peft.LoraConfig(r=2, lora_alpha=4, target_modules=["attn"], alpha_pattern={"attn": 16, "out_proj": 5})
    peft.get_peft_model(Model(), config).save_pretrained(tmp_path)
    products = load(tmp_path).schema.products
    assert {name: product.scaling for name, product in products.items()} == {"attn": 8, "attn.base_layer.out_proj": 8}


@pytest.mark.parametrize("lazy", [False, True])
def test_saving_gives_the_bytes_that_peft_gave(folder: Path, tmp_path: Path, lazy: bool) -> None:
    load(folder, lazy=lazy).save(tmp_path / "again")
    assert (tmp_path / "again" / WEIGHTS).read_bytes() == (folder / WEIGHTS).read_bytes()
    assert json.loads((tmp_path / "again" / CONFIG).read_text()) == json.loads((folder / CONFIG).read_text())


@given(st.dictionaries(st.text("aé.漢\"\\", max_size=5).filter(lambda n: n != "__metadata__"), st.tuples(
    st.sampled_from(DTYPES), st.lists(st.integers(0, 3), max_size=3)), max_size=5))  # fmt: skip
def test_written_files_are_those_of_the_safetensors_package(
    tmp_path_factory: pytest.TempPathFactory, described: dict[str, tuple[torch.dtype, list[int]]]
) -> None:
    tensors = {name: torch.ones(shape).to(dtype) for name, (dtype, shape) in described.items()}
    specs = {name: Spec(tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}
    path = tmp_path_factory.mktemp("file") / "file.safetensors"
    tensor_file.write(path, specs, ((name, iter([tensors[name]])) for name in tensor_file.order(specs)))
    assert path.read_bytes() == safetensors.torch.save(tensors, metadata={"format": "pt"})
    read = TensorFile(path)
    assert read.specs == specs
    assert all(torch.equal(read[name], tensor) for name, tensor in tensors.items())


def broken_weights(change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda path: (path / WEIGHTS).write_bytes(change((path / WEIGHTS).read_bytes()))


def broken_header(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    def apply(content: bytes) -> bytes:
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        change(header)
        text = json.dumps(header).encode()
        return len(text).to_bytes(8, "little") + text + content[8 + length :]

    return broken_weights(apply)


def broken_config(**changes: Any) -> Callable[[Path], object]:
    return lambda path: (path / CONFIG).write_text(json.dumps(json.loads((path / CONFIG).read_text()) | changes))


def only_a_pickle(path: Path) -> None:
    (path / WEIGHTS).rename(path / "adapter_model.bin")


def loop(path: Path) -> None:
    (path / WEIGHTS).unlink()
    (path / WEIGHTS).symlink_to(path / WEIGHTS)


def pipe(path: Path) -> None:
    (path / CONFIG).unlink()
    os.mkfifo(path / CONFIG)


FIRST = "base_model.model.model.layers.0.mlp.down_proj.lora_A.weight"


@pytest.mark.parametrize(
    ("breaking", "message"),
    [
        (lambda path: (path / WEIGHTS).unlink(), "adapter_model.safetensors is missing"),
        (lambda path: (path / CONFIG).unlink(), "adapter_config.json is missing"),
        (only_a_pickle, "adapter_model.bin is a pickle, which may run any code .* adamergex convert"),
        (loop, "(Too many levels|symbolic link)"),
        (pipe, "not a regular file"),
        (broken_weights(lambda content: b""), "has 0 bytes"),
        (broken_weights(lambda content: content[:200]), "not a whole safetensors file"),
        (broken_weights(lambda content: content[:-1]), "its header promises .* bytes, it has"),
        (broken_weights(lambda content: content + b"x"), "its header promises .* bytes, it has"),
        (broken_weights(lambda content: struct.pack("<Q", 10 << 30) + content[8:]), "its header claims 10737418240"),
        (broken_weights(lambda content: struct.pack("<Q", 60) + b"[" * 60), "not JSON"),
        (broken_weights(lambda content: struct.pack("<Q", 2) + b"[]"), "its header is not an object"),
        (broken_weights(lambda c: struct.pack("<Q", 13) + b'{"a":1,"a":1}'), "a name appears twice"),
        (broken_weights(lambda c: struct.pack("<Q", 100000) + b"[" * 100000), "not JSON"),
        (broken_header(lambda header: header[FIRST].update(dtype="F8_E4M3")), "has dtype F8_E4M3; supported: BOOL"),
        (broken_header(lambda header: header[FIRST].update(shape=[2, -24])), "no sound dtype, shape and offsets"),
        (broken_header(lambda header: header[FIRST].update(shape=[2**62, 2**62])), "needs .* bytes, has 192"),
        (broken_header(lambda header: header[FIRST].update(data_offsets=[4, 196])), "starts at 4, not at 0"),
        (broken_header(lambda header: header.pop(FIRST)), "starts at 192, not at 0"),
        (broken_header(lambda header: header.update({"\ud800": header.pop(FIRST)})), "has no sound dtype"),
        (broken_header(lambda header: header.update(strange=header.pop(FIRST))), "strange is not one that the settings"),
        (broken_header(lambda header: header[FIRST].update(shape=[4, 12])), "expected \\(r, in\\) and \\(out, r\\)"),
        (lambda path: (path / CONFIG).write_text("{"), "not JSON"),
        (lambda path: (path / CONFIG).write_text("[" * 100000), "not JSON"),
        (lambda path: (path / CONFIG).write_bytes(b"\xff\xfe{}"), "not JSON"),
        (lambda path: (path / CONFIG).write_text("[1]"), "holds list, not an object"),
        (broken_config(peft_type="X\ud800"), r'describes "X\\ud800"; supported'),
        (broken_config(r="eight"), 'r is "eight"; expected a whole number'),
        (broken_config(lora_alpha=float("nan")), "lora_alpha is NaN; expected a number"),
        (broken_config(rank_pattern={"(": 2}), r'rank_pattern: "\(" is no regular expression'),
        (broken_config(alpha_pattern=[1]), "alpha_pattern is not an object of numbers"),
        (broken_config(modules_to_save="head"), "modules_to_save is not a list of names"),
        (broken_config(use_qdora=True), r'sets what cannot be merged: "use_qdora" \(not known\)'),
        (broken_config(use_dora=True), "not a lora_magnitude_vector for each"),
        (broken_config(r=4), "module model.layers.0.mlp.down_proj has rank 2 in the file, and 4 by r and rank_pattern .* 3;"),
        (broken_config(rank_pattern={"q_proj": 5}), "self_attn.q_proj has rank 2 in the file, and 5 by r"),
        (broken_config(target_modules=["q_proj"]), "module model.layers.0.mlp.down_proj is in the file, and adapter_config"),
        (broken_config(exclude_modules=r".*\.0\..*"), "layers.0.mlp.down_proj is in the file, and adapter_config.json does"),
        (broken_config(layers_to_transform=[0]), "layers.1.mlp.down_proj is in the file, and adapter_config.json does not"),
        (broken_config(target_modules=5), "target_modules is neither a list of names nor a regular expression"),
        (broken_config(target_modules="("), r'target_modules: "\(" is no regular expression'),
        (broken_config(lora_bias=True), "has lora_bias, and not a lora_B.bias for each pair of factors"),
        (broken_config(enable_lora=[True, False]), r"merged: enable_lora \(up to PEFT 0.2 B acted on each part"),
        (broken_config(init_lora_weights="OLoRA"), r'init_lora_weights = "OLoRA" \(the update is relative to base weights'),
        (broken_config(modules_to_save=["mlp"]), "mlp.down_proj has an adapter's tensors, and lies in a module that is trained"),
        (broken_config(peft_type=None), "has no peft_type: it is not PEFT's, but of another library; convert it"),
        (lambda path: (path / CONFIG).write_text('{"fine_tune_type": "lora"}'), "it is not PEFT's, but of mlx-lm"),
        (broken_weights(lambda content: b"version https://git-lfs.github.com/spec/v1\noid sha256:0"), "run `git lfs pull`"),
        (broken_config(alpha_pattern={"(?i)q_proj": 4}), "is no regular expression"),
        (broken_config(lora_alpha=10**400), "expected a number"),
        (broken_config(rank_pattern={"q_proj": 0}), "not an object of numbers, or of ranks from 1"),
        (broken_config(target_parameters=["mlp.down_proj.weight"], r=3), "expected a multiple of r = 3"),
    ],
)  # fmt: skip
def test_what_is_broken_ends_in_one_line(copy: Path, breaking: Callable[[Path], object], message: str) -> None:
    breaking(copy)
    with pytest.raises(AdapterError, match=message) as caught:
        load(copy)
    assert str(copy) in str(caught.value)


def test_a_module_without_its_partner_is_named(folder: Path) -> None:
    whole = load(folder)
    tensors = {name: tensor for name, tensor in whole.tensors.items() if name != FIRST}
    with pytest.raises(AdapterError, match="module model.layers.0.mlp.down_proj has no lora_A; the file is incomplete"):
        _ = Adapter(whole.config, tensors).schema


MODULE = "base_model.model.layers.0.q_proj"
LORA = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}


def factors(**others: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """The tensors of one module, and others of these shapes."""
    shapes = {f"{MODULE}.lora_A.weight": (2, 5), f"{MODULE}.lora_B.weight": (3, 2)}
    return {name: torch.ones(shape) for name, shape in (shapes | others).items()}


@pytest.mark.parametrize(
    ("settings", "others", "message"),
    [
        (
            {"modules_to_save": ["lm_head"]},
            {"base_model.model.lm_head.weight": (0,)},
            r"tensor base_model.model.lm_head.weight is empty, shape \(0,\) \(1 such tensors\): .* .DeepSpeed ZeRO-3, FSDP",
        ),
        (
            {},
            {f"{MODULE}.lora_A.weight": (0,), f"{MODULE}.lora_B.weight": (0,)},
            "ZeRO-3.*save it again with stage3_gather",
        ),
        (
            {},
            {f"{MODULE}.lora_A.weight": (4, 2, 5), f"{MODULE}.lora_B.weight": (4, 3, 2)},
            "factors of three dimensions, .* one pair for each of 4 experts; PEFT stores them in two",
        ),
        ({}, {f"{MODULE}.lora_A.weight": (2, 5, 3), f"{MODULE}.lora_B.weight": (3, 2, 1)}, "q_proj is a convolution"),
        (
            {"ensure_weight_tying": True, "target_modules": ["q_proj", "lm_head"]},
            {"base_model.model.lm_head.lora_A.weight": (2, 5), "base_model.model.lm_head.lora_B.weight": (3, 2)},
            "has ensure_weight_tying, and lm_head is adapted: tied layers are one tensor that is stored twice",
        ),
        (
            {"trainable_token_indices": [1, 2, 3]},
            {"base_model.model.embed.token_adapter.trainable_tokens_delta": (2, 5)},
            "trainable_tokens_delta has 2 rows, and trainable_token_indices of adapter_config.json names 3 tokens of it",
        ),
        (
            {"target_modules": "q_proj"},
            {},
            r"target_modules in adapter_config.json is 'q_proj', which PEFT takes for a regular .* write \[\"q_proj\"\]$",
        ),
        ({"use_dora": True}, {f"{MODULE}.lora_magnitude_vector": (5,)}, r"has shape \(5,\); expected \(3,\)"),
    ],
)
def test_tensors_that_the_configuration_does_not_describe_are_refused(
    settings: dict[str, Any], others: dict[str, tuple[int, ...]], message: str
) -> None:
    with pytest.raises(AdapterError, match=message):
        _ = Adapter(LORA | settings, factors(**others)).schema


@pytest.mark.parametrize(
    ("shape", "config", "message"),
    [
        (
            (4, 24),
            {"peft_type": "PREFIX_TUNING", "num_layers": 2, "token_dim": 6, "num_attention_heads": 4},
            "not a multiple",
        ),
        (
            (4, 12),
            {"peft_type": "PROMPT_TUNING", "num_layers": 2, "token_dim": 6},
            r"shape \(4, 12\); expected \(4, 6\)",
        ),
        (
            (4, 6),
            {"peft_type": "PROMPT_TUNING", "num_layers": 2, "token_dim": 6, "num_attention_heads": "x"},
            "whole numbers",
        ),
    ],
)
def test_a_prompt_has_the_shape_of_its_numbers(shape: tuple[int, ...], config: dict[str, Any], message: str) -> None:
    with pytest.raises(AdapterError, match=message):
        _ = Adapter(config | {"num_virtual_tokens": 4}, {"prompt_embeddings": torch.ones(shape)}).schema


@pytest.mark.parametrize(
    ("task_type", "head"),
    [("SEQ_CLS", "score"), ("TOKEN_CLS", "classifier"), ("QUESTION_ANS", "qa_outputs"), ("SEQ_CLS", "pre_classifier")],
)
def test_heads_are_those_that_peft_adds_for_the_task(task_type: str, head: str) -> None:
    name = f"base_model.model.{head}.weight"
    adapter = Adapter(LORA | {"task_type": task_type, "modules_to_save": None}, factors(**{name: (2, 3)}))
    assert adapter.schema.heads == [name]
    # Without such a task it is the base model's, saved along.
    assert Adapter(LORA | {"task_type": "CAUSAL_LM"}, adapter.tensors).schema.frozen == [name]


def test_two_adapters_in_one_file_are_refused(folder: Path, copy: Path) -> None:
    tensors = safetensors.torch.load_file(folder / WEIGHTS)
    both = {
        name.replace(".weight", f".{own}.weight"): tensor.clone()
        for own in ("en", "sw")
        for name, tensor in tensors.items()
    }
    safetensors.torch.save_file(both, copy / WEIGHTS)
    with pytest.raises(AdapterError, match=r"holds 2 adapters \(en, sw\); save each in a folder of its own"):
        load(copy)
    safetensors.torch.save_file(tensors | {f"module.{FIRST}": tensors[FIRST].clone()}, copy / WEIGHTS)
    with pytest.raises(AdapterError, match=f"holds {FIRST} under several names"):
        load(copy)


def test_a_file_that_shrinks_while_it_is_read_is_noticed(copy: Path) -> None:
    lazy = load(copy, lazy=True)
    os.truncate(copy / WEIGHTS, (copy / WEIGHTS).stat().st_size - 64)
    with pytest.raises(AdapterError, match="ends early; the file has changed"):
        dict(lazy.tensors)


def fuzzed(path: Path, content: bytes, config: bytes) -> None:
    """Reading either works or is an AdapterError, and allocates little."""
    (path / WEIGHTS).write_bytes(content)
    (path / CONFIG).write_bytes(config)
    try:
        _ = load(path).not_finite
    except AdapterError as error:
        if "\n" in str(error):
            raise ValueError("more than a line") from error


@st.composite
def mutations(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """A few bytes replaced, inserted, removed or moved; most of them in the header."""
    edits = draw(
        st.lists(st.tuples(st.integers(0, 900), st.binary(max_size=6), st.integers(0, 6)), min_size=1, max_size=4)
    )

    def apply(content: bytes) -> bytes:
        for place, new, removed in edits:
            at = place % (len(content) + 1)
            content = content[:at] + new + content[at + removed :]
        return content

    return apply


def test_no_bytes_make_the_reader_stumble(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Thousands of files: mutations of a sound one, of its JSON parts, and noise."""
    weights, config = (folder / WEIGHTS).read_bytes(), (folder / CONFIG).read_bytes()
    small = {f"base_model.model.q.lora_{side}.weight": torch.ones(2, 2) for side in "AB"}
    seeds = st.sampled_from([weights, safetensors.torch.save(small), b"", struct.pack("<Q", 2) + b"{}"])
    path = tmp_path_factory.mktemp("fuzz")

    @settings(max_examples=2_500, deadline=None, database=None)
    @given(seeds, mutations(), st.one_of(st.just(lambda content: content), mutations()), st.binary(max_size=40))
    def fuzz(seed: bytes, of_weights: Any, of_config: Any, noise: bytes) -> None:
        fuzzed(path, of_weights(seed) if len(noise) % 5 else noise, of_config(config))

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    fuzz()
    # In kilobytes; a forged length that is believed asks for gigabytes.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | st.text(max_size=5) | st.just("(?i)a"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_no_json_makes_the_reader_stumble(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    kind = data.draw(st.sampled_from(["LORA", "IA3", "PREFIX_TUNING", "P_TUNING"]))
    config = json.loads((folder / CONFIG).read_text()) | {"peft_type": kind}
    changes = data.draw(st.dictionaries(st.sampled_from(sorted(config)), json_values, min_size=1, max_size=3))
    fuzzed(tmp_path_factory.mktemp("json"), (folder / WEIGHTS).read_bytes(), json.dumps(config | changes).encode())
