"""Choosing t, self-training, calibration on inputs that are not scored, and what is delivered."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adamergex.adapters import adapter
from adamergex.errors import RecipeError
from adamergex.pipeline.run import Finished, finish
from adamergex.recipes import loading
from adamergex.recipes.merges import candidates
from adamergex.reporting.report import sentences
from adamergex.scoring.calibration import prior_bias

INPUTS = 120


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def recipe(own_data: Callable[..., Path]) -> Path:
    """A recipe with inputs without labels in the target language, and labelled dev items in two."""
    path = own_data()
    folder, words = path.parent / "data", ("bueno", "malo")
    write(folder / "inputs.es.jsonl", [{"text": f"input {i} {words[i % 2]}"} for i in range(INPUTS)])
    for code in ("es", "fr"):
        rows = [{"text": f"dev {i} {words[i % 2]}", "label": ("pos", "neg")[i % 2]} for i in range(16)]
        write(folder / f"dev.{code}.jsonl", rows)
    (folder / "text.fr.txt").write_text("\n\n".join(f"bon mauvais paragraph {n} of fr" for n in range(40)))
    return path


def made(path: Path, *overrides: str, name: str = "run") -> tuple[Finished, Path]:
    output = path.parent / name
    return finish(loading.load(str(path), overrides), path.parent, output), output


def rows(place: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in place.read_text().splitlines()]


UNLABELLED = "task.unlabelled=data/inputs.{language}.jsonl"


def test_the_bias_is_estimated_on_inputs_that_are_not_scored_and_delivered(recipe: Path) -> None:
    finished, run = made(recipe, UNLABELLED)
    answers = np.array([row["choices"] for row in rows(run / "answers/es/adamergex/predictions.jsonl")])
    assert answers.shape == (INPUTS, 2)
    # Three of the six training items in the source language have each label.
    # Shares of another language are a guess: three quarters of what they call for.
    bias = 0.75 * prior_bias(answers, np.array([0.5, 0.5]))
    calibration = json.loads((run / "calibration/es/adamergex/calibration.json").read_text())
    np.testing.assert_allclose(calibration["bias"], bias, atol=1e-5)
    scores = np.array([row["choices"] for row in rows(run / "predictions/es/adamergex/predictions.jsonl")])
    right = [("yes", "no").index(row["golds"][0]) for row in rows(run / "predictions/es/adamergex/predictions.jsonl")]
    (row,) = [row for row in finished.report.rows if row.role == "merged"]
    assert row.others["calibrated_accuracy"] == ((scores + bias).argmax(axis=1) == right).mean()
    usage = json.loads((run / "delivered/es/adamergex.json").read_text())
    assert usage["calibration"]["bias"] == calibration["bias"]
    assert usage["calibration"]["labels"] == ["pos", "neg"]
    assert usage["task"] == {
        "kind": "choice",
        "prompt": "{text}:",
        "separator": " ",
        "choices": {"pos": "yes", "neg": "no"},
        "length_normalization": "none",
    }
    weights = "adapter_model.safetensors"
    assert (run / "delivered/es" / weights).read_bytes() == (run / "merged/es/adamergex" / weights).read_bytes()
    assert finished.delivered == {"es": run / "delivered/es"}
    assert "120 inputs, none of which is scored" in (run / "report.md").read_text()


@pytest.mark.parametrize(
    ("setting", "expected"),
    [("uniform", [0.5, 0.5]), ("{pos: 0.9, neg: 0.1}", [0.9, 0.1]), ("{pos: 7, neg: 2}", [0.75, 0.25])],
)
def test_shares_are_those_that_are_stated(recipe: Path, setting: str, expected: list[float]) -> None:
    """Counts of 7 and 2 are shares of 7.5 and 2.5 of 10."""
    _, run = made(recipe, UNLABELLED, f"evaluate.calibration.shares={setting}")
    answers = np.array([row["choices"] for row in rows(run / "answers/es/adamergex/predictions.jsonl")])
    bias = json.loads((run / "calibration/es/adamergex/calibration.json").read_text())["bias"]
    shifted = np.exp(answers + bias)
    np.testing.assert_allclose((shifted / shifted.sum(axis=1, keepdims=True)).mean(axis=0), expected, atol=1e-5)


def test_a_part_of_the_bias_is_added(recipe: Path) -> None:
    biases = []
    for strength in (1, 0.25):
        _, run = made(recipe, UNLABELLED, f"evaluate.calibration.strength={strength}", name=str(strength))
        biases.append(np.array(json.loads((run / "delivered/es/adamergex.json").read_text())["calibration"]["bias"]))
    np.testing.assert_allclose(biases[1], 0.25 * biases[0], atol=2e-6)


def test_batch_calibration_and_none(recipe: Path) -> None:
    _, run = made(recipe, UNLABELLED, "evaluate.calibration=batch")
    answers = np.array([row["choices"] for row in rows(run / "answers/es/adamergex/predictions.jsonl")])
    shares = np.exp(answers) / np.exp(answers).sum(axis=1, keepdims=True)
    bias = np.array(json.loads((run / "calibration/es/adamergex/calibration.json").read_text())["bias"])
    # The bias is -log of the mean distribution, but for a constant.
    assert bias[0] - bias[1] == pytest.approx(np.log(shares.mean(axis=0)[1] / shares.mean(axis=0)[0]), abs=1e-5)
    finished, run = made(recipe, UNLABELLED, "evaluate.calibration=none", name="none")
    assert finished.report.calibrated == []
    assert not (run / "calibration").exists()
    assert json.loads((run / "delivered/es/adamergex.json").read_text())["calibration"] is None


def test_the_surest_half_of_each_label_is_learned(recipe: Path) -> None:
    _, run = made(recipe, UNLABELLED, "refine={}")
    # A fifth of the inputs is kept apart, to calibrate on.
    asked = rows(run / "data/unlabelled-es/items.jsonl")
    apart = rows(run / "data/inputs-es/items.jsonl")
    assert (len(asked), len(apart)) == (70, 50)
    assert not {row["prompt"] for row in asked} & {row["prompt"] for row in apart}
    # What learned from calibrated answers has a part of the bias in it: half of what is called for is added, and delivered.
    answers = np.array([row["choices"] for row in rows(run / "answers/es/refined/predictions.jsonl")])
    bias = 0.5 * prior_bias(answers, np.array([0.5, 0.5]))
    found = json.loads((run / "delivered/es/adamergex.json").read_text())["calibration"]
    np.testing.assert_allclose(found["bias"], bias, atol=1e-5)
    assert found["strength"] == 0.5
    assert json.loads((run / "calibration/es/adamergex/calibration.json").read_text())["strength"] == 0.75


def test_what_is_learned_are_calibrated_answers(recipe: Path) -> None:
    dev = "task.dev=data/inputs.{language}.jsonl"
    folder = recipe.parent / "data"
    write(folder / "more.es.jsonl", [{"text": f"more {i} {('bueno', 'malo')[i % 2]}"} for i in range(100)])
    _, run = made(recipe, dev, "refine={inputs: 'data/more.{language}.jsonl'}", "evaluate.calibration.strength=1")
    facts = json.loads((run / "refined/es/refine.json").read_text())
    answers = np.array([row["choices"] for row in rows(run / "answers/es/teacher/predictions.jsonl")])
    bias = np.array(json.loads((run / "calibration/es/adamergex/calibration.json").read_text())["bias"])
    calibrated = answers + bias
    label = calibrated.argmax(axis=1)
    sure = np.exp(calibrated).max(axis=1) / np.exp(calibrated).sum(axis=1)
    expected = set()
    for number in (0, 1):
        of = np.flatnonzero(label == number)
        expected |= {(int(i), number) for i in of[np.argsort(-sure[of], kind="stable")][: -(-len(of) // 2)]}
    prompts = [row["prompt"] for row in rows(run / "data/unlabelled-es/items.jsonl")]
    learned = rows(run / "refined/es/learned.jsonl")
    assert {(prompts.index(row["prompt"]), [" yes", " no"].index(row["answer"])) for row in learned} == expected
    assert (facts["inputs"], facts["kept"], facts["refused"]) == (100, len(expected), None)
    assert len(rows(run / "refined/es/training.jsonl")) == 2 * -(-(6 + len(expected)) // 4)


def test_too_few_inputs_leave_the_merge_as_it_is(recipe: Path) -> None:
    write(recipe.parent / "data/few.es.jsonl", [{"text": f"few {i}"} for i in range(49)])
    finished, run = made(
        recipe, "task.dev=data/inputs.{language}.jsonl", "refine={inputs: 'data/few.{language}.jsonl'}"
    )
    weights = "adapter_model.safetensors"
    assert (run / "delivered/es" / weights).read_bytes() == (run / "merged/es/adamergex" / weights).read_bytes()
    # And its bias: nothing was learned from calibrated answers.
    refined, merged = (
        json.loads((run / f"calibration/es/{system}/calibration.json").read_text())
        for system in ("refined", "adamergex")
    )
    assert refined == merged
    assert (refined["strength"], any(refined["bias"])) == (0.75, True)
    assert (
        "49 inputs are too few to learn from; it takes 50; the merged adapter was kept"
        in (run / "report.md").read_text()
    )
    assert [row.method for row in finished.report.rows] == [
        "base", "source-adapter", "adamergex", "refined", "ceiling"
    ]  # fmt: skip
    (row,) = [row for row in finished.report.rows if row.method == "refined"]
    assert row.label == "refined by self-training (not refined)"
    said = sentences(finished.report, [row for row in finished.report.rows if row.language == "es"])
    assert not [sentence for sentence in said if "self-training changed" in sentence]
    assert (
        said.count("es: no self-training took place (why is said under the facts): the row is the merged adapter's.")
        == 1
    )


def test_scored_inputs_are_learned_only_where_the_recipe_says_so(recipe: Path) -> None:
    test = recipe.parent / "data/test.es.jsonl"
    write(recipe.parent / "data/same.es.jsonl", [{"text": row["text"]} for row in rows(test)] * 20)
    with pytest.raises(RecipeError, match="8 of 8 scored items stand in the unlabelled inputs, too"):
        made(recipe, "refine={inputs: 'data/same.{language}.jsonl'}")
    finished, run = made(recipe, UNLABELLED, "refine={transductive: true}", name="transductive")
    (row,) = [row for row in finished.report.rows if row.method == "refined"]
    assert row.label.startswith("refined by self-training, the scored inputs among what it learned from")
    assert json.loads((run / "refined/es/refine.json").read_text())["inputs"] == 70 + 8


def test_the_rule_takes_the_source_adapter_where_there_was_nothing_to_learn(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for gain, t in ((1e6, 0.0), (-1e6, 0.5)):
        monkeypatch.setattr("adamergex.selection.rule.GAIN", gain)
        finished, run = made(recipe, "merge={scale: auto}", "evaluate.methods=[source-adapter, adamergex]", name=str(t))
        task, merged = (adapter.load(run / id) for id in ("adapters/task-en", "merged/es/adamergex"))
        assert json.loads((run / "merged/es/adamergex/merge.json").read_text())["scale"] == t
        (row,) = [row for row in finished.report.rows if row.role == "merged"]
        assert row.label == f"AdaMergeX (t = {t:g}, chosen)"
        for module, product in task.schema.products.items():
            same = merged.schema.products[module]
            before = product.scaling * task.tensors[product.b] @ task.tensors[product.a]
            after = same.scaling * merged.tensors[same.b] @ merged.tensors[same.a]
            assert torch.allclose(before, after, atol=1e-6) == (t == 0)


def test_labels_of_other_languages_choose(recipe: Path) -> None:
    overrides = ("merge={scale: auto, selection: {validation: [es, fr]}}", "task.dev=data/dev.{language}.jsonl")
    loaded = loading.load(str(recipe), overrides)
    _, run = made(recipe, *overrides)
    choice = json.loads((run / "choice/es/choice.json").read_text())
    # The target does not choose for itself.
    assert (run / "adapters/reference-fr").is_dir()
    assert sorted(path.name for path in (run / "data").glob("choosing-*")) == ["choosing-fr"]
    assert len(choice["tried"]) == len(candidates(loaded)) == 9
    # Two of sixteen items, four, eight, all; the rule's candidate to the end.
    assert sorted(one["items"] for one in choice["tried"]) == [2] * 4 + [4] * 2 + [8] + [16] * 2
    assert f"t for es: {choice['why']}" in (run / "report.md").read_text()
    again = loading.load(str(run / "recipe.yaml"))
    assert (again.selection, again.merge) == (loaded.selection, loaded.merge)


def test_a_few_labels_of_the_target_choose_only_what_is_significantly_better(recipe: Path) -> None:
    overrides = ("merge={scale: auto, selection: {few_shot: 10}}", "task.dev=data/dev.{language}.jsonl")
    _, run = made(recipe, *overrides)
    choice = json.loads((run / "choice/es/choice.json").read_text())
    assert max(one["items"] for one in choice["tried"]) == 10
    assert "significantly better on 10 labelled items (es)" in choice["why"]


def test_candidates_are_compared_after_the_calibration_that_the_recipe_asks_for(recipe: Path) -> None:
    # All but certain of one label: expected shares decide which items of the other language are right.
    write(recipe.parent / "data/dev.es.jsonl", [{"text": f"{i}", "label": "pos"} for i in range(60)])
    few = ("merge={scale: auto, selection: {few_shot: 60}}", "task.dev=data/dev.{language}.jsonl")
    scores = {}
    for wanted, shares in (("many", "{pos: 0.999, neg: 0.001}"), ("few", "{pos: 0.001, neg: 0.999}")):
        _, run = made(recipe, *few, f"evaluate.calibration.shares={shares}", name=wanted)
        tried = json.loads((run / "choice/es/choice.json").read_text())["tried"]
        scores[wanted] = max(one["score"] for one in tried if one["items"] == 60)
    assert scores["many"] > 0.9
    assert scores["few"] < 0.1


def test_every_t_of_a_list_is_scored_and_drawn(recipe: Path) -> None:
    finished, _ = made(recipe, "merge.scale=[0.25, 1]", "evaluate.methods=[source-adapter, adamergex]")
    methods = [row.method for row in finished.report.rows]
    assert methods == [
        "source-adapter", "adamergex", "adamergex-0.25", "adamergex-1", "task-arithmetic-0.25", "task-arithmetic-1"
    ]  # fmt: skip
    (points,) = finished.report.scales.values()
    assert [t for t, _ in points] == [0, 0.25, 1]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("refine={}", "refine: needs inputs without labels"),
        ("merge={scale: 0.3, selection: {few_shot: 20}}", "merge.selection chooses among several t"),
        ("merge={scale: auto, selection: {few_shot: 20}}", "add task.dev"),
        ("merge={scale: auto, selection: {few_shot: 20, validation: [fr]}}", "one of validation and few_shot"),
        ("evaluate.calibration.shares={pos: 0.5, bad: 0.5}", "'bad' is no label of task.choices"),
        ("evaluate.calibration.shares={pos: 0.5, neg: 0.3}", "the shares add up to 0.8"),
        ("evaluate.calibration={method: batch, shares: uniform}", "shares belong to method: prior"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_runs(recipe: Path, override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        made(recipe, override)
