"""Items of a task, put to a model as a method puts them, and its answers."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace

from adamergex.inference.journal import Journal
from adamergex.inference.predict import NEW_TOKENS, Prediction, PredictionRequest, predict
from adamergex.inference.settings import Evaluate
from adamergex.models.encode import fitted
from adamergex.models.families import PromptReader
from adamergex.models.resident import ResidentModel
from adamergex.scoring.systems import Asking
from adamergex.tasks.items import Item
from adamergex.tasks.prompting import BETWEEN, XLT_MARKER, XLT_THEN, XLT_TOKENS, answering, few_shot, xlt
from adamergex.tasks.task import Task


@dataclass(frozen=True)
class PromptSpec:
    """How the items of one language are put and answered.

    Attributes:
        task: what is asked.
        evaluate: lengths, batches, numbers of examples.
        language: of the items.
        asking: as they are, behind solved examples, or by XLT's template.
        seed: of the draw of examples.
    """

    task: Task
    evaluate: Evaluate
    language: str
    asking: Asking
    seed: int

    @property
    def new_tokens(self) -> int:
        """The most tokens of a written answer."""
        return self.evaluate.max_new_tokens or NEW_TOKENS[self.task.answer_kind]


def build_prompts(
    reader: PromptReader, spec: PromptSpec, items: list[Item], solved: Sequence[Item], longest: int | None
) -> tuple[list[Item], int]:
    """Items as they are put to the model, made to fit, and how many had to be shortened for it.

    Args:
        reader: the model that will read them.
        spec: how they are put.
        items: as they were read.
        solved: examples to draw from, for few-shot prompts.
        longest: the most tokens that the model reads.

    Raises:
        DataError: an item is too long without its longest column.
    """
    kind = spec.task.answer_kind
    room = None if spec.task.choices else spec.new_tokens
    if spec.asking == "few-shot":
        items = few_shot(items, solved, spec.evaluate.shots, spec.seed)
    elif spec.asking == "xlt":
        items = xlt(items, kind, spec.language)
        # What follows the thoughts; a byte is a token at most, and what may end a choice one more.
        room = room or 1 + max(len(choice.encode()) for item in items for choice in item.choices)
        room += XLT_TOKENS + len(XLT_THEN.encode())
    return fitted(reader.tokenizer, items, reader.kind, reader.decoder_start, longest, room)


def answers(
    resident: ResidentModel,
    spec: PromptSpec,
    items: Sequence[Item],
    on_batch: Callable[[int, int], None],
    journal: Callable[[str], Journal],
) -> list[Prediction]:
    """What the resident, as it is now, answers to items that `asked` made.

    Args:
        resident: the model, in the state to be measured.
        spec: how they are put.
        items: this process's.
        on_batch: called with the number of items done and to be done.
        journal: opens the one of the given name, which is gone on from, and written to.

    Raises:
        ModelError: a single item does not fit into memory.
    """
    talk = rounds(spec, items)
    label, questions = next(talk)
    while True:
        try:
            label, questions = talk.send(predict(resident, questions, on_batch, journal(label)))
        except StopIteration as end:
            found: list[Prediction] = end.value
            return found


def rounds(
    spec: PromptSpec, items: Sequence[Item]
) -> Generator[tuple[str, PredictionRequest], list[Prediction], list[Prediction]]:
    """What is to be asked one after the other: yields a name and questions, is sent predictions, returns the answers.

    Args:
        spec: how items are put.
        items: as `asked` made them.
    """
    evaluate, kind = spec.evaluate, spec.task.answer_kind
    questions = PredictionRequest(
        items,
        kind,
        spec.language,
        spec.task.wording(spec.language).marker,
        evaluate.batch_size,
        spec.new_tokens,
        evaluate.length_normalization,
        ending=BETWEEN if spec.asking == "few-shot" else "",
    )
    if spec.asking == "xlt":
        plain = [replace(item, choices=()) for item in items]
        thinking = replace(questions, items=plain, kind="generation", max_new_tokens=XLT_TOKENS, until=XLT_MARKER)
        thoughts = yield "thoughts", thinking
        questions = replace(questions, items=answering(items, [thought.written for thought in thoughts]))
    return (yield "answers", questions)
