"""Patterns from files: those that people write are taken, those that would never end are not."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from adamergex.adapters.adapter import load
from adamergex.adapters.module_names import objection
from adamergex.errors import AdapterError
from tests import zoo


@pytest.mark.parametrize(
    "expression",
    [
        "q_proj",
        r".*\.layers\.\d+\.(self_attn|mlp)\.(q|k|v)_proj",
        r"^(?!.*visual).*(?:layers).*(?:self_attn|mlp).*(?:q_proj|k_proj)$",
        # What unsloth writes for models that see.
        r"(?:.*?(?:language|text).*?(?:self_attn|mlp).*?(?:q_proj|v_proj).*?)|(?:\bmodel\.layers\.[\d]{1,}\.(?:mlp)\.q_proj)",
        r"(a+)?",
        r"(\d{2})+",
    ],
)
def test_patterns_that_people_write_are_taken(expression: str) -> None:
    assert objection(expression) is None


@pytest.mark.parametrize(
    "expression",
    [
        r"(\w+)+!",
        r"(.*)*x",
        r"([a-z]+_?)*!",
        r"(a|ab)*!",
        r"(?:a{1,50}){1,50}",
        r"(?=(a+)+)b",
        r"(?>(a+)+)b",
        r".*.*.*.*.*.*.*x",
    ],
)
def test_patterns_that_may_take_for_ever_are_not(expression: str) -> None:
    assert "may take for ever" in (objection(expression) or "")


def test_what_is_no_pattern_is_said() -> None:
    assert objection("(") == "is no regular expression: missing ), unterminated subpattern at position 7"
    assert "recursion" in (objection("(" * 5000) or "")


def test_python_itself_does_not_end_on_one() -> None:
    """The reason for all of this; should an engine of Python's come to end here, it can go."""
    code = "import re; re.match(r'(.*\\.)?((\\w+)+!)$', 'layers.0.self_attn.q_proj_' + 'a' * 40)"
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run([sys.executable, "-c", code], timeout=2, check=False)


@pytest.mark.parametrize(
    "setting",
    [
        {"rank_pattern": {r"(\w+)+!": 2}},
        {"alpha_pattern": {r"(\w+)+!": 2}},
        {"target_modules": r"(\w+)+!"},
        {"exclude_modules": r"(\w+)+!"},
        {"layers_to_transform": [0], "layers_pattern": [r"(\w+)+!"]},
    ],
    ids=lambda setting: next(reversed(setting)),
)
def test_an_adapter_with_such_a_pattern_is_refused_before_anything_matches_it(
    tmp_path: Path, setting: dict[str, object]
) -> None:
    folder = zoo.three(zoo.llama, zoo.lora, tmp_path)[0]
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | setting))
    with pytest.raises(AdapterError, match=rf"{next(reversed(setting))}: .* may take for ever"):
        load(folder, lazy=True)
