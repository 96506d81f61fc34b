"""What AdapterHub's `average_adapter` does with three adapters T, R, S and the weights (1, t, -t), t = 0.5.

    python -m venv env && env/bin/pip install torch==2.13.0 adapters==1.3.0 peft==0.21.2
    env/bin/python benchmarks/peers_adapters.py

(`adapters` pins its own transformers, 4.57; peft is there only to write a PEFT folder.) A tiny random Llama on the
CPU, no downloads. One line per case, "case: what, measured". "error" is the relative Frobenius distance of ΔW,
over all adapted modules together, from ΔW_T + t (ΔW_R - ΔW_S) computed in float64 from the stored factors; 0 is
exact, 1 is as far off as an adapter of zeros. Numbers are for random adapters with independent B, alike in size.
"""

import inspect
import logging
import math
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import adapters
import torch
import transformers
from adapters import DoRAConfig, IA3Config, LoRAConfig, PrefixTuningConfig
from adapters.methods.lora import LoRALayer
from adapters.methods.prefix_tuning import PrefixTuningPool
from peers_failure import failure
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

T = 0.5
NAMES = ["T", "R", "S"]
WEIGHTS = [1.0, T, -T]
Tensors = dict[str, Tensor]


def say(case: str, what: str) -> None:
    """One line of the report."""
    print(f"{case}: {what}")


def llama(configs: list[Any] | None = None) -> Any:
    """The same tiny random Llama at every call, ready for adapters, with T, R and S of these configurations."""
    torch.manual_seed(0)
    size = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 4}
    config = LlamaConfig(num_hidden_layers=2, vocab_size=128, pad_token_id=0, initializer_range=0.1, **size)
    model = LlamaForCausalLM(config)
    adapters.init(model)
    for name, adapter in zip(NAMES, configs or [], strict=False):
        model.add_adapter(name, config=adapter)
    return model.eval()


def lora(kind: type = LoRAConfig, **changes: Any) -> Any:
    """Rank 4, scaling 2, every module that `adapters` can adapt, unless `changes` say otherwise."""
    where = {"attn_matrices": ["q", "k", "v"], "intermediate_lora": True, "output_lora": True}
    return kind(**{"r": 4, "alpha": 8, **where, **changes})


def layers(model: Any, name: str) -> dict[str, Any]:
    """The LoRA or (IA)³ part of one adapter in each module that has it."""
    found = {n: module for n, module in model.named_modules() if isinstance(module, LoRALayer)}
    return {n: module.loras[name] for n, module in found.items() if name in module.loras}


def randomize(model: Any, *, equal_a: bool = False) -> Any:
    """Random A, B, DoRA magnitudes (±10 %) and (IA)³ vectors (1 ± 20 %); with `equal_a`, R and S get T's A."""
    generator = torch.Generator().manual_seed(1)

    def noise(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator)

    for adapter in NAMES:
        for name, part in layers(model, adapter).items():
            if part.composition_mode == "scale":
                part.lora_B.data.copy_(1 + 0.2 * noise(part.lora_B))
                continue
            part.lora_A.data.copy_(noise(part.lora_A) / math.sqrt(part.lora_A.shape[1]))
            part.lora_B.data.copy_(0.1 * noise(part.lora_B))
            if equal_a:
                part.lora_A.data.copy_(layers(model, "T")[name].lora_A.data)
            if part.use_dora:
                part.m.weight.data.mul_(1 + 0.1 * noise(part.m.weight))
    return model


def three(*configs: Any, equal_a: bool = False) -> Any:
    """Random T, R, S; one configuration stands for all three."""
    return randomize(llama(list(configs) if len(configs) > 1 else list(configs or [lora()]) * 3), equal_a=equal_a)


def average(model: Any, strategy: str = "linear", weights: list[float] | None = None, **more: Any) -> Any:
    """`average_adapter` of T, R and S; the result becomes the active adapter."""
    chosen = WEIGHTS if weights is None else weights
    model.average_adapter("new", NAMES, chosen, combine_strategy=strategy, set_active=True, **more)
    return model


