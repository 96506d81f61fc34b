"""`adamergex merge` and `adamergex inspect`: options to a plan, and results to a screen.

The options that are settings of a method come from the methods' classes, so that a new method brings its own.
"""

import inspect as signatures
import warnings as python_warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adamergex.cli import documents
from adamergex.errors import MergeError, RecipeError
from adamergex.merging.base_method import ROLES
from adamergex.merging.methods import METHODS
from adamergex.terminal import Terminal, interruptible, say

if TYPE_CHECKING:
    from adamergex.adapters.adapter import Adapter
    from adamergex.merging.plan import Plan

_FLAG = "the command line"
_MODEL = "this base model's config.json, which is on this machine (a folder, or the hub's cache)"
ADAPTER = "a PEFT folder, or user/name[@revision][:subfolder] on the hub"
# They have options of another form.
_OWN = ("method", "scale")


def _with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose `**settings` are an option for each setting that a method has."""
    values: dict[str, str] = {}
    texts: dict[str, dict[str, list[str]]] = {}
    for name, kind in METHODS.items():
        schema = kind.model_json_schema()["properties"]
        for key, field in kind.model_fields.items():
            if key not in _OWN:
                values[key] = _values(schema[key])
                texts.setdefault(key, {}).setdefault(field.description or "", []).append(name)
    declared = signatures.signature(command)
    parameters = [p for p in declared.parameters.values() if p.kind is not signatures.Parameter.VAR_KEYWORD]
    for key, users in texts.items():
        everywhere = len(next(iter(users.values()))) == len(METHODS)
        lines = [text if everywhere else f"{', '.join(names)}: {text}" for text, names in users.items()]
        option = typer.Option(metavar=values[key], help="; ".join(lines) + ".")
        parameters.append(
            signatures.Parameter(
                key, signatures.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[str | None, option]
            )
        )
    command.__signature__ = declared.replace(parameters=parameters)  # type: ignore[attr-defined]
    return command


def _values(schema: dict[str, Any]) -> str:
    """How an option's value is shown: its choices, or what kind of number it is."""
    kinds = [schema, *schema.get("anyOf", [])]
    words = [word for kind in kinds for word in kind.get("enum", [kind["const"]] if "const" in kind else [])]
    numbers = ["N" if kind["type"] == "integer" else "X" for kind in kinds if kind.get("type") in ("integer", "number")]
    return "|".join(numbers + words)


