"""What PEFT's `add_weighted_adapter` does with three adapters T, R, S and the weights (1, t, -t), t = 0.5.

    pip install torch==2.13.0 peft==0.21.2 transformers==5.23.0
    python benchmarks/peers_peft.py

A tiny random Llama on the CPU, no downloads. One line per case, "case: what, measured". "error" is the relative
Frobenius distance of ΔW, over all target modules together, from ΔW_T + t (ΔW_R - ΔW_S) computed in float64
from the stored factors; 0 is exact, 1 is as far off as an adapter of zeros. Numbers are for random adapters of
independent B, alike in size: they tell right from wrong, not how much worse a trained adapter would do.
"""

import contextlib
import copy
import math
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from peers_failure import failure
from peft import IA3Config, LoraConfig, PeftModel, PrefixTuningConfig, get_peft_model
from peft.tuners.ia3 import IA3Layer
from peft.tuners.lora import LoraLayer
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

T = 0.5
NAMES = ["T", "R", "S"]
WEIGHTS = [1.0, T, -T]
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
TYPES: list[tuple[str, dict[str, Any]]] = [
    ("linear", {}),
    ("cat", {}),
    ("svd", {}),
    ("svd", {"svd_rank": 12}),
    ("ties", {"density": 0.5}),
    ("ties", {"density": 1.0}),
    ("dare_linear", {"density": 0.5}),
    ("dare_ties", {"density": 0.5}),
    ("magnitude_prune", {"density": 0.5}),
]
Deltas = dict[str, Tensor]


def say(case: str, what: str) -> None:
    """One line of the report."""
    print(f"{case}: {what}")


def llama(cls: type = LlamaForCausalLM, dtype: torch.dtype = torch.float32) -> Any:
    """The same tiny random Llama at every call."""
    torch.manual_seed(0)
    size = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = LlamaConfig(num_hidden_layers=2, vocab_size=128, pad_token_id=0, initializer_range=0.1, **size)
    return cls(config).to(dtype).eval()


def lora(**changes: Any) -> LoraConfig:
    """Rank 4, scaling 2, all linear layers, unless `changes` say otherwise."""
    return LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": LINEAR, **changes})


def layers(model: PeftModel, kind: type) -> dict[str, Any]:
    """The adapted modules by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, kind)}


def attach(configs: list[Any], base: Any = None, **options: Any) -> PeftModel:
    """A model that holds T, R and S of these configurations."""
    model = get_peft_model(llama() if base is None else base, configs[0], NAMES[0], **options)
    for name, config in zip(NAMES[1:], configs[1:], strict=True):
        model.add_adapter(name, config, **options)
    return model.eval()


def randomize(model: PeftModel, *, drift: float | None = None, seed: int = 1) -> PeftModel:
    """Random A and B (and DoRA magnitudes, ±10 %); with a `drift`, every A is T's plus so much noise."""
    generator = torch.Generator().manual_seed(seed)

    def noise(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator).to(like.dtype)

    for layer in layers(model, LoraLayer).values():
        for name in layer.lora_A:
            a, b = layer.lora_A[name].weight.data, layer.lora_B[name].weight.data
            a.copy_(noise(a) / math.sqrt(a.shape[1]))
            b.copy_(0.1 * noise(b))
            if drift is not None and name != "T":
                a.copy_(layer.lora_A["T"].weight.data + drift * a)
            if name in layer.lora_magnitude_vector:
                magnitude = layer.lora_magnitude_vector[name].weight.data
                magnitude.mul_(1 + 0.1 * noise(magnitude))
    return model


def three(*configs: LoraConfig, drift: float | None = None) -> PeftModel:
    """Random T, R, S; one configuration stands for all three."""
    chosen = list(configs) if configs else [lora()]
    if len(chosen) == 1:
        chosen = [copy.deepcopy(chosen[0]) for _ in NAMES]
    return randomize(attach(chosen), drift=drift)


