"""vLLM's interface as far as it is used, computed by transformers and PEFT: one request after the other."""

import sys
import types
from pathlib import Path
from typing import Any, ClassVar

import peft
import pytest
import torch
import transformers


class SamplingParams:
    def __init__(self, **given: Any):
        self.max_tokens: int = given["max_tokens"]
        self.scores: bool = given.get("prompt_logprobs") == 0
        self.ends = {2, *given.get("stop_token_ids", ())}
        assert given["temperature"] == 0
        assert given["detokenize"] is False


class LoRARequest:
    def __init__(self, name: str, number: int, path: str):
        assert number > 0
        self.name, self.path = name, path


class PEFTHelper:
    @classmethod
    def from_local_dir(cls, folder: str, longest: int | None) -> "PEFTHelper":
        return cls(peft.PeftConfig.from_pretrained(folder))

    def __init__(self, config: Any):
        self.config = config

    def _validate_features(self) -> list[str]:
        return ["vLLM does not yet support DoRA."] if self.config.use_dora else []


class Engine:
    """Requests are answered in turn, each token in a step of its own."""

    def __init__(self, folder: str):
        self.folder = folder
        self.model_config = types.SimpleNamespace(max_model_len=1024)
        self.models: dict[str | None, Any] = {}
        self.queue: dict[str, tuple[list[int], SamplingParams, str | None]] = {}
        self.written: dict[str, list[int]] = {}
        self.log: list[tuple[str, str | None]] = []
        self.aborted: list[str] = []

    def add_request(self, key: str, prompt: dict[str, list[int]], params: SamplingParams, *, lora_request: Any) -> None:
        assert key not in self.queue
        path = None if lora_request is None else lora_request.path
        self.queue[key] = (prompt["prompt_token_ids"], params, path)
        self.log.append((key, path))

    def abort_request(self, keys: list[str]) -> None:
        for key in keys:
            self.aborted.append(key)
            del self.queue[key]

    def model(self, path: str | None) -> Any:
        if path not in self.models:
            base = transformers.AutoModelForCausalLM.from_pretrained(self.folder).eval()
            self.models[path] = base if path is None else peft.PeftModel.from_pretrained(base, path).eval()
        return self.models[path]

    def step(self) -> list[Any]:
        key, (prompt, params, path) = next(iter(self.queue.items()))
        # The next one in line goes on with the next step.
        self.queue[key] = self.queue.pop(key)
        written = self.written.setdefault(key, [])
        with torch.no_grad():
            logits = self.model(path)(input_ids=torch.tensor([[*prompt, *written]])).logits[0].float()
        written.append(int(logits[-1].argmax()))
        read = None
        if params.scores:
            log_p = logits.log_softmax(-1)
            rows = [
                {token: types.SimpleNamespace(logprob=float(log_p[i, token]))} for i, token in enumerate(prompt[1:])
            ]
            read = [None, *rows]
        finished = len(written) == params.max_tokens or written[-1] in params.ends
        if finished:
            del self.queue[key]
        output = types.SimpleNamespace(token_ids=written)
        return [types.SimpleNamespace(request_id=key, finished=finished, prompt_logprobs=read, outputs=[output])]


class LLM:
    """Attributes: given: the arguments of every one that was made."""

    given: ClassVar[list[dict[str, Any]]] = []
    last: Engine

    def __init__(self, model: str, **given: Any):
        if not (Path(model) / "config.json").is_file() or given.get("broken"):
            raise RuntimeError("no such model\nand more")
        LLM.given.append(given)
        self.llm_engine = LLM.last = Engine(model)


def install(monkeypatch: pytest.MonkeyPatch) -> type[LLM]:
    """Put it where vLLM is imported from."""
    from adamergex.inference.engines import vllm

    modules = {
        name: types.ModuleType(name) for name in ("vllm", "vllm.lora", "vllm.lora.request", "vllm.lora.peft_helper")
    }
    modules["vllm"].__dict__.update(LLM=LLM, SamplingParams=SamplingParams)
    modules["vllm.lora.request"].__dict__["LoRARequest"] = LoRARequest
    modules["vllm.lora.peft_helper"].__dict__["PEFTHelper"] = PEFTHelper
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(vllm, "version", lambda: "stand-in 0")
    LLM.given = []
    return LLM