def deltas(model: Any, adapter: str) -> Tensors:
    """Scaling · B A in float64 for every module."""
    parts = layers(model, adapter)
    return {n: p.scaling * (p.lora_B.detach().double() @ p.lora_A.detach().double()) for n, p in parts.items()}


def weighted(parts: list[Tensors], weights: list[float] = WEIGHTS) -> Tensors:
    """Σ wᵢ ΔWᵢ."""
    return {n: sum((w * p[n] for w, p in zip(weights, parts, strict=True)), torch.zeros(())) for n in parts[0]}


def oracle(model: Any, weights: list[float] = WEIGHTS) -> Tensors:
    """Σ wᵢ ΔWᵢ in float64, from the stored factors."""
    return weighted([deltas(model, name) for name in NAMES], weights)


def norm(tensors: Tensors) -> float:
    """Frobenius norm over all tensors together."""
    return math.sqrt(sum(float(tensor.square().sum()) for tensor in tensors.values()))


def error(got: Tensors, want: Tensors) -> float:
    """Relative Frobenius distance over all modules together."""
    return norm({n: got[n] - w for n, w in want.items()}) / norm(want)


def gain(got: Tensors, want: Tensors) -> float:
    """<got, want> / <want, want>: the factor by which `want` enters `got`."""
    return float(sum((got[n] * want[n]).sum() for n in want)) / norm(want) ** 2


def effective(model: Any, adapter: str) -> Tensors:
    """What the adapter adds to each base weight, DoRA's magnitudes included, by `merge_adapter`."""
    modules = {n: module for n, module in model.named_modules() if isinstance(module, LoRALayer)}
    before = {n: module.weight.detach().double().clone() for n, module in modules.items() if adapter in module.loras}
    model.merge_adapter(adapter)
    change = {n: modules[n].weight.detach().double() - w for n, w in before.items()}
    for n, w in before.items():
        modules[n].weight.data.copy_(w)
        modules[n].merged = False
    return change


def logits(model: Any) -> Tensor:
    """The logits of one fixed batch under the active adapter."""
    with torch.no_grad():
        return model(input_ids=torch.arange(1, 33).reshape(2, 16)).logits.double()


def reloaded(model: Any) -> str:
    """Whether the averaged adapter comes back from disk with the same logits."""
    fresh = llama()
    with tempfile.TemporaryDirectory() as folder:
        model.save_adapter(folder, "new")
        files = ", ".join(sorted(path.name for path in Path(folder).iterdir()))
        outcome = failure(lambda: fresh.load_adapter(folder, set_active=True))
    if outcome != "no error":
        return f"reload fails, {outcome}"
    apart = float((logits(fresh.eval()) - logits(model)).abs().max())
    return f"reloads, logits differ by {apart:.1e}, files {files}"


def case_defaults() -> None:
    """The defaults, and what LoRA can be put on."""
    parameters = inspect.signature(llama().average_adapter).parameters
    chosen = ("combine_strategy", "normalize_weights", "svd_rank", "overwrite_ok")
    say("defaults of average_adapter", ", ".join(f"{name}={parameters[name].default!r}" for name in chosen))
    model = llama([lora()])
    kinds = sorted({name.split(".")[-1] for name in layers(model, "T")})
    say("LoRA on Llama, all places switched on", f"modules {', '.join(kinds)}")


