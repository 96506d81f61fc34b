"""Several seeds: what is trained with each, what is made once, and the means over them."""

import json
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pytest
from scipy.special import log_softmax

from adamergex.errors import RecipeError
from adamergex.pipeline.run import finish
from adamergex.recipes import loading
from adamergex.recipes.recipe import Recipe
from adamergex.reporting.report import verdict
from adamergex.scoring import statistics
from adamergex.scoring.label_metrics import LabelScores
from adamergex.scoring.results import Row, Scores
from adamergex.scoring.results import rows as rows_of_one
from adamergex.scoring.seeds import rows_over_seeds
from tests.pipeline.test_plans import keys, plan
from tests.pipeline.test_run import contents, run

# Below `seed-1/`, in the order in which they are made.
OF_A_SEED = [
    "adapters/task-en",
    "adapters/reference-en",
    "adapters/reference-es",
    "merged/es/adamergex",
    "predictions/es/adamergex",
    "calibration/es/adamergex",
    "predictions/es/source-adapter",
    "calibration/es/source-adapter",
    "adapters/task-es",
    "predictions/es/ceiling",
    "calibration/es/ceiling",
]


def further(*ids: str) -> list[str]:
    return [f"seed-1/{id}" for id in ids]


def test_a_list_of_one_seed_is_that_seed(own_data: Callable[..., Path]) -> None:
    path = own_data()
    assert plan(path, "seeds=[3]") == plan(path, "seed=3") != plan(path)


def test_what_no_training_touches_is_planned_once(own_data: Callable[..., Path]) -> None:
    path = own_data()
    alone, both, other = plan(path, "seed=5"), plan(path, "seeds=[5, 1]"), plan(path, "seed=1")
    assert list(both) == [*alone, *further(*OF_A_SEED)]
    assert {id: both[id] for id in alone} == alone
    # What a training makes of the same data depends on its seed alone; the corpus is the first seed's.
    assert keys(both)["seed-1/adapters/task-en"] == keys(other)["adapters/task-en"] != keys(alone)["adapters/task-en"]
    corpus: Any = both["data/corpus-es"].params
    trained: Any = both["seed-1/adapters/reference-es"].params
    assert (corpus.seed, trained.seed) == (5, 1)
    # TensorBoard's folders are named so.
    assert trained.name == "seed-1/reference-es"
    assert both["seed-1/adapters/reference-es"].inputs == {"corpus": ("data/corpus-es",)}
    merged = both["seed-1/merged/es/adamergex"].inputs
    assert {role: ids for role, ids in merged.items() if not role.startswith("corpus")} == {
        "task": ("seed-1/adapters/task-en",),
        "reference-target": ("seed-1/adapters/reference-es",),
        "reference-source": ("seed-1/adapters/reference-en",),
    }
    assert both["seed-1/calibration/es/ceiling"].inputs["answers"] == ("seed-1/predictions/es/ceiling",)


def test_what_is_chosen_and_refined_is_so_with_each_seed(own_data: Callable[..., Path]) -> None:
    path = own_data()
    data = path.parent / "data"
    for name in ("dev.es.jsonl", "inputs.es.jsonl"):
        (data / name).write_text((data / "test.es.jsonl").read_text())
    wanted = ("task.dev=data/dev.{language}.jsonl", "task.unlabelled=data/inputs.{language}.jsonl", "refine={}")
    wanted += ("merge={scale: auto, selection: {few_shot: 10}}", "evaluate.methods=[few-shot, adamergex]")
    alone, both = plan(path, *wanted, "seed=5"), plan(path, *wanted, "seeds=[5, 1]")
    assert {id: both[id] for id in alone} == alone
    added = [id.removeprefix("seed-1/") for id in both if id not in alone]
    assert {"choice/es", "answers/es/teacher", "refined/es", "calibration/es/refined"} <= set(added)
    assert not [id for id in added if id.startswith(("data/", "checks/", "delivered/")) or id.endswith("/few-shot")]
    assert both["seed-1/merged/es/adamergex"].inputs["choice"] == ("seed-1/choice/es",)
    assert both["seed-1/refined/es"].inputs["unlabelled"] == ("data/unlabelled-es",)
    # Labelled items that choose and examples are drawn once; the training has its own seed.
    stages: Any = [both[id].params for id in ("seed-1/choice/es", "predictions/es/few-shot", "seed-1/refined/es")]
    assert [params.seed for params in stages] == [5, 5, 1]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("seeds: []", r"r.yaml:\d+: seeds: expected at least one seed, such as \[0, 1, 2\]; got an empty list"),
        ("seeds: [2, 1, 2]", r"r.yaml:\d+: seeds: lists 2 twice, whose adapters would be the same; remove one"),
        ("seeds: [0, -1]", r"r.yaml:\d+: seeds.1: input should be greater than or equal to 0; got -1"),
        ("seeds: 3", r"r.yaml:\d+: seeds: input should be a valid list; got 3"),
        (
            "seed: 0\nseeds: [0]",
            r"r.yaml: seed and seeds are both given; remove one .*--set seed=null, or --set seeds=null\)",
        ),
    ],
)
def test_what_is_no_list_of_seeds_is_refused_in_one_line(
    own_data: Callable[..., Path], tmp_path: Path, given: str, says: str
) -> None:
    recipe = json.loads(own_data().read_text())
    text = "\n".join([given, *(f"{key}: {json.dumps(value)}" for key, value in recipe.items())])
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(RecipeError, match=says) as caught:
        loading.load(str(tmp_path / "r.yaml"))
    (line,) = caught.value.problems
    assert "\n" not in line


