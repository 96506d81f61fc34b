"""Kind `choose`: which of several merges is delivered for a language, without a look at any scored item."""

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from adamergex.execution.stage import Inputs, Kind, Params
from adamergex.inference.settings import Evaluate
from adamergex.merging.base_method import ROLES
from adamergex.merging.methods import AnyMethod, Method
from adamergex.models.families import longest_item
from adamergex.pipeline.stages import calibrate, items, train
from adamergex.pipeline.stages.base_model import BaseModel
from adamergex.pipeline.stages.calibrate import CalibrateParams
from adamergex.scoring.calibration import FEWEST, bias_of
from adamergex.selection.race import Standing, race, winner
from adamergex.selection.rule import SCALE, merging_pays, reading
from adamergex.storage.files import read_json
from adamergex.tasks.items import Item
from adamergex.tasks.task import Task

if TYPE_CHECKING:
    from adamergex.pipeline.worker import Worker

FILE = "choice.json"


class ChooseParams(Params):
    """What is chosen from, and how. Inputs: `reference-target`; to choose by labels also `task` and `reference-source`, and for
    each language that chooses `items-LANG` and `reference-LANG`; `learned`, whose label shares are expected.

    Attributes:
        model: the base model.
        task: how items are asked.
        evaluate: how answers are computed.
        candidates: the merges, t = 0 first.
        labels: the languages whose labelled items choose; without any, the rule does.
        certain: whether a candidate has to be significantly better than the rule's to take its place.
        most: how many items of each language choose, at most.
        virtual_tokens: of a prefix.
        max_length: the most tokens of an item.
        seed: for drawing items.
    """

    model: BaseModel
    task: Task
    evaluate: Evaluate
    candidates: tuple[Method, ...]
    labels: tuple[str, ...] = ()
    certain: bool = False
    most: int | None = None
    virtual_tokens: int = 0
    max_length: int | None = None
    seed: int = 0

    def identity(self) -> dict[str, Any]:
        """See Params; nothing is asked where the rule chooses."""
        described = super().identity()
        del described["evaluate"], described["task"]
        if self.labels:
            described["asked"] = self.task.wording(self.labels[0]).model_dump(
                include={"prompt", "separator", "choices"}
            )
            if not self.task.choices:
                described["written"] = {"kind": self.task.answer_kind, "max_new_tokens": self.evaluate.max_new_tokens}
            if self.task.answer_kind == "number":
                markers = [self.task.wording(language).marker for language in self.labels]
                described["read"] = {"markers": markers, "answer_format": self.task.answer_format}
            described["length_normalization"] = self.evaluate.length_normalization
            described["calibration"] = self.evaluate.calibration.model_dump(exclude={"inputs"})
        return described


@dataclass(frozen=True)
class SelectionItems:
    """Labelled items that a choice may look at. Items of a scored split cannot be held: they are refused.

    Attributes:
        languages: language → its items, in a drawn order.
    """

    languages: dict[str, list[Item]]

    @classmethod
    def drawn(
        cls, folders: dict[str, Sequence[Path]], scored: Sequence[Path], most: int | None, seed: int
    ) -> "SelectionItems":
        """Items of each language in an order that the seed draws.

        Raises:
            ValueError: a folder is one of those that are scored.
        """
        if mixed := {path for of in folders.values() for path in of} & set(scored):
            raise ValueError(f"{mixed.pop()} is scored, and must not choose")
        drawn = {language: items.read_all(of) for language, of in folders.items()}
        for language, of in drawn.items():
            random.Random(f"{seed} {language}").shuffle(of)
            del of[most or len(of) :]
        return cls(drawn)


def make(params: ChooseParams, inputs: Inputs, output: Path, scratch: Path, worker: "Worker") -> None:
    """Write `choice.json`: the number of the candidate, why, and how all came out."""
    pays, why = merging_pays(reading(train.heldout(inputs["reference-target"][0])))
    by_rule = _default(params.candidates) if pays else 0
    found: dict[str, Any] = {"candidate": by_rule, "why": why, "tried": []}
    if params.labels:
        standings = _raced(params, inputs, worker, by_rule)
        best, p = winner(standings, by_rule, params.certain)
        items_seen = len(standings[best].right)
        found["candidate"] = best
        found["tried"] = [
            {"candidate": number, "items": len(one.right), "score": round(one.score, 6)}
            for number, one in enumerate(standings)
        ]
        found["why"] = (
            f"best of {len(standings)} on {items_seen} labelled items ({', '.join(params.labels)}; p = {p:.3f} against "
            f"what the rule takes)"
            if best != by_rule
            else f"no other of {len(standings)} was {'significantly ' * params.certain}better on {items_seen} labelled items "
            f"({', '.join(params.labels)}); by the rule, {why}"
        )
    if worker.processes.is_first:
        (output / FILE).write_text(json.dumps(found, ensure_ascii=False, indent=2) + "\n", "utf-8")