@_with_settings
def merge(
    task: Annotated[
        str | None, typer.Option(metavar="ADAPTER", help=f"Trained on the task in the source language: {ADAPTER}.")
    ] = None,
    reference_target: Annotated[
        str | None, typer.Option(metavar="ADAPTER", help="Trained on plain text in the target language.")
    ] = None,
    reference_source: Annotated[
        str | None, typer.Option(metavar="ADAPTER", help="Trained on plain text in the source language.")
    ] = None,
    scale: Annotated[
        str | None, typer.Option(metavar="T", help="t; 0 gives the task adapter. 0.2,0.8 is a curve over the layers.")
    ] = None,
    output: Annotated[Path | None, typer.Option(readable=False, metavar="DIR", help="The merged folder.")] = None,
    scale_for: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN=T", help="t for modules whose name ends so, such as 'layers.[0-5].*=0'."),
    ] = None,
    method: Annotated[
        str | None, typer.Option(metavar="METHOD", help=f"{', '.join(METHODS)}; adamergex where it is left out.")
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="LoRA: the whole sum, of the sum of the ranks, as --rank exact.")
    ] = False,
    plan: Annotated[
        Path | None,
        typer.Option(readable=False, metavar="FILE", help="A plan as YAML; other options go before what it says."),
    ] = None,
    language: Annotated[
        str | None, typer.Option(metavar="CODE", help="The target language, for the model card.")
    ] = None,
    same_base: Annotated[
        bool, typer.Option("--same-base", help="The base models that the adapters name are one, whatever the names.")
    ] = False,
    missing: Annotated[
        str | None,
        typer.Option(
            metavar="refuse|zero",
            help="Where the references adapt fewer modules than the task: refuse, or zero, which keeps the task's part.",
        ),
    ] = None,
    base_model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help=f"Hold the result's names and shapes against {_MODEL}, before it is written."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an adapter that is there.")] = False,
    **settings: str | None,
) -> None:
    """Merge adapter folders into one, without the base model.

    adamergex merge --task task-en --reference-target wiki-sw --reference-source wiki-en --scale 0.6 --output task-sw
    """
    from adamergex.merging import folder
    from adamergex.merging.serving import for_vllm
    from adamergex.progress import display

    rank, energy = settings.pop("rank"), settings.pop("energy")
    if exact + (rank is not None) + (energy is not None) > 1:
        raise RecipeError([f"{_FLAG}: --exact, --rank and --energy are ways to choose one rank; give one of them"])
    if output is None:
        raise RecipeError([f"{_FLAG}: --output is missing; say where the merged folder is to be"])
    given: dict[str, Any] = {"method": method, "language": language, "missing": missing, **settings}
    given["same_base"] = same_base or None
    given = {key: value for key, value in given.items() if value is not None}
    if exact or rank is not None or energy is not None:
        # One of them stands in place of whichever the plan has.
        given |= {"rank": "exact" if exact else rank, "energy": energy}
    folders = dict(zip(ROLES, (task, reference_target, reference_source), strict=True))
    loaded, places = _plan(plan, given, scale, scale_for or [], folders)
    _say_taken(places)
    folder.check_output(places, output, overwrite)
    console = Terminal()
    with interruptible("nothing was written"), display(console) as shown:
        shown.stage("merge")
        inputs = folder.open_inputs(loaded, places)
        result = folder.merged(loaded, inputs)
        if base_model and (lines := _misplaced({"the result": result}, base_model)["the result"]):
            raise MergeError(*lines)
        folder.put(result, loaded, inputs, output, shown.step, overwrite=overwrite)
        shown.end()
    for line in [*result.warnings, *folder.afterwards(result), *for_vllm(result)]:
        say(f"warning: {line}", error=True)
    for key, value in folder.summary(result, loaded, output):
        console.print(f"{key:20} {value}", soft_wrap=True)


def _misplaced(adapters: "Mapping[str, Adapter]", base_model: str) -> dict[str, list[str]]:
    """What PEFT would not load of adapters on a base model, by name. Raises ModelError where its configuration is not here."""
    from adamergex.models.placement import here, misplaced

    # Notices of the libraries' own are not the user's business.
    python_warnings.filterwarnings("ignore")
    checkpoint = here(base_model)
    return {name: misplaced(adapter, checkpoint) for name, adapter in adapters.items()}


def _plan(
    path: Path | None, settings: dict[str, Any], scale: str | None, scale_for: list[str], folders: dict[str, str | None]
) -> "tuple[Plan, dict[str, str]]":
    """The plan file, if there is one, with the options in place of what it says; and where its adapters lie.

    Raises:
        RecipeError: with one line for every problem.
        AdapterError, NetworkError: an adapter cannot be had from the hub.
        MergeError: an adapter that the plan names by its SHA-256 alone is not found.
    """
    from adamergex.adapters.location import TOKENIZER, locate
    from adamergex.merging.folder import find_inputs, named
    from adamergex.merging.plan import Plan
    from adamergex.storage.yaml_model import check, read

    problems = []
    if path is None:
        problems += [f"--{role} is missing" for role in ROLES[:2] if not folders[role]]
        problems += ["--scale is missing; 0 gives the task adapter"] if scale is None else []
    default, modules, wrong = _scales(scale, scale_for)
    if problems := problems + wrong:
        raise RecipeError([f"{_FLAG}: {problem}" for problem in problems])
    wanted = {role: TOKENIZER if role == ROLES[0] else () for role in ROLES}
    places = {role: named(locate(folder, optional=wanted[role])) for role, folder in folders.items() if folder}
    if default is not None or modules:
        settings["scale"] = lambda before: _scaled(before, default, modules)
    if places:
        settings["inputs"] = lambda before: _located(before, places)
    loaded = check(Plan, read(path) if path else "{}", str(path or _FLAG), given=settings)
    found = find_inputs(loaded, path.parent if path else Path())
    inputs = {role: {"folder": found[role], "sha256": given.sha256} for role, given in loaded.inputs.by_role().items()}
    return Plan.model_validate(loaded.model_dump() | {"inputs": inputs}), found


