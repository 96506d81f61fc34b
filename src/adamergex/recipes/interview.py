"""A person's files and a few answers, to what a recipe is drafted from, and what is said of the files."""

import glob
import importlib.util
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from adamergex.data import detection
from adamergex.errors import DataError
from adamergex.models.machine import Machine
from adamergex.recipes import base_models, columns, plain_text, survey
from adamergex.recipes.chats import HINT, may_chat
from adamergex.recipes.columns import Table
from adamergex.recipes.drafting import REFINABLE, Corpus, Draft, column_name
from adamergex.recipes.survey import Labelled
from adamergex.storage import checkpoints
from adamergex.storage.files import expanded

WIKIPEDIA = "wikipedia"
# Labels that are numbers are asked for by name where there are no more than these.
_MOST_ASKED = 10
# Of a language, of which an identifier is sure.
_MOST = 0.6
_FEW_ROWS, _LITTLE_TEXT = 50, 200_000


class Ask(Protocol):
    """Asks whoever is there."""

    def choice(self, question: str, default: str, others: tuple[str, ...]) -> str:
        """One of several."""
        ...

    def words(self, question: str, default: str) -> str:
        """A few words."""
        ...


@dataclass(frozen=True)
class Wanted:
    """What a person asks for.

    Attributes:
        labelled: the file with labels.
        target: language that the adapter is for.
        source: language of the labelled file; identified if None.
        text, source_text: plain text: a file, a folder or a glob; or `wikipedia`.
        inputs, test: files in the target language, without and with labels.
        model: the base model; suggested if None.
        text_column, label_column: found if None.
        delimiter, encoding: of the labelled file; found if None.
        folder: of the recipe, which paths are relative to.
    """

    labelled: Path
    target: str
    folder: Path
    source: str | None = None
    text: str = WIKIPEDIA
    source_text: str = WIKIPEDIA
    inputs: Path | None = None
    test: Path | None = None
    model: str | None = None
    text_column: str | None = None
    label_column: str | None = None
    delimiter: str | None = None
    encoding: str | None = None


