"""Kind `corpus`: plain text of one language as windows of tokens, some of them held out."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from adamergex.data import corpus, sources
from adamergex.data.settings import Source
from adamergex.execution.stage import Inputs, Kind, Params, Place
from adamergex.pipeline.stages.base_model import BaseModel
from adamergex.storage.files import read_json

if TYPE_CHECKING:
    import numpy as np

    from adamergex.pipeline.worker import Worker

MANIFEST = "manifest.json"


class CorpusParams(Params):
    """How much of which text, and how it is cleaned and cut; see `training.reference_task.Reference`."""

    model: BaseModel
    source: Source
    content: dict[str, Any]
    language: str
    text: str
    tokens: int | None
    characters: int | None
    window: int
    heldout: float
    duplicates: Literal["drop", "keep"]
    boilerplate: Literal["drop", "keep"]
    other_languages: Literal["count", "drop"]
    seed: int
    folder: Place

    @property
    def is_known(self) -> bool:
        """See Params; offline two machines may have other versions of a data set at hand."""
        return sources.is_known(self.content)

    def identity(self) -> dict[str, Any]:
        """See Params; of the source counts what it holds, and of the model its tokenizer."""
        described = super().identity()
        del described["source"]
        model = described.pop("model")
        return described | {"tokenizer": model["fingerprint"], "family": model["family"]}


def make(params: CorpusParams, inputs: Inputs, output: Path, scratch: Path, worker: "Worker") -> None:
    """Write `windows.npy`, `heldout.npy` and `manifest.json`."""
    from adamergex.training.corpus_request import request

    tokenizer = worker.tokenizer(params.model)
    asked = request(params, params.language, params.seed, params.model.family, tokenizer)
    texts = worker.while_wanted(sources.texts(params.source, params.folder, params.language, params.text))
    name = f"corpus of {params.language}"
    facts = corpus.build(texts, tokenizer, output, asked, name=name, on_progress=worker.display.step)
    about = {
        "language": params.language,
        "source": params.source.model_dump(exclude_none=True),
        "licence": sources.licence(params.source),
    }
    (output / MANIFEST).write_text(json.dumps(about | facts, indent=2, ensure_ascii=False) + "\n", "utf-8")


def windows(folder: Path) -> "tuple[np.ndarray, np.ndarray]":
    """The windows to train on and those held out, each int32 (windows, tokens), read from the disk as they are used."""
    import numpy as np

    training, heldout = (np.load(folder / name, mmap_mode="r") for name in (corpus.WINDOWS, corpus.HELDOUT))
    return training, heldout


def manifest(folder: Path) -> dict[str, Any]:
    """What is known about a corpus: its source, how much there is of it, what was dropped."""
    return read_json(folder / MANIFEST)


def sentence(manifest: dict[str, Any]) -> str:
    """What a corpus is made of, for reports and cards."""
    source = manifest["source"]
    where = source.get("package") or source.get("dataset") or ", ".join(Path(path).name for path in source["files"])
    config = f" ({source['config']})" if source.get("config") else ""
    return f"{where}{config}: {manifest['tokens']:,} tokens from {manifest['documents']:,} documents"


KIND = Kind(
    CorpusParams,
    make,
    revision=4,
    packages=lambda params: corpus.PACKAGES,
    ahead=True,
    cost=lambda params: f"{params.tokens} tokens, {params.characters} characters",
)
