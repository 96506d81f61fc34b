"""A method is one file and one line: everything else takes its settings from there."""

import ast
import importlib
import pkgutil
import re
from pathlib import Path
from typing import get_args

import pytest
import torch
import typer.main
from pydantic import ValidationError

import adamergex
from adamergex.adapters.peft_config import STRUCTURES
from adamergex.cli import main
from adamergex.errors import MergeError
from adamergex.inference.systems import SYSTEMS
from adamergex.merging import methods
from adamergex.merging.base_method import IA3, LORA, PROMPTS, MergeMethod
from adamergex.merging.merge import merge
from adamergex.merging.methods import METHODS, AnyMethod, given, settings
from adamergex.merging.methods.adamergex import AdaMergeX
from adamergex.merging.methods.layer_swap import LayerSwap
from adamergex.merging.methods.ties import Ties
from adamergex.merging.scale import Scale
from tests.merging.test_merge import adapter

FILES = [module.name for module in pkgutil.iter_modules(methods.__path__)]


def test_every_file_is_a_method_and_every_method_a_file() -> None:
    assert sorted(name.replace("-", "_") for name in METHODS) == sorted(FILES)
    assert set(METHODS.values()) == set(get_args(AnyMethod))


@pytest.mark.parametrize("name", METHODS)
def test_a_file_has_its_paper_its_settings_its_label_and_an_equation(name: str) -> None:
    kind = METHODS[name]
    module = importlib.import_module(kind.__module__)
    assert module.__name__ == f"adamergex.merging.methods.{name.replace('-', '_')}"
    assert f"arXiv {kind.arxiv}" in (module.__doc__ or "")
    assert re.fullmatch(r"\d{4}\.\d{5}", kind.arxiv)
    assert kind.title
    assert SYSTEMS[name].label == kind.label
    assert all(field.description for key, field in kind.model_fields.items() if key != "method")
    assert kind.model_config["frozen"]
    assert kind.model_config["extra"] == "forbid"
    example = settings({"method": name, **kind.published})
    assert {structure for structure in (*LORA, *IA3, *PROMPTS) if example.refuses(structure) is None} == {
        *kind.structures
    }
    assert all(example.formula(structure) for structure in kind.structures)


def words(path: Path) -> set[str]:
    """The strings in a module's code, without its docstrings."""
    tree = ast.parse(path.read_text())
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return {str(node.value) for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in docs}


def test_no_other_file_lists_methods_or_their_settings() -> None:
    """`adamergex` is the default in several; rank and energy choose a rank by each other, whatever the method."""
    source = Path(adamergex.__file__).parent
    own = {*METHODS} - {"adamergex"} | {"density", "transition", "near_zero"}
    found = {str(path.relative_to(source)): words(path) & own for path in source.rglob("*.py")}
    assert {path for path, said in found.items() if said} <= {f"merging/methods/{name}.py" for name in FILES}


def test_the_command_has_an_option_for_every_setting() -> None:
    command = typer.main.get_command(main.app).commands["merge"]  # type: ignore[attr-defined]
    options = {option for parameter in command.params for option in parameter.opts}
    wanted = {f"--{key.replace('_', '-')}" for kind in METHODS.values() for key in kind.model_fields}
    assert wanted <= options


def test_structures_are_called_as_adapters_call_them() -> None:
    assert {*LORA, *IA3, *PROMPTS} == {*STRUCTURES.values(), "DoRA"}


def test_settings_say_what_is_wrong_with_each_of_them() -> None:
    def problems(**values: object) -> str:
        with pytest.raises(MergeError) as caught:
            merge(adapter(1), adapter(2), adapter(3), **values)  # type: ignore[arg-type]
        return str(caught.value)

    assert problems(method="tie", densty=1, scale=float("nan")).split("; ")[1:] == [
        "did you mean ties?",
        "got 'tie'",
        "densty: is no setting of ties",
        "did you mean density?",
        "scale: expected a finite number, or several for a curve over the layers",
        "got nan",
    ]
    assert problems(density=0.3) == "density: is for ties and dare-ties; the method is adamergex"
    assert problems(method="factor-space", energy=0.9).startswith("energy: is for task-arithmetic, layer-swap and ada")
    assert problems(method="ties", rank="exact").startswith("rank: expected a whole number from 1: elected signs")
    assert problems(rank=True) == "rank: expected a whole number from 1, or exact; got True"
    assert problems(rank=2, energy=0.5) == "rank and energy are both given; choose one"
    assert problems(rule="multiplicative", rank=2).startswith("a rank or an energy has no meaning with the mult")
    assert problems(scale=[]) == "scale: expected a finite number, or several for a curve over the layers"
    assert problems(dtype=torch.int8).startswith("dtype: input should be 'float32', 'bfloat16' or 'float16'; got")
    assert problems(method=AdaMergeX(), rank=3) == "method is an object with all settings; give rank in it"


def test_a_settings_object_merges_as_keywords_do() -> None:
    three = adapter(1), adapter(2), adapter(3)
    for method, keywords in (
        (Ties(scale=Scale(0.4), rank=3, density=0.5), {"method": "ties", "scale": 0.4, "rank": 3, "density": 0.5}),
        (AdaMergeX(scale=Scale((0.1, 0.9)), energy=0.8), {"scale": [0.1, 0.9], "energy": 0.8, "method": "adamergex"}),
        (LayerSwap(top=1), {"method": "layer-swap", "top": 1}),
    ):
        one, other = merge(*three, method=method), merge(*three, **keywords)  # type: ignore[arg-type]
        assert all(torch.equal(one.tensors[name], other.tensors[name]) for name in one.tensors)


@pytest.mark.parametrize(
    "values",
    [
        {"method": "ties", "scale": 0.5, "rank": 4, "density": 0.25, "seed": 3},
        {"method": "adamergex", "scale": [0.25, 0.75], "energy": 0.5},
        {"method": "layer-swap", "scale": {"default": 1.0, "modules": {"q_proj": [0.0, 1.0]}}, "bottom": 2},
        {"method": "adamergex", "scale": {"default": [0.0, 1.0], "layers": {3: 0.5}}, "dtype": "bfloat16"},
    ],
)
def test_settings_are_written_as_they_were_given(values: dict[str, object]) -> None:
    found = settings(values)
    assert isinstance(found, MergeMethod)
    assert given(found) == values
    assert settings(found.model_dump(exclude_none=True)) == found
    assert settings(found.model_dump(mode="json", exclude_none=True)) == found


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Ties().density = 0.5  # type: ignore[misc]