def oracle(model: PeftModel, weights: list[float] = WEIGHTS) -> Deltas:
    """Σ wᵢ ΔWᵢ in float64, from the stored factors and each adapter's scaling; a missing module counts as 0."""
    total: Deltas = {}
    for name, layer in layers(model, LoraLayer).items():
        for adapter, weight in zip(NAMES, weights, strict=True):
            if adapter in layer.lora_A:
                a, b = (side[adapter].weight.detach().double() for side in (layer.lora_A, layer.lora_B))
                total[name] = total.get(name, 0) + weight * layer.scaling[adapter] * (b @ a)
    return total


def deltas(model: PeftModel, adapter: str) -> Deltas:
    """PEFT's own `get_delta_weight` for one adapter, in float64."""
    found = layers(model, LoraLayer).items()
    return {name: layer.get_delta_weight(adapter).detach().double() for name, layer in found if adapter in layer.lora_A}


def error(got: Deltas, want: Deltas) -> float:
    """Relative Frobenius distance over all modules together."""
    gaps = [got[name] - want[name] if name in got else want[name] for name in want]
    return float(sum(g.square().sum() for g in gaps) / sum(w.square().sum() for w in want.values())) ** 0.5


def gain(got: Deltas, want: Deltas) -> float:
    """<got, want> / <want, want>: the factor by which `want` enters `got`."""
    return float(sum((got[n] * want[n]).sum() for n in want) / sum(w.square().sum() for w in want.values()))


def combine(model: PeftModel, kind: str, name: str = "new", weights: list[float] = WEIGHTS, **more: Any) -> PeftModel:
    """`add_weighted_adapter` with a fixed seed (DARE draws at random); the result becomes the active adapter."""
    torch.manual_seed(2)
    model.add_weighted_adapter(NAMES, weights, name, combination_type=kind, **more)
    model.set_adapter(name)
    return model.eval()


def logits(model: Any) -> Tensor:
    """The logits of one fixed batch."""
    with torch.no_grad():
        return model(input_ids=torch.arange(1, 33).reshape(2, 16)).logits.double()


def gap(one: Tensor, other: Tensor) -> float:
    """The largest difference, relative to the largest value of `other`."""
    return float((one - other).abs().max() / other.abs().max())


def reload(model: PeftModel, adapter: str = "new", base: Any = None) -> PeftModel:
    """Save one adapter and load it on a fresh base model."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder, selected_adapters=[adapter])
        return PeftModel.from_pretrained(llama() if base is None else base, str(Path(folder) / adapter)).eval()


def reloaded(model: PeftModel) -> str:
    """Whether the combined adapter comes back from disk with the same logits."""
    copies: list[PeftModel] = []
    outcome = failure(lambda: copies.append(reload(model)))
    if not copies:
        return f"reload fails, {outcome}"
    return f"reloads, logits differ by {gap(logits(copies[0]), logits(model)):.1e}"


@contextlib.contextmanager
def listening() -> Iterator[list[warnings.WarningMessage]]:
    """Collects the warnings of its block."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        yield heard


def case_types() -> None:
    """Every combination type, with A independent, equal, and equal but for 10 % noise."""
    for a, drift in (("independent A", None), ("equal A", 0.0), ("A equal but for 10 % noise", 0.1)):
        for kind, more in TYPES:
            model = combine(three(drift=drift), kind, **more)
            rank = model.peft_config["new"].r
            options = "".join(f" {key}={value}" for key, value in more.items())
            what = f"{kind}{options}, rank {rank}, error {error(deltas(model, 'new'), oracle(model)):.2e}"
            say(f"plain LoRA, {a}", what)
    model = combine(three(drift=0.0), "linear")
    root = math.sqrt(T)
    plus = error(deltas(model, "new"), oracle(model, [1.0, root, root]))
    say("plain LoRA, equal A", f"linear is ΔW_T + √t·ΔW_R + √t·ΔW_S (S added, not subtracted), to {plus:.1e}")
    model = three()
    best = [torch.linalg.svdvals(w)[4:].square().sum() for w in oracle(model).values()]
    total = sum(w.square().sum() for w in oracle(model).values())
    optimum = float(sum(best) / total) ** 0.5
    say("plain LoRA, independent A", f"best possible at rank 4 (Eckart–Young), error {optimum:.2e}")
    say("plain LoRA", f"linear, {reloaded(combine(three(), 'linear'))}")
    say("plain LoRA", f"cat, {reloaded(combine(three(), 'cat'))}")
    say("density left out", f"ties, {failure(lambda: combine(three(), 'ties'))}")