def test_a_recipe_is_written_with_what_it_was_given(own_data: Callable[..., Path], tmp_path: Path) -> None:
    path = own_data()
    several = loading.load(str(path), ["seed=null", "seeds=[4, 1]"])
    (tmp_path / "again.yaml").write_text(loading.dump(several))
    assert loading.load(str(tmp_path / "again.yaml")) == several == Recipe.model_validate(several.model_dump())
    assert "seed:" not in loading.dump(several)
    assert several.seed == 4
    assert [(one.seed, one.seeds) for one in several.of_each_seed] == [(4, None), (1, None)]
    assert "seed: 0" in (one := loading.dump(loading.load(str(path))))
    assert "seeds" not in one


def table(
    scores: dict[int, dict[str, dict[str, Scores]]], metric: str = "accuracy", chosen: bool = False
) -> tuple[list[Row], list[Row]]:
    first = next(iter(scores.values()))
    labels = {
        seed: {language: {name: f"{name} {seed if chosen else ''}" for name in of} for language, of in first.items()}
        for seed in scores
    }
    names = {language: list("abcdefghijkl")[: len(next(iter(of.values())).values)] for language, of in first.items()}
    return rows_over_seeds(metric, labels, scores, "source-adapter", {"adamergex": "merged"}, names)


# Right or wrong, four items, three seeds; means 0.25, 0.5, 0.75 and 0.75, 0.75, 1.
START = {0: [1, 0, 0, 0], 7: [1, 1, 0, 0], 9: [1, 1, 1, 0]}
MERGED = {0: [1, 1, 1, 0], 7: [1, 1, 1, 0], 9: [1, 1, 1, 1]}


def of_three(start: dict[int, list[int]], merged: dict[int, list[int]]) -> dict[int, dict[str, Scores]]:
    return {
        seed: {"source-adapter": Scores(start[seed], unreadable=1), "adamergex": Scores(merged[seed])} for seed in start
    }


def test_means_deviations_and_the_test_by_hand() -> None:
    found, each = table({seed: {"es": of} for seed, of in of_three(START, MERGED).items()})
    start, merged = found
    assert (start.score, merged.score) == pytest.approx((0.5, 2.5 / 3))
    # √((0.25² + 0² + 0.25²) / 2), and of 0.75, 0.75, 1: √((2·(1/12)² + (1/6)²) / 2) = 1 / √48
    assert start.deviations["accuracy"] == pytest.approx(0.25)
    assert merged.deviations["accuracy"] == pytest.approx(48**-0.5)
    assert merged.difference == pytest.approx(1 / 3)
    assert (start.items, start.unreadable, start.seeds, start.seed, start.average) == (4, 3, 3, None, False)
    # Differences of the items, averaged over seeds: 0, 1/3, 2/3, 1/3. All are gains: 2 of 2³ patterns are as far from 0.
    assert merged.p_value == pytest.approx(2 / 8)
    averaged = np.array([[1, 2 / 3, 1 / 3, 0], [1, 1, 1, 1 / 3]])
    expected = statistics.cluster_bootstrap([averaged], [np.arange(4)])
    np.testing.assert_allclose([(row.low, row.high) for row in found], expected)
    assert [(row.seed, row.method, row.score) for row in each] == [
        (seed, name, fmean(of[seed]))
        for seed in START
        for name, of in (("source-adapter", START), ("adamergex", MERGED))
    ]
    alone = rows_of_one("accuracy", {"es": {"adamergex": ""}}, {"es": {"adamergex": Scores(MERGED[7])}})[0]
    assert (each[3].low, each[3].high) == (alone.low, alone.high)
    assert verdict(found) == (
        "es: merging changed accuracy by +33.3 points over the source-language adapter alone (4 items, 3 seeds, sign-flip "
        "permutation test of the items' differences, averaged over the seeds, p = 0.250): no difference that this test can "
        "show."
    )


