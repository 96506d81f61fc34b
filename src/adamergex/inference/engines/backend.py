"""A base model and adapters for it by name, and who computes: the resident model, or vLLM."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from adamergex.errors import ModelError
from adamergex.inference.journal import Journal
from adamergex.models.families import KINDS, Reads, family
from adamergex.storage.checkpoints import resolve
from adamergex.storage.files import sha256
from adamergex.tasks.items import Item

if TYPE_CHECKING:
    from adamergex.inference.answering import Manner
    from adamergex.inference.engines.vllm import Vllm
    from adamergex.inference.predict import Prediction
    from adamergex.models.resident import Workbench

Engine = Literal["transformers", "vllm"]


class Backend:
    """A base model, loaded when it is first asked something.

    Args:
        base_model: a Hugging Face id, a local folder, or the packaged model.
        dtype: of its weights.
        adapters: name → PEFT folder. Any other name is the base model's.
        engine: who computes.
        settings: further arguments of vLLM's engine.
        trust_remote_code: whether the user allows Python code that comes with the base model to run.

    Attributes:
        at_once: whether several adapters answer together.

    Raises:
        ModelError: there is no such model, or vLLM does not take its family.
    """

    def __init__(
        self,
        base_model: str,
        dtype: str,
        adapters: Mapping[str, Path],
        engine: Engine,
        settings: Mapping[str, Any],
        trust_remote_code: bool = False,
    ):
        self.checkpoint = resolve(base_model, trust_remote_code)
        self._dtype, self._adapters, self._settings = dtype, adapters, settings
        self._kind = KINDS[family(self.checkpoint)]["task"]
        self.at_once = engine == "vllm"
        if self.at_once and self._kind != "causal":
            raise ModelError(
                f"base_model {base_model}: vLLM answers for causal models here; use --backend transformers"
            )
        self._workbenches: dict[int, Workbench] = {}
        self._vllm: Vllm | None = None

    def facts(self, name: str) -> dict[str, Any]:
        """What answers under a name, for fingerprints."""
        from adamergex.adapters.adapter import CONFIG, WEIGHTS

        files = [sha256(self._adapters[name] / file) for file in (CONFIG, WEIGHTS)] if name in self._adapters else []
        base_model = [self.checkpoint.name, self.checkpoint.fingerprint]
        model = {"base_model": base_model, "dtype": self._dtype, "adapter": files}
        if self.at_once:
            from adamergex.inference.engines.vllm import version

            model["backend"] = version()
        return model

    def reader(self, choices: int) -> Reads:
        """What prompts are made ready for, where a task has so many choices."""
        return self._engine() if self.at_once else self.workbench(choices)

    def context(self, choices: int) -> int | None:
        """The longest prompt that the model takes, with whichever adapter: all are asked the same, and prefixes take some."""
        if self.at_once:
            return self._engine().context
        return self.workbench(choices).context_behind(self.virtual_tokens)

    @property
    def virtual_tokens(self) -> int:
        """Those of the longest prefix among the adapters."""
        from adamergex.adapters.adapter import CONFIG

        configs = (json.loads((folder / CONFIG).read_bytes()) for folder in self._adapters.values())
        return max((config.get("num_virtual_tokens") or 0 for config in configs), default=0)

    def workbench(self, choices: int) -> "Workbench":
        """The resident model; an encoder's has a head for so many classes."""
        from adamergex.models.adapter_settings import Lora
        from adamergex.models.resident import Workbench, keep_freed_memory

        classes = choices if self._kind == "classes" else 0
        if classes not in self._workbenches:
            keep_freed_memory()
            bench = Workbench(self.checkpoint, self._dtype, Lora(), kind=self._kind, classes=classes)
            self._workbenches[classes] = bench
        return self._workbenches[classes]

    def holding(self, name: str, workbench: "Workbench") -> AbstractContextManager[None]:
        """A context in which the resident model is what answers under a name."""
        from adamergex.adapters import adapter

        if name not in self._adapters:
            return workbench.without_adapter()
        workbench.put(adapter.load(self._adapters[name]))
        return nullcontext()

    def answers(
        self,
        manner: "Manner",
        items: Sequence[Item],
        journals: Mapping[str, Callable[[str], Journal]],
        on_item: Callable[[int, int], None],
    ) -> "dict[str, list[Prediction]]":
        """What is answered under each name to the same items.

        Args:
            manner: how items are put.
            items: as `answers.asked` made them for the reader.
            journals: for each name what opens its journals (`answers.answers`).
            on_item: called with the number of answers there are and will be.

        Raises:
            AdapterError, ModelError: an adapter does not fit, or a single item does not fit into memory.
        """
        if self.at_once:
            return self._engine().answers(manner, items, journals, on_item)
        from adamergex.inference.answering import answers

        workbench = self.workbench(manner.task.outputs)
        found = {}
        for name, journal in journals.items():
            with self.holding(name, workbench):
                found[name] = answers(workbench, manner, items, on_item, journal)
        return found

    def _engine(self) -> "Vllm":
        from adamergex.inference.engines.vllm import Vllm

        if self._vllm is None:
            self._vllm = Vllm(self.checkpoint, self._dtype, self._adapters, self._settings)
        return self._vllm
