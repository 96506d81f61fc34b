"""Merging adapters into one: `adamergex.merge(task, reference_target, reference_source, scale=0.6)`.

The methods are in `adamergex.merging.methods`, one file each; the paper's is `adamergex.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from adamergex.adapters.adapter import Adapter, Computed
from adamergex.adapters.compatibility import base_differences, differences
from adamergex.adapters.filling import filled
from adamergex.adapters.peft_config import FOREIGN
from adamergex.errors import MergeError
from adamergex.merging.base_method import SOURCE, TARGET, TASK, MergeMethod
from adamergex.merging.checks import unfit, warnings
from adamergex.merging.combine import Combination
from adamergex.merging.methods import settings as checked
from adamergex.merging.scale import Scale
from adamergex.merging.stats import MergeStats
from adamergex.storage.yaml_model import messages


@dataclass(frozen=True)
class Merged(Adapter):
    """A merged adapter: its tensors are computed at access, and written one at a time by `save`.

    Attributes:
        warnings: a line each, known before anything is computed.
        kept: tensors that are copied from the task adapter unchanged: its trained head, and copies of the base model's.
    """

    warnings: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    stats: MergeStats = field(default_factory=MergeStats)

    def _complete(self) -> MergeStats:
        """The statistics, after computing every tensor that contributes to them."""
        for module, product in self.schema.products.items():
            if module not in self.stats.computed:
                _ = self.tensors[product.a]
        for name in self.schema.prompts:
            if name not in self.stats.computed:
                _ = self.tensors[name]
        return self.stats

    @property
    def discarded_energy(self) -> dict[str, float]:
        """Per LoRA module, the share of ‖ΔW‖²_F that truncation left out; computes what was not computed yet."""
        return self._complete().discarded_energy

    @property
    def condition(self) -> dict[str, float]:
        """Per prompt, the condition number of the matrix whose pseudo-inverse was used (`methods.adamergex`)."""
        return self._complete().condition


def merge(
    task: Adapter,
    reference_target: Adapter,
    reference_source: Adapter | None = None,
    scale: float | Sequence[float] | Scale | None = None,
    *,
    method: str | MergeMethod = "adamergex",
    same_base: bool = False,
    missing: str = "refuse",
    **settings: Any,
) -> Merged:
    """Merge adapters of one base model into one for the task in the target language.

        merge(task, target, source, scale=0.6, rank=16)
        merge(task, target, method=Ties(scale=0.6, density=0.3))

    Args:
        task: trained on the task in the source language.
        reference_target: trained on the reference task in the target language.
        reference_source: trained on the reference task in the source language; AdaMergeX needs it.
        scale: t; 0 gives the task adapter. Several numbers are interpolated over the layers; `Scale` sets it by
            layer and by module. The default is 1.
        method: the name of a method, or an object with all its settings, the scale included.
        same_base: whether the base models that the adapters name are one, whatever the names.
        missing: what to do where the references adapt fewer modules than the task: "refuse" them, or "zero", to take what they
            lack for unchanged, so that the task's part there is kept.
        settings: of the method, as its class in `adamergex.merging.methods` describes them, and `dtype`; None stands
            for the default. Everything is computed in float32 or float64.

    Returns:
        An adapter of the structure of the inputs; LoRA with one rank, and lora_alpha = r so that its scaling is 1.

    Raises:
        MergeError: the adapters cannot be merged with each other or with these settings; the message has all problems.
        AdapterError: an adapter is of a structure that is not supported.
    """
    adapters = {TASK: task, TARGET: reference_target}
    if reference_source is not None:
        adapters[SOURCE] = reference_source
    options = {key: value for key, value in {"scale": scale, **settings}.items() if value is not None}
    problems: list[str] = []
    if isinstance(method, MergeMethod):
        if options:
            problems.append(f"method is an object with all settings; give {', '.join(options)} in it")
        chosen: MergeMethod | None = method
    else:
        try:
            chosen = checked({"method": method, **options})
        except ValidationError as error:
            chosen, problems = None, messages(error)
    if missing == "zero":
        adapters = filled(adapters)
    elif missing != "refuse":
        problems.append(f"missing is {missing!r}; expected refuse or zero")
    problems += differences(adapters, same_base, options=True)
    if chosen is not None and not problems:
        problems = unfit(chosen, adapters)
    if chosen is None or problems:
        raise MergeError("; ".join(problems))
    return _merged(adapters, chosen, _taken_for_one(adapters))


def _taken_for_one(adapters: dict[str, Adapter]) -> list[str]:
    """Warnings for base models of several names, which were said to be one, a line each."""
    lines = [line for role, a in adapters.items() for line in base_differences(TASK, adapters[TASK], role, a)]
    return [f"{line}; they were said to be the same (same_base)" for line in lines]


def _merged(adapters: dict[str, Adapter], method: MergeMethod, known: list[str]) -> Merged:
    """The result, whose tensors are not computed yet, of adapters and settings that were checked."""
    task, combination = adapters[TASK], Combination(adapters, method)
    merged = Merged(
        _config(task, combination.rank),
        Computed(combination.specs, combination.pieces),
        f"{task.origin}, merged",
        warnings=(*known, *warnings(method, adapters, combination.rank)),
        kept=(*task.schema.heads, *task.schema.frozen),
        stats=combination.stats,
    )
    # Held against its configuration before anything is computed: PEFT has to load it whole.
    _ = merged.schema
    return merged


def _config(task: Adapter, rank: int | None) -> dict[str, Any]:
    """The task's configuration, with one rank and a scaling of 1, and without what PEFT does not know."""
    config = {key: value for key, value in task.config.items() if key not in FOREIGN} | {"inference_mode": True}
    if rank is None:
        return config
    # The initialisation of A and B no longer matters, and some cannot be made for every rank.
    plain = {"r": rank, "lora_alpha": rank, "use_rslora": False, "rank_pattern": {}, "alpha_pattern": {}}
    return config | plain | {"init_lora_weights": True, "eva_config": None, "corda_config": None}
