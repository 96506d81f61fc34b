"""Kind `deliver`: the adapter that a run is for, with all that it takes to use it, and its card."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adamergex.data.settings import Source
from adamergex.execution.stage import Inputs, Kind, Params
from adamergex.inference import usage
from adamergex.inference.settings import Evaluate
from adamergex.markdown import line
from adamergex.pipeline.stages import calibrate, corpus, items, merge
from adamergex.pipeline.stages.base_model import BaseModel
from adamergex.sharing import card, metadata
from adamergex.sharing.data_names import OWN, described, public
from adamergex.tasks.task import Task
from adamergex.training import self_training

if TYPE_CHECKING:
    from adamergex.pipeline.worker import Worker

# The files of an adapter. What a training or a merge left beside them is about them, and is in the card.
_ADAPTER = ("adapter_config.json", "adapter_model.safetensors")
CARD = "README.md"


class DeliverParams(Params):
    """Inputs: `adapter`, and its `calibration` if it has one; `merged`, that it is or was refined from; `corpus-source` and
    `corpus-target`, what the reference adapters were trained on, if they were.

    Attributes:
        model: the base model.
        task: how it is asked.
        evaluate: how answers are computed.
        source: the language that the task was learned in.
        language: that it answers in.
        max_length: the most tokens of an item; None where the model's context alone limits it.
        target_labels: what was seen of the labels of its language, a sentence each; nothing, most often.
        labelled: what a labelled reference task is learned from; None where it is plain text.
    """

    model: BaseModel
    task: Task
    evaluate: Evaluate
    source: str
    language: str
    max_length: int | None = None
    target_labels: tuple[str, ...] = ()
    labelled: Source | None = None

    def identity(self) -> dict[str, Any]:
        """See Params: what `adamergex.json` says."""
        train, scored = self._sources()
        data = {"train": train, "scored": scored, "labelled": self.labelled}
        named = {role: None if source is None else public(source) for role, source in data.items()}
        return {
            "usage": self._usage(None),
            "source": self.source,
            "data": named,
            "target_labels": list(self.target_labels),
        }

    def _sources(self) -> tuple[Source, Source | None]:
        """Where labels and scored items are from."""
        scored = self.task.dev if self.evaluate.split == "dev" else self.task.test
        return self.task.train.in_language(self.source), None if scored is None else scored.in_language(self.language)

    def _usage(self, calibration: dict[str, Any] | None) -> dict[str, Any]:
        return usage.described(
            self.task,
            self.evaluate,
            self.language,
            base_model=self.model.name,
            weights=self.model.fingerprint,
            dtype=self.model.dtype,
            quantization=self.model.quantization,
            max_length=self.max_length,
            calibration=calibration,
            chat_template=self.model.template,
        )


def make(params: DeliverParams, inputs: Inputs, output: Path, scratch: Path, worker: "Worker") -> None:
    """Copy the adapter, and write `adamergex.json` and the card."""
    (adapter,) = inputs["adapter"]
    for name in _ADAPTER:
        shutil.copyfile(adapter / name, output / name)
    found = calibrate.read(inputs["calibration"][0]) if "calibration" in inputs else None
    calibration = found if found and found["bias"] is not None else None
    used = params._usage(calibration) | {"made": _made(params, inputs)}
    usage.write(output, used)
    of = card.Delivered(used, json.loads((output / _ADAPTER[0]).read_bytes()))
    (output / CARD).write_text(metadata.card(card.body(of), [of]), "utf-8")


def _made(params: DeliverParams, inputs: Inputs) -> dict[str, Any]:
    """How the adapter came about, as plain JSON without a path."""
    (adapter,), (merged,) = inputs["adapter"], inputs["merged"]
    figures, (train, scored) = merge.figures(merged), params._sources()
    learned = self_training.facts(adapter) if (adapter / self_training.FACTS).is_file() else None
    corpora = {
        code: _read_from(inputs[f"corpus-{side}"][0], params.labelled)
        for code, side in ((params.source, "source"), (params.language, "target"))
        if f"corpus-{side}" in inputs
    }
    scale = figures["scale"]
    return {
        "source": params.source,
        "method": {key: figures[key] for key in ("title", "arxiv", "formula")}
        | {"scale": f"{scale:g}" if isinstance(scale, int | float) else "by layer or module"},
        "refined": None if learned is None else self_training.sentence(learned),
        "self_trained": learned is not None and learned["refused"] is None,
        "train": _public(train),
        "scored": None if scored is None else _public(scored),
        "corpora": {code: sentence for code, (sentence, _) in corpora.items()},
        "references": [named for _, named in corpora.values()],
        "target_labels": list(params.target_labels),
        "taken": figures.get("taken", {}),
        "trust_remote_code": params.model.trust_remote_code,
        "versions": figures["versions"],
    }


def _public(source: Source) -> dict[str, str]:
    """A source as a card names it; a folder on this machine may be written like a data set's name."""
    return {"name": OWN} if source.dataset is not None and Path(source.dataset).is_dir() else public(source)


def _read_from(folder: Path, labelled: Source | None) -> tuple[str, Mapping[str, str]]:
    """What a reference adapter was trained on, from the stage of its data: a sentence, and the name of its source."""
    if labelled is not None:
        return f"{len(items.read(folder)):,} items of a labelled task: {described(_public(labelled))}", _public(
            labelled
        )
    manifest = corpus.manifest(folder)
    named = _public(Source.model_validate(manifest["source"]))
    licence = f", licence {line(manifest['licence'])}" if manifest["licence"] else ""
    sentence = f"{manifest['tokens']:,} tokens from {manifest['documents']:,} documents of {described(named)}{licence}"
    return sentence, named


KIND = Kind(DeliverParams, make, revision=3)
