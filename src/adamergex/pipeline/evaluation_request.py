"""What is to be compared, as a user names it → a Comparison, checked."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import ValidationError

from adamergex.adapters import adapter
from adamergex.adapters.location import CONFIG, Location, absent, locate
from adamergex.data.settings import is_language
from adamergex.errors import AdapterError, DataError, RecipeError
from adamergex.inference.settings import Evaluate
from adamergex.language_tags import distinct
from adamergex.pipeline.evaluation_plan import BASE, Comparison, ScoredTask
from adamergex.recipes.loading import folder_of, is_file, is_run, load, shipped
from adamergex.scoring.systems import Asking
from adamergex.tasks.benchmarks import BENCHMARKS
from adamergex.tasks.presets import filled
from adamergex.tasks.task import Task

Engine = Literal["transformers", "vllm"]
_KNOWN = {
    "asking": get_args(Asking),
    "dtype": ("float32", "bfloat16", "float16"),
    "backend": get_args(Engine),
}


def comparison(
    adapters: Mapping[str, str | Path],
    tasks: Mapping[str, str],
    languages: Sequence[str],
    *,
    base_model: str | None = None,
    baseline: str | None = None,
    data: Path | None = None,
    prompts: str = "english",
    split: str = "test",
    metric: str = "accuracy",
    limit: int | None = None,
    asking: str = "plain",
    shots: int = 4,
    length_normalization: str = "none",
    batch_size: int = 64,
    max_new_tokens: int | None = None,
    dtype: str = "float32",
    harness: Sequence[str] = (),
    harness_folder: Path | None = None,
    backend: str = "transformers",
    vllm: Mapping[str, Any] | None = None,
    seed: int = 0,
    trust_remote_code: bool = False,
    chat: bool = False,
    system: str | None = None,
) -> Comparison:
    """Check what is to be compared; `adamergex.evaluate` says what the arguments mean.

    Raises:
        AdapterError, NetworkError: a folder holds no adapter, or the hub does not give it.
        DataError: a task has no items of the split.
        RecipeError: an argument is not what is expected.
    """
    located = {name: _located(place) for name, place in adapters.items()}
    folders = {name: location.folder for name, location in located.items()}
    _check(asking=asking, dtype=dtype, backend=backend)
    if (start := baseline or next(iter(folders), BASE)) not in (BASE, *folders):
        raise RecipeError([f"baseline {start}: expected one of {', '.join((BASE, *folders))}"])
    given = _tasks(tasks, data, prompts, limit, split)
    scored = {name: _asked(name, one, chat, system) for name, one in given.items()}
    _refuse_harness(harness, scored)
    numbers = {"metric": metric, "shots": shots, "batch_size": batch_size, "max_new_tokens": max_new_tokens}
    return Comparison(
        base_model or _base_model(folders),
        folders,
        start,
        scored,
        _languages(languages),
        _settings(split=split, length_normalization=length_normalization, **numbers),
        dtype,
        asking,  # type: ignore[arg-type]  # One of them: see above.
        seed,
        harness,
        harness_folder,
        backend,  # type: ignore[arg-type]  # One of them, too.
        vllm or {},
        trust_remote_code,
        {name: location.pinned for name, location in located.items()},
    )


def by_name(arguments: Sequence[str]) -> dict[str, str]:
    """Tasks by name, from `NAME=TASK` or the task alone, which is called like its benchmark, its recipe's file or its run.

    Raises:
        RecipeError: two tasks are called alike.
    """
    tasks: dict[str, str] = {}
    for argument in arguments:
        name, equals, which = argument.partition("=")
        if not equals or Path(argument).exists():
            name, which = Path(argument).stem, argument
        if name in tasks:
            raise RecipeError([f"two tasks are called {name}; give one another name: --task NAME=TASK"])
        tasks[name] = which
    return tasks


def _refuse_harness(harness: Sequence[str], tasks: Mapping[str, ScoredTask]) -> None:
    """Raises RecipeError where lm-evaluation-harness would ask otherwise than the tasks beside it."""
    if harness and (chats := [name for name, one in tasks.items() if one.task.chat]):
        raise RecipeError(
            [f"harness: asks without a chat template, {', '.join(chats)} through it; score them one after the other"]
        )


def _check(**given: str) -> None:
    for name, value in given.items():
        if value not in _KNOWN[name]:
            raise RecipeError([f"{name} {value}: expected {', '.join(_KNOWN[name])}"])


def _located(place: str | Path) -> Location:
    location = locate(place)
    if not (location.folder / CONFIG).is_file():
        raise AdapterError(f"{absent(location.folder)}; or user/name on the Hugging Face hub")
    return location


def _base_model(adapters: Mapping[str, Path]) -> str:
    """What the first adapter was trained on."""
    for folder in adapters.values():
        known = adapter.load(folder, lazy=True).config.get("base_model_name_or_path")
        if known:
            return str(known)
    raise RecipeError(["base-model: missing; no adapter says what it was trained on"])


def _languages(given: Sequence[str]) -> list[str]:
    try:
        found = list(dict.fromkeys(is_language(code) for code in given))
        distinct(found, "it")
    except ValueError as error:
        raise RecipeError([f"language: {error}"]) from None
    return found


def _settings(**given: Any) -> Evaluate:
    try:
        return Evaluate(**given)
    except ValidationError as error:
        problems = [
            f"{'-'.join(map(str, e['loc'])).replace('_', '-')}: {e['msg']}, got {e['input']}" for e in error.errors()
        ]
        raise RecipeError(problems) from None


def _asked(name: str, scored: ScoredTask, chat: bool, system: str | None) -> ScoredTask:
    """A task as it is asked: through the chat template, with a system message; or as the task itself says."""
    given = ({"chat": True} if chat else {}) | ({} if system is None else {"system": system})
    if not given:
        return scored
    try:
        return replace(scored, task=Task.model_validate(scored.task.model_dump() | given))
    except ValidationError as error:
        raise RecipeError([f"task {name}: {e['msg'].removeprefix('Value error, ')}" for e in error.errors()]) from None


def _tasks(
    tasks: Mapping[str, str], data: Path | None, prompts: str, limit: int | None, split: str
) -> dict[str, ScoredTask]:
    """All tasks by name: a benchmark's or a recipe's; those of a recipe with several have the names that it gives them.

    Raises:
        RecipeError: two tasks are called alike.
    """
    found: dict[str, ScoredTask] = {}
    for name, which in tasks.items():
        for of, scored in _of(which, data, prompts).items():
            if (called := of or name) in found:
                raise RecipeError([f"two tasks are called {called}; score them one after the other"])
            found[called] = _limited(called, scored, limit, split)
    return found


def _of(given: str, data: Path | None, prompts: str) -> dict[str, ScoredTask]:
    """A benchmark by name, or the tasks of a recipe: of a file, of a run, or of a shipped one, whose name is no benchmark's.

    Returns:
        By name; an only one has none.
    """
    if is_file(given) or is_run(given) or (given in shipped() and given not in BENCHMARKS):
        recipe = load(given)
        folder = folder_of(given, recipe)
        # Of targets with settings of their own, the first ones' are taken.
        first = {part.task: part.recipe for part in reversed(recipe.parts)}
        return {
            name: ScoredTask(of.task, folder, of.source, of.evaluate.calibration)
            for name, of in sorted(first.items(), key=lambda named: list(recipe.tasks or [""]).index(named[0]))
        }
    try:
        files = None if data is None else str(data.resolve())
        return {"": ScoredTask(Task(**filled({"benchmark": given, "prompts": prompts, "data": files})))}
    except ValidationError as error:
        raise RecipeError([f"task {given}: {e['msg']}" for e in error.errors()]) from None
    except ValueError as error:
        raise RecipeError([f"task: {error}"]) from None


def _limited(name: str, scored: ScoredTask, limit: int | None, split: str) -> ScoredTask:
    """A task with so many of the scored items. Raises DataError where it has none of that split."""
    source = scored.task.test if split == "test" else scored.task.dev
    if source is None:
        raise DataError(f"{name}: has no {split} split; choose another split")
    limited = source.model_copy(update={"limit": limit}) if limit else source
    return replace(scored, task=scored.task.model_copy(update={split: limited}))