def case_rslora() -> None:
    """Sources with rsLoRA: the copied configuration keeps use_rslora, with lora_alpha = r."""
    for kind, more in TYPES[:4]:
        model = combine(three(lora(use_rslora=True)), kind, **more)
        layer = next(iter(layers(model, LoraLayer).values()))
        got, want = deltas(model, "new"), oracle(model)
        what = f"scaling {layer.scaling['new']:.3f}, error {error(got, want):.2e}, ΔW times {gain(got, want):.3f}"
        say("rsLoRA sources", f"{kind} rank {model.peft_config['new'].r}, {what}")
    say("rsLoRA sources", f"cat, {reloaded(combine(three(lora(use_rslora=True)), 'cat'))}")
    for rs in ([True, False, False], [False, True, True]):
        model = combine(three(*[lora(use_rslora=flag) for flag in rs]), "cat")
        got, want = deltas(model, "new"), oracle(model)
        say(f"use_rslora of T, R, S = {rs}", f"cat, error {error(got, want):.2e}, ΔW times {gain(got, want):.3f}")


def effective(model: PeftModel, adapter: str) -> Deltas:
    """What the adapter really adds to each base weight, DoRA's magnitudes included, by merging a copy."""
    clean = llama().state_dict()
    merged = copy.deepcopy(model).merge_and_unload(adapter_names=[adapter]).state_dict()
    changed = [name for name in clean if any(f".{module}." in name for module in LINEAR)]
    return {name: merged[name].detach().double() - clean[name].double() for name in changed}


def case_dora() -> None:
    """DoRA sources: where the magnitudes go."""
    model = three(lora(use_dora=True))
    parts = [effective(model, name) for name in NAMES]
    want = {n: sum((w * p[n] for w, p in zip(WEIGHTS, parts, strict=True)), torch.zeros(())) for n in parts[0]}
    task_logits = (model.set_adapter("T"), logits(model))[1]
    for kind in ("linear", "cat", "svd"):
        model = combine(three(lora(use_dora=True)), kind)
        what = f"{kind}, error of B A alone {error(deltas(model, 'new'), oracle(model)):.2e}"
        say("DoRA sources", f"{what}, error of the effective update {error(effective(model, 'new'), want):.2e}")
    model = combine(three(lora(use_dora=True)), "cat", weights=[1.0, 0.0, 0.0])
    found = layers(model, LoraLayer).values()
    norms = torch.cat([layer.get_base_layer().weight.norm(dim=1) for layer in found])
    made, task = (torch.cat([x.lora_magnitude_vector[n].weight for x in found]) for n in ("new", "T"))
    say("DoRA sources", f"new magnitudes differ from ‖W‖ by {gap(made, norms):.1e}, from T's by {gap(made, task):.1e}")
    say("DoRA sources", f"cat with weights (1, 0, 0), logits differ from T's by {gap(logits(model), task_logits):.1e}")


def case_patterns() -> None:
    """rank_pattern and alpha_pattern in the sources, then a round trip through disk."""
    patterns = {
        "alpha_pattern": {"alpha_pattern": {"q_proj": 32}},
        "rank_pattern, a module of rank 2": {"rank_pattern": {"v_proj": 2}},
        "rank_pattern, a module of rank 8": {"rank_pattern": {"v_proj": 8}},
    }
    for name, pattern in patterns.items():
        for kind in ("linear", "cat", "svd"):
            model = combine(three(lora(**pattern)), kind)
            what = f"{kind} rank {model.peft_config['new'].r}, error {error(deltas(model, 'new'), oracle(model)):.2e}"
            say(name, f"{what}, {reloaded(model)}")


