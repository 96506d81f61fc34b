"""A recipe takes the methods' own settings, and fills in what it knows."""

from collections.abc import Callable
from pathlib import Path

import pytest

from adamergex.errors import RecipeError
from adamergex.merging.methods.adamergex import AdaMergeX
from adamergex.merging.methods.factor_space import FactorSpace
from adamergex.merging.methods.layer_swap import LayerSwap
from adamergex.merging.methods.ties import Ties
from adamergex.merging.scale import Scale
from adamergex.pipeline.run import run
from adamergex.recipes.loading import dump, load
from adamergex.recipes.merges import method_settings
from adamergex.recipes.recipe import Recipe


@pytest.fixture
def loaded(own_data: Callable[..., Path]) -> Callable[..., Recipe]:
    path = own_data()
    return lambda *overrides: load(str(path), overrides)


def test_the_merge_is_the_papers_with_the_rank_that_was_trained(loaded: Callable[..., Recipe]) -> None:
    half = Scale(0.5)
    recipe = loaded("merge={}")
    assert method_settings(recipe, "adamergex") == AdaMergeX(scale=half, rank=2)
    assert method_settings(recipe, "ties") == Ties(scale=half, rank=2)
    assert method_settings(recipe, "layer-swap") == LayerSwap(scale=half, rank=2, bottom=6, top=2, transition=2)
    assert method_settings(recipe, "factor-space") == FactorSpace(scale=half)
    assert method_settings(loaded("merge.rank=exact"), "adamergex") == AdaMergeX(scale=half)
    assert method_settings(loaded("adapter.rank_pattern={q_proj: 4}"), "adamergex") == AdaMergeX(scale=half)
    assert method_settings(loaded("merge.energy=0.9"), "adamergex") == AdaMergeX(scale=half, energy=0.9)


def test_what_a_row_leaves_out_is_the_recipes(loaded: Callable[..., Recipe]) -> None:
    recipe = loaded(
        "merge.scale={default: [0, 1]}", "merge.rank=3", "seed=7", "evaluate.baselines={ties: {density: 0.4}}"
    )
    assert method_settings(recipe, "ties") == Ties(scale=Scale((0.0, 1.0)), rank=3, seed=7, density=0.4)
    recipe = loaded("evaluate.baselines={layer-swap: {scale: 1, top: 1, energy: 0.5}}")
    swap = LayerSwap(scale=Scale(1.0), bottom=6, top=1, transition=2, energy=0.5)
    assert method_settings(recipe, "layer-swap") == swap


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("merge={method: ties, density: 0.3}",),
        ("merge.scale={default: 0.5, layers: {1: 0}}", "evaluate.baselines={layer-swap: {top: 1}, ties: {rank: 3}}"),
    ],
)
def test_a_recipe_that_is_written_down_is_the_same_one(
    loaded: Callable[..., Recipe], tmp_path: Path, overrides: tuple[str, ...]
) -> None:
    recipe = loaded(*overrides)
    (tmp_path / "again.yaml").write_text(dump(recipe))
    again = load(str(tmp_path / "again.yaml"))
    assert again == recipe
    for name in ("adamergex", "ties", "layer-swap", "factor-space"):
        assert method_settings(again, name) == method_settings(recipe, name)


def test_another_method_is_merged_scored_and_reported(own_data: Callable[..., Path], tmp_path: Path) -> None:
    path = own_data(merge={"method": "task-arithmetic", "scale": 0.25}, evaluate={})
    rows = run(load(str(path)), folder=path.parent, output=tmp_path / "run")
    assert [row.method for row in rows] == ["base", "source-adapter", "task-arithmetic"]
    report = (tmp_path / "run" / "report.md").read_text()
    assert "| task arithmetic (t = 0.25) |" in report
    assert "es: merging changed accuracy by" in report
    assert "merged for es with task arithmetic: t = 0.25" in report
    assert not (tmp_path / "run" / "merged/es/adamergex").exists()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("merge.method=tis", "merge.method: expected one of task-arithmetic, ties, .* did you mean ties?"),
        ("merge.space=factors", "merge.space: is no setting of adamergex"),
        ("merge.density=0.3", "merge.density: is for ties and dare-ties; the method is adamergex"),
        ("evaluate.baselines={tie: {}}", "evaluate.baselines.tie.method: expected one of .* did you mean ties?"),
        ("evaluate.baselines={ties: {top: 3}}", "evaluate.baselines.ties.top: is for layer-swap; the method is ties"),
        ("evaluate.baselines={ties: {method: dare-ties}}", "ties has the method dare-ties; name it so"),
        ("evaluate.baselines={adamergex: {}}", "adamergex is what the recipe merges with; see merge"),
        ("evaluate.methods=[tie]", "evaluate.methods.0: expected one of .* did you mean ties?"),
        ("merge.rule=pseudo-inverse", "merge: the pseudo-inverse rule is for prompts; the adapters are LoRA"),
    ],
)
def test_what_does_not_fit_is_one_line(loaded: Callable[..., Recipe], override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        loaded(override)
    assert len(caught.value.problems) == 1
