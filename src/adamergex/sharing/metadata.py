"""The metadata of a card, as the Hugging Face hub reads it: languages, base model, results, all written by its own library."""

from collections.abc import Mapping, Sequence
from typing import Any

import langcodes

from adamergex.scoring.results import Row
from adamergex.sharing.card import Delivered
from adamergex.storage.hub import parse

_METRICS = {
    "macro_f1": "f1",
    "exact": "exact_match",
    "rougeL": "rouge",
    "rouge1": "rouge",
    "rouge2": "rouge",
}
_TASKS = {"choice": "text-classification", "extraction": "question-answering"}
# Beside a row's own metric, those that the hub shows.
_FURTHER = ("macro_f1", "calibrated_accuracy", "calibrated_macro_f1", "f1")


def card(body: str, of: Sequence[Delivered]) -> str:
    """A card with its metadata.

    Args:
        body: markdown.
        of: the adapters that it describes, of one base model.
    """
    return f"---\n{_metadata(of).to_yaml()}\n---\n\n{body}"


def _metadata(of: Sequence[Delivered]) -> Any:
    from huggingface_hub import ModelCardData

    first = of[0]
    results = [result for one in of for result in _results(one)]
    datasets = [data["dataset"] for one in of for data in _data(one) if "dataset" in data]
    is_classifier = first.config.get("task_type") == "SEQ_CLS"
    more: dict[str, Any] = {}
    if results:
        names = list(dict.fromkeys(result.metric_type for result in results))
        more = {"eval_results": results, "metrics": names}
        more["model_name"] = (first.repository or "adapter").rpartition("/")[2]
    return ModelCardData(
        language=list(dict.fromkeys(langcodes.Language.get(one.usage["language"]).language or "und" for one in of)),
        # The hub accepts only its own names of models.
        base_model=first.base_model if _is_public(first.base_model) else None,
        library_name="peft",
        pipeline_tag="text-classification" if is_classifier else "text-generation",
        tags=_tags(first),
        datasets=list(dict.fromkeys(datasets)) or None,
        widget=[_example(one) for one in of],
        **_licence(first.licence),
        **more,
    )


def _is_public(base_model: str) -> bool:
    return not base_model.startswith("package:") and (parse(base_model) is not None or "/" not in base_model)


def _tags(of: Delivered) -> list[str]:
    kind = {"LORA": "lora", "IA3": "ia3", "PREFIX_TUNING": "prefix-tuning"}.get(str(of.config.get("peft_type")), "peft")
    merged = ["merge"] if of.made["method"]["scale"] != "0" else []
    return [
        kind,
        "adamergex",
        "cross-lingual-transfer",
        *merged,
        *(["self-training"] if of.made["self_trained"] else []),
    ]


def _licence(stated: Mapping[str, str] | None) -> dict[str, str]:
    return {key: value for key, value in (stated or {}).items() if key in ("license", "license_name", "license_link")}


def _data(of: Delivered) -> list[Mapping[str, str]]:
    """The data sets that it was trained on."""
    train = [] if "task" in of.made["taken"] else [of.made["train"]]
    return [*train, *of.made["references"]]


def _example(of: Delivered) -> dict[str, Any]:
    """The prompt with its columns' names in brackets: no row of anybody's data is put into a card."""
    task = of.asked.task
    text = task.outline
    if not task.chat:
        return {"text": text}
    turns = [("system", task.system), ("user", text)]
    return {"messages": [{"role": role, "content": content} for role, content in turns if content]}


def _results(of: Delivered) -> list[Any]:
    """What was scored, for the hub's `model-index`."""
    from huggingface_hub import EvalResult

    if of.scores is None:
        return []
    own, scored = of.scores.own, of.made.get("scored") or {"name": "own data"}
    values = {own.metric: own.score} | {name: own.others[name] for name in _FURTHER if name in own.others}
    return [
        EvalResult(
            task_type=_TASKS.get(of.asked.task.kind, "text-generation"),
            dataset_type=scored.get("dataset", "own-data"),
            dataset_name=f"{scored['name']} ({of.usage['language']})",
            # Results are told apart by it, not by the name.
            dataset_config=scored.get("config", of.usage["language"]),
            dataset_split=scored.get("split"),
            dataset_revision=scored.get("revision"),
            metric_type=_METRICS.get(plain := name.removeprefix("calibrated_"), plain),
            metric_name=_named(own, name),
            metric_value=round(value, 4),
        )
        for name, value in values.items()
    ]


def _named(row: Row, metric: str) -> str:
    plain = metric.removeprefix("calibrated_").replace("_", "-")
    return f"{plain}, calibrated without labels" if metric.startswith("calibrated_") else plain