def classifier(with_head: list[str], order: list[str] = NAMES) -> PeftModel:
    """A sequence classifier with adapters in the given order; those named have a trained head of their own."""
    base = llama(LlamaForSequenceClassification)
    configs = {n: lora(modules_to_save=["score"] if n in with_head else None) for n in NAMES}
    model = get_peft_model(base, configs[order[0]], order[0])
    for name in order[1:]:
        model.add_adapter(name, configs[name])
    randomize(model)
    torch.manual_seed(3)
    for name in with_head:
        torch.nn.init.normal_(model.base_model.model.score.modules_to_save[name].weight)
    return model.eval()


def case_head() -> None:
    """modules_to_save: a head that only the task adapter has."""
    model = classifier(["T"])
    base_head = llama(LlamaForSequenceClassification).score.weight
    model.set_adapter("T")
    task_logits = logits(model)
    combine(model, "cat", weights=[1.0, 0.0, 0.0])
    heads = model.base_model.model.score.modules_to_save
    equal = {n: torch.equal(heads["new"].weight, w) for n, w in (("T's", heads["T"].weight), ("the base's", base_head))}
    say("head in T only", ", ".join(f"new head equals {whose}: {same}" for whose, same in equal.items()))
    apart = gap(logits(model), task_logits)
    say("head in T only", f"cat with weights (1, 0, 0), logits differ from T's by {apart:.1e}")
    saved = reload(model, base=llama(LlamaForSequenceClassification)).base_model.model.score.modules_to_save["default"]
    say("head in T only", f"saved and reloaded, head equals the base's: {torch.equal(saved.weight, base_head)}")
    model = classifier(["T"])
    model.add_weighted_adapter(["R", "T", "S"], [T, 1.0, -T], "new", combination_type="cat")
    has = "new" in model.base_model.model.score.modules_to_save
    say("head in T only", f"T listed second, the new adapter has a head: {has}")
    say("heads in T and R", failure(lambda: combine(classifier(["T", "R"]), "cat")))


def case_silence() -> None:
    """Whether PEFT says anything where it changes what the adapters mean."""
    rank_two = lora(rank_pattern={"v_proj": 2})
    models: list[tuple[str, str, PeftModel]] = [
        ("rsLoRA sources", "cat", three(lora(use_rslora=True))),
        ("DoRA sources", "cat", three(lora(use_dora=True))),
        ("head in T only", "cat", classifier(["T"])),
        ("rank_pattern, a module of rank 2", "linear", three(rank_two)),
        ("plain LoRA, independent A", "svd", three()),
    ]
    for title, kind, model in models:
        with listening() as heard:
            combine(model, kind)
        say("warnings while combining", f"{title}, {kind}: {len(heard)}")


def case_targets() -> None:
    """Adapters that do not adapt the same modules, or not with the same rank."""
    sets = [["q_proj", "v_proj"], ["q_proj", "v_proj", "k_proj"], ["q_proj"]]
    for kind in ("linear", "cat", "svd"):
        model = three(*[lora(target_modules=modules) for modules in sets])
        with listening() as heard:
            combine(model, kind)
        targets = ",".join(sorted(model.peft_config["new"].target_modules))
        what = f"error (missing = 0) {error(deltas(model, 'new'), oracle(model)):.2e}"
        say("T adapts q v, R q v k, S q", f"{kind}, no error, {len(heard)} warnings, targets {targets}, {what}")
    ranks = [lora(), lora(r=8), lora(r=2)]
    say("ranks 4, 8, 2", f"linear, {failure(lambda: combine(three(*ranks), 'linear'))}")
    model = combine(three(*ranks), "cat")
    rank = model.peft_config["new"].r
    say("ranks 4, 8, 2", f"cat rank {rank}, error {error(deltas(model, 'new'), oracle(model)):.2e}")


