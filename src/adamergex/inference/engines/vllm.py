"""vLLM in place of the resident model, for causal models with LoRA.

All requests for an adapter are added at once, and vLLM batches them. What is asked, where
an answer ends and how it is compared is as elsewhere; only who computes differs. Every answer is kept as it comes.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass, field
from importlib import metadata
from itertools import count
from pathlib import Path
from typing import Any

from adamergex.adapters import adapter
from adamergex.data.special_tokens import padding
from adamergex.errors import AdapterError, ModelError
from adamergex.inference import choices, generation
from adamergex.inference.answering import PromptSpec, rounds
from adamergex.inference.journal import Journal
from adamergex.inference.predict import Prediction, PredictionRequest, chosen, marked, read_back
from adamergex.models.chat import prompts
from adamergex.models.encode import sequences
from adamergex.models.families import Kind, does_not_load, end_tokens, first_line, load_tokenizer
from adamergex.storage.checkpoints import Checkpoint
from adamergex.tasks.items import Item

# The values that vLLM accepts for `max_lora_rank`.
_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
# Adapters that are on the model at once; vLLM swaps further ones in and out.
_AT_ONCE = 8


def version() -> str:
    """The distribution that vLLM was installed from, and its version, for fingerprints.

    Raises:
        ModelError: there is none.
    """
    for name in metadata.packages_distributions().get("vllm", ()):
        return f"{name} {metadata.version(name)}"
    raise ModelError("vLLM is not installed; run: pip install 'adamergex[vllm]'")


class Vllm:
    """A base model in vLLM, and adapters for it.

    Args:
        checkpoint: of a causal model.
        dtype: of its weights.
        adapters: all PEFT folders that will answer; vLLM allocates memory for them when it starts.
        settings: further arguments of `vllm.LLM`, such as `tensor_parallel_size`.

    Raises:
        AdapterError: vLLM does not read an adapter.
        ModelError: vLLM is not installed, or does not load the model.
    """

    kind: Kind = "causal"
    decoder_start = None

    def __init__(
        self,
        checkpoint: Checkpoint,
        dtype: str,
        adapters: Sequence[Path],
        settings: Mapping[str, Any] | None = None,
    ):
        version()
        # Before it is imported: it says a page of lines about itself, and so do its processes.
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        import vllm
        from vllm.lora.request import LoRARequest

        self.tokenizer = load_tokenizer(checkpoint)
        self.pad = padding(self.tokenizer)
        self.ends = end_tokens(checkpoint, self.tokenizer)
        lora: dict[str, Any] = {}
        if adapters:
            rank = max(map(_rank, adapters))
            if rank > _RANKS[-1]:
                raise AdapterError(
                    f"vLLM reads adapters of rank {_RANKS[-1]} at most; one has {rank}: merge with --rank"
                )
            size = next(size for size in _RANKS if size >= rank)
            lora = {"enable_lora": True, "max_loras": min(len(adapters), _AT_ONCE), "max_lora_rank": size}
            lora["max_cpu_loras"] = len(adapters)
        self._adapters = {
            folder: LoRARequest(str(number), number, str(folder.resolve())) for number, folder in enumerate(adapters, 1)
        }
        arguments = {"dtype": dtype, "seed": 0, "generation_config": "vllm", **lora, **(settings or {})}
        try:
            with _quiet():
                self._llm = vllm.LLM(
                    model=str(checkpoint.folder), trust_remote_code=checkpoint.trust_remote_code, **arguments
                )
        except Exception as error:  # vLLM passes on all kinds of errors
            raise does_not_load(checkpoint, "vLLM does not load it", error) from error
        self._numbers = count()
        # vLLM must generate a token after each choice that it scores.
        self.context: int | None = self._llm.llm_engine.model_config.max_model_len - 1

    def context_behind(self, virtual_tokens: int) -> int | None:
        """The longest sequence that the model takes: it reads no prefixes."""
        return self.context

    # It makes its own batches.
    layout: str | None = None

    @property
    def reader(self) -> "Vllm":
        """The model that prompts are encoded for."""
        return self

    def answers(
        self,
        folder: Path | None,
        spec: PromptSpec,
        items: Sequence[Item],
        journal: Callable[[str], Journal],
        on_item: Callable[[int, int], None] = lambda done, total: None,
    ) -> list[Prediction]:
        """What one of the adapters, or the base model alone, answers; see `engines.resident.Resident.answers`."""
        requests = rounds(spec, items)
        label, questions = next(requests)
        while True:
            try:
                label, questions = requests.send(self._predict(folder, questions, journal(label), on_item))
            except StopIteration as end:
                predictions: list[Prediction] = end.value
                return predictions

    def _predict(
        self, folder: Path | None, questions: PredictionRequest, journal: Journal, on_item: Callable[[int, int], None]
    ) -> list[Prediction]:
        """Answer everything that the journal does not hold yet."""
        engine = self._llm.llm_engine
        lora = None if folder is None else self._adapters[folder]
        waiting: dict[str, _Request] = {}
        missing = [number for number in range(len(questions.items)) if number not in journal.rows]
        for request in self._requests(questions, missing, journal):
            key = str(next(self._numbers))
            waiting[key] = request
            engine.add_request(key, {"prompt_token_ids": request.ids}, request.params, lora_request=lora)
        before = len(journal.rows)
        while waiting:
            for output in engine.step():
                # What was ended early may have been on its way once more.
                if output.request_id not in waiting or not waiting[output.request_id].see(output):
                    continue
                del waiting[output.request_id]
                if not output.finished:
                    engine.abort_request([output.request_id])
                if len(journal.rows) > before:
                    before = len(journal.rows)
                    on_item(before, len(questions.items))
        return read_back(journal, len(questions.items))

    def _requests(self, questions: PredictionRequest, numbers: Sequence[int], journal: Journal) -> list["_Request"]:
        from vllm import SamplingParams

        items = [questions.items[number] for number in numbers]
        if questions.kind == "choice":
            # One token must be written, and is not looked at.
            params = SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=0, detokenize=False)
            requests: list[_Request] = []
            for number, item, options in zip(
                numbers, items, choices.options(self, items, questions.ending), strict=True
            ):
                scored = _Scored(number, item, options, questions, journal)
                requests += [_Choice(options.whole(k), params, scored, k) for k in range(len(item.choices))]
            return requests
        ending = generation.ends(self, items)
        params = SamplingParams(
            temperature=0, max_tokens=questions.max_new_tokens, stop_token_ids=list(ending), detokenize=False
        )
        asked = sequences(self.tokenizer, prompts(self.tokenizer, items))
        return [
            _Written(ids, params, number, item, questions, journal, self.tokenizer, ending)
            for number, item, ids in zip(numbers, items, asked, strict=True)
        ]


@dataclass
class _Request:
    """Something to compute.

    Attributes:
        ids: the tokens to read.
        params: vLLM's.
    """

    ids: list[int]
    params: Any

    def see(self, output: Any) -> bool:
        """Take note of what there is so far, and say whether it is enough."""
        raise NotImplementedError


@dataclass
class _Scored:
    """An item whose choices are computed one by one."""

    number: int
    item: Item
    options: choices.Options
    questions: PredictionRequest
    journal: Journal
    sums: dict[int, float] = field(default_factory=dict)


@dataclass
class _Choice(_Request):
    """One choice of an item: the log-likelihood of its tokens."""

    scored: _Scored
    choice: int

    def see(self, output: Any) -> bool:
        if not output.finished:
            return False
        scored, tokens = self.scored, self.scored.options.tokens[self.choice]
        read = output.prompt_logprobs[-len(tokens) :]
        scored.sums[self.choice] = sum(float(at[token].logprob) for at, token in zip(read, tokens, strict=True))
        if len(scored.sums) == len(scored.item.choices):
            sums = [scored.sums[k] for k in range(len(scored.item.choices))]
            lengths = [len(ids) for ids in scored.options.tokens]
            scores = choices.normalized(sums, scored.item, lengths, scored.questions.normalization)
            scored.journal.add({scored.number: asdict(chosen(scored.item, scores))})
        return True


@dataclass
class _Written(_Request):
    """An item whose answer is written, until it has ended."""

    number: int
    item: Item
    questions: PredictionRequest
    journal: Journal
    tokenizer: Any
    ending: tuple[int, ...]

    def see(self, output: Any) -> bool:
        ids, questions, tokenizer = list(output.outputs[0].token_ids), self.questions, self.tokenizer
        if not output.finished and not (ids and generation.may_end(tokenizer, ids[-1], questions.until)):
            return False
        text = generation.written(tokenizer, ids, self.ending)
        if not output.finished and not generation.has_ended(text, questions.kind, questions.until, self.item.chat):
            return False
        self.journal.add({self.number: asdict(marked(self.item, text, questions))})
        return True


def _rank(folder: Path) -> int:
    """The rank of a LoRA adapter. Raises AdapterError where vLLM does not read it."""
    from vllm.lora.peft_helper import PEFTHelper

    loaded = adapter.load(folder, lazy=True)
    config = loaded.config
    structure = str(config.get("peft_type"))
    if structure != "LORA":
        raise AdapterError(f"{folder}: vLLM reads LoRA adapters, this one is {structure}; use --backend transformers")
    if loaded.notes:
        raise AdapterError(
            f"{folder}: {loaded.notes[0].partition(';')[0]}, and vLLM reads PEFT's; use --backend transformers"
        )
    try:
        helper = PEFTHelper.from_local_dir(str(folder), None)
        problems = helper._validate_features()
    except (ValueError, TypeError) as error:
        problems = [first_line(error)]
    if problems:
        raise AdapterError(f"{folder}: {problems[0].rstrip('.')}; use --backend transformers")
    return max(int(config["r"]), *(config.get("rank_pattern") or {"": 0}).values())


@contextmanager
def _quiet() -> Iterator[None]:
    """Within this context nothing is printed."""
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        yield
