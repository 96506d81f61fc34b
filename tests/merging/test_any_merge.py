"""Whatever is merged: the folder is loaded by PEFT with no key missing or unexpected, and its weights are those of an oracle in float64.

Structures, names as other tools write them, methods and scales are drawn. The oracle has PEFT fold each input into the base
model, or reads from PEFT's own modules what it would multiply, and knows nothing of how files are merged.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import peft
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import adamergex
from adamergex.merging.merge import Merged
from adamergex.models.placement import misplaced
from tests import zoo
from tests.merging.test_loads_in_peft import NAMES, described, distorted, loads_whole
from tests.merging.test_structures import IA3, PROMPTS, close

State = dict[str, torch.Tensor]


class Case(NamedTuple):
    """What is merged, and how."""

    make: Callable[[], zoo.Model]
    config: dict[str, Any]
    kind: type[peft.PeftConfig]
    names: str
    method: dict[str, Any]
    scale: float
    seed: int


TARGETS: dict[Callable[[], zoo.Model], list[Any]] = {
    zoo.llama: [["q_proj", "down_proj"], ["v_proj"], "all-linear", r".*layers\.[01]\.mlp\.(up|gate)_proj"],
    zoo.gpt2: [["c_attn"], ["c_attn", "mlp.c_proj"]],
    zoo.t5: [["q", "wo"], r"decoder.*\.(k|v)"],
    zoo.xlmr: [["query", "output.dense"]],
}
TASKS = {zoo.t5: "SEQ_2_SEQ_LM", zoo.xlmr: "SEQ_CLS"}


@st.composite
def loras(draw: st.DrawFn) -> tuple[Callable[[], zoo.Model], dict[str, Any]]:
    make = draw(st.sampled_from([*TARGETS]))
    targets = draw(st.sampled_from(TARGETS[make]))
    config: dict[str, Any] = {"target_modules": targets, "task_type": TASKS.get(make, "CAUSAL_LM")}
    config |= {"r": draw(st.integers(1, 4)), "lora_alpha": draw(st.integers(1, 9)), "use_rslora": draw(st.booleans())}
    config |= {"fan_in_fan_out": True} if make is zoo.gpt2 else {}
    if isinstance(targets, list):
        config |= draw(st.fixed_dictionaries({}, optional={"rank_pattern": st.just({targets[0]: 5})}))
        config |= draw(st.fixed_dictionaries({}, optional={"alpha_pattern": st.just({targets[-1]: 7})}))
    config |= draw(
        st.sampled_from([{}, {}, {"use_dora": True}, {"bias": "all"}, {"bias": "lora_only"}])
        if make is not zoo.xlmr
        else st.sampled_from([{}, {"use_dora": True}])
    )
    if make is zoo.llama and isinstance(targets, list):
        of_embeddings: list[dict[str, Any]] = [
            {},
            {"trainable_token_indices": [3, 5]},
            {"trainable_token_indices": {"embed_tokens": [7]}},
            {"modules_to_save": ["embed_tokens", "lm_head"]},
            {"modules_to_save": ["norm"]},
            {"layers_to_transform": [1]},
        ]
        of_embeddings += [] if config.get("use_dora") else [{"target_modules": [*targets, "embed_tokens"]}]
        config |= draw(st.sampled_from(of_embeddings))
    return make, config


@st.composite
def cases(draw: st.DrawFn) -> Case:
    kind = draw(
        st.sampled_from([peft.LoraConfig, peft.LoraConfig, peft.LoraConfig, peft.IA3Config, peft.PromptLearningConfig])
    )
    methods: list[dict[str, Any]] = [{}]
    if kind is peft.LoraConfig:
        make, config = draw(loras())
        methods.append({"rank": 3})
        whole = config.get("bias") or config.get("trainable_token_indices")
        if not whole and not config.get("use_dora"):
            methods += [
                {"method": "task-arithmetic"},
                {"method": "factor-space"},
                {"method": "ties", "density": 0.5},
                {"method": "dare-ties", "density": 0.5, "seed": 1},
            ]
    elif kind is peft.IA3Config:
        make, own = IA3[draw(st.sampled_from(["llama", "t5"]))]
        config = {"task_type": "CAUSAL_LM"} | own
    else:
        make, kind, own = PROMPTS[draw(st.sampled_from([*PROMPTS]))]
        config = {"num_virtual_tokens": draw(st.integers(2, 4))} | own
    names = draw(st.sampled_from([*NAMES] if kind in (peft.LoraConfig, peft.IA3Config) else ["PEFT's own name"]))
    scale = draw(st.floats(-1.5, 1.5).map(lambda t: round(t, 3)))
    return Case(make, config, kind, names, draw(st.sampled_from(methods)), scale, draw(st.integers(0, 99)))


def folded(case: Case, folder: Path) -> State:
    return dict(zoo.loaded(case.make, folder).merge_and_unload().state_dict())


def oracle(case: Case, folders: list[Path]) -> State:
    """The base model's weights with the merge in them, for the method of the paper."""
    t = case.scale
    of_task, of_target, of_source = (folded(case, folder) for folder in folders)
    expected = {name: of_task[name] + t * (of_target[name] - of_source[name]) for name in of_task}
    models = [zoo.loaded(case.make, folder) for folder in folders]
    base = dict(zoo.base(case.make).state_dict())
    for name, layer in models[0].base_model.model.named_modules():
        layers: list[Any] = [layer, *(model.base_model.model.get_submodule(name) for model in models[1:])]
        if getattr(layer, "lora_magnitude_vector", None):
            m_task, m_target, m_source = (one.lora_magnitude_vector["default"].weight for one in layers)
            changes = [one.get_delta_weight("default") for one in layers]
            weight = base[f"{name}.weight"] + changes[0] + t * (changes[1] - changes[2])
            # Rows are outputs; GPT-2 keeps weights as (in, out).
            rows = weight.mT if layer.fan_in_fan_out else weight
            rows = (m_task * (1 + t * (m_target / m_source - 1)))[:, None] * rows / rows.norm(dim=1, keepdim=True)
            expected[f"{name}.weight"] = rows.mT if layer.fan_in_fan_out else rows
        if getattr(layer, "ia3_l", None):
            l_task, l_target, l_source = (one.ia3_l["default"] for one in layers)
            vector = l_task * (1 + t * (l_target / l_source - 1))
            expected[f"{name}.weight"] = base[f"{name}.weight"] * vector
            if not layer.is_feedforward and f"{name}.bias" in base:
                expected[f"{name}.bias"] = base[f"{name}.bias"] * vector[:, 0]
        if isinstance(layer, peft.utils.ModulesToSaveWrapper):
            expected |= {key: value for key, value in of_task.items() if key.startswith(f"{name}.")}
    return expected


