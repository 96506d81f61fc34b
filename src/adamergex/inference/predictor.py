"""An adapter with its base model, loaded once: rows without labels → answers."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from scipy.special import softmax

from adamergex.adapters import adapter as adapters
from adamergex.errors import DataError, ModelError, RecipeError
from adamergex.inference import delivered, usage
from adamergex.inference.journal import Journal
from adamergex.inference.predict import Prediction, PredictionRequest, predict
from adamergex.inference.settings import NEW_TOKENS
from adamergex.models import chat
from adamergex.models.adapter_settings import Lora
from adamergex.models.device import device as torch_device
from adamergex.models.device import keep_freed_memory
from adamergex.models.device_names import DeviceName
from adamergex.models.encode import fitted
from adamergex.models.families import KINDS, family, longest_item
from adamergex.models.resident import ResidentModel
from adamergex.storage import files
from adamergex.storage.checkpoints import Checkpoint, resolve
from adamergex.tasks.items import Item, question


@dataclass(frozen=True)
class Answer:
    """The answer to one row.

    Attributes:
        prediction: the likeliest label, without a bias; or what the model wrote, as its kind is read.
        readable: whether there was an answer to read.
        scores: of each label in the predictor's order: log-likelihoods in nats or logits, as they are compared, to four
            decimals; none where answers are written.
    """

    prediction: str
    readable: bool
    scores: tuple[float, ...] = ()

    def biased(self, labels: Sequence[str], bias: np.ndarray | None) -> tuple[str, np.ndarray]:
        """The label that is chosen with a bias, and the probabilities of all labels, float64 (labels,).

        Args:
            labels: in the order of the scores.
            bias: (labels,), in nats, added to the scores; None for none.
        """
        scores = np.array(self.scores)
        if bias is None:
            # Scores are rounded: of two that are equal now, one may have been larger.
            return self.prediction, softmax(scores)
        return labels[int((scores + bias).argmax())], softmax(scores + bias)


class Predictor:
    """An adapter on its base model, which answers rows as the adapter's run did.

    Args:
        folder: of the adapter, or of a model that it was folded into, with its `adamergex.json`.
        checkpoint: the adapter's base model, or that model.
        batch_size: sequences per forward pass; halved where memory does not suffice.
        raw: whether no bias is added, also where one was saved with the adapter.
        device: where the model computes.

    Attributes:
        usage: how the adapter is asked.
        labels: what it chooses from, in the order of its scores; none where it writes its answers.
        bias: what is added to the labels' scores, float64 (labels,), in nats; None for nothing.
        key: a hash over all that answers depend on beside the rows; of what is added to them later, nothing.

    Raises:
        AdapterError, ModelError: the adapter cannot be read, or does not fit the base model; or there is no such device.
    """

    def __init__(
        self, folder: Path, checkpoint: Checkpoint, batch_size: int = 64, raw: bool = False, device: DeviceName = "auto"
    ):
        self.usage = usage.read(folder)
        self.labels = self.usage.task.labels
        self.bias = None if raw else self.usage.bias
        self._batch_size = batch_size
        adapter = None if usage.is_whole(folder) else adapters.load(folder)
        kind = KINDS[family(checkpoint)]["task"]
        template = _template(self.usage, checkpoint)
        keep_freed_memory()
        self._resident = ResidentModel(
            checkpoint,
            self.usage.dtype,
            Lora(),
            kind=kind,
            classes=self.usage.task.outputs if kind == "classes" else 0,
            quantization=self.usage.quantization,
            device=torch_device(device),
        )
        if adapter is not None:
            self._resident.set_adapter(adapter)
        self._is_whole = adapter is None
        prefix = adapter.config.get("num_virtual_tokens") or 0 if adapter is not None else 0
        self._longest = longest_item(self._resident, self.usage.task.max_length, prefix)
        names = (usage.FILE, *(() if adapter is None else (adapters.CONFIG, adapters.WEIGHTS)))
        parts = [*(files.sha256(folder / name) for name in names), *([template] if template else ())]
        self.key = sha256(json.dumps([*parts, checkpoint.fingerprint, batch_size]).encode()).hexdigest()

    def __call__(self, rows: Iterable[str | Mapping[str, object]]) -> list[tuple[str, float | None]]:
        """Answer rows.

        Args:
            rows: the columns of each that the prompt names, by name; or where it names one column alone, its texts.

        Returns:
            For each row its label and the probability of that; where answers are written, what was written and None.

        Raises:
            DataError: a row lacks a column, or is too long without its longest one; or it is no list of rows.
            ModelError: a single row does not fit into memory.
        """
        if isinstance(rows, str | Mapping):
            raise DataError(f"expected a list of rows, got a single {type(rows).__name__}; write [row]")
        answers, _ = self.answers([self._item(number, row) for number, row in enumerate(rows)])
        if not self.labels:
            return [(answer.prediction, None) for answer in answers]
        biased = [answer.biased(self.labels, self.bias) for answer in answers]
        return [(label, float(probabilities[self.labels.index(label)])) for label, probabilities in biased]

    def _item(self, number: int, row: str | Mapping[str, object]) -> Item:
        location, task = f"rows[{number}]", self.usage.task
        if not isinstance(row, str):
            return question(task, self.labels, location, task.named(row))
        columns = list(dict.fromkeys(task.columns))
        if len(columns) > 1:
            raise DataError(
                f"{location}: is a text, but the prompt has the columns {', '.join(columns)}; give a dictionary of them"
            )
        return question(task, self.labels, location, {columns[0]: row})

    def answers(
        self,
        items: Sequence[Item],
        on_item: Callable[[int, int], None] = lambda done, total: None,
        journal: Journal | None = None,
    ) -> tuple[list[Answer], int]:
        """Answers to items in their order, and how many items were too long and were shortened.

        Args:
            items: as `tasks.items.question` makes them.
            on_item: called with the number of items done and to be done.
            journal: holds what was answered before, and takes what is answered now.

        Raises:
            DataError: an item is too long without its longest column.
            ModelError: a single item does not fit into memory.
        """
        task, resident = self.usage.task, self._resident
        new_tokens = task.max_new_tokens or NEW_TOKENS[task.kind]
        written = None if task.choices else new_tokens
        ready, shortened = fitted(
            resident.tokenizer, items, resident.kind, resident.decoder_start, self._longest, written
        )
        questions = PredictionRequest(
            ready,
            task.kind,
            self.usage.language,
            task.marker,
            task.answer_format,
            self._batch_size,
            new_tokens,
            task.length_normalization,
        )
        with resident.without_adapter() if self._is_whole else nullcontext():
            found = predict(resident, questions, on_item, journal)
        return [self._answer(item, prediction) for item, prediction in zip(items, found, strict=True)], shortened

    def _answer(self, item: Item, found: Prediction) -> Answer:
        if not self.labels:
            return Answer(found.prediction, found.readable)
        words = [choice.strip() for choice in item.choices]
        return Answer(self.labels[words.index(found.prediction)], True, found.choices)

    def __repr__(self) -> str:
        return f"Predictor(language={self.usage.language!r}, labels={self.labels!r})"


def predictor(
    adapter: str | Path,
    *,
    language: str | None = None,
    task: str | None = None,
    base_model: str | None = None,
    batch_size: int = 64,
    raw: bool = False,
    device: DeviceName = "auto",
    trust_remote_code: bool = False,
) -> Predictor:
    """Load an adapter and its base model, to answer rows with.

        answer = adamergex.predictor("runs/quickstart")
        answer(["prižgi luč v kuhinji"])      # → [(label, probability)]

    Args:
        adapter: the folder of a run, of an adapter with its `adamergex.json` (a run's `delivered/LANG`), or of a model that
            `adamergex fuse` folded one into; or a published adapter, `user/name[@revision][:subfolder]` on the Hugging Face hub.
        language: of the answers, a BCP 47 code; needed only where a run has several.
        task: its name; needed only where a run has several.
        base_model: a Hugging Face id or a folder, in place of the one that the run had.
        batch_size: sequences per forward pass; halved where memory does not suffice.
        raw: whether no bias is added, also where one was saved with the adapter.
        device: auto, cuda, mps or cpu; auto is a CUDA or ROCm GPU where there is one, else the CPU.
        trust_remote_code: whether Python code that comes with the base model may run.

    Raises:
        AdapterError: there is no such adapter, or nothing says how it is asked.
        NetworkError: the hub does not answer.
        ModelError: the base model does not load, has other weights than that of the run, or the adapter does not fit it.
        RecipeError: the language or the task has to be named; or a base model is named for a model that is whole.
    """
    folder = delivered.find(adapter, language, task)
    known = usage.read(folder)
    if usage.is_whole(folder):
        if base_model is not None:
            raise RecipeError(
                [f"--base-model {base_model}: {folder} is a whole model, with the adapter in it; leave it out"]
            )
        return Predictor(folder, resolve(str(folder), trust_remote_code), batch_size, raw, device)
    # A look at what is refused, before a base model is looked for and hashed.
    adapters.load(folder, lazy=True)
    checkpoint = resolve(base_model or known.base_model, trust_remote_code)
    if base_model is None and differ(known.weights, checkpoint.fingerprint):
        raise ModelError(
            f"base_model {known.base_model}: its weights are {checkpoint.fingerprint}, those of the adapter's run were "
            f"{known.weights}; name the model to use it all the same (--base-model)"
        )
    template = None if base_model is not None else known.chat_template
    if template is not None and template != _template(known, checkpoint):
        raise ModelError(
            f"base_model {known.base_model}: its chat template is not the one that the adapter's run asked through; name the "
            "model to use it all the same (--base-model)"
        )
    return Predictor(folder, checkpoint, batch_size, raw, device)


def _template(known: usage.Usage, checkpoint: Checkpoint) -> str | None:
    """SHA-256 of the chat template that an adapter is asked through; None where it is asked without one.

    Raises:
        ModelError: the base model has none.
    """
    if not known.task.chat:
        return None
    found = chat.template_of(checkpoint.folder)
    if found is None:
        raise ModelError(f"base_model {checkpoint.name}: {chat.NO_TEMPLATE}")
    return chat.digest(found)


def differ(one: str, other: str) -> bool:
    """Whether two fingerprints of base models say that weights are not the same; a hash and a commit cannot be compared.

    Behind them may stand a hash of code.
    """
    first, second = one.split(), other.split()
    return first[:1] == second[:1] and first[1:2] != second[1:2]
