"""Merging against copying the same bytes, and against PEFT's `svd` and `cat`, in one run.

    python benchmarks/merge.py                        # everything, about a quarter of an hour on two cores
    python benchmarks/merge.py exact sweep            # these parts only: exact, sweep, memory, truncated, cat, start
    python benchmarks/merge.py truncated --patient    # PEFT's svd on Llama-2-7B's largest shape too: minutes more

Adapters are random, in float32, of the shapes of Llama-2-7B (32 layers, 7 projections), Llama-2-70B (80 layers) and a
mixture of 128 experts (Qwen3-30B-A3B's, 12 of its 48 layers). All times are medians; a ratio above 1 means that ours
takes longer. Copying reads the three input files and writes as many bytes as the merge does, in blocks of a megabyte;
it waits for the disk where the merge does: the command does; a sweep is measured with and without. The input files lie
in the page cache in both arms, and both write files that were not there.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track

import adamergex
from adamergex.adapters import tensor_file
from adamergex.adapters.adapter import WEIGHTS, Adapter
from adamergex.adapters.tensor_file import Spec
from adamergex.storage.files import sync

BLOCK = 1 << 20
CONFIG = {"peft_type": "LORA", "base_model_name_or_path": "random"}
LLAMA_7B = {
    "self_attn.q_proj": (4096, 4096),
    "self_attn.k_proj": (4096, 4096),
    "self_attn.v_proj": (4096, 4096),
    "self_attn.o_proj": (4096, 4096),
    "mlp.gate_proj": (11008, 4096),
    "mlp.up_proj": (11008, 4096),
    "mlp.down_proj": (4096, 11008),
}
LLAMA_70B = {
    "self_attn.q_proj": (8192, 8192),
    "self_attn.k_proj": (1024, 8192),
    "self_attn.v_proj": (1024, 8192),
    "self_attn.o_proj": (8192, 8192),
    "mlp.gate_proj": (28672, 8192),
    "mlp.up_proj": (28672, 8192),
    "mlp.down_proj": (8192, 28672),
}
# PEFT nests the wrappers of two parameters of one module: the outer one is the second parameter's.
EXPERTS = {"mlp.experts.base_layer": (1536, 2048), "mlp.experts": (2048, 768)}
CASES = {
    "Llama-2-7B, r 8": (LLAMA_7B, 32, 8, 1),
    "Llama-2-7B, r 64": (LLAMA_7B, 32, 64, 1),
    "Llama-2-70B, r 8": (LLAMA_70B, 80, 8, 1),
    "128 experts, r 8": (EXPERTS, 12, 8, 128),
}
ROLES = ("task", "reference-target", "reference-source")
console = Console(width=140)


def make(folder: Path, shapes: dict[str, tuple[int, int]], layers: int, rank: int, experts: int = 1) -> list[Path]:
    """Three adapters with random factors."""
    kinds = [name.rpartition(".")[2] for name in shapes]
    config = CONFIG | {"r": rank, "lora_alpha": 2 * rank, "target_modules": [] if experts > 1 else kinds}
    if experts > 1:
        config["target_parameters"] = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
    specs = {}
    for layer in range(layers):
        for name, (out, into) in shapes.items():
            prefix = f"base_model.model.model.layers.{layer}.{name}"
            specs[f"{prefix}.lora_A.weight"] = Spec((experts * rank, into), torch.float32)
            specs[f"{prefix}.lora_B.weight"] = Spec((out, rank * experts), torch.float32)
    folders = []
    for seed, role in enumerate(ROLES):
        generator = torch.Generator().manual_seed(seed)
        (folder / role).mkdir(parents=True)
        (folder / role / "adapter_config.json").write_text(json.dumps(config))
        tensors = (
            (name, iter([0.02 * torch.randn(specs[name].shape, generator=generator)]))
            for name in tensor_file.order(specs)
        )
        tensor_file.write(folder / role / WEIGHTS, specs, tensors)
        folders.append(folder / role)
    return folders


def timed(work: Callable[[], object]) -> float:
    """Seconds."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def median(work: Callable[[], object], repeats: int, after: Callable[[], object] = lambda: None) -> float:
    """Seconds; what `after` does between two repeats is not counted."""
    times = []
    for _ in range(repeats):
        times.append(timed(work))
        after()
    return statistics.median(times)


