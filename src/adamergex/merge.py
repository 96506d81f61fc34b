"""The merging equations of AdaMergeX (arXiv 2402.18913, section 3) for LoRA.

Three adapters of one frozen base model: the task in the source language (T), and the reference task
in the target (R) and in the source language (S). LoRA enters the model by addition, W + ΔW, so the
divergence between the languages is a difference, and the adapter for the task in the target language is

    ΔW = ΔW_T + t · (ΔW_R − ΔW_S)

with one scalar t. At t = 0 this is the source-language task adapter.
"""

from dataclasses import dataclass
from typing import Literal

import torch

from adamergex.adapter import Adapter, Factors, drift
from adamergex.errors import MergeError
from adamergex.lowrank import LowRank, stack, truncate

Space = Literal["product", "factors"]


@dataclass(frozen=True)
class Merged:
    """A merged adapter and what merging lost.

    Attributes:
        adapter: a LoRA adapter with one rank, and lora_alpha = r so that its scaling is 1.
        discarded_energy: per module, the share of ‖ΔW‖²_F that truncation left out (0 in factor space).
        drift: how far the A factors of the three adapters lie apart (`adamergex.adapter.drift`).
    """

    adapter: Adapter
    discarded_energy: dict[str, float]
    drift: float


def lora_product(task: Factors, target: Factors, source: Factors, t: float) -> LowRank:
    """ΔW_T + t·(ΔW_R − ΔW_S), exactly: the stack of the three products, rank r_T + r_R + r_S, float64."""
    return stack([(1.0, task.product), (t, target.product), (-t, source.product)])


def lora_factors(task: Factors, target: Factors, source: Factors, t: float) -> LowRank:
    """The paper's published code: A and B are merged separately, then multiplied; rank r, float64.

    (B_T + t(B_R − B_S)) @ (A_T + t(A_R − A_S)) has cross terms, and S enters as +t²·B_S·A_S. It is near
    `lora_product` only where the three A lie close to one shared start. The scaling is the task's.
    """
    b, a = (
        getattr(task, side).double() + t * (getattr(target, side).double() - getattr(source, side).double())
        for side in ("b", "a")
    )
    return LowRank(task.scaling * b, a)


def merge(
    task: Adapter,
    reference_target: Adapter,
    reference_source: Adapter,
    scale: float,
    *,
    space: Space = "product",
    rank: int | Literal["exact"] | None = None,
) -> Merged:
    """Merge three LoRA adapters into one for the task in the target language.

    Args:
        task: trained on the task in the source language.
        reference_target: trained on the reference task in the target language.
        reference_source: trained on the reference task in the source language.
        scale: t; 0 gives the task adapter.
        space: "product" merges ΔW; "factors" merges A and B separately, as the paper's code does.
        rank: rank of the result in product space: a number, "exact" for the whole stack, or None for
            the largest rank in the task adapter.

    Returns:
        float32 factors, whatever dtype was stored; computed in float64.

    Raises:
        MergeError: the adapters differ in base model, modules or shapes, or hold NaN or infinity;
            all differences are reported together.
    """
    modules = [adapter.modules() for adapter in (task, reference_target, reference_source)]
    _check([task, reference_target, reference_source], modules, space, rank)
    if rank is None:
        rank = max(factors.a.shape[0] for factors in modules[0].values())
    tensors, discarded = {}, {}
    result_rank = 0
    for name, of_task in modules[0].items():
        of_target, of_source = modules[1][name], modules[2][name]
        if space == "factors":
            product, lost = lora_factors(of_task, of_target, of_source, scale), 0.0
        elif rank == "exact":
            product, lost = lora_product(of_task, of_target, of_source, scale), 0.0
        else:
            product, lost = truncate(lora_product(of_task, of_target, of_source, scale), rank)
        tensors[f"base_model.model.{name}.lora_A.weight"] = product.right.float()
        tensors[f"base_model.model.{name}.lora_B.weight"] = product.left.float()
        discarded[name] = lost
        result_rank = product.rank
    config = {
        **task.config,
        "r": result_rank,
        "lora_alpha": result_rank,
        "use_rslora": False,
        "rank_pattern": {},
        "alpha_pattern": {},
        "inference_mode": True,
    }
    apart = drift([task, reference_target, reference_source])
    return Merged(Adapter(config, tensors, f"{task.origin} merged"), discarded, apart)


def _check(
    adapters: list[Adapter],
    modules: list[dict[str, Factors]],
    space: Space,
    rank: int | Literal["exact"] | None,
) -> None:
    roles = ("task", "reference-target", "reference-source")
    problems = []
    if space not in ("product", "factors"):
        problems.append(f"space is {space!r}; expected 'product' or 'factors'")
    if isinstance(rank, int) and rank < 1:
        problems.append(f"rank is {rank}; expected at least 1")
    if space == "factors" and rank is not None:
        problems.append("rank is given, but merging in factor space keeps the rank of the adapters; leave it out")
    first = adapters[0].config.get("base_model_name_or_path")
    for role, adapter, factors in zip(roles, adapters, modules, strict=True):
        base = adapter.config.get("base_model_name_or_path")
        if base != first:
            problems.append(f"base model differs: task was trained on {first}, {role} on {base}; retrain one of them")
        for what, names in (
            ("lacks", modules[0].keys() - factors.keys()),
            ("has, and task has not,", factors.keys() - modules[0].keys()),
        ):
            if names:
                problems.append(f"modules differ: {role} {what} {len(names)}, the first is {min(names)}")
        bad = [m for m, f in factors.items() if not (torch.isfinite(f.a).all() and torch.isfinite(f.b).all())]
        if bad:
            problems.append(f"{role} holds NaN or infinity in {len(bad)} modules, the first is {bad[0]}; retrain it")
        for name in sorted(factors.keys() & modules[0].keys()):
            mine, task = factors[name], modules[0][name]
            shapes = [(f.b.shape[0], f.a.shape[1]) for f in (task, mine)]
            if shapes[0] != shapes[1]:
                problems.append(f"shape of {name} differs: task (out, in) {shapes[0]}, {role} {shapes[1]}")
                break
            if space == "factors" and task.a.shape != mine.a.shape:
                problems.append(
                    f"rank of {name} differs: task {task.a.shape[0]}, {role} {mine.a.shape[0]}; factor space needs equal ranks"
                )
                break
    if not modules[0]:
        problems.append("the task adapter holds no LoRA module")
    if problems:
        raise MergeError("; ".join(problems))
