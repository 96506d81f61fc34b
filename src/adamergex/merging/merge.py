"""Merging three adapters into one: `adamergex.merge(task, reference_target, reference_source, scale=0.6)`.

The equations are in `adamergex.merging.equations`, one for each way in which an adapter enters the model; other
people's methods are in `adamergex.merging.baselines`. The adapter's structure decides which equation is used.
"""

import difflib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Literal, get_args

import torch

from adamergex.adapters.adapter import Adapter, Computed
from adamergex.adapters.compatibility import differences, drift
from adamergex.errors import MergeError
from adamergex.merging.combine import Combination
from adamergex.merging.equations import near_zero
from adamergex.merging.scale import Scale
from adamergex.merging.settings import DENSITY, SOURCE, TARGET, TASK, Facts, Method, NearZero, Rule, Settings, Space

# Beyond it the sum that factor space computes is visibly another one.
_FAR_APART = 0.3


@dataclass(frozen=True)
class Merged(Adapter):
    """A merged adapter: its tensors are computed when they are asked for, and written as they come by `save`.

    Attributes:
        warnings: what the user should know, a line each; settled before anything is computed.
        kept: tensors that are the task adapter's as they were: its trained head, and copies of the base model's.
    """

    warnings: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    facts: Facts = field(default_factory=Facts)

    def _complete(self) -> Facts:
        """The facts, once every tensor that yields one was computed."""
        for module, product in self.layout.products.items():
            if module not in self.facts.computed:
                _ = self.tensors[product.a]
        for name in self.layout.prompts:
            if name not in self.facts.computed:
                _ = self.tensors[name]
        return self.facts

    @property
    def discarded_energy(self) -> dict[str, float]:
        """Per LoRA module, the share of ‖ΔW‖²_F that truncation left out; computes what was not computed yet."""
        return self._complete().discarded_energy

    @property
    def condition(self) -> dict[str, float]:
        """Per prompt, the condition number of the matrix whose pseudo-inverse was used (`equations.pseudo_inverse`)."""
        return self._complete().condition


def merge(
    task: Adapter,
    reference_target: Adapter,
    reference_source: Adapter | None = None,
    scale: float | Sequence[float] | Scale = 1.0,
    *,
    method: Method = "adamergex",
    rule: Rule = "auto",
    space: Space = "product",
    rank: int | Literal["exact"] = "exact",
    energy: float | None = None,
    dtype: torch.dtype | None = None,
    near_zero: NearZero = "refuse",
    density: float | None = None,
    bottom: int = 0,
    top: int = 0,
    transition: int = 0,
    seed: int = 0,
) -> Merged:
    """Merge adapters of one base model into one for the task in the target language.

    Args:
        task: trained on the task in the source language.
        reference_target: trained on the reference task in the target language.
        reference_source: trained on the reference task in the source language; AdaMergeX needs it.
        scale: t; 0 gives the task adapter. Several numbers are interpolated over the layers; `Scale` says it by
            layer and by module.
        method: AdaMergeX, or a baseline (`adamergex.merging.baselines`).
        rule: "auto" takes the one of the adapter's structure: additive for LoRA, multiplicative for (IA)³,
            pseudo-inverse for prompts. Any other than that is for ablations.
        space: "product" merges ΔW; "factors" merges A and B separately, as the paper's code does. LoRA only.
        rank: of a LoRA result in product space: a number, or "exact" for the whole stack.
        energy: in place of a rank: the smallest one that keeps this share of ‖ΔW‖²_F in every module, in 0..1.
        dtype: of the merged tensors; float32 where it is None. All is computed in float32 or float64.
        near_zero: what to do where (IA)³'s divisor lies within 2⁻¹⁰ of zero: refuse, or keep the task's value there.
        density: TIES, DARE-TIES: the share of the entries that is kept; 0.2 and 0.5 where it is None.
        bottom: layer swapping: how many of the first layers are the language's.
        top: and how many of the last.
        transition: how many layers mix, next to each of the two.
        seed: of DARE's mask and of the randomised SVD after TIES and DARE-TIES.

    Returns:
        An adapter of the structure of the inputs; LoRA with one rank, and lora_alpha = r so that its scaling is 1.

    Raises:
        MergeError: the adapters do not fit each other, or the settings do not fit them; all problems are in it.
        AdapterError: an adapter is of a structure that is not supported.
    """
    adapters = {TASK: task, TARGET: reference_target}
    if reference_source is not None:
        adapters[SOURCE] = reference_source
    if not isinstance(scale, Scale):
        scale = Scale(tuple(scale) if isinstance(scale, Sequence) else scale)
    settings = Settings(
        scale, method, rule, space, rank, energy, dtype, near_zero, density, bottom, top, transition, seed
    )
    if problems := [*_settings(settings), *differences(adapters)]:
        raise MergeError("; ".join(problems))
    if problems := _fit(settings, adapters):
        raise MergeError("; ".join(problems))
    combination = Combination(adapters, settings)
    if unused := scale.unused(combination.scaled_modules()):
        raise MergeError("; ".join(_unused(what, combination.scaled_modules()) for what in unused))
    layout = task.layout
    return Merged(
        _config(task, combination.rank),
        Computed(combination.specs, combination.pieces),
        f"{task.origin}, merged",
        warnings=(*_warnings(settings, adapters), *_capped(settings, combination.rank)),
        kept=(*layout.heads, *layout.frozen),
        facts=combination.facts,
    )