def case_lora() -> None:
    """The three strategies for LoRA."""
    strategies: list[tuple[str, dict[str, Any]]] = [
        ("linear", {}),
        ("lora_linear_only_negate_b", {}),
        ("lora_delta_w_svd", {"svd_rank": 4}),
        ("lora_delta_w_svd", {"svd_rank": 12}),
    ]
    for equal in (False, True):
        for strategy, more in strategies:
            model = average(three(equal_a=equal), strategy, **more)
            got, want = deltas(model, "new"), oracle(model)
            part = next(iter(layers(model, "new").values()))
            options = "".join(f" {key}={value}" for key, value in more.items())
            what = f"error {error(got, want):.2e}, ΔW times {gain(got, want):.3f}, scaling {part.scaling:.3f}"
            say(f"LoRA, {'equal' if equal else 'independent'} A", f"{strategy}{options}, {what}")
    model = average(three(), "lora_delta_w_svd", svd_rank=12)
    tripled = {n: 3 * w for n, w in deltas(model, "new").items()}
    what = f"its ΔW times 3 (= 12/4), error {error(tripled, oracle(model)):.2e}"
    say("LoRA, independent A", f"lora_delta_w_svd svd_rank=12, {what}")
    model = three()
    best = math.sqrt(sum(float(torch.linalg.svdvals(w)[4:].square().sum()) for w in oracle(model).values()))
    say("LoRA, independent A", f"best possible at rank 4 (Eckart–Young), error {best / norm(oracle(model)):.2e}")
    say("LoRA, svd_rank left out", failure(lambda: average(three(), "lora_delta_w_svd")))
    say("LoRA, save and load", f"linear, {reloaded(average(three()))}")
    model = average(three(), "lora_delta_w_svd", svd_rank=12)
    say("LoRA, save and load", f"lora_delta_w_svd svd_rank=12, {reloaded(model)}")
    say("LoRA, name used twice", failure(lambda: average(average(three()))))


def case_weights() -> None:
    """normalize_weights, and weights given as a dictionary."""
    for chosen in ([1.0, T, 0.0], WEIGHTS):
        model = average(three(equal_a=True), weights=chosen)
        what = f"linear, equal A, error {error(deltas(model, 'new'), oracle(model, chosen)):.2e}"
        say(f"weights {tuple(chosen)}, normalize_weights left at its default", what)
    say("weights (0, 1, -1), default", failure(lambda: average(three(), weights=[0.0, 1.0, -1.0])))
    named = dict(zip(NAMES, WEIGHTS, strict=True))
    say("adapter_list={name: weight}, as documented", failure(lambda: three().average_adapter("new", named)))


def case_configurations() -> None:
    """Adapters that differ in configuration."""
    others = {
        "ranks 4, 8, 4": lora(r=8, alpha=16),
        "alphas 8, 16, 8": lora(alpha=16),
        "R adapts other modules": lora(output_lora=False),
    }
    for title, other in others.items():
        say(title, failure(partial(average, three(lora(), other, lora()))))


def flattened(model: Any, pick: Callable[[Any], Tensor]) -> list[Tensor]:
    """One parameter of every module in a row, in float64, for the new adapter, T, R and S."""
    return [
        torch.cat([pick(part).detach().double().flatten() for part in layers(model, name).values()])
        for name in ("new", *NAMES)
    ]


def case_dora() -> None:
    """DoRA: the magnitudes are averaged by "linear" only."""
    for alpha in (4, 8):
        model = three(lora(DoRAConfig, alpha=alpha))
        model.set_active_adapters("T")
        before = logits(model)
        model.merge_adapter("T")
        apart = float((logits(model) - before).abs().max() / before.abs().max())
        say(f"DoRA, one adapter, scaling {alpha / 4:.0f}", f"merge_adapter changes its logits by {apart:.1e}")
    for equal in (False, True):
        # Scaling 1, where the weights of `merge_adapter` are those that the forward pass uses.
        model = three(lora(DoRAConfig, alpha=4), equal_a=equal)
        want = weighted([effective(model, name) for name in NAMES])
        average(model)
        what = f"linear, error of the effective update {error(effective(model, 'new'), want):.2e}"
        say(f"DoRA, {'equal' if equal else 'independent'} A", what)
    made, task, target, source = flattened(model, lambda part: part.m.weight)
    apart = float((made - (task + T * (target - source))).abs().max())
    say("DoRA", f"linear, magnitudes differ from m_T + t(m_R − m_S) by {apart:.1e}")
    model = three(lora(DoRAConfig))
    say("DoRA", f"lora_linear_only_negate_b, {failure(lambda: average(model, 'lora_linear_only_negate_b'))}")
    model = three(lora(DoRAConfig))
    say("DoRA", f"lora_delta_w_svd, {failure(lambda: average(model, 'lora_delta_w_svd', svd_rank=4), 120)}")
    say("DoRA", f"after that error the model still lists the adapter: {'new' in model.adapters_config}")