def ia3(targets: list[list[str]]) -> PeftModel:
    """(IA)³ adapters with l = 1 ± 20 %."""
    forward = "down_proj"
    configs = [IA3Config(target_modules=m, feedforward_modules=[f for f in m if f == forward]) for m in targets]
    model = attach(configs)
    generator = torch.Generator().manual_seed(4)
    for layer in layers(model, IA3Layer).values():
        for vector in layer.ia3_l.values():
            vector.data.copy_(1 + 0.2 * torch.randn(vector.shape, generator=generator))
    return model


def case_ia3() -> None:
    """(IA)³: the vectors are summed."""
    model = ia3([["k_proj", "v_proj", "down_proj"]] * 3)
    model.add_weighted_adapter(NAMES, WEIGHTS, "new")
    vectors = [layer.ia3_l for layer in layers(model, IA3Layer).values()]
    made = torch.cat([v["new"].detach().double().flatten() for v in vectors])
    task, target, source = (torch.cat([v[n].detach().double().flatten() for v in vectors]) for n in NAMES)
    for rule, want in (
        ("sum l_T + t(l_R − l_S)", task + T * (target - source)),
        ("ratio l_T·(1 + t(l_R/l_S − 1))", task * (1 + T * (target / source - 1))),
    ):
        # An update of l is measured from 1, which leaves the model as it is.
        distance = float((made - want).norm() / (want - 1).norm())
        say("(IA)³", f"distance from the {rule}, relative to ‖l − 1‖: {distance:.2e}")
    model = ia3([["v_proj"], ["v_proj", "down_proj"], ["v_proj", "down_proj"]])
    with listening() as heard:
        model.add_weighted_adapter(NAMES, WEIGHTS, "new")
    odd = [v.ia3_l["new"] for n, v in layers(model, IA3Layer).items() if n.endswith("down_proj")]
    mean = float(torch.cat([v.flatten() for v in odd]).mean())
    what = f"no error, {len(heard)} warnings, mean of the new l there {mean:.3f} (1 leaves the module as it is)"
    say("(IA)³, down_proj in R and S only", what)


def case_other() -> None:
    """Prefix tuning, a name used twice, adapters kept in bfloat16."""
    prefix = PrefixTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM")
    model = attach([copy.deepcopy(prefix) for _ in NAMES])
    say("prefix tuning", failure(lambda: model.add_weighted_adapter(NAMES, WEIGHTS, "new")))
    again = combine(three(), "cat")
    before = deltas(again, "new")
    with listening() as heard:
        outcome = failure(lambda: combine(again, "cat", weights=[0.0, 0.0, 1.0]))
    same = all(torch.equal(before[n], d) for n, d in deltas(again, "new").items())
    say("name used twice", f"{outcome}, {len(heard)} warnings, the first adapter is unchanged: {same}")
    thirds = [1.0, 0.3, -0.3]  # 0.5 is exact in bfloat16 and would hide its rounding
    for kind, more in (TYPES[1], TYPES[3]):
        configs = [lora() for _ in NAMES]
        short = randomize(attach(configs, llama(dtype=torch.bfloat16), autocast_adapter_dtype=False))
        combine(short, kind, weights=thirds, **more)
        what = f"{kind} rank 12, t = 0.3, error {error(factors(short, 'new'), oracle(short, thirds)):.2e}"
        say("adapters kept in bfloat16", what)


def factors(model: PeftModel, adapter: str) -> Deltas:
    """What `get_delta_weight` would be without its rounding: scaling · B A in float64."""
    found = layers(model, LoraLayer).items()
    sides = {n: (x.lora_B[adapter].weight.double(), x.lora_A[adapter].weight.double()) for n, x in found}
    return {n: x.scaling[adapter] * (sides[n][0] @ sides[n][1]).detach() for n, x in found}


def main() -> None:
    """Runs every case."""
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    say("versions", f"peft {peft.__version__}, transformers {transformers.__version__}, torch {torch.__version__}")
    cases = (case_types, case_rslora, case_dora, case_patterns, case_head, case_silence, case_targets, case_ia3)
    for case in (*cases, case_other):
        case()


if __name__ == "__main__":
    main()
