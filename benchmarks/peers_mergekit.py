"""What mergekit does with three adapters T, R, S and the weights (1, t, -t), t = 0.5.

    python -m venv env && env/bin/pip install torch==2.13.0 mergekit==0.1.5
    env/bin/python benchmarks/peers_mergekit.py

A tiny random Llama on the CPU, no downloads; the command lines of mergekit (mergekit-yaml, mergekit-pytorch,
mergekit-extract-lora) run in this process. One line per case, "case: what, measured". "error" is the relative
Frobenius distance, over all adapted weights together, of (merged - base) from ΔW_T + t (ΔW_R - ΔW_S) in float64;
0 is exact, 1 is as far off as an adapter of zeros. "ΔW/W" is the size of that update relative to the base weights.
"""

import contextlib
import io
import json
import logging
import math
import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import transformers
import yaml
from mergekit.io.tasks import LoaderCache
from mergekit.scripts.extract_lora import main as extract_lora
from mergekit.scripts.merge_raw_pytorch import main as mergekit_pytorch
from mergekit.scripts.run_yaml import main as mergekit_yaml
from peers_failure import failure
from peft import IA3Config, LoraConfig, PeftModel, PrefixTuningConfig, get_peft_model
from safetensors.torch import load_file
from tokenizers import Tokenizer, models
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

T = 0.5
NAMES = ["T", "R", "S"]
WEIGHTS = [1.0, T, -T]
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
Tensors = dict[str, Tensor]


def say(case: str, what: str) -> None:
    """One line of the report."""
    print(f"{case}: {what}")


def llama(dtype: torch.dtype = torch.float32) -> Any:
    """The same tiny random Llama at every call."""
    torch.manual_seed(0)
    size = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = LlamaConfig(num_hidden_layers=2, vocab_size=128, initializer_range=0.1, **size)
    return LlamaForCausalLM(config).to(dtype).eval()


def save_base(folder: Path, dtype: torch.dtype = torch.float32) -> Path:
    """The base model and a trivial tokenizer."""
    llama(dtype).save_pretrained(folder)
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(128)}, unk_token="w0"))
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="w0").save_pretrained(folder)
    return folder


