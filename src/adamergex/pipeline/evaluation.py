"""`adamergex evaluate`: resolve, plan, make, report."""

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from adamergex.adapters.adapter import CONFIG, Adapter, load
from adamergex.adapters.compatibility import check_bases, off_base
from adamergex.distributed import Processes
from adamergex.errors import ModelError, RecipeError
from adamergex.execution.executor import execute, held, opened
from adamergex.execution.run_folder import RunFolder
from adamergex.models.device_names import DeviceName
from adamergex.pipeline.evaluation_plan import Comparison, Engines, plan, sources
from adamergex.pipeline.evaluation_request import by_name, comparison
from adamergex.pipeline.kinds import KINDS
from adamergex.pipeline.planned import Planned
from adamergex.pipeline.resolve import base_model, contents
from adamergex.pipeline.run_facts import data
from adamergex.pipeline.run_report import FILES, PAGE, Facts, write_report
from adamergex.pipeline.stages import checks, predict
from adamergex.pipeline.worker import Options, Worker
from adamergex.progress import Display, Silent
from adamergex.recipes import chats, encoders
from adamergex.reporting.report import Report, layouts
from adamergex.reporting.results import Results
from adamergex.scoring.results import TESTS
from adamergex.selection.scale_curve import tried
from adamergex.storage.checkpoints import Checkpoint, resolve
from adamergex.storage.files import sha256
from adamergex.storage.outputs import resolved


def evaluate(
    adapters: Mapping[str, str | Path],
    tasks: Sequence[str] | Mapping[str, str],
    languages: Sequence[str],
    output: str | Path,
    *,
    display: Display | None = None,
    verify: bool = False,
    device: DeviceName = "auto",
    store: str | None = None,
    **settings: Any,
) -> Results:
    """Score adapters and their base model on the same items, with paired tests, and write a report.

        adamergex.evaluate({"t0": "adapters/task-en", "merged": "merged/sw/adamergex"}, ["xcopa"], ["sw"], "scores")

    Args:
        adapters: name → PEFT folder, or `user/name[@revision][:subfolder]` on the Hugging Face hub. The base model itself
            is always measured, too.
        tasks: benchmarks by name, or recipes whose task is taken; with names for them, or without.
        languages: BCP 47 codes of the languages that items are asked in.
        output: the folder for results; what is done there is not done again.
        display: where progress is shown; nowhere by default.
        verify: compare all results that are there with their hashes.
        device: auto, cuda, mps or cpu; auto is a CUDA or ROCm GPU where there is one, else the CPU.
        store: a folder or a URL that finished predictions are taken from and put to, beside the output.
        settings: the options of `adamergex evaluate`, with underscores: `base_model`, `baseline` (what others are compared
            with), `data` (a benchmark's files), `metric`, `prompts`, `split`, `limit`, `asking`, `shots`, `length_normalization`,
            `batch_size`, `max_new_tokens`, `dtype`, `harness`, `harness_folder`, `backend`, `vllm`, `seed`,
            `trust_remote_code`, `chat`, `system`.

    Returns:
        A sequence of rows, one for each adapter, task and language; with `.table` and `.scores` (data frames), `.report` and
        `.folder`.

    Raises:
        AdaMergeXError: a problem that the user can fix; finished predictions stay done.
    """
    named = tasks if isinstance(tasks, Mapping) else by_name(tasks)
    request = comparison(adapters, named, languages, **settings)
    done = compare(request, Path(output), display, verify=verify, device=device, store=store)
    return Results.of(done, Path(output), PAGE)