def copy(folders: list[Path], output: Path, size: int, wait: bool) -> None:
    """Read the inputs and write as many bytes as the merge writes; wait for the disk where the merge does."""
    buffer = bytearray(BLOCK)

    def blocks() -> Iterator[int]:
        for folder in folders:
            with (folder / WEIGHTS).open("rb", buffering=0) as file:
                while read := file.readinto(buffer):
                    yield read

    with output.open("wb", buffering=0) as file:
        for read in blocks():
            file.write(memoryview(buffer)[: min(read, size)])
            size -= min(read, size)
        file.write(bytes(size))
        if wait:
            os.fsync(file.fileno())


def command(folders: list[Path], output: Path, *options: str) -> list[str]:
    """The merge as a user types it."""
    arguments = [part for role, folder in zip(ROLES, folders, strict=True) for part in (f"--{role}", str(folder))]
    program = [sys.executable, "-m", "adamergex", "merge", *arguments, "--scale", "0.6"]
    return [*program, "--output", str(output), "--overwrite", *options]


# What the kernel counts for a process that was started counts its parent too; the peak of its own memory does not.
PEAK = """
import atexit, runpy, sys
def report():
    with open("/proc/self/status") as status:
        peak = next(line.split()[1] for line in status if line.startswith("VmHWM"))
    print("peak", peak, file=sys.stderr)
atexit.register(report)
"""
AS_MODULE = PEAK + "sys.argv = sys.argv[1:]; runpy.run_module('adamergex', run_name='__main__')"


def child(arguments: list[str]) -> float:
    """Seconds of a process."""
    began = time.perf_counter()
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return time.perf_counter() - began


def peak(code: str, *arguments: str) -> float:
    """Peak memory in MiB of Python code in a process of its own."""
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return int(done.stderr.rpartition("peak ")[2]) / 1024


def line(*cells: str) -> None:
    console.print(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, (26, 24, 24, 30), strict=False)), highlight=False
    )


def exact(case: str, folders: list[Path], scratch: Path, repeats: int) -> None:
    """The whole command against a copy and the start of Python with torch."""
    merged = scratch / "merged"
    child(command(folders, merged))
    size = (merged / WEIGHTS).stat().st_size
    ours = statistics.median(child(command(folders, merged)) for _ in range(repeats))
    start = statistics.median(child([sys.executable, "-c", "import torch"]) for _ in range(repeats))
    copying = median(lambda: copy(folders, scratch / "copy", size, wait=True), repeats, (scratch / "copy").unlink)
    read = sum((folder / WEIGHTS).stat().st_size for folder in folders)
    line(
        f"exact: {case}",
        f"command {ours:.2f} s",
        f"copy {copying:.2f} + start {start:.2f} s",
        f"ratio {ours / (copying + start):.2f}  ({read / 1e6:,.0f} MB in, {size / 1e6:,.0f} MB out)",
    )
    shutil.rmtree(merged)


def sweep(case: str, folders: list[Path], scratch: Path) -> None:
    """Eleven values of t in one process, each saved, against one copy for each."""
    task, target, source = map(adamergex.load, folders)
    merged, copied = scratch / "merged", scratch / "copy"
    adamergex.merge(task, target, source, scale=0.5).save(merged)
    size = (merged / WEIGHTS).stat().st_size
    shutil.rmtree(merged)
    for wait in (False, True):

        def save(t: float, wait: bool = wait) -> None:
            adamergex.merge(task, target, source, scale=t).save(merged)
            if wait:
                sync(merged / WEIGHTS)

        ours, copying = [], []
        # Turn by turn, so that a slow minute of the disk meets both; removing what was written is not counted.
        for step in track(range(11), f"sweep: {case}", console=console, transient=True):
            ours.append(timed(lambda step=step: save(step / 10)))  # type: ignore[misc]
            shutil.rmtree(merged)
            copying.append(timed(lambda wait=wait: copy(folders, copied, size, wait)))  # type: ignore[misc]
            copied.unlink()
        merging, plain = statistics.median(ours), statistics.median(copying)
        what = "on the disk" if wait else "in the page cache"
        line(
            f"sweep: {case}",
            f"a value {merging:.3f} s",
            f"a copy {plain:.3f} s",
            f"ratio {merging / plain:.2f}  ({what})",
        )


