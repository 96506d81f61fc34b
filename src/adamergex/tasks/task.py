"""The task section of a recipe: sources of rows, and how a row becomes a prompt and its answer."""

import string
import unicodedata
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from adamergex import language_tags
from adamergex.data.settings import Source, is_language
from adamergex.storage.yaml_model import Section

# What is done about items that are seen with their answers, in training or as examples, and scored, too.
Overlap = Literal["refuse", "drop", "allow"]
AnswerKind = Literal["choice", "text", "number", "extraction", "generation"]


class Wording(Section):
    """How a row becomes a prompt and its answer."""

    prompt: str = Field(description="template over the row's columns, such as 'Review: {text}\\nSentiment:'")
    optional: dict[str, str] = Field(
        default_factory=dict,
        description="columns that may be empty: [input], or column → what stands in its place in the prompt where it is not, such "
        "as {input: '\\nInput: {input}'}; nothing stands there where it is",
    )
    separator: str = Field(" ", description="between prompt and answer; empty for scripts without spaces")
    choices: dict[str, str] | None = Field(
        None,
        description="label → the words that stand for it, which may name columns; without choices the answer is written",
    )
    marker: str | None = Field(
        None, min_length=1, description="what the number follows that is the answer, such as 'The answer is'"
    )
    system: str | None = Field(None, min_length=1, description="with chat: the system message")

    @field_validator("choices", mode="before")
    @classmethod
    def _as_mapping(cls, value: Any) -> Any:
        """A list of labels maps each to itself; integer labels are compared as text."""
        if isinstance(value, list):
            return {str(label): str(label) for label in value}
        if isinstance(value, dict):
            return {str(label): words for label, words in value.items()}
        return value

    @field_validator("choices")
    @classmethod
    def _distinct(cls, value: dict[str, str] | None) -> dict[str, str] | None:
        if value is not None:
            if len(value) < 2:
                raise ValueError("expected at least two labels")
            words = [same_words(words) for words in value.values()]
            if not all(words):
                raise ValueError("a label has no words; give it some")
            if len(set(words)) < len(words):
                raise ValueError("two labels have the same words; the model could not tell them apart")
            for template in value.values():
                _columns(template)
        return value

    @field_validator("prompt")
    @classmethod
    def _has_a_field(cls, value: str) -> str:
        if not _columns(value):
            raise ValueError(f"expected at least one {{column}}, {_RULE}")
        return value

    @field_validator("optional", mode="before")
    @classmethod
    def _as_they_are(cls, value: Any) -> Any:
        """A list of columns maps each to itself, as it stands in the prompt."""
        return {column: f"{{{column}}}" for column in map(str, value)} if isinstance(value, list) else value

    @model_validator(mode="after")
    def _optional_are_in_the_prompt(self) -> Self:
        named = _columns(self.prompt)
        if unknown := [column for column in self.optional if column not in named]:
            raise ValueError(f"optional: the prompt has no column {unknown[0]!r}; it has {', '.join(named)}")
        if wrong := [part for column, part in self.optional.items() if set(_columns(part)) != {column}]:
            raise ValueError(f"optional: expected that {wrong[0]!r} has its own column in it, and no other")
        if set(named) <= self.optional.keys():
            raise ValueError("optional: a prompt needs a column that is never empty")
        return self

    @property
    def outline(self) -> str:
        """The prompt with its columns' names in brackets, in place of anybody's data."""
        parsed = string.Formatter().parse(self.prompt)
        return "".join(literal + ("" if name is None else f"[{name}]") for literal, name, _, _ in parsed)

    @property
    def prompt_columns(self) -> list[str]:
        """The columns that the prompt names."""
        return _columns(self.prompt)

    @property
    def columns(self) -> list[str]:
        """The columns that the prompt and the choices name."""
        return [*self.prompt_columns, *(name for words in (self.choices or {}).values() for name in _columns(words))]

    @property
    def shared_columns(self) -> list[str] | None:
        """The columns that every choice names, such as a hypothesis that the labels classify; usually there are none.

        None where choices name different columns: they are not labels then, but sentences to choose from.
        """
        named = [list(dict.fromkeys(_columns(words))) for words in (self.choices or {}).values()]
        if any(set(columns) != set(named[0]) for columns in named):
            return None
        return named[0] if named else []

    @property
    def outputs(self) -> int:
        """The number of outputs of an encoder's head: one for each label, or 1 where each choice is a sequence.

        0 where answers are generated.
        """
        return len(self.choices or ()) if self.shared_columns is not None else 1

    @property
    def has_fixed_labels(self) -> bool:
        """Whether all items have the same choices, word for word, so that predictions have label shares."""
        return bool(self.choices) and self.shared_columns == []


