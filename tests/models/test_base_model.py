"""Adapters come and go on one base model, of any structure and in any order, and leave no trace."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers

import adamergex
from adamergex.errors import ModelError
from adamergex.models.adapter_settings import AdapterSettings, Lora, Prefix
from adamergex.models.families import Kind
from adamergex.models.resident import ResidentModel
from adamergex.storage.checkpoints import Checkpoint
from tests import zoo
from tests.conftest import save_model

Make = Callable[[], zoo.Model]


def tied() -> zoo.Model:
    """Llama with one matrix for input and output."""
    model: Any = zoo.llama()
    config = model.config
    config.tie_word_embeddings = True
    return transformers.LlamaForCausalLM(config)


def bert() -> zoo.Model:
    """One bias under two names."""
    config = transformers.BertConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=24,
        initializer_range=0.3,
    )
    return transformers.BertForMaskedLM(config)


def on_gpt2(**settings: Any) -> peft.LoraConfig:
    return zoo.lora(**{"target_modules": ["c_attn"], "fan_in_fan_out": True} | settings)


def on_xlmr(**settings: Any) -> peft.LoraConfig:
    return zoo.lora(**{"target_modules": ["query"], "task_type": "SEQ_CLS"} | settings)


def prefix(**settings: Any) -> peft.PrefixTuningConfig:
    return peft.PrefixTuningConfig(**{"num_virtual_tokens": 3, "task_type": "CAUSAL_LM"} | settings)


IA3 = {"target_modules": ["k_proj", "down_proj"], "feedforward_modules": ["down_proj"], "task_type": "CAUSAL_LM"}
CAUSAL: dict[str, Callable[[], peft.PeftConfig]] = {
    "plain": zoo.lora,
    "all biases": lambda: zoo.lora(bias="all"),
    "another rank": lambda: zoo.lora(r=3, rank_pattern={"down_proj": 5}),
    "biases of the modules": lambda: zoo.lora(bias="lora_only"),
    "one layer": lambda: zoo.lora(layers_to_transform=[1]),
    "other targets": lambda: zoo.lora(target_modules=["v_proj", "up_proj"], lora_bias=True),
    "excluded": lambda: zoo.lora(exclude_modules=["model.layers.0.mlp.down_proj"]),
    "lm_head": lambda: zoo.lora(modules_to_save=["lm_head"]),
    "embed_tokens": lambda: zoo.lora(modules_to_save=["embed_tokens"]),
    "trained tokens": lambda: zoo.lora(trainable_token_indices=[3, 5]),
    "other tokens": lambda: zoo.lora(trainable_token_indices=[5, 4]),
    "embedding": lambda: zoo.lora(target_modules=["q_proj", "embed_tokens"]),
    "output": lambda: zoo.lora(target_modules=["q_proj", "lm_head"]),
    "dora": lambda: zoo.lora(use_dora=True),
    "ia3": lambda: peft.IA3Config(**IA3),
    "ia3 and a head": lambda: peft.IA3Config(**IA3, modules_to_save=["lm_head"]),
    "prefix": prefix,
    "projected prefix": lambda: prefix(prefix_projection=True),
    "layers twice": lambda: zoo.lora(layer_replication=[[0, 2], [1, 2]]),
    "no task type": lambda: zoo.lora(task_type=None, lora_alpha=8, use_rslora=True),
}
# Of each kind of model: what makes it, how it predicts, and adapters for it.
SETS: dict[str, tuple[Make, Kind, dict[str, Callable[[], peft.PeftConfig]]]] = {
    "llama": (zoo.llama, "causal", CAUSAL),
    "tied": (
        tied,
        "causal",
        {name: CAUSAL[name] for name in ("lm_head", "plain", "embed_tokens", "trained tokens", "embedding", "prefix")},
    ),
    "gpt2": (
        zoo.gpt2,
        "causal",
        {
            "all biases": lambda: on_gpt2(bias="all"),
            "plain": on_gpt2,
            "wte": lambda: on_gpt2(modules_to_save=["wte"], bias="lora_only"),
            "tokens": lambda: on_gpt2(trainable_token_indices={"wte": [2]}),
        },
    ),
    "t5": (
        zoo.t5,
        "seq2seq",
        {
            "plain": lambda: zoo.lora(target_modules=["q", "wo"], task_type="SEQ_2_SEQ_LM"),
            "head": lambda: zoo.lora(target_modules=["q"], task_type="SEQ_2_SEQ_LM", modules_to_save=["lm_head"]),
            "prefix": lambda: prefix(task_type="SEQ_2_SEQ_LM"),
        },
    ),
    "xlmr": (
        zoo.xlmr,
        "classes",
        {
            "head": on_xlmr,
            "head and all biases": lambda: on_xlmr(bias="all"),
            "another rank": lambda: on_xlmr(r=4),
            "no head": lambda: on_xlmr(task_type=None),
            "prefix": lambda: prefix(task_type="SEQ_CLS"),
            "ia3": lambda: peft.IA3Config(
                target_modules=["key", "output.dense"], feedforward_modules=["output.dense"], task_type="SEQ_CLS"
            ),
        },
    ),
    "bert": (
        bert,
        "masked",
        {
            "all biases": lambda: zoo.lora(target_modules=["query"], bias="all", task_type="FEATURE_EXTRACTION"),
            "plain": lambda: zoo.lora(target_modules=["query"], task_type="FEATURE_EXTRACTION"),
        },
    ),
    "experts": (
        zoo.mixture,
        "causal",
        {
            "experts": lambda: zoo.lora(
                target_modules=["q_proj"], target_parameters=["experts.gate_up_proj", "experts.down_proj"]
            ),
            "attention": lambda: zoo.lora(target_modules=["q_proj"]),
            "one parameter": lambda: zoo.lora(target_modules=[], target_parameters=["experts.down_proj"]),
        },
    ),
}


def digest(model: torch.nn.Module) -> str:
    """One hash over names and values of all parameters and buffers, those that are not saved too."""
    total = hashlib.sha256()
    for name, tensor in sorted([*model.named_parameters(remove_duplicate=False), *model.named_buffers()]):
        total.update(name.encode() + tensor.detach().contiguous().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def of_base(resident: ResidentModel) -> str:
    """The hash of the model that adapters are on."""
    with resident.without_adapter():
        return digest(resident.model)


def logits(resident: ResidentModel) -> torch.Tensor:
    return zoo.logits(resident.model.eval())


@pytest.fixture(params=SETS)
def of_set(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Callable[[], ResidentModel], Make, dict[str, Path]]:
    """What loads a base model anew, what makes it, and adapters for it by name."""
    make, kind, configs = SETS[request.param]
    folder = save_model(zoo.base(make).float(), tmp_path / "base")
    folders = {
        name: zoo.train(make, config(), tmp_path / f"adapter-{number}", number)
        for number, (name, config) in enumerate(configs.items())
    }
    classes = 3 if kind == "classes" else 0
    targets = {"gpt2": ["c_attn"], "t5": ["q"], "xlmr": ["query"], "bert": ["query"]}.get(request.param, ["q_proj"])

    def load() -> ResidentModel:
        settings = Lora(r=2, target_modules=targets)
        return ResidentModel(Checkpoint("base", folder, ""), "float32", settings, kind=kind, classes=classes)

    return load, make, folders


def test_adapters_of_any_structure_in_any_order_compute_what_they_do_alone_and_leave_the_base_untouched(
    of_set: tuple[Callable[[], ResidentModel], Make, dict[str, Path]],
) -> None:
    load, make, folders = of_set
    untouched, without = digest(zoo.base(make).float()), zoo.logits(zoo.base(make).float())
    adapters = {name: adamergex.load(folder) for name, folder in folders.items()}
    alone = {}
    for name, adapter in adapters.items():
        resident = load()
        resident.set_adapter(adapter)
        alone[name] = logits(resident)
        # What PEFT makes of the folder on a base model of its own.
        expected = zoo.logits(peft.PeftModel.from_pretrained(zoo.base(make).float(), folders[name]).eval())
        assert torch.allclose(alone[name], expected, rtol=1e-4, atol=1e-5), name
        assert not torch.allclose(alone[name], without, atol=1e-3), name
    resident = load()
    assert of_base(resident) == untouched
    with resident.without_adapter():
        # Where a tensor begins in memory moves the last digit.
        assert torch.allclose(logits(resident), without, rtol=1e-5, atol=1e-6)
        without = logits(resident)
    # Each before and behind each of the others, and each twice.
    names = list(adapters)
    for name in [*names, *reversed(names), *names[::2], *names[1::2]]:
        resident.set_adapter(adapters[name])
        assert torch.equal(logits(resident), alone[name]), name
        assert of_base(resident) == untouched, name
        with resident.without_adapter():
            assert torch.equal(logits(resident), without), name
        assert torch.equal(logits(resident), alone[name]), name


def test_an_adapter_is_set_in_place_where_the_structure_is_the_same(tmp_path: Path) -> None:
    folder = save_model(zoo.base(zoo.llama).float(), tmp_path / "base")
    resident = ResidentModel(Checkpoint("base", folder, ""), "float32", Lora(r=2, target_modules=["q_proj"]))
    for name, config in CAUSAL.items():
        one, other = (adamergex.load(zoo.train(zoo.llama, config(), tmp_path / f"{name} {n}", n)) for n in (1, 2))
        resident.set_adapter(one)
        model = resident.model
        resident.set_adapter(other)
        assert resident.model is model, name


@pytest.mark.parametrize(
    "settings",
    [Lora(r=2, target_modules=["q_proj"]), Prefix(structure="prefix", virtual_tokens=3)],
    ids=["lora", "prefix"],
)
def test_a_training_begins_alike_whatever_was_on_the_base_model_before(
    settings: AdapterSettings, tmp_path: Path
) -> None:
    folder = save_model(zoo.base(zoo.xlmr).float(), tmp_path / "base")
    settings = settings.model_copy(update={"target_modules": ["query"]}) if isinstance(settings, Lora) else settings
    resident = ResidentModel(Checkpoint("base", folder, ""), "float32", settings, kind="classes", classes=3)
    resident.start(5)
    first, names = resident.adapter(), [name for name, p in resident.model.named_parameters() if p.requires_grad]
    for number, config in enumerate(SETS["xlmr"][2].values()):
        resident.set_adapter(adamergex.load(zoo.train(zoo.xlmr, config(), tmp_path / str(number), number)))
        resident.start(5)
        again = resident.adapter()
        assert again.config == first.config
        assert all(torch.equal(tensor, again.tensors[name]) for name, tensor in first.tensors.items())
        assert [name for name, p in resident.model.named_parameters() if p.requires_grad] == names


def test_what_does_not_fit_the_base_model_is_one_line_and_leaves_it_untouched(tmp_path: Path) -> None:
    folder = save_model(zoo.base(zoo.llama).float(), tmp_path / "base")
    resident = ResidentModel(Checkpoint("base", folder, ""), "float32", Lora(r=2, target_modules=["q_proj"]))
    untouched = of_base(resident)

    def wider() -> zoo.Model:
        model: Any = zoo.llama()
        model.resize_token_embeddings(44)
        return model

    def of_its_own() -> zoo.Model:
        model: Any = zoo.llama()
        model.model.embed_tokens.weight.data += 1
        return model

    on_gpt2 = {"target_modules": ["c_attn"], "fan_in_fan_out": True}
    for number, (make, config, said) in enumerate(
        [
            (zoo.gpt2, lambda: zoo.lora(**on_gpt2), "Target modules .*c_attn.* not found in the base model"),
            (
                wider,
                lambda: zoo.lora(modules_to_save=["lm_head"]),
                r"lm_head.weight has shape \(44, 16\), expected \(40, 16\)",
            ),
            (of_its_own, CAUSAL["embedding"], "embed_tokens.base_layer.weight, which is not the one of base"),
            (
                zoo.llama,
                lambda: peft.PromptEncoderConfig(num_virtual_tokens=3, task_type="CAUSAL_LM", encoder_hidden_size=8),
                r"is p-tuning, .* expected LoRA, DoRA, \(IA\)³ or prefix tuning",
            ),
        ]
    ):
        adapter = adamergex.load(zoo.train(make, config(), tmp_path / str(number), number))
        for _ in range(2):
            with pytest.raises(ModelError, match=said) as caught:
                resident.set_adapter(adapter)
            assert str(tmp_path / str(number)) in str(caught.value)
            assert "\n" not in str(caught.value)
            assert of_base(resident) == untouched
        resident.set_adapter(adamergex.load(zoo.train(zoo.llama, zoo.lora(), tmp_path / f"sound {number}", 1)))
        assert of_base(resident) == untouched
