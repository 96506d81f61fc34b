"""What an adapter would look like, without weights, is what a training makes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from adamergex.models.adapter_settings import IA3, AdapterSettings, Lora, Prefix
from adamergex.models.expected import expected
from adamergex.models.families import Kind
from adamergex.models.resident import ResidentModel
from adamergex.storage.checkpoints import Checkpoint
from tests import families

SETTINGS: dict[str, AdapterSettings] = {
    "lora": Lora(r=2),
    "dora": Lora(r=3, dora=True, rank_pattern={".*layer.*0.*": 1}),
    "ia3": IA3(structure="ia3"),
    "prefix": Prefix(structure="prefix", virtual_tokens=3),
}
CASES: list[tuple[str, Kind, str]] = [
    ("gemma3", "causal", "lora"),
    ("gemma3", "causal", "ia3"),
    ("gpt2", "causal", "lora"),
    ("bloom", "causal", "prefix"),
    ("t5", "seq2seq", "ia3"),
    ("bart", "seq2seq", "lora"),
    ("xlm-r", "masked", "lora"),
    ("xlm-r", "classes", "dora"),
    ("bert", "classes", "ia3"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root = tmp_path_factory.mktemp("models")
    return lambda name: root / name if (root / name).is_dir() else families.save(name, root / name)


@pytest.mark.parametrize(("name", "kind", "structure"), CASES)
def test_it_is_what_a_training_makes(
    model: Callable[[str], Path], tmp_path: Path, name: str, kind: Kind, structure: str
) -> None:
    checkpoint, settings = Checkpoint(name, model(name), ""), SETTINGS[structure]
    resident = ResidentModel(checkpoint, "float32", settings, kind=kind, classes=3)
    resident.start(0)
    trained = resident.adapter()
    # Of the base model the configuration alone is there.
    for file in ("config.json", "tokenizer_config.json"):
        (tmp_path / file).write_bytes((checkpoint.folder / file).read_bytes())
    found = expected(Checkpoint(name, tmp_path, ""), settings, kind, 3)
    assert {key: spec.shape for key, spec in found.specs.items()} == {
        key: spec.shape for key, spec in trained.specs.items()
    }
    assert found.schema.structure == trained.schema.structure
    assert found.schema.modules() == trained.schema.modules()
    assert found.schema.heads == trained.schema.heads
    assert bool(found.schema.heads) == (kind == "classes")
    # A training saves its adapter for inference.
    own = {key: set(value) if isinstance(value, list) else value for key, value in found.config.items()}
    theirs = {key: set(value) if isinstance(value, list) else value for key, value in trained.config.items()}
    assert own | {"inference_mode": True} == theirs
