"""Training: what is learned, that it depends on its arguments alone, and that a killed one ends the same."""

import errno
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from adamergex.adapters.adapter import Adapter
from adamergex.errors import ModelError, StorageError
from adamergex.models.adapter_settings import IA3, AdapterSettings, Lora, Prefix
from adamergex.models.encode import for_training
from adamergex.models.encoded import EncodedExample
from adamergex.models.resident import ResidentModel
from adamergex.storage.checkpoints import Checkpoint
from adamergex.tasks.items import Item
from adamergex.training.settings import EarlyStopping, Schedule, Train
from adamergex.training.train import Step, Trained, train

ITEMS = [Item(str(i), f"{'xyz' * (i % 4)} {i}:", (" yes", " no")[i % 2]) for i in range(12)]
STRUCTURES: dict[str, AdapterSettings] = {
    "lora": Lora(r=2, alpha=4),
    "lora with dropout": Lora(r=2, alpha=4, dropout=0.3),
    "rslora, patterns": Lora(r=4, rslora=True, rank_pattern={"q_proj": 2}, alpha_pattern={"v_proj": 3}),
    "dora": Lora(r=2, alpha=4, dora=True),
    "ia3": IA3(structure="ia3"),
    "prefix": Prefix(structure="prefix", virtual_tokens=3),
}


def encoded(resident: ResidentModel) -> list[EncodedExample]:
    return for_training(resident.tokenizer, ITEMS)[0]


def trained(resident: ResidentModel, seed: int = 0, **settings: Any) -> Trained:
    given: dict[str, Any] = {"schedule": "constant_with_warmup", "warmup_ratio": 0} | settings
    schedule = given.pop("of", Schedule(epochs=2, batch_size=4))
    more = {key: given.pop(key) for key in ("heldout", "on_step", "on_resumed", "checkpoint", "warn") if key in given}
    examples = given.pop("examples", encoded(resident))
    return train(resident, lambda epoch: examples, Train(**given), schedule, seed, learning_rate=1e-2, **more)


def same(one: Adapter, other: Adapter) -> bool:
    return all(torch.equal(one.tensors[name], other.tensors[name]) for name in one.tensors)


def close(one: Adapter, other: Adapter, tolerance: float = 1e-5) -> bool:
    return all(torch.allclose(one.tensors[name], other.tensors[name], atol=tolerance) for name in one.tensors)


@pytest.fixture(scope="module", params=STRUCTURES)
def structured(request: pytest.FixtureRequest, tiny_model: Path) -> ResidentModel:
    return ResidentModel(Checkpoint("tiny-llama", tiny_model, "tiny"), "float32", STRUCTURES[request.param])


def test_training_depends_on_its_arguments_alone(structured: ResidentModel) -> None:
    first = trained(structured).adapter
    trained(structured, seed=5, examples=encoded(structured)[:3])
    assert same(first, trained(structured).adapter)
    assert not same(first, trained(structured, seed=1).adapter)


class KilledError(Exception):
    pass


@pytest.mark.parametrize("at", [1, 3, 5])
def test_a_killed_training_ends_with_the_same_bytes(structured: ResidentModel, tmp_path: Path, at: int) -> None:
    whole = trained(structured)

    def kill(step: Step) -> None:
        if step.step == at:
            raise KilledError

    settings: dict[str, Any] = {"checkpoint_seconds": 0, "checkpoint": tmp_path / "state"}
    with pytest.raises(KilledError):
        trained(structured, on_step=kill, **settings)
    structured.start(9)
    before: list[Step] = []
    steps: list[Step] = []
    resumed = trained(structured, on_step=steps.append, on_resumed=before.extend, **settings)
    assert same(whole.adapter, resumed.adapter)
    assert [row["loss"] for row in whole.log] == [row["loss"] for row in resumed.log]
    # What an earlier process did, and what this one did: each step once.
    assert [len(before), len(steps)] == [at - 1, 6 - (at - 1)]
    assert [step.step for step in (*before, *steps)] == [1, 2, 3, 4, 5, 6]


