"""A model with or without an adapter × items → predictions with their scores."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import torch

from adamergex.errors import ModelError
from adamergex.inference import choices, generation
from adamergex.inference.journal import Journal
from adamergex.models import encode
from adamergex.models.chat import prompts
from adamergex.models.resident import ResidentModel
from adamergex.scoring.numbers import Notation
from adamergex.scoring.scorers import read_answer, score_completion
from adamergex.tasks.items import Item
from adamergex.tasks.task import AnswerKind


@dataclass(frozen=True)
class PredictionRequest:
    """Items of one language, and how they are answered.

    Attributes:
        items: with choices where `kind` is choice, without otherwise.
        kind: how answers are compared.
        language: a BCP 47 code; of the answers.
        marker: what a number follows that is the answer.
        notation: how numbers are written, where that is known; see `read_number`.
        batch_size: sequences per forward pass.
        max_new_tokens: bound of a written answer.
        normalization: what a choice's log-likelihood is divided by.
        until: text that ends what is written, in place of a line's or paragraph's end.
        ending: what follows the answers of few-shot examples in the prompts; see `choices.options`.
    """

    items: Sequence[Item]
    kind: AnswerKind
    language: str
    marker: str | None = None
    notation: Notation | None = None
    batch_size: int = 64
    max_new_tokens: int = 32
    normalization: choices.Normalization = "none"
    until: str | None = None
    ending: str = ""

    @property
    def is_chat(self) -> bool:
        """Whether items are asked through the model's chat template."""
        return any(item.chat for item in self.items)


@dataclass(frozen=True)
class Prediction:
    """What a model answered to an item.

    Attributes:
        id: of the item.
        prediction: the answer as it was read; empty where it could not be.
        golds: the right answers.
        scores: by metric, in 0..1; methods are compared by the first.
        readable: whether there was an answer to read.
        written: what the model wrote, where it wrote.
        choices: log-likelihood of each choice in nats, or its logit, as they are compared; to four decimals.
    """

    id: str
    prediction: str
    golds: tuple[str, ...]
    scores: dict[str, float]
    readable: bool
    written: str = ""
    choices: tuple[float, ...] = ()


def predict(
    resident: ResidentModel,
    questions: PredictionRequest,
    on_batch: Callable[[int, int], None] = lambda done, total: None,
    journal: Journal | None = None,
) -> list[Prediction]:
    """Answer items with the model as it is: by log-likelihood where there are choices, else by generation.

    Batches hold items of similar lengths and depend on the items alone, so that an evaluation that is taken up again
    ends with the same predictions. A batch that does not fit into memory is halved, and so are those after it.

    Args:
        resident: the model, with the adapter to evaluate.
        questions: what is asked, and how.
        on_batch: called with the number of items done and to be done.
        journal: holds what was answered before, and takes what is answered now.

    Raises:
        ModelError: a single item does not fit into memory, or a batch does not and the model is in pieces.
    """
    journal = Journal(None) if journal is None else journal
    if not questions.items:
        return []
    resident.model.eval()
    answer, sizes, costs = _answering(resident, questions)
    halving = _Halving(resident, questions, answer, journal, on_batch)
    with torch.inference_mode():
        for batch in _batches(sizes, costs, questions.batch_size):
            if missing := [number for number in batch if number not in journal.rows]:
                halving.answer(missing)
    return read_back(journal, len(questions.items))


class _Halving:
    """Answers batches; one that does not fit into memory is halved, and so are those after it."""

    def __init__(
        self,
        resident: ResidentModel,
        questions: PredictionRequest,
        answer: "Callable[[list[int]], list[Prediction]]",
        journal: Journal,
        on_batch: Callable[[int, int], None],
    ):
        self._model, self._questions, self._journal = resident, questions, journal
        self._answer, self._on_batch = answer, on_batch
        self._most = len(questions.items)

    def answer(self, batch: list[int]) -> None:
        """Answer the items of these numbers, in as many parts as it takes."""
        if len(batch) > self._most or not self._fits(batch):
            half = (len(batch) + 1) // 2
            self.answer(batch[:half])
            self.answer(batch[half:])

    def _fits(self, batch: list[int]) -> bool:
        """Answer a batch in one pass; False where memory does not suffice for it."""
        try:
            rows = self._answer(batch)
        except RuntimeError as error:
            if not _is_memory(error):
                raise
            if self._model.is_split:
                # The other processes are in the middle of the same batch.
                raise ModelError(
                    f"a batch of {len(batch)} items does not fit into memory; lower evaluate.batch_size"
                ) from error
            if len(batch) == 1:
                item = self._questions.items[batch[0]]
                raise ModelError(
                    f"{item.id}: does not fit into memory, even alone; shorten it or its choices"
                ) from error
            self._most = (len(batch) + 1) // 2
        else:
            self._journal.add({number: asdict(row) for number, row in zip(batch, rows, strict=True)})
            self._on_batch(len(self._journal.rows), len(self._questions.items))
            return True
        # Outside of the except clause, which keeps what the failed pass had allocated.
        if self._model.device.type == "cuda":
            torch.cuda.empty_cache()
        return False


