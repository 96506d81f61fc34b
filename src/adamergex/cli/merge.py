"""`adamergex merge` and `adamergex inspect`: options to a plan, and results to a screen."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from adamergex.errors import MergeError, RecipeError

if TYPE_CHECKING:
    from adamergex.merging.plan import Plan

_FLAG = "the command line"


def merge(
    task: Annotated[str | None, typer.Option(metavar="DIR", help="Trained on the task in the source language.")] = None,
    reference_target: Annotated[
        str | None, typer.Option(metavar="DIR", help="Trained on plain text in the target language.")
    ] = None,
    reference_source: Annotated[
        str | None, typer.Option(metavar="DIR", help="Trained on plain text in the source language.")
    ] = None,
    scale: Annotated[
        str | None, typer.Option(metavar="T", help="t; 0 gives the task adapter. 0.2,0.8 is a curve over the layers.")
    ] = None,
    output: Annotated[Path | None, typer.Option(metavar="DIR", help="The merged folder.")] = None,
    scale_for: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN=T", help="t for modules whose name ends so, such as 'layers.[0-5].*=0'."),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(help="adamergex, task-arithmetic, ties, dare-ties or layer-swap.  [default: adamergex]"),
    ] = None,
    rule: Annotated[
        str | None,
        typer.Option(help="For ablations: additive, multiplicative or pseudo-inverse, whatever the structure."),
    ] = None,
    space: Annotated[
        str | None, typer.Option(help="LoRA: product (ΔW) or factors (A and B apart).  [default: product]")
    ] = None,
    rank: Annotated[int | None, typer.Option(metavar="K", help="LoRA: the best approximation of this rank.")] = None,
    energy: Annotated[
        float | None, typer.Option(metavar="SHARE", help="LoRA: the smallest rank that keeps this share, such as 0.99.")
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="LoRA: the whole sum, of the sum of the ranks.  [default]")
    ] = False,
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16 or float16.  [default: float32]")] = None,
    near_zero: Annotated[
        str | None, typer.Option(help="(IA)³: refuse divisors near zero, or keep-task there.  [default: refuse]")
    ] = None,
    density: Annotated[
        float | None, typer.Option(metavar="SHARE", help="ties, dare-ties: entries kept.  [default: 0.2, 0.5]")
    ] = None,
    bottom: Annotated[int | None, typer.Option(metavar="N", help="layer-swap: first layers from the target.")] = None,
    top: Annotated[int | None, typer.Option(metavar="N", help="layer-swap: last layers from the target.")] = None,
    transition: Annotated[
        int | None, typer.Option(metavar="N", help="layer-swap: layers that mix, beside each.")
    ] = None,
    plan: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A plan as YAML; other options go before what it says.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="Of what is drawn at random in ties and dare-ties.")
    ] = None,
    language: Annotated[
        str | None, typer.Option(metavar="CODE", help="The target language, for the model card.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an adapter that is there.")] = False,
) -> None:
    """Merge adapter folders into one, without the base model.

    adamergex merge --task task-en --reference-target wiki-sw --reference-source wiki-en --scale 0.6 --output task-sw
    """
    from adamergex.merging import folder
    from adamergex.progress import display

    given: dict[str, Any] = {
        "method": method,
        "rule": rule,
        "space": space,
        "dtype": dtype,
        "near_zero": near_zero,
        "density": density,
        "bottom": bottom,
        "top": top,
        "transition": transition,
        "seed": seed,
        "language": language,
    }
    if exact + (rank is not None) + (energy is not None) > 1:
        raise RecipeError([f"{_FLAG}: --exact, --rank and --energy are ways to choose one rank; give one of them"])
    if output is None:
        raise RecipeError([f"{_FLAG}: --output is missing; say where the merged folder is to be"])
    settings = {key: value for key, value in given.items() if value is not None}
    if exact or rank is not None or energy is not None:
        # One of them stands in place of whichever the plan has.
        settings |= {"rank": rank if rank is not None else "exact", "energy": energy}
    folders = {"task": task, "reference-target": reference_target, "reference-source": reference_source}
    loaded = _plan(plan, settings, scale, scale_for or [], folders)
    if exact and loaded.method in ("ties", "dare-ties"):
        raise RecipeError(
            [f"{_FLAG}: {loaded.method} has no exact result of low rank; leave --exact out, or give --rank"]
        )
    folder.check_output(loaded, output, overwrite)
    console = Console()
    try:
        with display(console) as shown:
            shown.stage("merge")
            inputs = folder.open_inputs(loaded)
            result = folder.merged(loaded, inputs)
            folder.put(result, loaded, inputs, output, shown.step)
            shown.end()
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        raise typer.Exit(130) from None
    for line in [*result.warnings, *folder.afterwards(result), *folder.for_vllm(result)]:
        print(f"warning: {line}", file=sys.stderr)
    for key, value in folder.summary(result, loaded, output):
        console.print(f"{key:20} {value}", highlight=False, soft_wrap=True, markup=False)


def _plan(
    path: Path | None, settings: dict[str, Any], scale: str | None, scale_for: list[str], folders: dict[str, str | None]
) -> "Plan":
    """The plan file, if there is one, with the options in place of what it says; folders made absolute.

    Raises:
        RecipeError: with one line for every problem.
    """
    from adamergex.merging.folder import resolved
    from adamergex.merging.plan import Plan
    from adamergex.merging.scale import parse
    from adamergex.storage.yaml_model import check, read

    problems = []
    if path is None:
        problems += [f"--{role} is missing" for role in ("task", "reference-target") if not folders[role]]
        problems += ["--scale is missing; 0 gives the task adapter"] if scale is None else []
    for option, text in [("--scale", scale), *(("--scale-for", text) for text in scale_for)]:
        try:
            if option == "--scale" and text is not None:
                settings["scale"] = _listed(parse(text))
            elif text is not None:
                pattern, equals, value = text.rpartition("=")
                if not equals:
                    raise MergeError(f"{text!r} is no PATTERN=T")
                settings.setdefault("modules", {})[pattern] = _listed(parse(value))
        except MergeError as error:
            problems.append(f"{option}: {error}")
    if problems:
        raise RecipeError([f"{_FLAG}: {problem}" for problem in problems])
    if given := {role: {"folder": str(resolved(Path(folder)))} for role, folder in folders.items() if folder}:
        settings["inputs"] = given
    if path is None:
        return check(Plan, "{}", _FLAG, given=settings)
    loaded = check(Plan, read(path), str(path), given=settings)
    inputs = {
        role: {"folder": str(resolved(path.parent / given.folder)), "sha256": given.sha256}
        for role, given in loaded.inputs.by_role().items()
    }
    return Plan.model_validate(loaded.model_dump() | {"inputs": inputs})


def _listed(curve: Any) -> Any:
    return list(curve) if isinstance(curve, tuple) else curve


def inspect(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Adapter folders.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="All facts, by module too, as JSON.")] = False,
) -> None:
    """Show what is in adapter folders, and how several lie to each other."""
    from adamergex.adapters.adapter import load
    from adamergex.merging import inspection
    from adamergex.merging.folder import writable

    names = inspection.short_names([str(folder) for folder in folders])
    adapters = {name: load(folder, lazy=True) for name, folder in zip(names, folders, strict=True)}
    described = {name: inspection.describe(adapter) for name, adapter in adapters.items()}
    related = inspection.relate(adapters) if len(adapters) > 1 else None
    if as_json:
        typer.echo(json.dumps(writable({"adapters": described, "together": related}), indent=2, ensure_ascii=False))
        return
    console = Console()
    console.print(inspection.facts_table(described), highlight=False)
    console.print()
    console.print(inspection.norms_table(described), highlight=False)
    if related:
        console.print()
        console.print(inspection.relations_table(related), highlight=False)
        console.print()
        lines = related["differences"] or ["they can be merged with each other"]
        for line in lines:
            console.print(
                f"differs: {line}" if related["differences"] else line, highlight=False, markup=False, soft_wrap=True
            )
