"""A base model in pieces does what the whole one does."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from adamergex.recipes.preflight import unsplittable
from adamergex.recipes.recipe import Recipe
from tests.families import save

NAMES = ["llama", "gemma3", "gpt2", "bloom", "t5", "bart", "xlm-r", "bert"]


def test_loss_gradient_and_text_are_those_of_the_whole_model(tmp_path: Path) -> None:
    for name in NAMES:
        save(name, tmp_path / name)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += ["-m", "tests.split_model", str(tmp_path), *NAMES]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "FSDP_VERSION": "2"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("the same") == 2


def test_what_cannot_be_split_is_said() -> None:
    given: dict[str, Any] = {
        "name": "own",
        "base_model": "model",
        "source": "en",
        "targets": ["es"],
        "task": {"prompt": "{text}:", "answer": "label", "train": "train.jsonl", "choices": {"pos": "a", "neg": "b"}},
        "reference": {"corpus": "text.{language}.txt"},
    }
    assert unsplittable(Recipe(**given)) == []
    recipe = Recipe(**given, quantization="4bit", adapter={"dora": True})
    assert [problem.split(":")[0] for problem in unsplittable(recipe)] == ["quantization", "adapter.dora"]
