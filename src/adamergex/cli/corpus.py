"""`adamergex corpus`: plain text to a folder of windows, as a run makes them of its corpora."""

import glob
import importlib.metadata
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table

from adamergex.errors import DataError, RecipeError, StorageError
from adamergex.terminal import Terminal, interruptible

if TYPE_CHECKING:
    from adamergex.data.corpus import Request
    from adamergex.data.settings import Source

_FLAG = "the command line"
_MANIFEST, _EXAMPLES = "manifest.json", "examples.json"


def corpus(
    where: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Files, globs or folders; or one data set of the hub, such as wikimedia/wikipedia --config 20231101.sw; "
            "or package:NAME.",
            show_default=False,
        ),
    ],
    language: Annotated[str, typer.Option(metavar="CODE", help="The language of the text, such as sw.")],
    tokenizer: Annotated[str, typer.Option(metavar="MODEL", help="The base model whose tokenizer cuts the text.")],
    output: Annotated[Path, typer.Option(readable=False, metavar="DIR", help="The folder to write.")],
    tokens: Annotated[int | None, typer.Option(metavar="N", help="The budget, in tokens; or")] = None,
    characters: Annotated[int | None, typer.Option(metavar="N", help="the budget, in characters.")] = None,
    window: Annotated[int, typer.Option(metavar="N", min=8, help="Tokens in a window.")] = 512,
    heldout: Annotated[
        float,
        typer.Option(metavar="SHARE", min=0, max=0.5, help="Held out, as a share of the budget and on top of it."),
    ] = 0.05,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of the order of the documents.")] = 0,
    text: Annotated[str, typer.Option(metavar="COLUMN", help="The column that holds the text.")] = "text",
    config: Annotated[str | None, typer.Option(metavar="NAME", help="Of a data set: its configuration.")] = None,
    split: Annotated[str | None, typer.Option(metavar="NAME", help="Of a data set.  [default: train]")] = None,
    revision: Annotated[str | None, typer.Option(metavar="COMMIT", help="Of a data set: a commit or tag.")] = None,
    keep_duplicates: Annotated[
        bool, typer.Option("--keep-duplicates", help="Keep documents that are nearly the same.")
    ] = False,
    keep_boilerplate: Annotated[
        bool, typer.Option("--keep-boilerplate", help="Keep lines that stand in many documents.")
    ] = False,
    drop_other_languages: Annotated[
        bool, typer.Option("--drop-other-languages", help="Drop documents in another language, not only count them.")
    ] = False,
    completion: Annotated[
        int | None,
        typer.Option(metavar="K", min=1, help="Write examples.json, too: prompts, and completions of K tokens."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a corpus that is there.")] = False,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run Python code that comes with the tokenizer; read it before.")
    ] = False,
) -> None:
    """Make windows of tokens from plain text: cleaned, shuffled, some held out.

    adamergex corpus text/ --language sw --tokenizer google/gemma-3-270m --tokens 1000000 --output corpus-sw
    """
    from adamergex.data import sources
    from adamergex.data.corpus import Request
    from adamergex.data.settings import is_language

    if (tokens is None) == (characters is None):
        raise RecipeError([f"{_FLAG}: expected exactly one of --tokens and --characters"])
    if completion is not None and completion >= window:
        raise RecipeError([f"{_FLAG}: --completion is {completion}; expected less than the window of {window}"])
    try:
        is_language(language)
    except ValueError as error:
        raise RecipeError([f"{_FLAG}: --language: {error}"]) from None
    source = _source(where, config, split, revision)
    _check_output(output, overwrite)
    other: Literal["count", "drop"] = "drop" if drop_other_languages else "count"
    request = Request(
        language, tokens, characters, window, heldout, seed, not keep_duplicates, not keep_boilerplate, other
    )
    about = {
        "language": language,
        "source": source.model_dump(exclude_none=True),
        "content": sources.fingerprint(source, Path(), language),
        "licence": sources.licence(source),
    }
    console = Terminal()
    try:
        with interruptible("nothing was written"):
            facts = _write(
                source, request, text, tokenizer, trust_remote_code, completion, output, overwrite, about, console
            )
    except DataError as error:
        # The same settings have one name in a recipe and another here.
        raise DataError(re.sub(r"reference\.(\w+)", r"--\1", str(error))) from error
    console.print(_table(facts))
    console.print(f"corpus: {output}", soft_wrap=True)


