"""YAML of others: whatever it holds, problems are a line each."""

from pathlib import Path
from typing import Any

import pytest

from adamergex.errors import RecipeError
from adamergex.storage import yaml_model
from adamergex.storage.yaml_model import Section


class Settings(Section):
    """A section with a value of any kind."""

    value: Any = None
    text: str | None = None


def problems(text: str, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        yaml_model.check(Settings, text, "a.yaml", overrides)
    return caught.value.problems


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("value: !!int x", "a.yaml: not valid YAML: invalid literal for int() with base 10: 'x'"),
        ("value: !!bool x", "a.yaml: not valid YAML: 'x'"),
        ("value: !!set x", "a.yaml: not valid YAML: 'ScalarNode' object has no attribute 'flow_style'"),
        ("value: !!set {a, b}", "a.yaml: a set; expected text, numbers, lists, and keys with values"),
        ("value: !!binary aGk=", "a.yaml: binary data; expected text, numbers, lists, and keys with values"),
        ("value: !own x", "a.yaml: a value with the tag !own; expected text, numbers, lists, and keys with values"),
        ("value: {[a]: b}", "a.yaml: a list as a key; expected text, numbers, lists, and keys with values"),
        ("value: {a: 1, a: 2}", 'a.yaml:1: not valid YAML: found duplicate key "a" with value "2" (original value: "1")'),
        ("'': 1", "a.yaml:1: '': unknown key; remove it"),
        ("[a]", "a.yaml: expected keys and values, got list"),
        ("value: " + "[" * 3000, "a.yaml: nested too deeply"),
        ("#" * 200_001, "a.yaml: 200,001 characters; expected at most 200,000"),
    ],
)  # fmt: skip
def test_what_is_no_recipe_is_one_line(text: str, said: str) -> None:
    assert problems(text) == [said]


def test_dates_are_text_and_so_is_what_looks_like_one() -> None:
    for text in ("2001-01-01", "2001-99-99", "2001-01-01 99:99:99"):
        assert yaml_model.check(Settings, f"text: {text}", "a.yaml").text == text
    assert yaml_model.check(Settings, "text: !!str 3", "a.yaml").text == "3"


@pytest.mark.parametrize("override", ["=1", ".=1", "a..b=1", "text", "text.=1"])
def test_an_override_names_a_key(override: str) -> None:
    assert problems("text: a", override) == [f"--set {override}: expected section.key=value"]


def test_aliases_in_an_override_are_counted() -> None:
    bomb = "[&a [1, 1, 1, 1, 1, 1, 1, 1, 1], " + ", ".join(
        f"&{letter} [{', '.join([f'*{before}'] * 9)}]" for before, letter in zip("abcdef", "bcdefg", strict=True)
    )
    said = "its aliases go round in a circle, or grow without end; write the values out"
    assert problems("text: a", f"value={bomb}]") == [f"--set value: {said}"]
    assert problems(f"value: {bomb}]") == [f"a.yaml: {said}"]
    assert problems("text: a", "value=&a [*a]") == [f"--set value: {said}"]


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / ("x" * 300 + ".yaml"), tmp_path / "absent.yaml"):
        with pytest.raises(RecipeError, match="cannot be read: "):
            yaml_model.read(path)


@pytest.mark.parametrize("text", ['{"a": "x\\ud800"}', '{"\\ud800": 1}', '!!str "\\ud800"', '{"a": ["\\udfff"]}'])
def test_half_a_character_is_refused(text: str) -> None:
    with pytest.raises(RecipeError) as caught:
        yaml_model.check(Section, text, "it")
    half = "'\\udfff'" if "udfff" in text else "'\\ud800'"
    assert caught.value.problems == [
        f"it: half a character, {half}; expected text, numbers, lists, and keys with values"
    ]
