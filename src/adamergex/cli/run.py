"""`adamergex run`, `plan` and `validate`: what is done with a recipe."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adamergex.cli import documents
from adamergex.cli.options import StoreOption
from adamergex.terminal import Terminal, interruptible, say

if TYPE_CHECKING:
    from adamergex.recipes.recipe import Recipe

RecipeName = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE", help="A .yaml file, the name of a shipped recipe, or the folder of a run.", show_default=False
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override the recipe, such as train.learning_rate=1e-4."),
]
TrustRemoteCode = Annotated[bool, typer.Option("--trust-remote-code", help="The same as --set trust_remote_code=true.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document, problems included.")]
Output = Annotated[
    Path | None, typer.Option(readable=False, help="The run folder.  [default: runs/NAME]", show_default=False)
]


def _load(recipe: str, overrides: list[str] | None, trust_remote_code: bool) -> "Recipe":
    from adamergex.recipes.loading import load

    return load(recipe, [*(overrides or []), *["trust_remote_code=true"] * trust_remote_code])


def run(
    recipe: RecipeName,
    overrides: Overrides = None,
    output: Output = None,
    trust_remote_code: TrustRemoteCode = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare all results that are there with their hashes.")
    ] = False,
    store: StoreOption = None,
    executor: Annotated[
        str,
        typer.Option(
            metavar="EXECUTOR",
            help="Who makes it: local, this process; local:N, N processes, each with its GPU or its share of the cores; "
            "ray, the workers of a Ray cluster.",
        ),
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(
            help="Of the Ray cluster, such as auto or HOST:6379.  [default: one on this machine]", show_default=False
        ),
    ] = None,
) -> None:
    """Train, merge, evaluate and report; what is done already is not done again."""
    from adamergex.distributed import Processes
    from adamergex.pipeline.run import finish
    from adamergex.progress import display, span
    from adamergex.recipes.loading import folder_of, is_run
    from adamergex.reporting import matrix, report

    loaded = _load(recipe, overrides, trust_remote_code)
    output = output or (Path(recipe) if is_run(recipe) else None)
    console = Terminal()
    with interruptible("run the same command again to go on"), display(console) as shown:
        place = folder_of(recipe, loaded)
        finished = finish(loaded, place, output, shown, verify=verify, store=store, executor=executor, address=address)
    if not Processes().is_first:
        return
    if isinstance(finished.shown, matrix.Matrix):
        matrix.show(console, finished.shown)
    else:
        report.show(console, finished.shown)
    for language, path in finished.delivered.items():
        console.print(f"adapter for {language}: {path}", soft_wrap=True)
    console.print(f"report: {finished.page}", soft_wrap=True)
    if (took := finished.took) is not None:
        say(f"made in {span(took.seconds)}, {span(took.expected)} had been expected")


def plan(
    recipe: RecipeName,
    overrides: Overrides = None,
    output: Output = None,
    trust_remote_code: TrustRemoteCode = False,
    store: StoreOption = None,
    as_json: AsJson = False,
) -> None:
    """Say what a run consists of, and of each stage whether it is done, why it is not, or what it waits for."""
    from adamergex.pipeline import plan_table
    from adamergex.recipes.loading import folder_of, is_run

    with documents.problems_shown(as_json):
        loaded = _load(recipe, overrides, trust_remote_code)
        output = output or (Path(recipe) if is_run(recipe) else None)
        states = plan_table.look(loaded, folder_of(recipe, loaded), output, store)
    if as_json:
        documents.show(plan_table.document(states) | {"problems": []})
    else:
        say(plan_table.table(states).removesuffix("\n"))


def validate(
    recipe: RecipeName,
    overrides: Overrides = None,
    trust_remote_code: TrustRemoteCode = False,
    as_json: AsJson = False,
) -> None:
    """Check a recipe and the data it names, and say all that is wrong."""
    from adamergex.recipes.chats import HINT, may_chat
    from adamergex.recipes.loading import folder_of
    from adamergex.recipes.looked_at import task_sources
    from adamergex.recipes.preflight import check
    from adamergex.recipes.sources_read import told
    from adamergex.storage.checkpoints import seen_from

    with documents.problems_shown(as_json):
        loaded = _load(recipe, overrides, trust_remote_code)
        folder = folder_of(recipe, loaded)
        looked = check(loaded, folder)
        parts = [part.recipe for part in loaded.parts]
        notes = told([source for part in parts for source in task_sources(part)], folder)
        model = seen_from(folder, loaded.base_model)
        asks_plainly = not any(part.task.chat for part in parts)
        notes += [HINT] if asks_plainly and may_chat(model, loaded.trust_remote_code) else []
    for line in looked.unreachable:
        say(f"not looked at: {line}", error=True)
    for line in looked.warnings:
        say(f"warning: {line}", error=True)
    if as_json:
        about = {"recipe": recipe, "name": loaded.name, "source": loaded.source, "targets": list(loaded.targets)}
        about |= {"tasks": list(loaded.tasks or ())} if loaded.tasks else {}
        about |= {"base_model": loaded.base_model, "notes": notes, "warnings": looked.warnings}
        about |= {"not_looked_at": looked.unreachable}
        documents.show(about | {"problems": []})
        return
    of = f"{', '.join(loaded.tasks)}; " if loaded.tasks else ""
    sources = ", ".join(dict.fromkeys(part.source for part in parts))
    say(f"{recipe}: valid; {of}{sources} → {', '.join(loaded.targets)} on {loaded.base_model}")
    for note in notes:
        say(f"note: {note}")