def _settings(settings: Settings) -> list[str]:
    """What is wrong with the settings whatever the adapters."""
    found = settings.scale.problems()
    for name, choices in (("method", Method), ("rule", Rule), ("space", Space), ("near_zero", NearZero)):
        value = getattr(settings, name)
        if value not in get_args(choices):
            near = difflib.get_close_matches(str(value), get_args(choices), 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            found.append(f"{name} is {value!r}; expected one of {', '.join(get_args(choices))}{hint}")
    whole = settings.rank == "exact" or (type(settings.rank) is int and settings.rank >= 1)
    if not whole:
        found.append(f"rank is {settings.rank!r}; expected a whole number from 1, or 'exact'")
    if settings.energy is not None and not 0 < settings.energy <= 1:
        found.append(f"energy is {settings.energy}; expected a share above 0, up to 1")
    if settings.energy is not None and settings.rank != "exact":
        found.append("rank and energy are both given; choose one")
    if settings.density is not None and not 0 < settings.density <= 1:
        found.append(f"density is {settings.density}; expected a share above 0, up to 1")
    if settings.density is not None and settings.method not in DENSITY:
        found.append(f"density is for {' and '.join(DENSITY)}; the method is {settings.method}")
    if settings.method != "layer-swap" and (settings.bottom or settings.top or settings.transition):
        found.append(f"bottom, top and transition are for layer-swap; the method is {settings.method}")
    if not 0 <= settings.seed < 2**63:
        found.append(f"seed is {settings.seed}; expected a whole number from 0, below 2^63")
    if min(settings.bottom, settings.top, settings.transition) < 0:
        found.append("bottom, top and transition count layers; expected none below 0")
    if settings.method == "layer-swap" and not settings.bottom and not settings.top:
        found.append("layer-swap swaps nothing; say how many layers with bottom and top")
    if settings.dtype not in (None, torch.float32, torch.bfloat16, torch.float16):
        found.append(f"dtype is {settings.dtype}; expected float32, bfloat16 or float16")
    if settings.method != "adamergex" and settings.rule != "auto":
        found.append(f"rule is for ablations of adamergex; {settings.method} has its own")
    cut = settings.rank != "exact" or settings.energy is not None
    if cut and (settings.space == "factors" or settings.rule == "multiplicative"):
        found.append("a rank or an energy has no meaning where A and B are merged separately; leave it out")
    if settings.method in ("ties", "dare-ties"):
        if settings.energy is not None:
            found.append(f"energy cannot choose the rank of {settings.method}, which has no factors; give a rank")
        if settings.space == "factors":
            found.append(f"{settings.method} elects signs of ΔW; use the product space")
    return found


def _fit(settings: Settings, adapters: Mapping[str, Adapter]) -> list[str]:
    """What of the settings does not fit these adapters, which agree with each other."""
    structure, layout, method = adapters[TASK].layout.structure, adapters[TASK].layout, settings.method
    lora = structure in ("LoRA", "DoRA")
    found = []
    if method == "adamergex" and SOURCE not in adapters:
        found.append("adamergex needs the source reference; give it, or use task-arithmetic")
    if settings.rule == "pseudo-inverse" and not layout.prompts:
        found.append(f"the pseudo-inverse rule is for prompts; the adapters are {structure}")
    if not lora and (settings.space == "factors" or settings.rank != "exact" or settings.energy is not None):
        found.append(f"space, rank and energy are for LoRA; the adapters are {structure}")
    if layout.prompts and method not in ("adamergex", "layer-swap"):
        found.append(f"{method} adds updates, and a prompt is not one: there is no prompt that changes nothing")
    if structure == "p-tuning" and method == "layer-swap":
        found.append("p-tuning has no layers to swap")
    absolute = sorted(layout.values) + (sorted(layout.multipliers) if structure == "DoRA" else [])
    if absolute and method in ("task-arithmetic", "ties", "dare-ties"):
        found.append(
            f"{method} needs what the base model has in place of {absolute[0]} ({len(absolute)} such tensors), and the "
            "adapters do not hold it"
        )
    if settings.space == "factors" or (settings.rule == "multiplicative" and lora):
        found += _unequal(adapters)
    if method == "adamergex" and settings.rule in ("auto", "multiplicative") and settings.near_zero == "refuse":
        found += _divisors(adapters[SOURCE], layout.multipliers) if SOURCE in adapters else []
    wide = [role for role, a in adapters.items() if any(a.specs[n].dtype == torch.float64 for n in a.layout.modules())]
    if wide and settings.dtype is None:
        found.append(
            f"{', '.join(wide)} is stored in float64, and the result in float32 loses of it; say so with dtype"
        )
    return found


def _unequal(adapters: Mapping[str, Adapter]) -> list[str]:
    for name, mine in adapters[TASK].layout.products.items():
        for role, adapter in adapters.items():
            other = adapter.layout.products[name]
            if (mine.rank, mine.scaling) != (other.rank, other.scaling):
                return [
                    f"rank or scaling of {name} differs: task {mine.rank}, {mine.scaling:g}, {role} {other.rank}, "
                    f"{other.scaling:g}; merging A and B separately needs them equal"
                ]
    return []


def _divisors(source: Adapter, multipliers: Mapping[str, str]) -> list[str]:
    """The divisors of the multiplicative rule that are too near zero, counted."""
    counts = {module: int(near_zero(source.tensors[name]).sum()) for name, module in multipliers.items()}
    bad = {module: count for module, count in counts.items() if count}
    if not bad:
        return []
    worst = max(bad, key=lambda module: bad[module])
    return [
        f"reference-source is within 2^-10 of zero in {sum(bad.values())} values of {len(bad)} modules, {bad[worst]} of them "
        f"in {worst}, and the rule divides by them; near_zero = keep-task keeps the task's values there"
    ]


def _unused(what: str, modules: list[str]) -> str:
    return (
        f"the scale of {what} fits no module, or none that an earlier pattern leaves; they are named like {modules[0]}"
    )


def _warnings(settings: Settings, adapters: Mapping[str, Adapter]) -> list[str]:
    found = []
    task = adapters[TASK]
    if settings.space == "factors":
        apart = drift(list(adapters.values()))
        if apart > _FAR_APART:
            found.append(
                f"the A factors lie {apart:.2f} of their norm apart: merging A and B separately is then not the sum of "
                "the updates; space = product is"
            )
    heads = {role: a.layout.heads for role, a in adapters.items() if role != TASK and a.layout.heads}
    for role, names in heads.items():
        found.append(f"{role} has trained whole modules ({names[0]}, {len(names)} tensors); they are not in the result")
    narrow = {role: {a.specs[n].dtype for n in a.layout.modules()} for role, a in adapters.items()}
    if len(stored := set().union(*narrow.values())) > 1:
        shown = ", ".join(f"{role} {'/'.join(sorted(str(d)[6:] for d in kinds))}" for role, kinds in narrow.items())
        found.append(f"stored dtypes differ ({shown}); the result is as exact as the coarsest of {len(stored)}")
    if settings.near_zero == "keep-task" and settings.method == "adamergex":
        lines = _divisors(adapters[SOURCE], task.layout.multipliers)
        found += [line.partition(", and the rule")[0] + "; the task's values were kept there" for line in lines]
    return found


def _capped(settings: Settings, rank: int | None) -> list[str]:
    if rank is None or not isinstance(settings.rank, int) or settings.rank <= rank:
        return []
    return [f"rank {settings.rank} is more than the result can have: {rank} is all of it"]


def _config(task: Adapter, rank: int | None) -> dict[str, Any]:
    """The task's configuration, with one rank and a scaling of 1."""
    config = {**task.config, "inference_mode": True}
    if rank is None:
        return config
    # How A and B began does not matter any more, and some beginnings cannot be made for every rank.
    plain = {"r": rank, "lora_alpha": rank, "use_rslora": False, "rank_pattern": {}, "alpha_pattern": {}}
    return config | plain | {"init_lora_weights": True, "eva_config": None, "corda_config": None}


class _Callable(ModuleType):
    """`adamergex.merge` is this module and the function in it, whichever was wanted."""

    def __call__(self, *args: Any, **kwargs: Any) -> Merged:
        return merge(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