def _say_taken(places: dict[str, str]) -> None:
    """Say which adapters are from the hub, and at which commit."""
    from adamergex.storage.hub import parse

    for role, place in places.items():
        if not Path(place).is_dir() and parse(place):
            say(f"{role}: from the hub, {place}", error=True)


def _scales(scale: str | None, scale_for: list[str]) -> tuple[Any, dict[str, Any], list[str]]:
    """The scale of all modules, those of patterns, and what cannot be read of both options, a line each."""
    from adamergex.merging.scale import parse

    default, modules, problems = None, {}, []
    for option, text in [("--scale", scale), *(("--scale-for", text) for text in scale_for)]:
        try:
            if option == "--scale":
                default = parse(text) if text is not None else None
            elif "=" in str(text):
                pattern, _, value = str(text).rpartition("=")
                modules[pattern] = parse(value)
            else:
                problems.append(f"{option}: {text!r} is no PATTERN=T")
        except MergeError as error:
            problems.append(f"{option}: {error}")
    return default, modules, problems


def _scaled(before: Any, default: Any, modules: dict[str, Any]) -> Any:
    """The scale of a plan with the options' parts in place of its own."""
    parts = dict(before) if isinstance(before, dict) else {} if before is None else {"default": before}
    parts |= {} if default is None else {"default": default}
    if modules:
        # Before the plan's: of patterns, the first that fits counts.
        parts["modules"] = {**modules, **parts.get("modules", {}), **modules}
    return parts["default"] if parts.keys() == {"default"} else parts


def _located(before: Any, places: dict[str, str]) -> Any:
    """The inputs of a plan with the options' folders; where the plan has no folder, its SHA-256 still holds."""
    inputs = dict(before) if isinstance(before, dict) else {}
    for role, place in places.items():
        named = inputs.get(role)
        kept = named if isinstance(named, dict) and not named.get("folder") else {}
        inputs[role] = {**kept, "folder": place}
    return inputs


def inspect(
    folders: Annotated[list[str], typer.Argument(metavar="ADAPTER...", help=f"{ADAPTER}.", show_default=False)],
    base_model: Annotated[
        str | None, typer.Option(metavar="MODEL", help=f"Hold names and shapes against {_MODEL}.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="All facts, by module too, as one JSON document.")] = False,
) -> None:
    """Show what is in adapters, and how several lie to each other."""
    from adamergex.adapters.adapter import load
    from adamergex.merging import inspection
    from adamergex.merging.folder import writable

    names = inspection.short_names(folders)
    with documents.problems_shown(as_json):
        adapters = {name: load(folder, lazy=True) for name, folder in zip(names, folders, strict=True)}
        described = {name: inspection.describe(adapter) for name, adapter in adapters.items()}
        related = inspection.relate(adapters) if len(adapters) > 1 else None
        misplaced = _misplaced(adapters, base_model) if base_model else {}
    if as_json:
        facts = {name: described[name] | ({"misplaced": misplaced[name]} if misplaced else {}) for name in names}
        documents.show(writable({"adapters": facts, "together": related, "problems": []}))
        return
    _say_taken({name: adapter.origin for name, adapter in adapters.items()})
    for name, adapter in adapters.items():
        for note in adapter.notes:
            say(f"{name}: {note}", error=True)
    for line in (f"{name}: {line}" for name, lines in misplaced.items() for line in lines):
        say(line, error=True)
    console = Terminal()
    console.print(inspection.facts_table(described))
    console.print()
    console.print(inspection.norms_table(described))
    if related:
        console.print()
        console.print(inspection.relations_table(related))
        console.print()
        lines = related["differences"] or ["they can be merged with each other"]
        for line in lines:
            console.print(f"differs: {line}" if related["differences"] else line, soft_wrap=True)