def test_seeds_are_no_items() -> None:
    """The same answers five times are as much evidence as once."""
    once, _ = table({0: {"es": of_three(START, MERGED)[7]}})
    often, _ = table({seed: {"es": of_three(START, MERGED)[7]} for seed in range(5)})
    assert [row.p_value for row in often] == [row.p_value for row in once]
    assert [row.score for row in often] == [row.score for row in once]
    assert all(row.deviations == {"accuracy": 0} for row in often)
    assert all(row.deviations == {} and row.seeds == 1 for row in once)


def test_averages_over_languages_are_averaged_over_seeds() -> None:
    one, other = of_three(START, MERGED), of_three(MERGED, START)
    found, each = table({seed: {"es": one[seed], "sw": other[seed]} for seed in START})
    start, merged = found[-2:]
    assert start.average
    assert (start.score, start.items, merged.difference, merged.p_value) == (pytest.approx(2 / 3), 8, 0.0, 1.0)
    # Of the seeds' averages over languages: 0.5, 0.625, 0.875
    assert start.deviations["accuracy"] == pytest.approx(stdev([0.5, 0.625, 0.875]))
    assert [row.score for row in each if row.average and row.method == "adamergex"] == [0.5, 0.625, 0.875]
    # Both languages' tests count where p is adjusted.
    assert found[1].p_holm == pytest.approx(0.5)


def test_answers_are_swapped_with_all_seeds_at_once() -> None:
    draw = np.random.default_rng(0)
    right = np.array([0, 1] * 6)

    def answers(skill: float) -> Scores:
        logs = draw.normal(size=(12, 2)) + skill * np.eye(2)[right]
        return Scores((logs.argmax(axis=1) == right).tolist(), labels=LabelScores(["a", "b"], right, logs))

    both = {"source-adapter": answers(0), "adamergex": answers(3)}
    (_, once), (_, often) = (table({seed: {"es": both} for seed in range(n)}, "macro_f1")[0] for n in (1, 3))
    assert once.p_value is not None
    assert once.p_value < 0.2
    assert (often.score, often.p_value, often.low, often.high) == pytest.approx(
        (once.score, once.p_value, once.low, once.high)
    )
    # Other answers with each seed: the mean of macro-F1, not macro-F1 of a mean.
    seeds = {seed: {"es": both | {"adamergex": answers(seed)}} for seed in range(3)}
    found, each = table(seeds, "macro_f1")
    scores = [row.score for row in each if row.method == "adamergex"]
    assert len(set(scores)) > 1
    assert found[1].score == pytest.approx(fmean(scores))
    assert found[1].deviations["macro_f1"] == pytest.approx(stdev(scores))


def test_a_name_that_depends_on_the_seed_is_no_name_of_a_mean() -> None:
    found, each = table({seed: {"es": of} for seed, of in of_three(START, MERGED).items()}, chosen=True)
    assert [row.label for row in found] == ["source-adapter", "adamergex"]
    assert [row.label for row in each[2:4]] == ["source-adapter 7", "adamergex 7"]


def measured(place: Path) -> tuple[float, float]:
    """Accuracy and the mean log-likelihood of the right label, by hand."""
    answers = [json.loads(line) for line in (place / "predictions.jsonl").read_text().splitlines()]
    right = [("yes", "no").index(answer["golds"][0]) for answer in answers]
    log_p = log_softmax([answer["choices"] for answer in answers], axis=1)
    return fmean(answer["scores"]["accuracy"] for answer in answers), float(log_p[np.arange(len(right)), right].mean())