class Interview:
    """Looks at the files, asks what it cannot know.

    Attributes:
        lines: what was found: pairs of what it is about and what it is.
        notes: what the person may want to do something about.
    """

    def __init__(self, wanted: Wanted, ask: Ask, machine: Machine):
        self.wanted, self._ask, self._machine = wanted, ask, machine
        self.lines: list[tuple[str, str]] = []
        self.notes: list[str] = []

    def draft(self) -> Draft:
        """What a recipe is drafted from.

        Raises:
            DataError: a file is missing, malformed, or holds nothing to learn from.
        """
        wanted = self.wanted
        table, (text, *others), answer, found, source = self._labelled()
        name, label = column_name(text), answer
        names = {name: text} | {column_name(other): other for other in others}
        inputs, inputs_rows = self._inputs(names) if wanted.inputs is not None else (None, 0)
        if inputs is not None and not found.classes:
            self.notes.append("answers are written, so that --inputs has no use; it is left out")
        test = self._test(names, label, found) if wanted.test is not None else None
        model = self._model()
        chat = may_chat(wanted.model or model.name)
        if chat:
            self.notes.append(HINT)
        stem = re.sub(r"[^A-Za-z0-9._-]+", "-", wanted.labelled.name.partition(".")[0]).strip("-._") or "task"
        return Draft(
            name=f"{stem}-{wanted.target}",
            model=model,
            suggested=wanted.model is None,
            memory=self._machine.model_memory,
            on_gpu=self._machine.device != "cpu",
            source=source,
            target=wanted.target,
            text=name,
            answer=label,
            kind=found.kind,
            labels=self._words(table, answer, found),
            rows=found.classes,
            train=self._source(table, names),
            inputs=inputs,
            inputs_rows=inputs_rows,
            test=test,
            may_chat=chat,
            others={column_name(other): "" in table.values(other) for other in others},
            corpora=(self._corpus(wanted.source_text, source), self._corpus(wanted.text, wanted.target)),
        )

    def _labelled(self) -> tuple[Table, tuple[str, ...], str, Labelled, str]:
        """The labelled file, its columns with the text, what belongs to it and the answer, what it holds, and its language."""
        wanted, path = self.wanted, self.wanted.labelled
        form = detection.detect(path, wanted.source or "en", wanted.delimiter, wanted.encoding)
        table = columns.read(path, form)
        if (column := columns.conversations(table)) is not None:
            raise DataError(
                f"{path}: column {column!r} holds conversations; copy a recipe (adamergex recipes copy own-data) and write "
                f"messages: {column} in place of its prompt, answer and choices"
            )
        answer = wanted.label_column and columns.require(table, wanted.label_column, "--label-column")
        known = columns.layout(table) if answer is None and wanted.text_column is None else None
        others: tuple[str, ...] = ()
        if known is not None:
            text, others, answer = known
        elif wanted.text_column is not None:
            text = columns.require(table, wanted.text_column, "--text-column")
        else:
            pick = columns.text_column(table, answer)
            text = self._ask.choice(f"{path}: which column holds the text?", pick.column, pick.others)
        if answer is None:
            pick = columns.answer_column(table, text)
            answer = self._ask.choice(f"{path}: which column holds the label?", pick.column, pick.others)
        if answer == text:
            raise DataError(f"{path}: column {text!r} cannot be both the text and the label; see --label-column")
        found = survey.look(table, text, answer, others)
        self._say(table, (text, *others), answer, found, source := self._language(found))
        return table, (text, *others), answer, found, source

    def _language(self, found: Labelled) -> str:
        """The language of the labelled file."""
        likeliest = next(iter(found.languages), "en")
        if self.wanted.source is not None:
            if other := survey.foreign(found.languages, self.wanted.source):
                self.notes.append(f"{self.wanted.labelled} looks like {other}, not {self.wanted.source}")
            return self.wanted.source
        sure = found.languages.get(likeliest, 0) >= _MOST
        asked = self._ask.words("Which language is the labelled text in?", likeliest) if not sure else likeliest
        if not sure and asked == likeliest:
            self.notes.append(f"its language is not clear; {asked} is taken, and --source names another")
        return asked

    def _say(self, table: Table, texts: tuple[str, ...], answer: str, found: Labelled, source: str) -> None:
        rows = len(table.rows)
        self.lines += [(str(table.path), f"{rows:,} rows, {columns.written(table)}")]
        others = [name for name in table.columns if name not in (*texts, answer)]
        self.notes += survey.left_out(table, answer, others) if found.classes else []
        self.lines.append(
            (
                "columns",
                f"text {', '.join(map(repr, texts))}, answer {answer!r}"
                + (f"; not used: {', '.join(others)}" if others else ""),
            )
        )
        self.lines += survey.described(found, rows, source)
        if found.contradictions:
            first, second = found.contradictions[0]
            self.notes.append(
                f"{len(found.contradictions):,} rows have the text of an earlier one and another answer, such as {first} and "
                f"{second.removeprefix(str(table.path))}"
            )
        if found.empty:
            self.notes.append(f"{found.empty:,} rows have no text; remove them")
        if rows < _FEW_ROWS:
            self.notes.append(f"{rows} labelled rows are few; hundreds are a good start")
        rare = [label for label, count in found.classes.items() if count < 5]
        if rare:
            self.notes.append(f"labels with fewer than 5 rows are hardly learned: {', '.join(rare[:5])}")

    def _words(self, table: Table, answer: str, found: Labelled) -> dict[str, str]:
        """The words for each label: its own, or what a number means, which only a person knows."""
        numbers = all(re.fullmatch(r"-?\d+", label) for label in found.classes)
        names = columns.class_names(table, answer)
        if not numbers or (len(found.classes) > _MOST_ASKED and not names):
            return {label: label for label in found.classes}
        words = {
            label: names.get(label) or self._ask.words(f"{answer}: what does {label} mean, in a word?", label)
            for label in found.classes
        }
        if found.classes and all(label == word for label, word in words.items()):
            self.notes.append("labels are numbers; words for them in task.choices work better")
        return words

    def _inputs(self, names: Mapping[str, str]) -> tuple[dict[str, Any], int]:
        """The source of inputs without labels, and how many there are."""
        path = self.wanted.inputs
        assert path is not None  # Whoever asks has looked.
        table = self._table(path)
        found = self._texts(table, names)
        self._told(path, table, table.values(next(iter(found.values()))))
        if len(table.rows) < REFINABLE:
            self.notes.append(f"{path}: {len(table.rows)} inputs are too few to refine on, which takes {REFINABLE}")
        return self._source(table, found), len(table.rows)

    def _test(self, names: Mapping[str, str], label: str, found: Labelled) -> dict[str, Any]:
        """The source of labelled rows of the target language. Raises DataError where a label is unknown."""
        path = self.wanted.test
        assert path is not None  # Whoever asks has looked.
        table = self._table(path)
        answer = label if table.has(label) else None
        texts = self._texts(table, names, answer)
        column = next(iter(texts.values()))
        answer = answer or columns.answer_column(table, column).column
        self._told(path, table, table.values(column))
        unknown = survey.unknown_labels(table, answer, found.classes) if found.classes else []
        if unknown:
            location, value = unknown[0]
            raise DataError(
                f"{location}: unknown label {value!r} in column {answer!r}; {self.wanted.labelled} has {', '.join(found.classes)}"
            )
        return self._source(table, {**texts, label: answer})

    def _texts(self, table: Table, names: Mapping[str, str], answer: str | None = None) -> dict[str, str]:
        """Column of the prompt → column of another file: the one of that name, or, of a single text, the longest."""
        (name, text), *others = names.items()
        for _, column in others:
            columns.require(table, column, f"as in {self.wanted.labelled}")
        return dict(names) | {name: text if table.has(text) else columns.text_column(table, answer).column}

    def _table(self, path: Path) -> Table:
        return columns.read(path, detection.detect(path, self.wanted.target))

    def _told(self, path: Path, table: Table, texts: list[str]) -> None:
        languages = survey.languages(texts)
        self.lines.append(
            (str(path), f"{len(table.rows):,} rows, {columns.written(table)}; {survey.shares(languages)}")
        )
        if other := survey.foreign(languages, self.wanted.target):
            self.notes.append(f"{path} looks like {other}, not {self.wanted.target}")

    def _corpus(self, given: str, language: str) -> Corpus:
        if given == WIKIPEDIA:
            self.lines.append((f"text ({language})", "Wikipedia, from the Hugging Face hub"))
            return Corpus()
        pattern = str(expanded(given))
        found = plain_text.look(pattern, language)
        facts = (
            f"{given}: {found.files:,} file{'s' * (found.files != 1)}",
            f"{found.documents:,} documents",
            f"{'' if found.whole else 'more than '}{found.characters:,} characters",
            f"{found.duplicates:,} near-duplicates",
        )
        self.lines.append((f"text ({language})", f"{', '.join(facts)}; {survey.shares(found.languages)}"))
        if found.whole and found.characters < _LITTLE_TEXT:
            self.notes.append(f"{given}: {found.characters:,} characters are little text; millions are a good start")
        if other := survey.foreign(found.languages, language):
            self.notes.append(f"{given} looks like {other}, not {language}")
        return Corpus(
            {"files": self._relative(Path(pattern)), **found.options}, found.characters if found.whole else None
        )

    def _model(self) -> base_models.BaseModel:
        if (named := self.wanted.model) is not None:
            own = os.path.isdir(named) and not os.path.isabs(named)
            return base_models.BaseModel(self._relative(Path(named)) if own else named, 0, "")
        packaged = importlib.util.find_spec(checkpoints.MODULE) is not None
        model = base_models.suggested(self._machine, packaged)
        where = self._machine.name or f"a CPU of {self._machine.cores} cores"
        self.lines.append(("base model", f"{model.name}, for {where}, {self._machine.model_memory / 2**30:.0f} GiB"))
        return model

    def _source(self, table: Table, names: Mapping[str, str]) -> dict[str, Any]:
        renamed = {name: column for name, column in names.items() if name != column}
        options = detection.options(table.form) | ({"columns": renamed} if renamed else {})
        return {"files": self._relative(table.path), **options}

    def _relative(self, path: Path) -> str:
        """A path as the recipe writes it: relative to its folder, and no glob where it is a file."""
        try:
            relative = Path(os.path.relpath(path, self.wanted.folder)).as_posix()
        except ValueError:  # on another drive
            relative = path.absolute().as_posix()
        return glob.escape(relative) if path.is_file() else relative