def noise(like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal values of this shape."""
    return torch.randn(like.shape, generator=generator)


def randomize(model: PeftModel, seed: int, size: float, same_a: bool) -> None:
    """Random A, B, DoRA magnitudes (±10 %), (IA)³ vectors (1 ± 20 %) and heads; `same_a` makes A the same for all."""
    shared, own = torch.Generator().manual_seed(1), torch.Generator().manual_seed(seed)
    for name, tensor in model.named_parameters():
        if "lora_A" in name:
            tensor.data.copy_(noise(tensor, shared if same_a else own) / math.sqrt(tensor.shape[1]))
        elif "lora_B" in name:
            tensor.data.copy_(size * noise(tensor, own))
        elif "magnitude" in name:
            tensor.data.mul_(1 + 0.1 * noise(tensor, own))
        elif "ia3_l" in name:
            tensor.data.copy_(1 + 0.2 * noise(tensor, own))
        elif "modules_to_save" in name:
            tensor.data.copy_(noise(tensor, own))


def save_adapters(
    folder: Path, make: Callable[[str], Any], size: float = 0.1, same_a: bool = False, seed: int = 10
) -> list[Path]:
    """Three PEFT folders, `make(name)` being the configuration of each."""
    paths = []
    for index, name in enumerate(NAMES):
        model = get_peft_model(llama(), make(name))
        randomize(model, seed + index, size, same_a)
        model.save_pretrained(folder / name)
        paths.append(folder / name)
    return paths


def lora(_name: str = "", **changes: Any) -> LoraConfig:
    """Rank 4, scaling 2, all linear layers, unless `changes` say otherwise."""
    return LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": LINEAR, **changes})


def adapted(tensors: Tensors) -> Tensors:
    """The weights that the adapters change, in float64."""
    return {n: w.double() for n, w in tensors.items() if any(f".{module}.weight" in n for module in LINEAR)}


def updates(paths: list[Path]) -> list[Tensors]:
    """What each adapter adds to the float32 base weights: merged by PEFT in float64, DoRA and (IA)³ included."""
    base = adapted(llama().state_dict())
    found = []
    for path in paths:
        merged = PeftModel.from_pretrained(llama(torch.float64), str(path)).double().merge_and_unload()
        found.append({n: w - base[n] for n, w in adapted(merged.state_dict()).items()})
    return found


def combined(parts: list[Tensors]) -> Tensors:
    """Σ wᵢ ΔWᵢ."""
    return {n: sum((w * p[n] for w, p in zip(WEIGHTS, parts, strict=True)), torch.zeros(())) for n in parts[0]}


def norm(tensors: Tensors) -> float:
    """Frobenius norm over all tensors together."""
    return math.sqrt(sum(float(tensor.square().sum()) for tensor in tensors.values()))


def error(got: Tensors, want: Tensors) -> float:
    """Relative Frobenius distance over all weights together."""
    return norm({n: got[n] - w for n, w in want.items()}) / norm(want)


def change(folder: Path, dtype: torch.dtype = torch.float32) -> Tensors:
    """Merged minus base weights; the base as it was stored in `dtype`."""
    base = adapted(llama(dtype).state_dict())
    return {n: w - base[n] for n, w in adapted(load_file(folder / "model.safetensors")).items()}


def run(command: Any, *arguments: object) -> None:
    """One mergekit command line, with nothing remembered from the one before, as in a process of its own."""
    LoaderCache.loaders.clear()
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        command.main([str(argument) for argument in arguments], standalone_mode=False)


def merge(folder: Path, recipe: dict[str, Any], *options: object, cache: bool = True) -> Path:
    """mergekit-yaml on this recipe; the folder it wrote."""
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    cached = ["--lora-merge-cache", folder / "cache"] if cache else []
    run(mergekit_yaml, folder / "recipe.yaml", folder / "out", *cached, *options)
    return folder / "out"


def recipe(models_in: list[str], base: Path | None, method: str = "task_arithmetic", **more: Any) -> dict[str, Any]:
    """A recipe for T, R, S with the weights (1, t, -t)."""
    entries = [{"model": m, "parameters": {"weight": w}} for m, w in zip(models_in, WEIGHTS, strict=True)]
    return {"merge_method": method, "models": entries, **({"base_model": str(base)} if base else {}), **more}


def on_base(base: Path, paths: list[Path]) -> list[str]:
    """The base folded with each adapter, in the syntax of mergekit: BASE+LORA."""
    return [f"{base}+{path}" for path in paths]


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A fresh folder, deleted at the end."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def megabytes(*paths: Path) -> float:
    """Size of the safetensors files under these folders."""
    return sum(file.stat().st_size for path in paths for file in path.rglob("*.safetensors")) / 1e6


def case_without_base() -> None:
    """Adapter folders alone."""
    with folder() as here:
        base, paths = save_base(here / "base"), save_adapters(here, lora)
        alone = [str(path) for path in paths]
        for title, made in (
            ("mergekit-yaml, three adapter folders, linear", recipe(alone, None, "linear")),
            ("mergekit-yaml, three adapter folders, task_arithmetic on the base", recipe(alone, base)),
        ):
            outcome = failure(partial(merge, here, made))
            for path in alone:  # which of them is read first varies from run to run
                outcome = outcome.replace(path, "ADAPTER")
            say(title, outcome)
        made = recipe(on_base(base, paths), base)
        say("BASE+LORA without --lora-merge-cache", failure(lambda: merge(here, made, cache=False)))


def case_raw() -> None:
    """mergekit-pytorch on adapter_model.safetensors: the only way that does not load the base."""
    alphas = {"T": 8, "R": 16, "S": 4}
    cases: list[tuple[str, bool, Callable[[str], Any]]] = [
        ("independent A", False, lora),
        ("equal A", True, lora),
        ("equal A, scalings 2, 4, 1", True, lambda name: lora(lora_alpha=alphas[name])),
    ]
    for case, same_a, make in cases:
        with folder() as here:
            paths = save_adapters(here, make, same_a=same_a)
            files = [str(path / "adapter_model.safetensors") for path in paths]
            made = recipe(files, None, "linear", parameters={"normalize": False})
            (here / "raw.yaml").write_text(yaml.safe_dump(made))
            run(mergekit_pytorch, here / "raw.yaml", here / "out")
            names = sorted(file.name for file in (here / "out").iterdir())
            got = product(load_file(here / "out" / "model.safetensors"))
            apart = product(factor_rule([load_file(file) for file in files]))
            title = f"mergekit-pytorch on adapter files, linear, {case}"
            say(title, f"error {error(got, combined(updates(paths))):.2e}, writes {', '.join(names)}")
            rule = "(B_T + t(B_R − B_S))(A_T + t(A_R − A_S))"
            say(title, f"distance from {rule}: {error(got, apart):.1e}")
            outcome = failure(lambda: PeftModel.from_pretrained(llama(), str(here / "out")))
            say(title, f"read by PEFT: {outcome.replace(str(here), '…')}")


def product(tensors: Tensors) -> Tensors:
    """2 B A (2 is T's scaling) for every module of an adapter file, under the names of the base's weights."""
    pairs = {n: (tensors[n.replace("lora_A", "lora_B")], a) for n, a in tensors.items() if "lora_A" in n}
    short = {n: n.removeprefix("base_model.model.").replace(".lora_A", "") for n in pairs}
    return {short[n]: 2.0 * (b.double() @ a.double()) for n, (b, a) in pairs.items()}


def stack(files: list[Tensors]) -> Tensors:
    """The exact rank-12 adapter: A side by side, B side by side times its weight."""
    made = {}
    for name in files[0]:
        if "lora_A" in name:
            made[name] = torch.cat([file[name] for file in files])
        else:
            made[name] = torch.cat([w * file[name] for w, file in zip(WEIGHTS, files, strict=True)], dim=1)
    return made


def factor_rule(adapters: list[Tensors]) -> Tensors:
    """A and B combined apart."""
    return combined([{n: w.double() for n, w in adapter.items()} for adapter in adapters])


def case_task_arithmetic() -> None:
    """BASE+LORA with task_arithmetic, and what it costs on disk."""
    with folder() as here:
        base, paths = save_base(here / "base"), save_adapters(here, lora)
        out = merge(here, recipe(on_base(base, paths), base))
        want = combined(updates(paths))
        names = sorted(file.name for file in out.iterdir())
        say("task_arithmetic on BASE+LORA, float32", f"error {error(change(out), want):.2e}, writes {', '.join(names)}")
        sizes = [megabytes(p) for p in (base, paths[0], here / "cache", out)]
        what = "one adapter {1:.2f} MB, base {0:.2f}, merge cache {2:.2f}, result {3:.2f}".format(*sizes)
        say("task_arithmetic on BASE+LORA, float32", what)
        before = load_file(out / "model.safetensors")
        save_adapters(here, lora, seed=20)
        merge(here, recipe(on_base(base, paths), base))
        after = load_file(out / "model.safetensors")
        same = all(torch.equal(before[n], after[n]) for n in before)
        new = error(change(out), combined(updates(paths)))
        say("adapters rewritten in place, same merge cache", f"result unchanged: {same}, error {new:.2e}")
    with folder() as here:
        base, paths = save_base(here / "base"), save_adapters(here, lora)
        out = merge(here, recipe(on_base(base, paths), None, "linear"))
        say("linear on BASE+LORA, float32", f"error {error(change(out), combined(updates(paths))):.2e}")


def case_precision() -> None:
    """The dtypes of the base, of the arithmetic and of the result, for a large and a small update."""
    b16, f32 = "bfloat16", "float32"
    variants: list[tuple[str, torch.dtype, dict[str, str], list[str]]] = [
        ("base float32, out_dtype bfloat16", torch.float32, {"out_dtype": b16}, []),
        ("base float32, dtype bfloat16", torch.float32, {"dtype": b16}, []),
        ("base bfloat16, defaults", torch.bfloat16, {}, []),
        ("base bfloat16, dtype float32", torch.bfloat16, {"dtype": f32}, []),
        (
            "base bfloat16, dtype float32, --lora-merge-dtype float32",
            torch.bfloat16,
            {"dtype": f32},
            ["--lora-merge-dtype", f32],
        ),
        (
            "base bfloat16, dtype float32, --lora-merge-dtype float32, out_dtype bfloat16",
            torch.bfloat16,
            {"dtype": f32, "out_dtype": b16},
            ["--lora-merge-dtype", f32],
        ),
    ]
    for size in (0.01, 0.001):
        for title, dtype, dtypes, options in variants:
            with folder() as here:
                base, paths = save_base(here / "base", dtype), save_adapters(here, lora, size=size)
                out = merge(here, recipe(on_base(base, paths), base, **dtypes), *options)
                want = combined(updates(paths))
                stored = {str(w.dtype).removeprefix("torch.") for w in load_file(out / "model.safetensors").values()}
                ratio = norm(want) / norm(adapted(llama().state_dict()))
                what = f"result {'/'.join(stored)}, error {error(change(out, dtype), want):.1e}"
                say(f"precision, ΔW/W = {ratio:.1%}", f"{title}, {what}")
                files = [load_file(path / "adapter_model.safetensors") for path in paths]
        stacked = product({n: tensor.bfloat16() for n, tensor in stack(files).items()})
        what = f"error {error(stacked, want):.1e}"
        say(f"precision, ΔW/W = {ratio:.1%}", f"for comparison, an exact rank-12 adapter rounded to bfloat16, {what}")


def case_kinds() -> None:
    """rsLoRA, DoRA, a head, (IA)³ and prefix adapters behind BASE+LORA."""
    kinds: dict[str, Callable[[str], Any]] = {
        "rsLoRA": lambda _: lora(use_rslora=True),
        "DoRA": lambda _: lora(use_dora=True),
        "alpha_pattern": lambda _: lora(alpha_pattern={"q_proj": 32}),
        "rank_pattern": lambda _: lora(rank_pattern={"v_proj": 2}),
    }
    for title, make in kinds.items():
        with folder() as here:
            base, paths = save_base(here / "base"), save_adapters(here, make)
            out = merge(here, recipe(on_base(base, paths), base))
            what = f"error of the effective update {error(change(out), combined(updates(paths))):.2e}"
            say(f"task_arithmetic on BASE+LORA, {title}", what)
    with folder() as here:
        make = {"T": lora(modules_to_save=["lm_head"]), "R": lora(), "S": lora()}.__getitem__
        base, paths = save_base(here / "base"), save_adapters(here, make)
        out = merge(here, recipe(on_base(base, paths), base))
        trained = load_file(paths[0] / "adapter_model.safetensors")["base_model.model.lm_head.weight"]
        head = load_file(out / "model.safetensors")["lm_head.weight"]
        apart = float((head - trained).abs().max())
        say("task_arithmetic on BASE+LORA, head in T only", f"head differs from T's by {apart:.1e}")
    case_ia3()
    with folder() as here:
        prefix = PrefixTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM")
        base, paths = save_base(here / "base"), save_adapters(here, lambda _: prefix)
        say("task_arithmetic on BASE+prefix", failure(lambda: merge(here, recipe(on_base(base, paths), base))))


def case_ia3() -> None:
    """(IA)³ folded in the base: W changes by a sum, not by a ratio."""
    with folder() as here:
        config = IA3Config(target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"])
        base, paths = save_base(here / "base"), save_adapters(here, lambda _: config)
        got = change(merge(here, recipe(on_base(base, paths), base)))
        parts = updates(paths)
        weights = adapted(llama().state_dict())
        task, target, source = ({n: 1 + p[n] / weights[n] for n in weights} for p in parts)
        ratio = {n: weights[n] * (task[n] * (1 + T * (target[n] / source[n] - 1)) - 1) for n in weights}
        title = "task_arithmetic on BASE+(IA)³"
        say(title, f"distance from the sum l_T + t(l_R − l_S): {error(got, combined(parts)):.2e}")
        say(title, f"distance from the ratio l_T·(1 + t(l_R/l_S − 1)): {error(got, ratio):.2e}")


def case_extract() -> None:
    """Back to an adapter with mergekit-extract-lora."""
    adapted_only = ["--include-regex", r"_proj$", "--exclude-regex", r"embed|lm_head|norm"]
    for rank, options in ((4, []), (12, []), (12, adapted_only)):
        with folder() as here:
            base, paths = save_base(here / "base"), save_adapters(here, lora)
            merged = merge(here, recipe(on_base(base, paths), base))
            arguments = ["--model", merged, "--base-model", base, "--out-path", here / "new", "--max-rank", rank]
            run(extract_lora, *arguments, *options)
            config = json.loads((here / "new" / "adapter_config.json").read_text())
            title = f"mergekit-extract-lora --max-rank {rank} {' '.join(options)}".strip()
            say(title, f"modules_to_save {config['modules_to_save']}, {megabytes(here / 'new'):.2f} MB")
            outcome = failure(lambda: updates([here / "new"]))
            if outcome == "no error":
                outcome = f"loads, error {error(updates([here / 'new'])[0], combined(updates(paths))):.2e}"
            say(title, f"read by PEFT: {outcome}")


def main() -> None:
    """Runs every case."""
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    logging.disable(logging.WARNING)
    say("versions", ", ".join(f"{name} {version(name)}" for name in ("mergekit", "peft", "transformers", "torch")))
    for case in (case_without_base, case_raw, case_task_arithmetic, case_precision, case_kinds, case_extract):
        case()


if __name__ == "__main__":
    main()