def memory(case: str, folders: list[Path], scratch: Path) -> None:
    """Peak memory of the command beyond that of the same command on adapters of a few kilobytes."""
    small = make(scratch / "small", {"q_proj": (8, 8)}, 1, 2)
    merged = adamergex.load(folders[0], lazy=True)
    largest = max(sum(3 * merged.specs[n].size for n in (p.a, p.b)) for p in merged.schema.products.values()) / 2**20
    for what, options in (("exact", []), ("rank 8", ["--rank", "8"])):
        base = peak(AS_MODULE, "adamergex", *command(small, scratch / "merged", *options)[3:])
        highest = peak(AS_MODULE, "adamergex", *command(folders, scratch / "merged", *options)[3:])
        line(
            f"memory: {case}, {what}",
            f"{highest - base:.1f} MiB",
            f"beyond {base:.0f} MiB for nothing",
            f"the largest module's stack {largest:.1f} MiB",
        )
    shutil.rmtree(scratch / "merged")


def truncated(scratch: Path, patient: bool) -> None:
    """Ours against PEFT's svd, module by module, and the same ΔW."""
    shapes = {"q_proj": LLAMA_7B["self_attn.q_proj"]}
    if patient:
        shapes["gate_proj"] = LLAMA_7B["mlp.gate_proj"]
    for name, (out, into) in shapes.items():
        folders = make(scratch / name, {f"m.{name}": (out, into)}, 1, 16)
        adapters = [adamergex.load(folder) for folder in folders]
        found, ours = adapters[0], 0.0

        def merge(of: list[Adapter] = adapters) -> Adapter:
            merged = adamergex.merge(of[0], of[1], of[2], scale=0.6, rank=16)
            return Adapter(merged.config, dict(merged.tensors))

        ours = median(merge, 5)
        found = merge()
        theirs, delta = peft_svd(folders, name, (out, into))
        module = next(iter(found.schema.products))
        mine = found.update(module).dense()
        apart = float((mine - delta.double()).norm() / delta.double().norm())
        line(
            f"truncated: {out}×{into}, r 16",
            f"ours {ours:.3f} s",
            f"PEFT's svd {theirs:.1f} s",
            f"{theirs / ours:,.0f} times as fast, ΔW {apart:.1e} apart",
        )
        if name == "q_proj":
            work = sum(a * b * min(a, b) for a, b in LLAMA_7B.values()) * 32 / (out * into * min(out, into))
            console.print(
                f"  extrapolated by out·in·min(out, in), not measured: {work * theirs / 3600:.1f} hours for Llama-2-7B's "
                f"224 modules with PEFT",
                highlight=False,
            )
    folders = make(scratch / "all", LLAMA_7B, 32, 16)
    seconds = child(command(folders, scratch / "merged", "--rank", "16"))
    line("truncated: Llama-2-7B, r 16", f"whole command {seconds:.1f} s", "", "all 224 modules, measured")
    shutil.rmtree(scratch / "all")


