"""What is in an adapter folder, and how several adapters compare, as plain values and as tables."""

import math
from collections.abc import Mapping, Sequence, Sized
from itertools import combinations
from typing import Any

import torch
from rich.table import Table

from adamergex.adapters.adapter import Adapter, finite
from adamergex.adapters.compatibility import differences
from adamergex.adapters.low_rank import norm
from adamergex.adapters.module_names import depths, place
from adamergex.adapters.similarity import cosines, drift
from adamergex.merging.methods.adamergex import near_zero

# What facts are called in a table, where it is not their key.
_SHOWN = {
    "sha256": "SHA-256",
    "lora_alpha": "lora_alpha",
    "lora_bias": "lora_bias",
    "rslora": "rsLoRA",
    "norm": "norm of ΔW",
    "mean_distance_from_1": "mean |l − 1|",
    "worst_condition": "condition, worst",
    "trained_values": "trained biases and tokens",
    "not_finite": "NaN or infinity",
}


def describe(adapter: Adapter) -> dict[str, Any]:
    """The properties of one adapter as plain values, in the order in which they are shown.

    docs/commands.md says what the keys mean; programs read them.
    """
    schema, config, specs = adapter.schema, adapter.config, adapter.specs
    names = schema.modules()
    modules = sorted({*names.values()} - {*schema.prompts}) or [*adapter.prompts()]
    facts: dict[str, Any] = {
        "structure": schema.structure,
        "base_model": config.get("base_model_name_or_path"),
        "revision": config.get("revision"),
        "task_type": config.get("task_type"),
        "sha256": adapter.digest,
        "parameters": sum(math.prod(specs[name].shape) for name in names),
        "dtype": sorted({str(specs[name].dtype).removeprefix("torch.") for name in names}),
        "modules": len(modules),
        "layers": depths(modules),
        "norms": {},
        "kinds_of_module": sorted({module.rpartition(".")[2] for module in modules if module.rpartition(".")[2]}),
    }
    if schema.products:
        norms = {module: norm(adapter.update(module)) for module in schema.products}
        largest = max(norms, key=lambda module: norms[module])
        facts |= {
            "rank": sorted({product.rank for product in schema.products.values()}),
            "lora_alpha": config["lora_alpha"],
            "scaling": sorted({product.scaling for product in schema.products.values()}),
            "rslora": bool(config.get("use_rslora")),
            "experts": max(product.experts for product in schema.products.values()),
            "norm": math.hypot(*norms.values()),
            "largest": {largest: norms[largest]},
            "norms": norms,
        }
    if schema.structure == "(IA)³":
        vectors = {module: adapter.tensors[name].double() for name, module in schema.multipliers.items()}
        facts |= {
            "mean_distance_from_1": float(torch.cat([(v - 1).abs().flatten() for v in vectors.values()]).mean()),
            "values_near_zero": sum(int(near_zero(v).sum()) for v in vectors.values()),
            "norms": {module: float((v - 1).norm()) for module, v in vectors.items()},
        }
    if prompts := adapter.prompts():
        conditions = {
            name: float(torch.linalg.cond(value.double())) if finite(value) else math.nan
            for name, value in prompts.items()
        }
        facts |= {
            "virtual_tokens": config["num_virtual_tokens"],
            "width": config["token_dim"],
            "worst_condition": max(conditions.values()),
            "norms": {name: float(value.double().norm()) for name, value in prompts.items()},
        }
    extra: dict[str, Sized] = {
        "trained_values": schema.values,
        "lora_bias": schema.updates,
        "whole_modules": schema.heads,
    }
    facts |= {key: len(tensors) for key, tensors in extra.items() if tensors}
    return facts | {"not_finite": len(adapter.not_finite), "notes": [*adapter.notes]}


def relate(adapters: Mapping[str, Adapter]) -> dict[str, Any]:
    """How several adapters compare: what stands in the way of merging them, and drift and cosines by pair."""
    pairs = {f"{a} · {b}": (adapters[a], adapters[b]) for a, b in combinations(adapters, 2)}
    return {
        "differences": differences(adapters, options=True),
        "drift": {pair: drift(list(both)) for pair, both in pairs.items()},
        "cosine": {pair: cosines(*both) for pair, both in pairs.items()},
    }


def facts_table(described: Mapping[str, Mapping[str, Any]]) -> Table:
    """The properties of one or several adapters, a column each; rows that differ are bold."""
    table = Table(show_header=len(described) > 1, box=None, pad_edge=False)
    table.add_column()
    for name in described:
        table.add_column(name, overflow="fold")
    for key in dict.fromkeys(key for facts in described.values() for key in facts if key not in ("norms", "notes")):
        # The first 16 digits of a hash are enough to distinguish files; the JSON has all of it.
        cells = [_cell(facts.get(key))[: 16 if key == "sha256" else None] for facts in described.values()]
        style = "bold" if len(set(cells)) > 1 and key != "sha256" else ""
        table.add_row(_SHOWN.get(key, key.replace("_", " ")), *cells, style=style)
    return table


def norms_table(described: Mapping[str, Mapping[str, Any]]) -> Table:
    """The norm of what each adapter changes, by layer."""
    table = Table(box=None, pad_edge=False)
    table.add_column("norm by layer")
    rows: dict[str, list[float]] = {}
    for column, (name, facts) in enumerate(described.items()):
        table.add_column(name, justify="right", overflow="fold")
        for module, value in facts["norms"].items():
            rows.setdefault(place(module), [0.0] * len(described))[column] += value**2
    for layer in sorted(rows, key=_natural):
        table.add_row(layer, *(f"{math.sqrt(value):.4g}" for value in rows[layer]))
    return table


def relations_table(related: Mapping[str, Any]) -> Table:
    """Drift and cosines, a column for each pair."""
    table = Table(box=None, pad_edge=False)
    table.add_column("cosine by layer")
    for pair in related["cosine"]:
        table.add_column(pair, justify="right", overflow="fold")
    layers = {layer for values in related["cosine"].values() for layer in values}
    for layer in sorted(layers, key=_natural):
        cells = [values.get(layer, math.nan) for values in related["cosine"].values()]
        table.add_row(layer, *map(_number, cells), style="bold" if layer == "all" else "")
    table.add_row("the A lie apart by", *map(_number, related["drift"].values()), style="bold")
    return table


def short_names(folders: Sequence[str]) -> list[str]:
    """The shortest ends of the paths that are distinct."""
    parts = [folder.rstrip("/").split("/") for folder in folders]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-count:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{number}: {folder}" for number, folder in enumerate(folders, 1)]


def _natural(layer: str) -> tuple[bool, str, int]:
    stack, _, number = layer.rpartition(".")
    return (not number.isdecimal(), stack, int(number) if number.isdecimal() else 0)


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def _cell(value: Any) -> str:
    if value is None or value in ([], {}):
        return "–"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_cell(item)}" for key, item in value.items())
    if isinstance(value, list):
        shown = ", ".join(map(_cell, value))
        return shown if len(shown) < 60 else f"{len(value)} kinds"
    return (
        f"{value:,}"
        if isinstance(value, int) and not isinstance(value, bool)
        else f"{value:.4g}"
        if isinstance(value, float)
        else str(value)
    )