def test_a_checkpoint_on_a_full_disk_says_so(
    structured: ResidentModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        path.write_bytes(content[:100])
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("adamergex.training.state.write_synced", full)
    with pytest.raises(StorageError) as caught:
        trained(structured, checkpoint_seconds=0, checkpoint=tmp_path / "state")
    free = "no space left on the disk; free some and run the same command again"
    assert str(caught.value) == f"{tmp_path / 'state.partial'}: {free}"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: b"",
        lambda content: b"PK\x03\x04 garbage" * 99,
        # A single bit of a parameter.
        lambda content: content[:5000] + bytes([content[5000] ^ 64]) + content[5001:],
    ],
    ids=["cut", "empty", "garbage", "bit"],
)
def test_a_damaged_checkpoint_is_dropped_with_a_line(
    structured: ResidentModel, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    def kill(step: Step) -> None:
        if step.step == 3:
            raise KilledError

    path = tmp_path / "state"
    with pytest.raises(KilledError):
        trained(structured, on_step=kill, checkpoint_seconds=0, checkpoint=path)
    path.write_bytes(damage(path.read_bytes()))
    steps: list[Step] = []
    said: list[str] = []
    resumed = trained(structured, on_step=steps.append, checkpoint_seconds=0, checkpoint=path, warn=said.append)
    assert same(trained(structured).adapter, resumed.adapter)
    assert len(steps) == 6
    (line,) = said
    assert line.startswith(f"{path}: the checkpoint is damaged and dropped (")
    assert "\n" not in line


def test_parts_of_a_batch_and_recomputed_activations_give_the_same_adapter(resident: ResidentModel) -> None:
    whole = trained(resident, of=Schedule(epochs=1, batch_size=12)).adapter
    ways: list[dict[str, Any]] = [{"micro_batch": 5}, {"gradient_checkpointing": True}, {"packing": True}]
    for settings in ways:
        again = trained(resident, of=Schedule(epochs=1, batch_size=12), **settings)
        assert again.layout.layout == ("packed" if "packing" in settings else "shared")
        assert close(whole, again.adapter)
    assert not resident.model.get_base_model().is_gradient_checkpointing


def test_the_answer_and_the_end_of_sequence_are_learned_and_nothing_else(resident: ResidentModel) -> None:
    (example,), shortened = for_training(resident.tokenizer, [Item("1", "ab:", " yes")])
    ids = resident.tokenizer.encode("ab: yes")
    assert example.ids == [*ids, resident.tokenizer.eos_token_id]
    assert example.targets == [4, 5, 6, 7, 8]
    assert shortened == 0


def test_training_learns(resident: ResidentModel) -> None:
    log = trained(resident, of=Schedule(epochs=15, batch_size=4)).log
    assert [row["step"] for row in log] == list(range(1, 46))
    assert log[-1]["loss"] < log[0]["loss"] / 2


def test_the_first_step_is_adamw_written_out(resident: ResidentModel) -> None:
    """One step of AdamW moves every B by the learning rate against the sign of its clipped gradient."""
    examples = encoded(resident)
    resident.start(0)
    resident.model.train()
    loss = resident.loss(examples) / sum(example.predictions for example in examples)
    gradients = dict(zip(map(id, resident.trainable()), torch.autograd.grad(loss, resident.trainable()), strict=True))
    named = {
        name.replace(".slot-0.", ".").replace(".slot-1.", "."): gradients[id(parameter)]
        for name, parameter in resident.model.named_parameters()
        if id(parameter) in gradients
    }
    resident.model.eval()
    norm = math.sqrt(sum(float(g.square().sum()) for g in gradients.values()))
    moved = trained(resident, of=Schedule(epochs=1, batch_size=12)).adapter.tensors
    factors = [name for name in moved if "lora_B" in name]
    assert len(factors) == 6
    for name in factors:
        g = named[name] / max(norm, 1.0)
        assert torch.allclose(moved[name], -1e-2 * g / (g.abs() + 1e-8), atol=1e-5)


def test_a_loss_that_is_not_finite_stops_with_the_step_and_the_examples(resident: ResidentModel) -> None:
    examples = [EncodedExample([1, 5, 6], [2], id="train.jsonl:7")]
    last = [name for name, _ in resident.model.named_parameters() if "down_proj.lora_B" in name][-1]

    def spoil(step: Step) -> None:
        if step.step == 2:
            resident.model.get_parameter(last).data.fill_(math.nan)

    message = r"the loss is nan at step 3 of 40 \(examples train.jsonl:7\); lower train\.learning_rate"
    with pytest.raises(ModelError, match=message):
        trained(resident, examples=examples, of=Schedule(epochs=40), on_step=spoil)


def test_early_stopping_keeps_the_best_adapter(resident: ResidentModel, tmp_path: Path) -> None:
    """What is held out contradicts what is learned: it is best after the first measurement, if at all."""
    against = for_training(resident.tokenizer, [Item("1", "xyz 1:", " yes"), Item("2", "xyzxyz 2:", " no")])[0]
    settings: dict[str, Any] = {"early_stopping": EarlyStopping(every=2, patience=3), "heldout": against}
    long = Schedule(epochs=20, batch_size=4)
    stopped = trained(resident, of=long, **settings)
    assert len(stopped.log) == stopped.best_step + 6 < 60
    assert stopped.heldout is not None
    resident.set_adapter(stopped.adapter)
    with torch.no_grad():
        loss = float(resident.loss(against)) / sum(example.predictions for example in against)
    assert abs(loss - stopped.heldout["after"]) < 1e-5

    def kill(step: Step) -> None:
        if step.step == stopped.best_step + 3:
            raise KilledError

    checkpoint: dict[str, Any] = {"checkpoint": tmp_path / "state", "checkpoint_seconds": 0}
    with pytest.raises(KilledError):
        trained(resident, of=long, on_step=kill, **settings, **checkpoint)
    assert same(stopped.adapter, trained(resident, of=long, **settings, **checkpoint).adapter)


def test_held_out_loss_before_is_that_of_the_base_model(resident: ResidentModel) -> None:
    examples = encoded(resident)
    result = trained(resident, heldout=examples[:5])
    with torch.no_grad(), resident.without_adapter():
        loss = float(resident.loss(examples[:5])) / sum(example.predictions for example in examples[:5])
    assert result.heldout is not None
    assert abs(result.heldout["before"] - loss) < 1e-5
    assert result.heldout["after"] < result.heldout["before"]


def test_the_log_has_what_a_curve_needs(resident: ResidentModel) -> None:
    row = trained(resident).log[-1]
    assert list(row) == ["step", "steps", "loss", "learning_rate", "tokens", "seconds", "memory"]
    assert row["step"] == row["steps"] == 6
    assert row["seconds"] > 0
    assert row["memory"] > 50


# Measured once. The tolerance lets kernels round otherwise; no change of method would pass.
CURVES = {
    "lora": [6.2972, 5.8197, 6.2635, 5.9714, 4.7858, 4.4521],
    "rslora, patterns": [6.2972, 4.9217, 5.5686, 4.3278, 3.7142, 3.2541],
    "dora": [6.2972, 5.6976, 6.1717, 5.8105, 4.5869, 4.3365],
    "ia3": [6.2972, 5.9802, 6.4481, 6.4099, 5.8086, 5.8891],
    "prefix": [6.2825, 5.9986, 6.4988, 6.4816, 5.9504, 6.1908],
}


@pytest.mark.parametrize("structure", CURVES)
def test_the_loss_curve_is_the_one_that_was_measured(structure: str, tiny_model: Path) -> None:
    resident = ResidentModel(Checkpoint("tiny-llama", tiny_model, "tiny"), "float32", STRUCTURES[structure])
    losses = [row["loss"] for row in trained(resident).log]
    assert losses == pytest.approx(CURVES[structure], abs=2e-3)
