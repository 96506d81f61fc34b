"""What a process uses to make stages: models, tokenizers, engines, and options that change no result."""

import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from adamergex.distributed import Processes
from adamergex.errors import ModelError
from adamergex.models.adapter_settings import AdapterSettings, Lora
from adamergex.models.device_names import DeviceName
from adamergex.models.families import KINDS, load_tokenizer
from adamergex.pipeline.stages.base_model import BaseModel
from adamergex.progress import Display, Silent
from adamergex.storage.checkpoints import Checkpoint
from adamergex.training.trackers import Log, Trackers

if TYPE_CHECKING:
    from adamergex.inference.engines.resident import Resident
    from adamergex.inference.engines.vllm import Vllm
    from adamergex.models.resident import ResidentModel

T = TypeVar("T")


@dataclass(frozen=True)
class Options:
    """What changes no result.

    Attributes:
        batch_size: sequences per forward pass when items are answered; halved where memory does not suffice.
        device: where models compute; `auto` is this process's GPU, or else the CPU.
        train: settings of a training that only say how it is computed, over those of the stage.
        trackers: where curves go, beside the logs of trainings; None for nowhere.
        adapter: what will be trained on a model that is loaded to answer: a training that follows needs no second load.
        adapters: all adapter folders to be evaluated, for an engine that allocates memory for them when it starts.
    """

    batch_size: int = 64
    device: DeviceName = "auto"
    train: Mapping[str, Any] = field(default_factory=dict)
    trackers: Trackers | None = None
    adapter: AdapterSettings = field(default_factory=Lora)
    adapters: tuple[Path, ...] = ()


class Worker:
    """A process, or one of several that work together. Models stay resident from the first stage that needs them.

    Args:
        checkpoints: fingerprint → where the model's files lie.
        processes: that make stages together; those of the launcher by default.
        display: where progress is shown; nowhere by default.
        options: that change no result.
    """

    def __init__(
        self,
        checkpoints: Mapping[str, Checkpoint],
        processes: Processes | None = None,
        display: Display | None = None,
        options: Options | None = None,
    ):
        self.checkpoints, self.options = checkpoints, options or Options()
        self.processes = processes or Processes()
        self.display: Display = display or Silent()
        self._stop: threading.Event | None = None
        self._tokenizers: dict[str, Any] = {}
        self._models: dict[Hashable, tuple[AdapterSettings, ResidentModel]] = {}
        self._vllm: dict[Hashable, Vllm] = {}
        self._done: dict[Hashable, Any] = {}

    @property
    def device(self) -> str:
        """What it computes on, by a name that tells those apart that take another time."""
        from adamergex.models.device import described

        together = f"{self.processes.count} × " if self.processes.count > 1 else ""
        return f"{together}{described(self.options.device)}"

    def in_thread(self, display: Display, stop: threading.Event) -> "Worker":
        """One for a thread beside this one: with a tokenizer of its own, which cannot do two things at once."""
        beside = Worker(self.checkpoints, self.processes, display, self.options)
        beside._stop = stop
        for fingerprint, checkpoint in self.checkpoints.items():
            beside._tokenizers[fingerprint] = load_tokenizer(checkpoint)
        return beside

    def while_wanted(self, texts: Iterable[str]) -> Iterator[str]:
        """The texts, as long as nobody stops this worker. Raises CancelledError then."""
        for text in texts:
            if self._stop is not None and self._stop.is_set():
                raise CancelledError
            yield text

    def checkpoint(self, model: BaseModel) -> Checkpoint:
        """The checkpoint of a base model. Raises ModelError where this worker does not have it."""
        if model.fingerprint not in self.checkpoints:
            raise ModelError(f"base_model {model.name}: {model.fingerprint} is not on this machine")
        return self.checkpoints[model.fingerprint]

    def tokenizer(self, model: BaseModel) -> Any:
        """A base model's tokenizer."""
        if model.fingerprint not in self._tokenizers:
            self._tokenizers[model.fingerprint] = load_tokenizer(self.checkpoint(model))
        return self._tokenizers[model.fingerprint]

    def resident(
        self, model: BaseModel, purpose: str, classes: int = 0, settings: AdapterSettings | None = None
    ) -> "ResidentModel":
        """The resident base model.

        Args:
            model: which one.
            purpose: "task" for labelled items, "text" for plain text; an encoder has another head for each.
            classes: how many an encoder's head for labelled items tells apart.
            settings: of the adapters that will be trained on it; None where adapters are only set.
        """
        from adamergex.models.device import device, keep_freed_memory
        from adamergex.models.resident import ResidentModel

        kind = KINDS[model.family][purpose]
        classes = classes if kind == "classes" else 0
        key = (model.fingerprint, model.dtype, model.quantization, kind, classes)
        if key in self._models:
            loaded_for, loaded = self._models[key]
            if settings is None or settings == loaded_for:
                return loaded
            # Never two copies of a base model at once.
            del self._models[key], loaded
        settings = settings or self.options.adapter
        keep_freed_memory()
        split_over = self.processes.count if self.processes.split_the_model else 0
        self._models[key] = (
            settings,
            ResidentModel(
                self.checkpoint(model),
                model.dtype,
                settings,
                self.tokenizer(model),
                kind,
                classes,
                model.quantization,
                split_over,
                device(self.options.device),
            ),
        )
        return self._models[key][1]

    def engine(self, model: BaseModel, classes: int, vllm: Mapping[str, Any] | None) -> "Resident | Vllm":
        """Who answers items: the resident model, or vLLM with these arguments."""
        if vllm is None:
            from adamergex.inference.engines.resident import Resident

            return Resident(self.resident(model, "task", classes))
        from adamergex.inference.engines.vllm import Vllm

        key = (model.fingerprint, model.dtype)
        if key not in self._vllm:
            self._vllm[key] = Vllm(self.checkpoint(model), model.dtype, self.options.adapters, vllm)
        return self._vllm[key]

    def once(self, key: Hashable, work: Callable[[], T]) -> T:
        """What `work` returns, done once for each key: items are made ready for the first adapter that answers them."""
        if key not in self._done:
            self._done[key] = work()
        return self._done[key]

    @contextmanager
    def tracked(self, name: str, settings: Mapping[str, Any]) -> Iterator[Log]:
        """Within this context what it yields writes the curves of one training to the trackers, if there are any."""
        if self.options.trackers is None or not self.processes.is_first:
            yield lambda step, values: None
            return
        with self.options.trackers.run(name, settings) as log:
            yield log