def peft_svd(folders: list[Path], name: str, shape: tuple[int, int]) -> tuple[float, torch.Tensor]:
    """Seconds of PEFT's combination of one module, and its ΔW."""
    import peft

    class One(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = torch.nn.Module()
            self.model.layers = torch.nn.ModuleList([torch.nn.Module()])
            self.model.layers[0].m = torch.nn.Module()
            setattr(self.model.layers[0].m, name, torch.nn.Linear(shape[1], shape[0], bias=False))

    model = peft.PeftModel.from_pretrained(One(), folders[0], adapter_name=ROLES[0])
    for role, folder in zip(ROLES[1:], folders[1:], strict=True):
        model.load_adapter(folder, adapter_name=role)
    began = time.perf_counter()
    model.add_weighted_adapter(list(ROLES), [1.0, 0.6, -0.6], "merged", combination_type="svd", svd_rank=16)
    seconds = time.perf_counter() - began
    layer = model.get_submodule(f"base_model.model.model.layers.0.m.{name}")
    return seconds, layer.get_delta_weight("merged").detach()


PEFT_CAT = """
import sys, time, torch, transformers, peft
folders, output, layers = sys.argv[1:4], sys.argv[4], int(sys.argv[5])
config = transformers.LlamaConfig(
    vocab_size=32000, hidden_size=4096, intermediate_size=11008, num_hidden_layers=layers, num_attention_heads=32
)
torch.nn.init.normal_ = torch.nn.init.uniform_ = torch.nn.init.kaiming_uniform_ = lambda tensor, *a, **k: tensor
base = transformers.LlamaForCausalLM._from_config(config, dtype=torch.bfloat16)
model = peft.PeftModel.from_pretrained(base, folders[0], adapter_name="task")
model.load_adapter(folders[1], adapter_name="target")
model.load_adapter(folders[2], adapter_name="source")
model.add_weighted_adapter(["task", "target", "source"], [1.0, 0.6, -0.6], "merged", combination_type="cat")
model.save_pretrained(output, selected_adapters=["merged"])
"""


def cat(scratch: Path, repeats: int) -> None:
    """The whole command against a script that does the same with PEFT, on a tenth of Llama-2-7B's depth."""
    layers = 3
    folders = make(scratch / "tenth", LLAMA_7B, layers, 8)
    their_arguments = [*map(str, folders), str(scratch / "peft"), str(layers)]
    seconds = statistics.median(child(command(folders, scratch / "merged")) for _ in range(repeats))
    their_seconds = statistics.median(child([sys.executable, "-c", PEFT_CAT, *their_arguments]) for _ in range(repeats))
    megabytes = peak(AS_MODULE, "adamergex", *command(folders, scratch / "merged")[3:])
    their_megabytes = peak(PEAK + PEFT_CAT, *their_arguments)
    line("cat: 3 of 32 layers", f"ours {seconds:.2f} s, {megabytes:,.0f} MiB", f"PEFT {their_seconds:.2f} s, {their_megabytes:,.0f} MiB",
         f"{their_seconds / seconds:.1f} times the time, {their_megabytes / megabytes:.1f} times the memory")  # fmt: skip
    one, other = adamergex.load(scratch / "merged"), adamergex.load(scratch / "peft" / "merged")
    apart = max(
        float((one.update(m).dense() - other.update(m).dense()).norm() / other.update(m).dense().norm())
        for m in list(one.schema.products)[:7]
    )
    console.print(f"  their ΔW lie {apart:.1e} apart, at most, over seven modules", highlight=False)


def start() -> None:
    """How long `--help` and the imports take, against `python -c pass`."""
    nothing = statistics.median(child([sys.executable, "-c", "pass"]) for _ in range(9))
    for what, arguments in (
        ("adamergex --help", ["-m", "adamergex", "--help"]),
        ("import adamergex", ["-c", "import adamergex"]),
        ("import torch", ["-c", "import torch"]),
        ("import adamergex.merging.methods", ["-c", "import adamergex.merging.methods"]),
        ("import adamergex.merging.merge", ["-c", "import adamergex.merging.merge"]),
    ):
        seconds = statistics.median(child([sys.executable, *arguments]) for _ in range(9))
        line(f"start: {what}", f"{seconds:.3f} s", f"python -c pass {nothing:.3f} s", f"{seconds - nothing:.3f} s more")


def main() -> None:
    parts = ("start", "exact", "sweep", "memory", "truncated", "cat")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(parts)}; all of them where none is given")
    parser.add_argument("--cases", nargs="*", choices=list(CASES), default=list(CASES))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--patient", action="store_true")
    wanted = parser.parse_args()
    wanted.parts = wanted.parts or parts
    if unknown := set(wanted.parts) - set(parts):
        parser.error(f"{', '.join(unknown)}: no such part; there are {', '.join(parts)}")
    console.print(
        f"torch {torch.__version__}, {os.cpu_count()} cores, {torch.get_num_threads()} threads", highlight=False
    )
    if "start" in wanted.parts:
        start()
    for case in wanted.cases if {"exact", "sweep", "memory"} & set(wanted.parts) else ():
        with tempfile.TemporaryDirectory() as folder:
            scratch = Path(folder)
            folders = make(scratch / "inputs", *CASES[case])
            if "exact" in wanted.parts:
                exact(case, folders, scratch, wanted.repeats)
            if "sweep" in wanted.parts:
                sweep(case, folders, scratch)
            if "memory" in wanted.parts:
                memory(case, folders, scratch)
    with tempfile.TemporaryDirectory() as folder:
        if "truncated" in wanted.parts:
            truncated(Path(folder), wanted.patient)
        if "cat" in wanted.parts:
            cat(Path(folder), wanted.repeats)


if __name__ == "__main__":
    main()
