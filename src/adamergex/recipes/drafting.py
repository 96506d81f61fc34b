"""A recipe, drafted from what a person's files hold: YAML with a comment on what may be changed, and why it is as it is."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from langcodes import Language

from adamergex import language_tags
from adamergex.recipes.base_models import BASE_MODELS, BaseModel
from adamergex.recipes.prompts import braced, called, prompt
from adamergex.recipes.survey import Kind
from adamergex.scoring import calibration
from adamergex.tasks.task import can_be_named
from adamergex.training import self_training

# Codes whose Wikipedia has another one.
_WIKIPEDIAS = {"nb": "no", "yue": "zh-yue", "nan": "zh-min-nan", "lzh": "zh-classical", "fil": "tl", "gsw": "als"}
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_/.-]*")
# What YAML or its older versions would take for something else than text.
_WORDS = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}
# How many inputs without labels it takes to learn from some and to calibrate on others.
REFINABLE = self_training.FEWEST + calibration.FEWEST
WIKIPEDIA = {"dataset": "wikimedia/wikipedia", "config": "20231101.{language}", "split": "train"}


@dataclass(frozen=True)
class Corpus:
    """Plain text of one language.

    Attributes:
        source: as a recipe writes it; None is Wikipedia.
        characters: that a budget may count on; None where nobody knows.
    """

    source: dict[str, Any] | None = None
    characters: int | None = None


@dataclass(frozen=True)
class Draft:
    """What a recipe is drafted from.

    Attributes:
        name: of the run.
        model: the base model.
        suggested: whether nobody named the model.
        memory: what it has to fit into, in bytes.
        on_gpu: whether there is a GPU.
        source, target: languages, as BCP 47 codes.
        text, answer: names of the columns in the recipe.
        others: names of the columns with texts that belong to it, and whether they may be empty.
        kind: how answers are compared.
        labels: label → the words for it; empty where answers are written.
        rows: label → how many rows have it.
        train, inputs, test: sources as a recipe writes them.
        inputs_rows: how many inputs there are.
        may_chat: whether the base model has a chat template.
        corpora: the plain text of the source language, and of the target language.
    """

    name: str
    model: BaseModel
    suggested: bool
    memory: int
    on_gpu: bool
    source: str
    target: str
    text: str
    answer: str
    kind: Kind
    labels: dict[str, str]
    rows: dict[str, int]
    train: dict[str, Any]
    inputs: dict[str, Any] | None = None
    inputs_rows: int = 0
    test: dict[str, Any] | None = None
    may_chat: bool = False
    others: dict[str, bool] = field(default_factory=dict)
    corpora: tuple[Corpus, Corpus] = field(default=(Corpus(), Corpus()))

    @property
    def refines(self) -> bool:
        """Whether the adapter learns from its surest answers, too."""
        return self.inputs is not None and bool(self.labels) and self.inputs_rows >= REFINABLE


def draft(given: Draft) -> str:
    """The recipe's YAML."""
    sections = [_head(given), _task(given), _reference(given), _merge(given), _evaluate(given)]
    return "\n\n".join("\n".join(lines) for lines in sections if lines) + "\n"


def column_name(column: str, taken: Sequence[str] = ()) -> str:
    """A name that a prompt may have for a column: the column's own where a template can name it."""
    name = column if can_be_named(column) else re.sub(r"\W+", "_", column.strip()).strip("_").lower()
    name = name if can_be_named(name) else "text"
    while name in taken:
        name += "_"
    return name


def scalar(value: Any) -> str:
    """A value in YAML; text in quotes where it could be taken for something else."""
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    if isinstance(value, dict):
        return "{" + ", ".join(f"{scalar(key)}: {scalar(item)}" for key, item in value.items()) + "}"
    return _quoted(value)


def _quoted(value: Any) -> str:
    # JSON is YAML.
    return json.dumps(value, ensure_ascii=False)


def _source(value: dict[str, Any]) -> str:
    """A source: the path alone where nothing else is to be said."""
    return scalar(value["files"] if set(value) == {"files"} else value)


def _language(code: str) -> str:
    return Language.get(code).display_name("en")


def _head(given: Draft) -> list[str]:
    lines = [
        f"# {_language(given.source)} labels, {_language(given.target)} text: an adapter for {_language(given.target)}.",
        "# Drafted by adamergex init from what the files hold; all of it may be changed. Paths are relative to this file.",
        "",
        f"name: {scalar(given.name)}   # the results are in runs/{given.name}",
        "seed: 0",
    ]
    if given.suggested:
        weights = given.model.parameters * (2 if given.on_gpu else 4)
        memory = (
            f"the GPU has {given.memory / 2**30:.0f} GiB" if given.on_gpu else f"{given.memory / 2**30:.0f} GiB here"
        )
        others = [model.name for model in BASE_MODELS if model.name != given.model.name]
        lines += [
            f"# {given.model.about}; {weights:.1f} GB of weights, {memory}.",
            "# Larger ones know more of a language and take longer:",
            f"# {', '.join(others)}",
        ]
    lines.append(f"base_model: {scalar(given.model.name)}")
    lines += ["dtype: bfloat16"] if given.on_gpu else []
    return [*lines, "", f"source: {scalar(given.source)}", f"targets: [{scalar(given.target)}]"]


