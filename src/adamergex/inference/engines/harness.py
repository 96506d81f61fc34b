"""A model with or without an adapter × tasks of lm-evaluation-harness → the harness's scores."""

import io
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from copy import deepcopy
from pathlib import Path
from typing import Any

from adamergex.errors import DataError, ModelError
from adamergex.models.families import first_line
from adamergex.models.resident import ResidentModel
from adamergex.models.target_logits import float32_logits
from adamergex.storage.yaml_model import did_you_mean

# What lm-evaluation-harness calls a model that predicts this way.
_BACKENDS = {"causal": "causal", "seq2seq": "seq2seq"}


def measure(
    resident: ResidentModel,
    tasks: Sequence[str],
    include: Path | None = None,
    limit: int | None = None,
    batch_size: int = 8,
) -> list[dict[str, Any]]:
    """Score the resident model, with the adapter that is loaded, on tasks of lm-evaluation-harness.

    Nothing is copied or saved for it: the resident model is handed over with the adapter in its slot, or as the base
    model inside `without_adapter()`. The harness's defaults hold, but that random numbers are left as they are and logits are float32.

    Args:
        resident: the model, with the adapter to evaluate; causal or sequence-to-sequence.
        tasks: names of tasks, groups or tags.
        include: a folder with tasks of one's own, as the harness's YAML files.
        limit: measure no more than this many items of a task, the first ones.
        batch_size: sequences per forward pass.

    Returns:
        A row for each task and metric, sorted: `task`; `metric`, with its filter, such as `acc,none`; `value`; and
        `stderr`, None where the harness gives none. Of several processes all measure the same; only the first one of a
        machine gets rows.

    Raises:
        DataError: there is no such task or folder, a number is below 1, or a task cannot be measured, such as one whose
            data cannot be had.
        ModelError: the model is an encoder, or lm-evaluation-harness is not installed.
    """
    _check(resident, tasks, include, {"limit": limit, "batch_size": batch_size})
    with _quiet():
        try:
            import lm_eval
            from lm_eval.tasks import TaskManager
        except ImportError as error:
            raise ModelError("lm-evaluation-harness is not installed; run: pip install 'adamergex[harness]'") from error
        manager = _manager(TaskManager, tasks, include)
        model = _model(resident, batch_size)
        try:
            with float32_logits(resident.model):
                results = lm_eval.simple_evaluate(
                    model=model,
                    tasks=list(tasks),
                    limit=limit,
                    task_manager=manager,
                    log_samples=False,
                    random_seed=None,
                    numpy_random_seed=None,
                    torch_random_seed=None,
                )
        except Exception as error:  # data sets, templates and metrics of tasks raise all kinds of errors
            raise DataError(
                f"tasks {', '.join(tasks)}: lm-evaluation-harness cannot measure them: {first_line(error)}"
            ) from error
    return _rows(results["results"]) if results else []


def _check(resident: ResidentModel, tasks: Sequence[str], include: Path | None, numbers: dict[str, int | None]) -> None:
    """Whether this can be measured. Raises as `measure`."""
    if resident.kind not in _BACKENDS:
        raise ModelError(
            f"{resident.checkpoint.name}: lm-evaluation-harness measures causal and sequence-to-sequence models; "
            "this one is an encoder"
        )
    for name, number in numbers.items():
        if number is not None and number < 1:
            raise DataError(f"{name}: {number} is too small; expected at least 1")
    if not tasks:
        raise DataError("tasks: none is given; expected names such as xcopa_et")
    if include is not None and not include.is_dir():
        raise DataError(f"{include}: no such folder; expected one with tasks as YAML files")


def _model(resident: ResidentModel, batch_size: int) -> Any:
    """The resident model as the harness's."""
    from lm_eval.models.huggingface import HFLM

    tokenizer = resident.tokenizer
    return HFLM(
        pretrained=resident.model,
        # The harness gives a tokenizer a token to pad with; training and scoring go on with the one there is.
        tokenizer=deepcopy(tokenizer) if tokenizer.pad_token_id is None else tokenizer,
        backend=_BACKENDS[resident.kind],
        trust_remote_code=resident.checkpoint.trust_remote_code,
        max_length=resident.context,
        batch_size=batch_size,
        # By default logits and their logarithms are the weights' type: in bfloat16 many choices are equally likely.
        softmax_dtype="float32",
    )


def _manager(make: Any, tasks: Sequence[str], include: Path | None) -> Any:
    """What finds the tasks. Raises DataError where one is unknown."""
    if include is not None:
        # Looking through the harness's own thousands of files takes many seconds.
        included = make(include_path=str(include), include_defaults=False)
        if set(tasks) <= set(included.all_subtasks):
            return included
    manager = make(include_path=None if include is None else str(include))
    for name in tasks:
        if name not in manager.all_tasks:
            raise DataError(
                f"{name}: no such task of lm-evaluation-harness"
                f"{'' if include is None else f' or in {include}'}{did_you_mean(name, manager.all_tasks)}"
            )
    return manager


def _rows(results: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Every number that the harness gives as `metric,filter`, with the one that it gives as its standard error."""
    rows = []
    for task, metrics in results.items():
        for key, value in metrics.items():
            metric, comma, by = key.partition(",")
            if not comma or metric.endswith("_stderr") or not isinstance(value, int | float):
                continue
            error = metrics.get(f"{metric}_stderr,{by}")
            stderr = float(error) if isinstance(error, int | float) else None
            rows.append({"task": task, "metric": key, "value": float(value), "stderr": stderr})
    return sorted(rows, key=lambda row: (row["task"], row["metric"]))


@contextmanager
def _quiet() -> Iterator[None]:
    """Within this context neither log messages of the harness nor progress bars are shown."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