def _default(candidates: Sequence[AnyMethod]) -> int:
    """The candidate that the rule takes where merging pays: the recipe's own method at the t that is nearest to `SCALE`."""
    own = [number for number in range(1, len(candidates)) if candidates[number].method == candidates[0].method]
    return min(own, key=lambda number: (abs(_t(candidates[number]) - SCALE), number), default=0)


def _t(method: AnyMethod) -> float:
    default = method.scale.default
    return default if isinstance(default, float | int) else float("inf")


def _raced(params: ChooseParams, inputs: Inputs, worker: "Worker", stays: int) -> list[Standing]:
    """How far each candidate came on the languages that choose."""
    from adamergex.adapters.adapter import load
    from adamergex.inference.answering import PromptSpec, answers, build_prompts
    from adamergex.inference.journal import Journal
    from adamergex.merging import merge

    resident = worker.resident(params.model, "task", params.task.outputs)
    longest = longest_item(resident, params.max_length, params.virtual_tokens)
    folders = {language: inputs[f"items-{language}"] for language in params.labels}
    apart = SelectionItems.drawn(folders, inputs.get("scored", ()), params.most, params.seed)
    specs = {code: PromptSpec(params.task, params.evaluate, code, "plain", params.seed) for code in params.labels}
    asked = {code: build_prompts(resident, specs[code], of, (), longest)[0] for code, of in apart.languages.items()}
    # Languages in turn, so that every part of the items has some of each.
    places = sorted((number / len(of), code, number) for code, of in asked.items() for number in range(len(of)))
    opened = {role: load(inputs[role][0]) for role in ROLES if role in inputs and role != "reference-target"}
    references = {code: load(inputs[f"reference-{code}"][0]) for code in params.labels}
    calibrated = _calibration(params, inputs)
    scores: dict[tuple[int, str], list[Sequence[float]]] = {}
    rights: dict[tuple[int, str], list[bool]] = {}

    def answer(candidate: int, start: int, end: int) -> list[bool]:
        method = params.candidates[candidate]
        for code in params.labels:
            of = [number for _, language, number in places[start:end] if language == code]
            key = (candidate, code)
            if not of:
                continue
            source = opened["reference-source"] if method.needs_source else None
            resident.set_adapter(merge.merge(opened["task"], references[code], source, method=method))
            found = answers(
                resident, specs[code], [asked[code][n] for n in of], lambda done, total: None, lambda _: Journal(None)
            )
            scores.setdefault(key, []).extend(one.choices for one in found)
            rights.setdefault(key, []).extend(next(iter(one.scores.values())) == 1 for one in found)
        worker.display.step(end, len(places))
        parts = {
            code: iter(
                _right(asked[code], scores.get((candidate, code), []), rights.get((candidate, code), []), calibrated)
            )
            for code in params.labels
        }
        return [next(parts[language]) for _, language, _ in places[:end]]

    return race(len(params.candidates), len(places), answer, stays)


def _calibration(params: ChooseParams, inputs: Inputs) -> Callable[[np.ndarray], np.ndarray] | None:
    """How log scores (inputs, labels) are calibrated on themselves: as the recipe's rows are. None where these are not."""
    settings = params.evaluate.calibration
    if not params.task.has_fixed_labels or settings.method == "none":
        return None
    labels = tuple(params.task.choices or ())
    how = CalibrateParams(method=settings.method, shares=settings.shares, labels=labels, strength=settings.added())
    prior = calibrate.expected_shares(how, inputs)
    return lambda log_scores: log_scores + how.strength * bias_of(log_scores, prior)


def _right(
    asked: Sequence[Item],
    scores: Sequence[Sequence[float]],
    raw: Sequence[bool],
    calibrated: Callable[[np.ndarray], np.ndarray] | None,
) -> list[bool]:
    """Which of the first items are answered rightly: after calibration on these inputs, where there are enough of them."""
    if calibrated is None or len(scores) < FEWEST:
        return list(raw)
    predicted = calibrated(np.array(scores)).argmax(axis=1)
    return [item.choices[label] == item.answer for item, label in zip(asked, predicted, strict=False)]


def read(folder: Path) -> dict[str, Any]:
    """The choice of a stage of this kind."""
    return read_json(folder / FILE)


KIND = Kind(
    ChooseParams,
    make,
    revision=3,
    packages=lambda params: (*params.model.packages, "scipy") if params.labels else (),
    together=True,
    needs=lambda params: params.model.needs,
    cost=lambda params: f"{len(params.candidates)} candidates by {len(params.labels)} languages",
)