def _task(given: Draft) -> list[str]:
    english = language_tags.same(given.source.split("-")[0], "en")
    template = prompt(given.text, given.answer, list(given.labels.values()), english, given.others)
    optional = {column: f"\n{called(column)}" for column, may_be_empty in given.others.items() if may_be_empty}
    lines = [
        "task:",
        f"  prompt: {_quoted(template)}   # {{{given.text}}} is a column",
        *([f"  optional: {scalar(optional)}   # stands there where the column is not empty"] if optional else []),
        f"  answer: {scalar(given.answer)}",
    ]
    if given.may_chat:
        # Not taken for granted: base checkpoints may come with a template, too.
        lines.append("  # chat: true   # through the base model's chat template; for an instruction-tuned model")
    if given.labels:
        lines.append("  choices:   # a label as in the file: the words that the model is asked for")
        if all(re.fullmatch(r"-?\d+", words) for words in given.labels.values()):
            lines.append("    # A word that says what a number means works better than the number.")
        lines += [
            f"    {_quoted(label)}: {_quoted(braced(' '.join(words.split())))}   # {given.rows[label]:,} rows"
            for label, words in given.labels.items()
        ]
    elif given.kind != "text":
        lines.append(f"  kind: {given.kind}")
    lines.append(f"  train: {_source(given.train)}")
    if given.inputs is not None and given.labels:
        lines.append(
            f"  unlabelled: {_source(given.inputs)}   # inputs in {given.target}, to calibrate on; none is scored"
        )
    if given.inputs is not None and given.labels and given.test is not None:
        # Test rows are labelled out of the inputs, most often.
        lines.append("  overlap: drop   # inputs that are test rows, too, are neither calibrated on nor learned from")
    if given.test is not None:
        lines.append(f"  test: {_source(given.test)}   # labels in {given.target}, to see whether merging helped")
    else:
        lines.append(
            f"  # test: labelled-{given.target}.csv   # with labels in {given.target} the run says whether merging helped"
        )
    return lines


def _reference(given: Draft) -> list[str]:
    source, target = given.corpora
    own = {code: _own_corpus(code, corpus) for code, corpus in ((given.source, source), (given.target, target))}
    corpus = WIKIPEDIA
    if source.source is not None:
        # It stands for the source language, and the other one is named.
        corpus = source.source
        own = {given.target: own[given.target] or WIKIPEDIA | {"config": f"20231101.{wikipedia_code(given.target)}"}}
    lines = ["reference:   # plain text on any subject, in both languages", f"  corpus: {_source(corpus)}"]
    if any(value is not None for value in own.values()):
        lines.append("  corpora:   # where a language has other text")
        lines += [f"    {scalar(code)}: {_source(value)}" for code, value in own.items() if value is not None]
    budget, window = budget_of([source.characters, target.characters], given.on_gpu)
    lines.append(f"  {budget}")
    return lines + (
        [f"  window: {window}   # tokens that are read at once; 512 with more text"] if window != 512 else []
    )


def _own_corpus(code: str, corpus: Corpus) -> dict[str, Any] | None:
    """A language's own corpus: a person's text, or a Wikipedia whose code is not the language's."""
    if corpus.source is not None:
        return corpus.source
    wikipedia = wikipedia_code(code)
    return None if wikipedia == code else WIKIPEDIA | {"config": f"20231101.{wikipedia}"}


def wikipedia_code(code: str) -> str:
    """The code of a language's Wikipedia."""
    language = Language.get(language_tags.standard(code)).language or code
    return _WIKIPEDIAS.get(language, language)


def budget_of(characters: Sequence[int | None], on_gpu: bool) -> tuple[str, int]:
    """The line with the budget of plain text, and the window.

    Args:
        characters: that there are of each language; None where nobody knows, as of Wikipedia.
        on_gpu: whether there is a GPU; a CPU reads less in the same time.
    """
    tokens = 1_000_000 if on_gpu else 200_000
    known = [number for number in characters if number is not None]
    # Scripts and tokenizers differ: a token may be five characters.
    if not known or min(known) >= 6 * tokens:
        more = "" if on_gpu else "; a million where there is time, or a GPU"
        return f"tokens: {tokens}   # of each language{more}", 512
    # Of what there is one in twenty is held out, and what is cleaned away is not known yet.
    usable = int(0.75 * min(known))
    digits = max(len(str(usable)) - 2, 0)
    usable = usable // 10**digits * 10**digits
    window = next((size for size in (512, 256, 128, 64) if usable >= 200 * size), 32)
    return (
        f"characters: {usable}   # of each language; what the smaller of the two texts has. More text is better",
        window,
    )


def _merge(given: Draft) -> list[str]:
    lines = ["merge: {scale: auto}   # how much of the language is added; chosen without labels of the target language"]
    if given.refines:
        lines += [
            "# One more adapter learns from the merged one's surest answers to task.unlabelled; remove it to leave that out.",
            "refine: {}",
        ]
    elif given.inputs is not None and given.labels:
        lines.append(f"# refine: {{}}   # learns from inputs without labels; it takes {REFINABLE} or more")
    return lines


def _evaluate(given: Draft) -> list[str]:
    if given.test is None:
        return []
    return ["evaluate:", "  methods: [base, source-adapter, adamergex]   # the rows of the table"]
