"""`adamergex evaluate`: adapters beside each other and the base model, on benchmarks or on data of your own."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from adamergex.cli.options import DeviceOption, StoreOption
from adamergex.errors import RecipeError
from adamergex.terminal import Terminal, interruptible


def evaluate(
    task: Annotated[
        list[str],
        typer.Option(
            metavar="NAME=TASK",
            help="A benchmark (mgsm, xcopa, xnli, xquad, xlsum, sib200, …), or a recipe or run whose task is taken; NAME is optional.",
            show_default=False,
        ),
    ],
    language: Annotated[list[str], typer.Option(metavar="CODE", help="A language, such as sw.", show_default=False)],
    output: Annotated[
        Path, typer.Option(readable=False, metavar="DIR", help="The folder for results.", show_default=False)
    ],
    adapter: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=ADAPTER",
            help="A PEFT folder, or user/name[@revision][:subfolder] on the hub; called like its folder if NAME is left out.",
        ),
    ] = None,
    base_model: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Where the adapters do not say it.  [default: the first adapter's]"),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What others are compared with.  [default: the first adapter, or base]"),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(readable=False, metavar="DIR", help="A benchmark's files, in its authors' format; else the hub."),
    ] = None,
    prompts: Annotated[
        str, typer.Option(metavar="WHICH", help="Of a benchmark: english, target or paper.")
    ] = "english",
    asking: Annotated[str, typer.Option(metavar="HOW", help="plain, few-shot or xlt.")] = "plain",
    chat: Annotated[
        bool,
        typer.Option(
            "--chat", help="Ask through the base model's chat template, as instruction-tuned models are asked."
        ),
    ] = False,
    system: Annotated[
        str | None, typer.Option(metavar="TEXT", help="With --chat: the system message.", show_default=False)
    ] = None,
    shots: Annotated[int, typer.Option(metavar="N", min=1, max=32, help="Examples in few-shot prompts.")] = 4,
    split: Annotated[str, typer.Option(metavar="NAME", help="test or dev.")] = "test",
    metric: Annotated[
        str,
        typer.Option(metavar="NAME", help="What is compared, of labels: accuracy, macro_f1 or balanced_accuracy."),
    ] = "accuracy",
    limit: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Only N items: a sample with every label in its share, the same in every run."
        ),
    ] = None,
    length_normalization: Annotated[
        str, typer.Option(metavar="BY", help="Of a choice's log-likelihood: none, tokens or characters.")
    ] = "none",
    batch_size: Annotated[int, typer.Option(metavar="N", min=1, help="Sequences per forward pass.")] = 64,
    max_new_tokens: Annotated[int | None, typer.Option(metavar="N", min=1, help="Length of a written answer.")] = None,
    dtype: Annotated[str, typer.Option(metavar="TYPE", help="float32, bfloat16 or float16.")] = "float32",
    harness: Annotated[
        str | None, typer.Option(metavar="TASK,…", help="Tasks of lm-evaluation-harness, measured as well.")
    ] = None,
    harness_folder: Annotated[
        Path | None, typer.Option(readable=False, metavar="DIR", help="Where task files of your own for it lie.")
    ] = None,
    backend: Annotated[str, typer.Option(metavar="NAME", help="What computes: transformers or vllm.")] = "transformers",
    vllm: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="An argument of vLLM's engine, such as tensor_parallel_size=2."),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of the draw of examples.")] = 0,
    device: DeviceOption = "auto",
    trust_remote_code: Annotated[
        bool,
        typer.Option("--trust-remote-code", help="Run Python code that comes with the base model; read it before."),
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare all results that are there with their hashes.")
    ] = False,
    store: StoreOption = None,
) -> None:
    """Score adapters and their base model on the same items, with paired tests; done predictions are not done again.

    adamergex evaluate --task xcopa --language sw --adapter t0=adapters/task-en --adapter merged/sw/adamergex --output scores
    """
    from adamergex.pipeline.evaluation import compare
    from adamergex.pipeline.evaluation_request import by_name, comparison
    from adamergex.progress import display
    from adamergex.reporting import report

    request = comparison(
        _adapters(adapter or []),
        by_name(task),
        language,
        base_model=base_model,
        baseline=baseline,
        data=data,
        prompts=prompts,
        split=split,
        metric=metric,
        limit=limit,
        asking=asking,
        chat=chat,
        system=system,
        shots=shots,
        length_normalization=length_normalization,
        batch_size=batch_size,
        max_new_tokens=max_new_tokens,
        dtype=dtype,
        harness=[name for name in (harness or "").split(",") if name],
        harness_folder=harness_folder,
        backend=backend,
        vllm=_engine(vllm or [], backend, harness),
        seed=seed,
        trust_remote_code=trust_remote_code,
    )
    console = Terminal()
    with interruptible("run the same command again to go on"), display(console) as shown:
        results = compare(request, output, shown, verify=verify, device=device, store=store)
    report.show(console, results)
    console.print(f"report: {output / 'report.html'}", soft_wrap=True)


def _adapters(arguments: list[str]) -> dict[str, str]:
    """Adapters, as the user names their places, by name. Raises RecipeError where two are called alike."""
    from adamergex.adapters.location import short

    adapters: dict[str, str] = {}
    for argument in arguments:
        name, equals, place = argument.partition("=")
        name, place = (name, place) if equals else (short(argument), argument)
        if name in adapters:
            raise RecipeError([f"two adapters are called {name}; give one another name: --adapter NAME=DIR"])
        adapters[name] = place
    return adapters


def _engine(given: list[str], backend: str, harness: str | None) -> dict[str, Any]:
    """Arguments of vLLM's engine, values in JSON or as they are. Raises RecipeError where they have no effect."""
    if backend != "vllm" and given:
        raise RecipeError([f"--vllm {given[0]}: has no effect without --backend vllm"])
    if backend == "vllm" and harness:
        raise RecipeError(["--harness: measures the resident model; leave out --backend vllm"])
    found = {}
    for one in given:
        key, equals, value = one.partition("=")
        if not equals or not key.isidentifier():
            raise RecipeError([f"--vllm {one}: expected KEY=VALUE, such as tensor_parallel_size=2"])
        if key == "trust_remote_code":
            raise RecipeError([f"--vllm {one}: use --trust-remote-code, which the report shows"])
        try:
            found[key] = json.loads(value)
        except ValueError:
            found[key] = value
    return found