def case_ia3() -> None:
    """(IA)³: the vectors are summed."""
    for strategy in ("linear", "lora_linear_only_negate_b", "lora_delta_w_svd"):
        model = three(IA3Config())
        rank: dict[str, Any] = {"svd_rank": 1} if strategy == "lora_delta_w_svd" else {}
        outcome = failure(partial(average, model, strategy, **rank), 120)
        if outcome != "no error":
            say("(IA)³", f"{strategy}, {outcome}")
            continue
        made, task, target, source = flattened(model, lambda part: part.lora_B)
        for rule, want in (
            ("sum l_T + t(l_R − l_S)", task + T * (target - source)),
            ("ratio l_T·(1 + t(l_R/l_S − 1))", task * (1 + T * (target / source - 1))),
        ):
            # An update of l is measured from 1, which leaves the model as it is.
            apart = float((made - want).norm() / (want - 1).norm())
            say("(IA)³", f"{strategy}, distance from the {rule}, relative to ‖l − 1‖: {apart:.2e}")


def prefix(model: Any, name: str) -> Tensor:
    """The keys and values of one prefix adapter, all layers."""
    pool = next(module for module in model.modules() if isinstance(module, PrefixTuningPool))
    with torch.no_grad():
        return torch.cat([kv.flatten() for group in pool.prefix_tunings[name].values() for kv in group(1)]).double()


def case_prefix() -> None:
    """Prefix tuning: the parameters are summed, which is not the sum of the prefixes behind an MLP."""
    for flat in (True, False):
        title = "prefix, no MLP (flat=True)" if flat else "prefix behind an MLP (the default)"
        model = llama([PrefixTuningConfig(flat=flat, prefix_length=4, bottleneck_size=32)] * 3)
        average(model)
        want = sum((w * prefix(model, n) for w, n in zip(WEIGHTS, NAMES, strict=True)), torch.zeros(()))
        apart = float((prefix(model, "new") - want).norm() / want.norm())
        say(title, f"linear, distance of the keys and values from P_T + t(P_R − P_S): {apart:.2e}")
        outcome = failure(partial(average, model, "lora_delta_w_svd", overwrite_ok=True))
        say(title, f"lora_delta_w_svd, {outcome}")
    model = llama([PrefixTuningConfig(prefix_length=4, bottleneck_size=32)] * 3)
    for name in NAMES:
        model.eject_prefix_tuning(name)
    say("prefix behind an MLP, ejected first", f"linear, {failure(lambda: average(model), 160)}")


def case_peft_folder() -> None:
    """A folder that PEFT wrote."""
    from peft import LoraConfig, get_peft_model

    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        base = LlamaForCausalLM(llama().config)
        get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj"])).save_pretrained(folder)
        say("load_adapter on a PEFT folder", failure(lambda: llama().load_adapter(folder)).replace(folder, "FOLDER"))
        (Path(folder) / "adapter_model.safetensors").rename(Path(folder) / "adapter.safetensors")
        outcome = failure(lambda: llama().load_adapter(folder, use_safetensors=True)).replace(folder, "FOLDER")
        say("the same, its weights file renamed as `adapters` wants it", outcome)


def main() -> None:
    """Runs every case."""
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    logging.disable(logging.WARNING)
    say("versions", ", ".join(f"{name} {version(name)}" for name in ("adapters", "transformers", "torch", "peft")))
    cases = (case_defaults, case_lora, case_weights, case_configurations, case_dora, case_ia3, case_prefix)
    for case in (*cases, case_peft_folder):
        case()


if __name__ == "__main__":
    main()