def same_words(text: str) -> str:
    """Words without differences in white space and in forms of Unicode, which look the same."""
    return " ".join(unicodedata.normalize("NFC", text).split())


_RULE = "by its name, or a path such as translation.en or answers.text[0]; double a brace that is meant as such"
# Names with these are no columns, but text that has braces of its own.
_NO_NAME = set("\"'{}<>\n\t")


def _columns(template: str) -> list[str]:
    """The columns that a template names. Raises ValueError where it is none."""
    try:
        parsed = [part for part in string.Formatter().parse(template) if part[1] is not None]
    except ValueError as error:
        raise ValueError(f"{error}; write {{column}} for a column and double a brace that is meant as such") from None
    if not all(
        name and name == name.strip() and not _NO_NAME & set(name) and not form and not way
        for _, name, form, way in parsed
    ):
        raise ValueError(f"expected a {{column}}, {_RULE}")
    return [str(name) for _, name, _, _ in parsed]


def can_be_named(column: str) -> bool:
    """Whether a template can name a column: by its name, unless that has quotes, braces, colons or exclamation marks."""
    try:
        return _columns(f"{{{column}}}") == [column]
    except ValueError:
        return False


class Conversational(Wording):
    """A wording, and whether its prompts are what a user says to an assistant."""

    chat: bool = Field(
        False,
        strict=True,
        description="ask through the base model's own chat template, as instruction-tuned models are asked",
    )
    messages: str | None = Field(
        None,
        description="in place of prompt and answer: the column with a conversation, a list of {role, content} or of {from, "
        "value}, whose last turn is the answer; implies chat",
    )

    @model_validator(mode="before")
    @classmethod
    def _of_messages(cls, value: Any) -> Any:
        """`messages: NAME` stands for a prompt and an answer."""
        if not isinstance(value, dict) or not isinstance(name := value.get("messages"), str):
            return value
        if not can_be_named(name):
            raise ValueError(f"messages: expected a column, {_RULE}; got {name!r}")
        meant = {"prompt": f"{{{name}}}", "separator": "", "chat": True}
        meant |= {"answer": name} if "answer" in cls.model_fields else {}
        for key, implied in meant.items():
            if value.get(key, implied) != implied:
                raise ValueError(f"messages: the rows hold whole conversations; remove {key}")
        if value.get("learned") or value.get("wordings") or value.get("optional"):
            raise ValueError("messages: the rows hold whole conversations; remove learned, wordings and optional")
        return value | meant

    @property
    def in_chat(self) -> str:
        """How it is asked, for a reader; empty without chat."""
        system = f", after the system message {self.system!r}" if self.system else ""
        return f"asked through the base model's chat template{system}" if self.chat else ""

    @property
    def described(self) -> str:
        """The prompt, and how it is asked, for a reader."""
        notes = [f"\n({{{column}}}: {part!r} where it is not empty)" for column, part in self.optional.items()]
        return self.prompt + "".join(notes) + (f"\n({self.in_chat})" if self.chat else "")

    @model_validator(mode="after")
    def _system_belongs_to_chat(self) -> Self:
        if self.system is not None and not self.chat:
            raise ValueError("system belongs to chat: true; add it, or remove system")
        if self.system is not None and not self.system.strip():
            raise ValueError("system is empty; remove it")
        return self