def test_another_seed_makes_its_own_stages_and_leaves_the_others(own_data: Callable[..., Path]) -> None:
    path = own_data()
    alone, _ = run(path, "seed=0")
    folder = path.parent / "run"
    before = contents(folder, "*/**/*")
    rows, seen = run(path, "seeds=[0, 1]")
    assert seen.made == further(*OF_A_SEED)
    after = contents(folder, "*/**/*")
    assert {name: after[name] for name in before} == before
    weights = "adapters/task-en/adapter_model.safetensors"
    assert after[f"seed-1/{weights}"] != after[weights]
    delivered, merged = (after[f"{of}/adapter_model.safetensors"] for of in ("delivered/es", "merged/es/adamergex"))
    assert delivered == merged
    _, seen = run(path, "seeds=[0, 1]")
    assert seen.made == []

    written = [json.loads(line) for line in (folder / "scores.jsonl").read_text().splitlines()]
    methods = ["base", "source-adapter", "adamergex", "ceiling"]
    assert [(row["seed"], row["method"]) for row in written] == [
        (seed, name) for seed in (None, 0, 1) for name in methods
    ]
    assert [row["score"] for row in written[4:8]] == [row.score for row in alone]
    for row, method in zip(rows, methods, strict=True):
        places = [folder / below / "predictions/es" / method for below in ("", "seed-1")]
        found = [measured(place) for place in places if place.exists()]
        assert len(found) == (1 if method == "base" else 2)
        for name, values in zip(("accuracy", "log_likelihood"), zip(found[0], found[-1], strict=True), strict=True):
            assert (row.others | {"accuracy": row.score})[name] == pytest.approx(fmean(values))
            assert row.deviations[name] == pytest.approx(stdev(values))
    assert rows[2].deviations["log_likelihood"] > 0


def test_calibrated_scores_are_means_over_seeds(own_data: Callable[..., Path]) -> None:
    path = own_data(evaluate={"methods": ["source-adapter", "adamergex"]})
    inputs = [{"text": f"input {number} {('bueno', 'malo')[number % 2]}"} for number in range(60)]
    (path.parent / "data/inputs.es.jsonl").write_text("".join(json.dumps(row) + "\n" for row in inputs))
    wanted = ["task.unlabelled=data/inputs.{language}.jsonl", "seeds=[0, 1]"]
    finished = finish(loading.load(str(path), wanted), path.parent, path.parent / "run")
    expected = []
    for below in ("", "seed-1/"):
        folder = path.parent / "run" / below
        bias = json.loads((folder / "calibration/es/adamergex/calibration.json").read_text())["bias"]
        lines = (folder / "predictions/es/adamergex/predictions.jsonl").read_text().splitlines()
        right = [("yes", "no").index(json.loads(line)["golds"][0]) for line in lines]
        log_scores = np.array([json.loads(line)["choices"] for line in lines])
        log_p = log_softmax(log_scores + bias, axis=1)
        expected.append(float(log_p[np.arange(len(right)), right].mean()))
    assert expected[0] != expected[1]
    row, after = (
        next(row for row in rows if row.role == "merged") for rows in (finished.report.rows, finished.report.calibrated)
    )
    assert row.others["calibrated_log_likelihood"] == after.others["log_likelihood"] == pytest.approx(fmean(expected))
    for of, name in ((row, "calibrated_log_likelihood"), (after, "log_likelihood")):
        assert of.deviations[name] == pytest.approx(stdev(expected))
    # The score and macro-F1, raw and calibrated, have deviations beside them.
    line = next(line for line in (path.parent / "run/report.md").read_text().splitlines() if "| merged (t" in line)
    assert line.count(" ± ") == 4


def test_a_report_says_what_its_means_are(own_data: Callable[..., Path]) -> None:
    path = own_data(evaluate={"methods": ["source-adapter", "adamergex"]})
    rows, _ = run(path, "seeds=[4, 2]", output="both")
    merged = next(row for row in rows if row.role == "merged")
    text, page = ((path.parent / "both" / name).read_text() for name in ("report.md", "report.html"))
    for said in ("Scores are means over 2 seeds ± their standard deviation.", "Each seed", "(t = 0.5), seed 2"):
        assert said in text
        assert said in page
    deviation = 100 * merged.deviations["accuracy"]
    assert f"| merged (t = 0.5) | {100 * merged.score:.1f} ± {deviation:.1f} |" in text
    for said in (
        "trained and merged with the seeds 4, 2",
        "each item's difference is averaged over the seeds",
        "delivered are the adapters of the first seed, 4",
        "task-en, seed 4: 4 steps",
        "task-en, seed 2: 4 steps",
        "merged for es, seed 2 with ",
    ):
        assert said in text
