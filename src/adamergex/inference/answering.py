"""Prompts for the items of a task (plain, few-shot or XLT), and a model's answers to them."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace

from adamergex.inference.journal import Journal
from adamergex.inference.predict import Prediction, PredictionRequest, predict
from adamergex.inference.settings import NEW_TOKENS, Evaluate
from adamergex.models.encode import fitted
from adamergex.models.families import PromptReader
from adamergex.models.resident import ResidentModel
from adamergex.scoring.systems import Asking
from adamergex.tasks.items import Item
from adamergex.tasks.prompting import BETWEEN, XLT_MARKER, XLT_THEN, XLT_TOKENS, answering, few_shot, xlt
from adamergex.tasks.task import Task


@dataclass(frozen=True)
class PromptSpec:
    """How the items of one language are prompted and answered.

    Attributes:
        task: what is asked.
        evaluate: lengths, batches, numbers of examples.
        language: of the items.
        asking: plain, few-shot or by XLT's template.
        seed: for drawing few-shot examples.
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
    """Items with their final prompts, shortened to the model's context, and how many were shortened.

    Args:
        reader: the model.
        spec: how items are prompted.
        items: with plain prompts.
        solved: examples to draw from, for few-shot prompts.
        longest: the most tokens that the model reads.

    Raises:
        DataError: an item is too long without its longest column.
    """
    kind = spec.task.answer_kind
    new_tokens = None if spec.task.choices else spec.new_tokens
    if spec.asking == "few-shot":
        items = few_shot(items, solved, spec.evaluate.shots, spec.seed)
    elif spec.asking == "xlt":
        items = xlt(items, kind, spec.language)
        # After the thoughts a choice follows: at most a token for each byte, and one for its end.
        new_tokens = new_tokens or 1 + max(len(choice.encode()) for item in items for choice in item.choices)
        new_tokens += XLT_TOKENS + len(XLT_THEN.encode())
    return fitted(reader.tokenizer, items, reader.kind, reader.decoder_start, longest, new_tokens)


def answers(
    resident: ResidentModel,
    spec: PromptSpec,
    items: Sequence[Item],
    on_batch: Callable[[int, int], None],
    journal: Callable[[str], Journal],
) -> list[Prediction]:
    """Answers of the resident model, with the adapter that is loaded, to items that `build_prompts` made.

    Args:
        resident: the model, with the adapter to evaluate.
        spec: how items are prompted.
        items: those of this process.
        on_batch: called with the number of items done and to be done.
        journal: opens the journal of that name, to resume from and to append to.

    Raises:
        ModelError: a single item does not fit into memory.
    """
    requests = rounds(spec, items)
    label, questions = next(requests)
    while True:
        try:
            label, questions = requests.send(predict(resident, questions, on_batch, journal(label)))
        except StopIteration as end:
            predictions: list[Prediction] = end.value
            return predictions


def rounds(
    spec: PromptSpec, items: Sequence[Item]
) -> Generator[tuple[str, PredictionRequest], list[Prediction], list[Prediction]]:
    """Prediction requests in order: yields a name and a request, is sent its predictions, returns the last ones.

    Args:
        spec: how items are prompted.
        items: as `build_prompts` made them.
    """
    evaluate, kind = spec.evaluate, spec.task.answer_kind
    questions = PredictionRequest(
        items,
        kind,
        spec.language,
        spec.task.wording(spec.language).marker,
        spec.task.answer_format,
        evaluate.batch_size,
        spec.new_tokens,
        evaluate.length_normalization,
        # In chat the examples are turns, which end as the assistant's does.
        ending=BETWEEN if spec.asking == "few-shot" and not spec.task.chat else "",
    )
    if spec.asking == "xlt":
        plain = [replace(item, choices=()) for item in items]
        thinking = replace(questions, items=plain, kind="generation", max_new_tokens=XLT_TOKENS, until=XLT_MARKER)
        thoughts = yield "thoughts", thinking
        questions = replace(questions, items=answering(items, [thought.written for thought in thoughts]))
    return (yield "answers", questions)