def compare(
    request: Comparison,
    output: Path,
    display: Display | None = None,
    *,
    verify: bool = False,
    device: DeviceName = "auto",
    store: str | None = None,
) -> Report:
    """Make the results of a comparison that are not there yet, and write scores.jsonl, report.md and report.html.

    Args:
        request: what is compared, on what.
        output: the folder for results.
        display: where progress is shown; nowhere by default.
        verify: compare all results that are there with their hashes.
        device: where models compute.
        store: that finished predictions are taken from and put to.

    Returns:
        The report: a row for each adapter, task and language.

    Raises:
        AdaMergeXError: a problem that the user can fix; finished predictions stay done.
    """
    processes = Processes()
    shown = display if display is not None and processes.is_first else Silent()
    shared = opened(store, processes)
    resolved(output)  # Or else what is written in it cannot say where it is.
    run_folder = RunFolder(output)
    with held(run_folder, processes):
        adapters = {name: load(path, lazy=True) for name, path in request.adapters.items()}
        check_bases(adapters)
        shown.stage(f"base model {request.base_model}")
        checkpoint: Checkpoint = processes.first_does(lambda: resolve(request.base_model, request.trust_remote_code))
        for line in (others := off_base(adapters, checkpoint.name, checkpoint.fingerprint)):
            shown.warn(line)
        shown.end()
        planned: Planned = processes.first_does(lambda: _planned(request, checkpoint, adapters))
        options = Options(request.evaluate.batch_size, device, adapters=tuple(request.adapters.values()))
        worker = Worker({checkpoint.fingerprint: checkpoint}, processes, shown, options)
        forget = partial(run_folder.remove, *FILES)
        read = planned.read
        execute(planned.stages, KINDS, run_folder, worker, read=read, verify=verify, before_first=forget, store=shared)

        def report() -> Report:
            facts = _facts(request, checkpoint, planned, output)
            scorings = [predict.facts(run_folder.place(cell.predictions)) for cell in planned.cells]
            lines = [
                *facts.lines,
                *others,
                *layouts("scoring", scorings),
                *_seen(planned, run_folder),
                *data(planned, run_folder),
            ]
            return write_report(planned, run_folder, replace(facts, lines=lines))

        return processes.first_does(report)


def _planned(request: Comparison, checkpoint: Checkpoint, adapters: Mapping[str, Adapter]) -> Planned:
    """Resolve what else there is to know, and plan. Raises ModelError where an engine is missing or does not fit."""
    model = base_model(checkpoint, request.dtype)
    tasks = {name: scored.task for name, scored in request.tasks.items()}
    asked = (request.adapters, request.asking, request.start, bool(request.harness))
    problems = encoders.unscorable(checkpoint, tasks, *asked) + chats.problems(checkpoint, tasks, request.asking)
    if problems:
        raise RecipeError(problems)
    version = None
    if request.backend == "vllm":
        from adamergex.inference.engines.vllm import version as vllm_version

        if model.family != "causal":
            raise ModelError(
                f"base_model {request.base_model}: vLLM answers for causal models here; use --backend transformers"
            )
        version = vllm_version()
    if request.harness and importlib.util.find_spec("lm_eval") is None:
        raise ModelError("lm-evaluation-harness is not installed; run: pip install 'adamergex[harness]'")
    folder = request.harness_folder
    files = sorted(path for path in folder.rglob("*") if path.is_file()) if folder else []
    digests = {
        name: (sha256(request.adapters[name] / CONFIG), str(adapter.digest)) for name, adapter in adapters.items()
    }
    engines = Engines(
        digests,
        version,
        tuple(sha256(path) for path in files),
        max((adapter.config.get("num_virtual_tokens") or 0 for adapter in adapters.values()), default=0),
        tuple(encoders.headless(checkpoint, tasks)),
    )
    return plan(request, model, contents(sources(request)), engines)


def _seen(planned: Planned, folder: RunFolder) -> Iterator[str]:
    """With which training items the scored ones were compared, a line for each task and language."""
    for (name, language), id in planned.overlaps.items():
        count, training = checks.compared(folder.place(id), "train"), planned.stages[id].inputs.get("train", ())
        languages = ", ".join(planned.stages[items].params.language for items in training)  # type: ignore[attr-defined]
        if checks.counts(folder.place(id)).get("train shared"):
            continue
        what = f"none of the scored items is among {count:,} training items ({languages})"
        yield f"{name}, {language}: " + (
            what if training else "not compared with training items, which are not on this machine"
        )


def _facts(request: Comparison, checkpoint: Checkpoint, planned: Planned, output: Path) -> Facts:
    """How the numbers came to be."""
    shots = f" with {request.evaluate.shots} examples" if request.asking == "few-shot" else ""
    lines = [
        f"base model: {checkpoint.described}",
        *(f"{name}: the base model {encoders.NEW_HEAD}" for name in planned.without_base),
        f"scored on the {request.evaluate.split} split, prompts {request.asking}{shots}; {TESTS}",
        *(f"{name}: {request.named.get(name, folder)}" for name, folder in request.adapters.items()),
        *(f"prompt of {name}: {scored.task.described!r}" for name, scored in request.tasks.items()),
    ]
    scales: Mapping[str, float] = tried(request.adapters)
    return Facts(output.resolve().name, None, request.start, lines, scales, request.evaluate.metric)