class Task(Conversational):
    """Labelled data in the source language, and how a row becomes a prompt and its answer."""

    kind: AnswerKind | None = Field(
        None,
        description="how answers are compared: choice, text (equal), number, extraction (EM and F1) or generation (ROUGE); "
        "choice, text or, of messages, generation if left out",
    )
    answer: str = Field(description="the column that holds the label or the answer; a list holds several right ones")
    answer_format: Literal["canonical", "language"] | None = Field(
        None,
        description="how numbers are written, in the data and by the model: with a decimal point (1,234.5), or as the language "
        "writes them (1.234,5 in Spanish); if left out, right answers that are not the same both ways are refused",
    )
    learned: str | None = Field(
        None,
        description="the column that is learned where that is not the answer, such as a solution that ends with it",
    )
    wordings: dict[str, Wording] = Field(
        default_factory=dict, description="language, by any of its codes → its own wording; that of the task elsewhere"
    )
    train: Source
    dev: Source | None = None
    test: Source | None = Field(
        None, description="labelled items of the target languages; without it nothing is scored"
    )
    unlabelled: Source | None = Field(
        None,
        description="inputs of the target languages without labels, none of them scored: for calibration, and for refine",
    )
    examples: Source | None = Field(
        None, description="solved examples for few-shot prompts; from train, in the source language, if left out"
    )
    overlap: Overlap = Field(
        "refuse",
        description="items that are seen with their answers and scored, too: refuse, drop (from what is seen, and say how many) "
        "or allow (and say how many)",
    )
    benchmark: str | None = Field(None, description="the published benchmark that the rest is filled in from")
    prompts: Literal["english", "target", "paper"] | None = Field(
        None,
        description="of a benchmark: English wordings (if left out), the target language's where published, the paper's",
    )
    data: str | None = Field(
        None,
        description="of a benchmark: the folder with its authors' files, or with one such folder for each benchmark",
    )

    @field_validator("wordings")
    @classmethod
    def _keys_are_languages(cls, value: dict[str, Wording]) -> dict[str, Wording]:
        for code in value:
            is_language(code)
        language_tags.distinct(value, "wordings")
        return value

    @model_validator(mode="after")
    def _choices_fit_the_kind(self) -> Self:
        if (self.answer_kind == "choice") != (self.choices is not None):
            raise ValueError("choices and kind: choice belong together")
        if any((wording.choices or {}).keys() != (self.choices or {}).keys() for wording in self.wordings.values()):
            raise ValueError("a wording has other labels than the task; give it the same choices in other words")
        if not self.chat and any(wording.system for wording in self.wordings.values()):
            raise ValueError("wordings: system belongs to chat: true; add it to the task, or remove system")
        if self.answer_kind != "number" and (self.marker or any(w.marker for w in self.wordings.values())):
            raise ValueError("marker belongs to kind: number; remove it")
        if self.answer_kind != "number" and self.answer_format:
            raise ValueError("answer_format belongs to kind: number; remove it")
        return self

    @property
    def answer_kind(self) -> AnswerKind:
        """How answers are compared; what an assistant says may have several lines."""
        return self.kind or ("choice" if self.choices else "text" if self.messages is None else "generation")

    def refuses(self, metric: str) -> str | None:
        """Why systems cannot be compared by a metric (`evaluate.metric`) on this task, or None."""
        words = [text for of in (self, *self.wordings.values()) for text in (of.choices or {}).values()]
        if metric == "accuracy" or (words and not any(map(_columns, words))):
            return None
        why = "the task's choices name columns" if words else "the task has no choices"
        return f"{metric} is for labels that all items of a language share, and {why}; leave it out"

    def wording(self, language: str) -> Conversational:
        """The wording of items in a language; with the task's system message where it has none of its own."""
        tag = language_tags.match(language, self.wordings)
        if tag is None:
            return self
        own = self.wordings[tag].model_dump()
        return Conversational(**own | {"chat": self.chat, "system": own["system"] or self.system})