def read_back(journal: Journal, count: int) -> list[Prediction]:
    """The predictions of a journal that holds all of so many items, in their order."""
    tuples = ("golds", "choices")
    rows = (journal.rows[number] for number in range(count))
    return [Prediction(**(row | {key: tuple(row[key]) for key in tuples})) for row in rows]


def _batches(sizes: Sequence[int], costs: Sequence[int], size: int) -> list[list[int]]:
    """Items in batches of similar lengths, the longest first, of at most `size` sequences unless one item has more."""
    batches: list[list[int]] = []
    left = 0
    for number in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        if not batches or costs[number] > left:
            batches.append([])
            left = size
        batches[-1].append(number)
        left -= costs[number]
    return batches


def _is_memory(error: BaseException) -> bool:
    """Whether an error says that there is not enough memory; on the CPU, torch has no class for it."""
    return (
        isinstance(error, torch.OutOfMemoryError)
        or "can't allocate memory" in str(error)
        or ("out of memory" in str(error).lower())
    )


Answering = tuple[Callable[[list[int]], list[Prediction]], list[int], list[int]]


def _answering(resident: ResidentModel, questions: PredictionRequest) -> Answering:
    """What answers a batch of items, and of each item how long its longest sequence is and how many it has."""
    items = questions.items
    if questions.kind != "choice":
        encoded = encode.sequences(resident.tokenizer, prompts(resident.tokenizer, items), resident.kind)
        ending = generation.ends(resident, items)

        def written(batch: list[int]) -> list[Prediction]:
            texts = generation.generate(
                resident,
                [encoded[i] for i in batch],
                questions.kind,
                questions.max_new_tokens,
                questions.until,
                ending,
                questions.is_chat,
            )
            return [marked(items[i], text, questions) for i, text in zip(batch, texts, strict=True)]

        return written, [len(ids) for ids in encoded], [1] * len(items)
    if resident.kind == "classes":
        examples = encode.classified(resident.tokenizer, items)

        def classified(batch: list[int]) -> list[Prediction]:
            logits = choices.class_logits(resident, [examples[i] for i in batch])
            return [chosen(items[i], scores) for i, scores in zip(batch, logits, strict=True)]

        return classified, [e.longest for e in examples], [len(e.sequences) for e in examples]
    options = choices.options(resident, items, questions.ending)
    layout = resident.layout(False).layout

    def likeliest(batch: list[int]) -> list[Prediction]:
        predictions = []
        sums = choices.log_likelihoods(resident, [options[i] for i in batch], layout)
        for i, scores in zip(batch, sums, strict=True):
            tokens = [len(ids) for ids in options[i].tokens]
            predictions.append(chosen(items[i], choices.normalized(scores, items[i], tokens, questions.normalization)))
        return predictions

    return likeliest, [option.size for option in options], [len(option.sequences) for option in options]


def chosen(item: Item, scores: Sequence[float]) -> Prediction:
    """The likeliest choice; of equal ones the first."""
    best = item.choices[max(range(len(scores)), key=scores.__getitem__)]
    kept = tuple(round(score, 4) for score in scores)
    right = {"accuracy": float(best == item.answer)}
    return Prediction(item.id, best.strip(), item.golds, right, True, choices=kept)


def marked(item: Item, text: str, questions: PredictionRequest) -> Prediction:
    """What was written in answer to an item, read and compared as its kind wants it; without right answers only read."""
    assert questions.kind != "choice"
    answer = generation.completion(text, questions.kind, item.chat)
    if not item.golds:
        prediction, readable = read_answer(
            questions.kind, answer, questions.language, questions.marker, questions.notation
        )
        return Prediction(item.id, prediction, (), {}, readable, written=text)
    scored = score_completion(
        questions.kind, answer, item.golds, questions.language, questions.marker, questions.notation
    )
    return Prediction(item.id, scored.prediction, item.golds, scored.scores, scored.readable, written=text)