def _source(where: list[str], config: str | None, split: str | None, revision: str | None) -> "Source":
    """What the arguments name. Raises RecipeError where they do not go together."""
    from pydantic import ValidationError

    from adamergex.data.settings import Source

    one = where[0]
    # A data set is named like a folder in a folder; what is on the disk goes first.
    like_a_dataset = one.count("/") == 1 and not Path(one).suffix and not glob.has_magic(one)
    given: dict[str, Any] = {"files": where, "config": config, "revision": revision}
    if one.startswith("package:"):
        given = {"package": one.removeprefix("package:"), "config": config, "split": split, "revision": revision}
    elif len(where) == 1 and (config or split or revision or (like_a_dataset and not Path(one).exists())):
        given = {"dataset": one, "config": config, "split": split or "train", "revision": revision}
    try:
        return Source.model_validate(given)
    except ValidationError as error:
        message = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise RecipeError([f"{_FLAG}: {message}"]) from None


def _check_output(output: Path, overwrite: bool) -> None:
    """Whether a corpus may be written there. Raises StorageError where it is in the way of something."""
    from adamergex.data.corpus import HELDOUT, WINDOWS
    from adamergex.storage.outputs import replaceable

    present = replaceable({}, output, overwrite)
    if others := set(present) - {WINDOWS, HELDOUT, _MANIFEST, _EXAMPLES}:
        raise StorageError(
            f"{output} holds more than a corpus ({min(others)}), and is not replaced; choose another --output"
        )


def _write(
    source: "Source",
    request: "Request",
    column: str,
    model: str,
    trust_remote_code: bool,
    completion: int | None,
    output: Path,
    overwrite: bool,
    about: dict[str, Any],
    console: Terminal,
) -> dict[str, Any]:
    """Write the folder, and put it in its place when it is whole."""
    import numpy as np

    from adamergex.data import paper_format, sources
    from adamergex.data.corpus import PACKAGES, WINDOWS, build
    from adamergex.models.families import load_tokenizer
    from adamergex.progress import display
    from adamergex.storage import checkpoints
    from adamergex.storage.outputs import replacing

    checkpoint = checkpoints.resolve(model, trust_remote_code)
    tokenizer = load_tokenizer(checkpoint)
    with replacing(output, overwrite) as folder, display(console) as shown:
        shown.stage("corpus")
        texts = sources.texts(source, Path(), request.language, column)
        facts = build(texts, tokenizer, folder, request, f"corpus of {request.language}", shown.step)
        if completion is not None:
            windows = np.load(folder / WINDOWS, mmap_mode="r")
            facts["examples"] = paper_format.write(folder / _EXAMPLES, windows, tokenizer, completion)
        made = {
            "text": column,
            "tokenizer": {
                "model": checkpoint.name,
                "fingerprint": checkpoint.fingerprint,
                "trust_remote_code": trust_remote_code,
            },
            "versions": {package: importlib.metadata.version(package) for package in ("adamergex", *PACKAGES)},
        }
        text = json.dumps(about | facts | made, indent=2, ensure_ascii=False)
        (folder / _MANIFEST).write_text(text + "\n", "utf-8")
        shown.end()
    return facts


def _table(facts: dict[str, Any]) -> Table:
    """What a corpus came to."""
    table = Table(box=None, show_header=False, pad_edge=False)
    held = facts["heldout"]
    other = facts["in_other_languages"]
    found = ", ".join(f"{code} {count:,}" for code, count in facts["other_languages"].items())
    rows = {
        "windows": f"{facts['windows']:,} of {facts['settings']['window']} tokens",
        "held out": f"{held['windows']:,}, from {held['documents']:,} other documents",
        "documents": f"{facts['documents']:,} of {facts['documents_read']:,} that were read",
        "characters": f"{facts['characters']:,}",
        "near-duplicates": f"{facts['near_duplicates_dropped']:,} dropped",
        "boilerplate": f"{facts['boilerplate_lines_dropped']:,} lines dropped",
        "other languages": "unknown to the identifier"
        if other is None
        else f"{other:,} documents{f' ({found})' if found else ''}, {facts['in_other_languages_dropped']:,} dropped",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    if "examples" in facts:
        table.add_row("examples", f"{facts['examples']:,}")
    return table