def check_weights(case: Case, merged: Merged, model: peft.PeftModel, folders: list[Path]) -> None:
    rank = case.method.get("rank")
    expected = {} if "method" in case.method else oracle(case, folders)
    base = dict(zoo.base(case.make).state_dict())
    for name, weight in dict(model.merge_and_unload().state_dict()).items():
        module, _, leaf = name.rpartition(".")
        is_product = module in merged.schema.products and leaf == "weight"
        if expected and not (rank and is_product):
            assert close(weight, expected[name], 1e-5), name
        elif is_product and not case.config.get("use_dora"):
            # What was computed is what PEFT computes with.
            change = merged.update(module).dense()
            is_turned = bool(case.config.get("fan_in_fan_out")) or module.endswith("embed_tokens")
            assert close(weight, base[name] + (change.mT if is_turned else change), 1e-5), name
            if expected:
                sigma = torch.linalg.svdvals(expected[name] - base[name]).square()
                lost = float((weight - expected[name]).square().sum())
                assert abs(lost - float(sigma[rank:].sum())) <= 1e-5 * float(sigma.sum()), name


def check_prompt(case: Case, model: peft.PeftModel, folders: list[Path]) -> None:
    blocks = []
    for folder in folders:
        adapter = adamergex.load(folder)
        stored, count = adapter.tensors["prompt_embeddings"].double(), case.config["num_virtual_tokens"]
        is_prefix = case.kind is peft.PrefixTuningConfig
        width = adapter.config["token_dim"]
        blocks.append(stored.view(count, -1, width).transpose(0, 1) if is_prefix else stored.view(-1, count, width))
    p_task, p_target, p_source = blocks
    expected = p_task + case.scale * (p_target - p_source) @ torch.linalg.pinv(p_source) @ p_task
    found = model.prompt_encoder["default"].embedding.weight
    ours = (
        found.view(case.config["num_virtual_tokens"], -1, p_task.shape[-1]).transpose(0, 1)
        if is_prefix
        else found.view_as(p_task)
    )
    assert close(ours, expected, 1e-5)


@settings(
    max_examples=40,
    phases=[Phase.generate],
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[*HealthCheck],
)
@given(cases())
def test_what_is_merged_loads_whole_and_has_the_weights_of_the_oracle(case: Case) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        folders = [
            zoo.train(case.make, case.kind(**case.config), folder / name, 3 * case.seed + number)
            for number, name in enumerate(("task", "target", "source"))
        ]
        # The oracle reads what PEFT wrote; we read what another tool makes of it.
        own = [folder / "own" / one.name for one in folders]
        for one, copy in zip(folders, own, strict=True):
            copy.parent.mkdir(exist_ok=True)
            one.rename(copy)
            adapter = adamergex.load(copy)
            adapter.save(one)
        distorted(NAMES[case.names][0], folders)
        merged = zoo.merged(folders, case.scale, **case.method)
        merged.save(folder / "merged")
        model = loads_whole(case.make, folder / "merged")
        assert misplaced(merged, described(case.make, folder / "base")) == []
        if merged.schema.prompts:
            check_prompt(case, model, own)
        else:
            check_weights(case, merged, model, own)
