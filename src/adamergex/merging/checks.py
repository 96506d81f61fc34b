"""Whether a method can merge given adapters, and warnings about the result."""

from collections.abc import Mapping

import torch

from adamergex.adapters.adapter import Adapter
from adamergex.adapters.compatibility import copies_left_out
from adamergex.adapters.similarity import drift
from adamergex.merging.base_method import LORA, SOURCE, TASK, MergeMethod
from adamergex.merging.methods.adamergex import near_zero

# Drift beyond which merging A and B separately differs visibly from the sum of the updates.
_LARGE_DRIFT = 0.3


def unfit(method: MergeMethod, adapters: Mapping[str, Adapter]) -> list[str]:
    """Why a method cannot merge these adapters, one line for each problem.

    Args:
        method: its settings.
        adapters: by role; they agree with each other (`adamergex.adapters.compatibility.differences`).
    """
    name, schema = method.method, adapters[TASK].schema
    problems = []
    if method.needs_source and SOURCE not in adapters:
        problems.append(f"{name} needs the source reference; give it, or use task-arithmetic")
    if reason := method.refuses(schema.structure):
        problems.append(f"{reason}; the adapters are {schema.structure}")
    if schema.structure not in LORA and (method.wanted_rank or method.wanted_energy):
        problems.append(f"rank and energy are for LoRA; the adapters are {schema.structure}")
    if method.adds_updates and schema.values:
        problems.append(
            f"{name} needs what the base model has in place of {min(schema.values)} ({len(schema.values)} such tensors), "
            "and the adapters do not hold it"
        )
    if method.needs_equal_ranks:
        problems += _unequal(adapters)
    if method.divisors == "refuse" and SOURCE in adapters:
        problems += _divisors(adapters[SOURCE], schema.multipliers)
    wide = [role for role, a in adapters.items() if any(a.specs[n].dtype == torch.float64 for n in a.schema.modules())]
    if wide and method.dtype is None:
        problems.append(
            f"{', '.join(wide)} is stored in float64, and the result in float32 loses of it; say so with dtype"
        )
    modules = scaled_modules(adapters[TASK])
    return problems + [
        f"the scale of {what} fits no module, or none that an earlier pattern leaves; they are named like {modules[0]}"
        for what in method.scale.unused(modules)
    ]


def scaled_modules(adapter: Adapter) -> list[str]:
    """The names that a scale may be given for: modules, and for prompts `layers.N.key` and `layers.N.value`."""
    schema = adapter.schema
    names = {module for tensor, module in schema.modules().items() if tensor not in schema.prompts}
    return sorted(names) + list(adapter.prompts())


def warnings(method: MergeMethod, adapters: Mapping[str, Adapter], rank: int | None) -> list[str]:
    """Warnings that are known before anything is computed, a line each.

    Args:
        method: its settings.
        adapters: by role.
        rank: of the result, where it is a LoRA.
    """
    lines = [f"{role}: {note}" for role, adapter in adapters.items() for note in adapter.notes]
    lines += copies_left_out(adapters)
    if method.assumes_shared_start and (distance := drift(list(adapters.values()))) > _LARGE_DRIFT:
        lines.append(
            f"the A factors lie {distance:.2f} of their norm apart: merging A and B separately is then not the sum of "
            "the updates; adamergex merges that"
        )
    heads = {role: a.schema.heads for role, a in adapters.items() if role != TASK and a.schema.heads}
    for role, names in heads.items():
        lines.append(f"{role} has trained whole modules ({names[0]}, {len(names)} tensors); they are not in the result")
    narrow = {role: {a.specs[n].dtype for n in a.schema.modules()} for role, a in adapters.items()}
    if len(stored := set().union(*narrow.values())) > 1:
        shown = ", ".join(f"{role} {'/'.join(sorted(str(d)[6:] for d in kinds))}" for role, kinds in narrow.items())
        lines.append(f"stored dtypes differ ({shown}); the result is as exact as the coarsest of {len(stored)}")
    if method.divisors == "keep-task":
        near_zeros = _divisors(adapters[SOURCE], adapters[TASK].schema.multipliers)
        lines += [line.partition(", and the rule")[0] + "; the task's values were kept there" for line in near_zeros]
    if rank is not None and method.wanted_rank is not None and method.wanted_rank > rank:
        lines.append(f"rank {method.wanted_rank} is more than the result can have: {rank} is all of it")
    return lines


def _unequal(adapters: Mapping[str, Adapter]) -> list[str]:
    for name, mine in adapters[TASK].schema.products.items():
        for role, adapter in adapters.items():
            other = adapter.schema.products[name]
            if (mine.rank, mine.scaling) != (other.rank, other.scaling):
                return [
                    f"rank or scaling of {name} differs: task {mine.rank}, {mine.scaling:g}, {role} {other.rank}, "
                    f"{other.scaling:g}; merging A and B separately needs them equal"
                ]
    return []


def _divisors(source: Adapter, multipliers: Mapping[str, str]) -> list[str]:
    """A line with the number of divisors that are too near zero; no line if there are none."""
    counts = {module: int(near_zero(source.tensors[name]).sum()) for name, module in multipliers.items()}
    bad = {module: count for module, count in counts.items() if count}
    if not bad:
        return []
    worst = max(bad, key=lambda module: bad[module])
    return [
        f"reference-source is within 2^-10 of zero in {sum(bad.values())} values of {len(bad)} modules, {bad[worst]} of them "
        f"in {worst}, and the rule divides by them; near_zero = keep-task keeps the task's values there"
    ]
