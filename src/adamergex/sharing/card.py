"""The model card of a delivered adapter: what it does, how well, how to use it, and what it was made of."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adamergex.inference.usage import Usage
from adamergex.markdown import code, fenced, language_name, line, listed, row
from adamergex.merging.model_card import CITATION, PACKAGED_NOTE
from adamergex.reporting.metrics import metric_name
from adamergex.reporting.report import markdown_table
from adamergex.reporting.verdict import verdict
from adamergex.scoring.results import TESTS, Row
from adamergex.sharing.data_names import described

AUTO = {"SEQ_2_SEQ_LM": "AutoModelForSeq2SeqLM", "SEQ_CLS": "AutoModelForSequenceClassification"}
_ROLES = {
    "task": "the task's adapter",
    "reference-target": "the reference adapter of the target language",
    "reference-source": "the reference adapter of the source language",
}


@dataclass(frozen=True)
class Scores:
    """How well an adapter did, in its language.

    Attributes:
        rows: of the run's report.
        own: the row of the adapter itself, with its own seed.
    """

    rows: Sequence[Row]
    own: Row


@dataclass(frozen=True)
class Delivered:
    """A delivered adapter, as its card describes it.

    Attributes:
        usage: what `adamergex.json` says, with `made`: how the adapter came about.
        config: what `adapter_config.json` says.
        repository: where it is published, `user/name`; None where it is not.
        subfolder: of the repository.
        scores: of the run; None where they are not known, or nothing was scored.
        licence: of the base model, as its card states it: `license`, `license_name`, `license_link`.
        task: its name in a run of several tasks; empty otherwise.
    """

    usage: Mapping[str, Any]
    config: Mapping[str, Any]
    repository: str | None = None
    subfolder: str = ""
    scores: Scores | None = None
    licence: Mapping[str, str] | None = None
    task: str = ""

    @property
    def asked(self) -> Usage:
        """`usage` with types."""
        return Usage.model_validate(dict(self.usage))

    @property
    def made(self) -> Mapping[str, Any]:
        """How it came about."""
        found: Mapping[str, Any] = self.usage["made"]
        return found

    @property
    def base_model(self) -> str:
        """The name of the base model."""
        return str(self.usage["base_model"])

    @property
    def place(self) -> str:
        """What `adamergex.predictor` finds it by."""
        where = self.repository or "PATH OF THIS FOLDER"
        return f"{where}:{self.subfolder}" if self.subfolder else where


def body(of: Delivered) -> str:
    """The card without its metadata, as markdown."""
    target, source = language_name(of.usage["language"]), language_name(of.made["source"])
    sections = [
        f"# An adapter for {target}, from labels in {source}",
        _opening(of, target, source),
        *_scores(of),
        "## Use",
        _use(of),
        "## What it is asked",
        _prompt(of),
        *_calibration(of),
        "## How it was made",
        _made(of),
        "## Data",
        _data(of, target, source),
        *_licence(of),
        CITATION,
    ]
    return "\n\n".join(sections) + "\n"


def overview(of: Sequence[Delivered]) -> str:
    """The card of a repository with an adapter for each of several languages and tasks, without its metadata."""
    first, tasks = of[0], list(dict.fromkeys(one.task for one in of))
    source = listed(list(dict.fromkeys(language_name(one.made["source"]) for one in of)))
    rows = []
    for one in of:
        own = one.scores and one.scores.own
        score = (
            f"{metric_name(own.metric)} {100 * own.score:.1f} ({100 * own.low:.1f} – {100 * own.high:.1f})"
            if own
            else "–"
        )
        language = one.usage["language"]
        link = f"[{line(language_name(language))}]({one.subfolder}/README.md)"
        named = (line(one.task),) if len(tasks) > 1 else ()
        rows.append(row((*named, link, code(language), line(score))))
    scores = "scores beside those of the other systems, with tests, its " if any(one.scores for one in of) else ""
    calibration = "calibration, its " if any(one.asked.calibration for one in of) else ""
    place = json.dumps(first.repository)
    which = f"language={json.dumps(first.usage['language'])}"
    which = f"task={json.dumps(first.task)}, {which}" if len(tasks) > 1 else which
    languages = dict.fromkeys(language_name(one.usage["language"]) for one in of)
    of_what = f"for {listed([line(task) for task in tasks])}" if len(tasks) > 1 else "for one task"
    column = "task | " if len(tasks) > 1 else ""
    sections = [
        f"# Adapters for {', '.join(languages)}, from labels in {source}",
        f"Adapters of {code(first.base_model)} {of_what}, one for each language, each in a subfolder with a card of its own: its "
        f"{scores}prompt, its {calibration}data.",
        f"| {column}language | code | score, with its 95 % interval |\n|---{'|---' * bool(column)}|---|---|\n"
        + "\n".join(rows),
        "## Use",
        fenced(f"import adamergex\n\nanswer = adamergex.predictor({place}, {which})", "python"),
        *_licence(first),
        CITATION,
    ]
    return "\n\n".join(sections) + "\n"


def _opening(of: Delivered, target: str, source: str) -> str:
    structure = {"LORA": "LoRA", "IA3": "(IA)³", "PREFIX_TUNING": "prefix"}.get(str(of.config.get("peft_type")), "PEFT")
    rank = f" (r = {of.config['r']})" if of.config.get("r") else ""
    kind = {"choice": "chooses among labels", "number": "answers with a number"}.get(
        of.asked.task.kind, "writes its answer"
    )
    seen = of.made["target_labels"]
    without = f"made without labels in {target}, " if not seen else "made "
    told = f" Of {target}, {'; '.join(seen)}." if seen else ""
    return (
        f"A {structure} adapter{rank} of {code(of.base_model)} that {kind}, for inputs in {target} ({code(of.usage['language'])}). It was "
        f"{without}from labels in {source} ({code(of.made['source'])}) and plain text in both languages, with adamergex.{told}"
    )


def _scores(of: Delivered) -> list[str]:
    if of.scores is None:
        return []
    own, scored = of.scores.own, of.made.get("scored")
    on = f"on {own.items:,} items" + (f" of {described(scored)}" if scored else "")
    lines = [
        f"In percent, {on}. The adapter of this card is the row “{line(own.label)}”.",
        markdown_table(of.scores.rows),
    ]
    if own.seeds == 1 and own.seed is not None:
        lines.append(
            f"The table has means over several trainings; this adapter is that of seed {own.seed}: {metric_name(own.metric)} "
            f"{100 * own.score:.1f} (95 % interval {100 * own.low:.1f} – {100 * own.high:.1f})."
        )
    lines += [line(said) for role in ("merged", "refined") if (said := verdict(of.scores.rows, role))]
    if any(name.startswith("calibrated_") for name in own.others):
        lines.append(
            "“calibrated” is with a bias per label that is estimated without labels, as `adamergex.predictor` adds it."
        )
    return ["## Scores", *lines, f"Intervals and tests: {TESTS}."]


def _use(of: Delivered) -> str:
    columns = list(dict.fromkeys(of.asked.task.columns))
    asked = json.dumps("…" if len(columns) == 1 else dict.fromkeys(columns, "…"), ensure_ascii=False)
    result = "(label, probability)" if of.asked.task.labels else "(answer, None)"
    ours = (
        f"import adamergex\n\nanswer = adamergex.predictor({json.dumps(of.place)})\nanswer([{asked}])  # → [{result}]"
    )
    auto = AUTO.get(str(of.config.get("task_type")), "AutoModelForCausalLM")
    is_packaged = of.base_model.startswith("package:")
    base = f"resolve({json.dumps(of.base_model)}).folder" if is_packaged else json.dumps(of.base_model)
    more = ", trust_remote_code=True" if of.made.get("trust_remote_code") else ""
    more += f", num_labels={len(of.asked.task.labels)}" if auto.endswith("Classification") else ""
    below = f", subfolder={json.dumps(of.subfolder)}" if of.subfolder else ""
    theirs = "\n".join(
        [
            "from peft import PeftModel",
            f"from transformers import {auto}",
            *(["", "from adamergex import resolve"] if is_packaged else []),
            "",
            f"base = {auto}.from_pretrained({base}{more})",
            f"model = PeftModel.from_pretrained(base, {json.dumps(of.repository or 'PATH OF THIS FOLDER')}{below})",
        ]
    )
    known = ["its prompt"] + ["its labels"] * bool(of.asked.task.labels)
    known += ["its calibration"] * (of.asked.calibration is not None)
    scored = ", as it was scored" if of.scores else ""
    parts = [
        f"With {listed(known)}{scored}:",
        fenced(ours, "python"),
        "The weights alone, with PEFT; the prompt below is yours to fill in:",
        fenced(theirs, "python"),
    ]
    if is_packaged:
        parts.append(PACKAGED_NOTE)
    if of.made.get("trust_remote_code"):
        parts.append(
            "Python code that comes with the base model was allowed to run (`trust_remote_code: true`) while it was made."
        )
    return "\n\n".join(parts)


def _prompt(of: Delivered) -> str:
    task = of.asked.task
    parts = [fenced(task.prompt)]
    columns = ", ".join(code(name) for name in dict.fromkeys(task.columns))
    about = f"In braces are the columns of a row ({columns})."
    for column, part in task.optional.items():
        about += (
            f" `{column}` may be empty; where it is not, `{json.dumps(part, ensure_ascii=False)}` stands in its place."
        )
    if task.chat:
        parts.append(f"{about} It is asked through the base model's chat template, as the turn of a user.")
        parts += ["Before it stands the system message", fenced(task.system)] if task.system else []
    else:
        parts.append(f"{about} Between prompt and answer stands {code(json.dumps(task.separator))}.")
    if task.choices:
        rows = "\n".join(row((line(label), line(words))) for label, words in task.choices.items())
        parts.append(f"| label | answer |\n|---|---|\n{rows}")
    if task.marker:
        parts.append(f"The answer is the number after {code(json.dumps(task.marker, ensure_ascii=False))}.")
    return "\n\n".join(parts)


def _calibration(of: Delivered) -> list[str]:
    found = of.asked.calibration
    if found is None:
        return []
    columns = [("label", found.labels), ("bias (nats)", [f"{value:+.3f}" for value in found.bias])]
    if found.expected is not None:
        columns.append(("expected share", [f"{share:.1%}" for share in found.expected]))
    head = "| " + " | ".join(name for name, _ in columns) + " |\n|---" + "|---:" * (len(columns) - 1) + "|"
    rows = [row([line(str(value)) for value in values]) for values in zip(*(of for _, of in columns), strict=True)]
    return [
        "## Calibration",
        f"Added to the log-likelihood of each label; estimated on {found.inputs:,} inputs without labels, none of which is scored.",
        "\n".join([head, *rows]),
    ]


def _made(of: Delivered) -> str:
    made, method = of.made, of.made["method"]
    lines = [
        f"- merged with {method['title']} ([arXiv {method['arxiv']}](https://arxiv.org/abs/{method['arxiv']})), "
        f"t = {method['scale']}: {method['formula']}"
    ]
    if method["scale"] == "0":
        lines = [
            "- nothing was merged (t = 0): a merge was not expected to be better than the source language's adapter"
        ]
    if made.get("refined"):
        lines.append(f"- {made['refined']}")
    lines += [
        f"- {_ROLES[role]} was not trained for it, but taken as it was: {line(what)}"
        for role, what in made["taken"].items()
    ]
    lines.append(f"- base model: {code(of.base_model)}, {of.usage['weights']}, {of.usage['dtype']}")
    lines.append(f"- made with {', '.join(f'{package} {version}' for package, version in made['versions'].items())}")
    return "\n".join(lines)


def _data(of: Delivered, target: str, source: str) -> str:
    made = of.made
    lines = [] if "task" in made["taken"] else [f"- labels in {source}: {described(made['train'])}"]
    lines += [f"- plain text in {language_name(language)}: {text}" for language, text in made["corpora"].items()]
    if made.get("scored"):
        lines.append(f"- scored on {described(made['scored'])}, in {target}")
    return "\n".join(lines)


def _licence(of: Delivered) -> list[str]:
    if not of.licence:
        return []
    name = of.licence.get("license_name") or of.licence.get("license") or ""
    link = of.licence.get("license_link")
    shown = f"[{line(name)}]({link})" if link and re.fullmatch(r"https://[^\s()<>]+", link) else line(name)
    return [
        "## Licence",
        f"The base model is under {shown}, as its card states; what is made of it may have to be, too.",
    ]
